"""The table of rights in docs/kafka.md against a real broker that grants nothing else.

Each user gets exactly what its row says, read from the document itself; then it does its work, and
what the row does not grant is refused.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from infra.kafka.node import Node, free_port
from schemas.errors import ConfigError, StorageError
from schemas.topics import ACCOUNT_INPUTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher
from tests.generated import universe
from tests.integration.command_line import BOUND_S, Background, millrace
from tests.integration.conftest import JARS
from tests.kafka_case import bar_ends, trade_once
from tests.unit.account_records import START_NS

DOCUMENT = Path(__file__).parents[2] / "docs" / "kafka.md"
PASSWORD = "open-sesame-2468"
SHARE = universe(("AA",)).instruments[0]
MINUTE_NS = 60_000_000_000

_ROW = re.compile(r"^\| (worker|web|feed|record|topics)\b[^|]*\|([^|]*)\|([^|]*)\|", re.MULTILINE)
_NAMES = re.compile(r"`([a-z.-]+(?:v\d+)?)`")


def granted() -> dict[str, list[AclBinding]]:
    """Return what the document grants to each user, by the first word of its row."""
    text = DOCUMENT.read_text()
    (sentence,) = re.findall(r"topics of the catalogue are (.*?), as prefixes", text, re.DOTALL)
    everything = _NAMES.findall(sentence)
    found: dict[str, list[AclBinding]] = {}
    for user, topics, groups in _ROW.findall(text):
        rights = found.setdefault(user, [])
        for kind, cell in ((ResourceType.TOPIC, topics), (ResourceType.GROUP, groups)):
            for clause in filter(None, (part.strip() for part in cell.split(";"))):
                if clause.startswith("to retry"):
                    continue
                operations, _, target = clause.partition(" on ")
                names = everything if target == "all" else _NAMES.findall(target)
                assert names, f"write topics as `name` or all in the row of {user}: {clause!r}"
                rights += [
                    binding(user, kind, name, operation.strip())
                    for operation in operations.split(",")
                    for name in names
                ]
    return found


def binding(user: str, kind: ResourceType, name: str, operation: str) -> AclBinding:
    is_whole = kind is ResourceType.TOPIC and not name.endswith(".")
    pattern = ResourcePatternType.LITERAL if is_whole else ResourcePatternType.PREFIXED
    snake = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).upper()
    return AclBinding(
        kind, name, pattern, f"User:{user}", "*", AclOperation[snake], AclPermissionType.ALLOW
    )


class Guarded:
    """A broker that asks who one is and what one may."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._port = port

    def connection(self, user: str) -> Connection:
        """Return the link of a user."""
        return Connection(
            bootstrap=f"127.0.0.1:{self._port}", protocol="SASL_PLAINTEXT", mechanism="PLAIN",
            username=user, password=PASSWORD,
        )  # fmt: skip

    def config(self, user: str) -> Path:
        """Write the settings of a user."""
        secret, path = self.folder / "secret.txt", self.folder / f"{user}.toml"
        secret.write_text(PASSWORD)
        path.write_text(
            f'[kafka]\nbootstrap = "127.0.0.1:{self._port}"\nprotocol = "SASL_PLAINTEXT"\n'
            f'mechanism = "PLAIN"\nusername = "{user}"\npassword_file = "{secret}"\n'
        )
        return path


def without_groups(user: str, rights: list[AclBinding]) -> list[AclBinding]:
    """Return the rights on topics as those of another user."""
    return [
        AclBinding(
            b.restype,
            b.name,
            b.resource_pattern_type,
            f"User:{user}",
            b.host,
            b.operation,
            b.permission_type,
        )
        for b in rights
        if b.restype is not ResourceType.GROUP
    ]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    rights = granted()
    assert rights.keys() == {"worker", "web", "feed", "record", "topics"}
    rights["loner"] = without_groups("loner", rights["worker"])
    plain, guarded = free_port(), free_port()
    users = " ".join(f'user_{user}="{PASSWORD}"' for user in rights)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    node = Node(
        folder / "node",
        port=plain,
        jars=JARS,
        listeners=(f"SASL_PLAINTEXT://127.0.0.1:{guarded}",),
        settings={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Who comes over the plain listener is the administrator here.
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": f"{login} required {users};",
        },
    )
    node.start()
    try:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{plain}"})
        for future in admin.create_acls([b for found in rights.values() for b in found]).values():
            future.result(30)
        found = Guarded(folder, guarded)
        done = millrace("topics", "apply", "--config", found.config("topics"))
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        node.kill()


def call(address: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Ask the web app; return the status and the answer."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def test_each_row_is_enough_for_its_work(broker: Guarded, tmp_path: Path) -> None:
    await trade_once(broker.connection("feed"), START_NS)
    worker = broker.config("worker")
    with Background(tmp_path / "worker.log", "worker", "--config", worker) as working:
        working.until("ready")
        async with asyncio.timeout(BOUND_S):
            while START_NS + MINUTE_NS not in await bar_ends(broker.connection("record")):
                assert working.is_running(), working.said()
        web = broker.config("web")
        port = free_port()
        with Background(tmp_path / "web.log", "web", "--config", web, "--port", port) as serving:
            serving.until("http://")
            address = f"http://127.0.0.1:{port}"
            order = {"symbol": SHARE.instrument_id.partition(".")[0], "side": "BUY", "quantity": 1}
            deadline_s = time.monotonic() + BOUND_S
            while (found := call(address, "/api/orders?wait=accepted", order))[0] >= 500:
                assert time.monotonic() < deadline_s, found
                assert serving.is_running(), serving.said()
                await asyncio.sleep(0.5)
            assert found[0] in (200, 202), found
            started = call(address, "/api/backtest/run-async", {
                "strategy_name": "momentum_crossover", "start_date": "2014-01-01T00:00:00Z",
                "end_date": "2014-12-31T23:59:59Z",
            })  # fmt: skip
            assert started[0] < 300, started
            assert serving.stop() == 0
        assert working.stop() == 0
    assert "uthoriz" not in working.said() + serving.said()
    record = broker.config("record")
    for words in (("record", tmp_path / "run"), ("deadletter", "list")):
        done = millrace(*words, "--config", record)
        assert done.returncode == 0, done.stderr


async def test_feeds_may_neither_trade_nor_read_what_follows(broker: Guarded) -> None:
    order = Outgoing(ACCOUNT_INPUTS, b"main", b"{}", 0)
    async with Publisher(broker.connection("feed"), deadline_s=5.0) as publisher:
        with pytest.raises(StorageError, match=r"(?i)authoriz.*grant this user"):
            await publisher.publish([order])
    with pytest.raises(ConfigError, match=r"(?i)authoriz.*grant this user"):
        await bar_ends(broker.connection("feed"))


@pytest.mark.parametrize("user", ["record", "topics"])
async def test_others_may_write_nothing(broker: Guarded, user: str) -> None:
    with pytest.raises(ConfigError, match=r"(?i)does not allow this user.*grant this user"):
        await Publisher(broker.connection(user)).__aenter__()


async def test_worker_that_may_join_no_group_ends_and_says_so(broker: Guarded) -> None:
    await trade_once(broker.connection("feed"), START_NS)
    done = millrace("worker", "--config", broker.config("loner"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "does not allow this user to work on" in done.stderr
    assert "grant this user the rights" in done.stderr
