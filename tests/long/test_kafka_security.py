"""TLS, SCRAM and PLAIN against a real broker: what works, what is told; no secret ever shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agents.runners.kafka.app import new_app
from infra.kafka.node import Node, free_port
from infra.kafka.settings import KafkaSettings, connection_of
from tests.certificates import Authority
from tests.generated import universe
from tests.integration.command_line import (
    BOUND_S,
    Background,
    environment,
    millrace,
    refusal,
)
from tests.integration.conftest import JARS
from tests.kafka_case import bar_ends, trade_once
from tests.unit.account_records import START_NS

SECRET = "open-sesame-7391"
SHARE = universe(("AA",)).instruments[0]
MINUTE_NS = 60_000_000_000


class Secured(NamedTuple):
    """A broker with a listener for each way in, and the files of its clients."""

    folder: Path
    plain: int
    tls: int
    scram: int
    sasl_plain: int

    def settings(self, **fields: object) -> KafkaSettings:
        """Return settings for one of the listeners; ``port`` is its name here."""
        port = getattr(self, str(fields.pop("port")))
        return KafkaSettings(bootstrap=f"127.0.0.1:{port}", **fields)  # type: ignore[arg-type]

    def config(self, name: str, settings: KafkaSettings, more: str = "") -> Path:
        """Write a settings file."""
        path = self.folder / f"{name}.toml"
        lines = [
            f"{field} = {json.dumps(getattr(settings, field))}"
            for field in KafkaSettings.__struct_fields__
        ]
        path.write_text("\n".join(["[kafka]", *lines, "", more]))
        return path


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority.new("Millrace test authority")
    (folder / "ca.pem").write_bytes(authority.pem())
    (folder / "other-ca.pem").write_bytes(Authority.new("another authority").pem())
    (folder / "broker.pem").write_bytes(authority.issue("broker"))
    (folder / "client.pem").write_bytes(authority.issue("client"))
    (folder / "secret.txt").write_text(SECRET + "\n")
    found = Secured(folder, *(free_port() for _ in range(4)))
    module = "org.apache.kafka.common.security"
    node = Node(
        folder / "node",
        port=found.plain,
        jars=JARS,
        listeners=(
            f"SSL://127.0.0.1:{found.tls}",
            f"SASL_SSL://127.0.0.1:{found.scram}",
            f"SASL_PLAINTEXT://127.0.0.1:{found.sasl_plain}",
        ),
        format_options=("--add-scram", f"SCRAM-SHA-512=[name=ann,password={SECRET}]"),
        settings={
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(folder / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(folder / "ca.pem"),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                f"{module}.scram.ScramLoginModule required;"
            ),
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f'{module}.plain.PlainLoginModule required user_bob="{SECRET}";'
            ),
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
                f'{module}.plain.PlainLoginModule required user_bob="{SECRET}";'
            ),
        },
    )
    node.start()
    try:
        yield found
    finally:
        node.kill()


WAYS = ("tls", "scram", "plain over tls", "plain")


def ways_in(broker: Secured) -> dict[str, KafkaSettings]:
    """Return settings that work, one for each listener and mechanism."""
    ca, secret = str(broker.folder / "ca.pem"), str(broker.folder / "secret.txt")
    mine = str(broker.folder / "client.pem")
    return {
        "tls": broker.settings(
            port="tls", protocol="SSL", ca_file=ca, certificate_file=mine, key_file=mine
        ),
        "scram": broker.settings(
            port="scram", protocol="SASL_SSL", ca_file=ca, username="ann", password_file=secret
        ),
        "plain over tls": broker.settings(
            port="scram", protocol="SASL_SSL", mechanism="PLAIN", ca_file=ca, username="bob",
            password_file=secret,
        ),
        "plain": broker.settings(
            port="sasl_plain", protocol="SASL_PLAINTEXT", mechanism="PLAIN", username="bob",
            password_file=secret,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_topics_publisher_and_worker_go_every_way_in(broker: Secured, way: str) -> None:
    settings = ways_in(broker)[way]
    connection = connection_of(settings)
    path = broker.config(way.replace(" ", "-"), settings)
    assert millrace("topics", "apply", "--config", path).returncode == 0
    begin_ns = START_NS + 10 * MINUTE_NS * WAYS.index(way)
    await trade_once(connection, begin_ns)
    output = path.with_suffix(".log")
    with Background(output, "worker", "--stages", "market", "--config", path) as worker:
        async with asyncio.timeout(BOUND_S):
            while begin_ns + MINUTE_NS not in await bar_ends(connection):
                assert worker.is_running(), worker.said()
        worker.until("ready")
        assert worker.stop() == 0
    said = worker.said()
    assert said.splitlines()[-1] == "ready"
    assert SECRET not in said
    assert SECRET not in f"{connection!r} {connection} {settings!r}"
    assert SECRET not in repr(new_app("group", connection, str(broker.folder)).conf.__dict__)


def test_password_may_come_from_the_environment(broker: Secured) -> None:
    settings = broker.settings(
        port="scram", protocol="SASL_SSL", ca_file=str(broker.folder / "ca.pem"), username="ann"
    )
    path = broker.config("environment", settings)
    known = environment(MILLRACE_KAFKA_PASSWORD=SECRET)
    assert millrace("topics", "apply", "--config", path, env=known).returncode == 0


REFUSALS = {
    "wrong password": ("kafka.username='ann'", "password"),
    "user that nobody knows": ("kafka.username='eve'", "password"),
    "another authority": ("kafka.ca_file", "not trusted"),
    "no certificate of ours": ("kafka.bootstrap", "does not answer"),
    "plaintext to a port of TLS": ("kafka.protocol='PLAINTEXT'", "speaks TLS"),
    "TLS to a plain port": ("kafka.protocol='SSL'", "does not speak TLS"),
    "nobody to a port that asks who": ("kafka.protocol='PLAINTEXT'", "asks for a user"),
    "a user to a port that does not ask": ("kafka.protocol='SASL_PLAINTEXT'", "not ask for a user"),
    "a mechanism that is not offered": ("kafka.mechanism='SCRAM-SHA-256'", "mechanism"),
}


def refused(broker: Secured, case: str) -> KafkaSettings:
    """Return settings that the broker does not accept, as ``REFUSALS`` names them."""
    ca, wrong = str(broker.folder / "ca.pem"), broker.folder / "wrong.txt"
    secret = str(broker.folder / "secret.txt")
    wrong.write_text("another-" + SECRET)
    scram = {"port": "scram", "protocol": "SASL_SSL", "ca_file": ca, "username": "ann"}
    terms: dict[str, dict[str, str]] = {
        "wrong password": {**scram, "password_file": str(wrong)},
        "user that nobody knows": {**scram, "username": "eve", "password_file": secret},
        "another authority": {
            **scram, "password_file": secret, "ca_file": str(broker.folder / "other-ca.pem"),
        },
        "no certificate of ours": {"port": "tls", "protocol": "SSL", "ca_file": ca},
        "plaintext to a port of TLS": {"port": "tls"},
        "TLS to a plain port": {"port": "plain", "protocol": "SSL", "ca_file": ca},
        "nobody to a port that asks who": {"port": "sasl_plain"},
        "a user to a port that does not ask": {
            "port": "plain", "protocol": "SASL_PLAINTEXT", "username": "ann",
            "password_file": secret,
        },
        "a mechanism that is not offered": {
            **scram, "mechanism": "SCRAM-SHA-256", "password_file": secret,
        },
    }  # fmt: skip
    return broker.settings(**terms[case])


COMMANDS = (
    ("topics", "check"),
    ("worker",),
    ("publish", "demo"),
    ("deadletter", "list"),
)


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_broker_refuses_is_one_line(broker: Secured, case: str) -> None:
    path = broker.config(case.replace(" ", "-"), refused(broker, case))
    commands = COMMANDS if case == "wrong password" else COMMANDS[:1]
    for words in commands:
        line = refusal(*words, "--config", path)
        assert all(part in line for part in REFUSALS[case]), line
        assert SECRET not in line
