"""Connections to Kafka: what goes together, and that secrets stay inside."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.pretty import Pretty

from infra.cli_worker import kafka_settings
from infra.kafka.settings import KafkaSettings, addressed, connection_of
from schemas.errors import ConfigError
from streams.kafka.connection import Connection, missing_topic

SASL = {"protocol": "SASL_PLAINTEXT", "username": "ann", "password": "pw-secret"}


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"protocol": "HTTP"}, "kafka.protocol"),
        ({"mechanism": "MD5"}, "kafka.mechanism"),
        ({"bootstrap": "broker"}, "kafka.bootstrap"),
        ({"bootstrap": "a:1,b:99999"}, "kafka.bootstrap"),
        ({"bootstrap": ":9092"}, "kafka.bootstrap"),
        ({**SASL, "username": ""}, "kafka.username"),
        ({**SASL, "password": ""}, "kafka.password"),
    ],
)
def test_connection_that_cannot_work_is_refused(terms: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Connection(**terms)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert "pw-secret" not in str(caught.value)


def test_topic_that_is_not_shown_may_be_missing_or_want_a_right() -> None:
    """A broker with access lists tells of both in the same way."""
    remedy = missing_topic("orders.fills.v1").remedy

    assert "`millrace topics apply`" in remedy
    assert "Describe" in remedy


def test_password_is_in_no_representation() -> None:
    connection = Connection(**SASL)  # type: ignore[arg-type]
    assert "pw-secret" not in f"{connection!r} {connection}"
    assert connection.client()["sasl_plain_password"] == "pw-secret"


def test_plain_connection_sends_no_credentials() -> None:
    arguments = Connection(bootstrap="a:1, b:2").client()
    assert arguments["bootstrap_servers"] == ["a:1", "b:2"]
    assert arguments["ssl_context"] is None
    assert "sasl_mechanism" not in arguments


def test_unreadable_authorities_are_told(tmp_path: Path) -> None:
    connection = Connection(protocol="SSL", ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="certificate"):
        connection.client()


def test_argument_wins_over_environment_and_environment_over_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = KafkaSettings(bootstrap="a:1")
    monkeypatch.delenv("MILLRACE_KAFKA_BOOTSTRAP", raising=False)
    assert addressed(settings).bootstrap == "a:1"
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", "b:2")
    assert addressed(settings).bootstrap == "b:2"
    assert addressed(settings, "c:3").bootstrap == "c:3"
    # What the command line decided is not decided again.
    of_command = kafka_settings(None, "c:3", None).kafka
    assert connection_of(of_command).bootstrap == "c:3"


def test_password_comes_from_its_file_else_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_KAFKA_PASSWORD", "of-environment")
    sasl = KafkaSettings(protocol="SASL_SSL", username="ann")
    assert connection_of(sasl).password == "of-environment"
    file = tmp_path / "secret"
    file.write_text("of-file\n")
    with_file = KafkaSettings(protocol="SASL_SSL", username="ann", password_file=str(file))
    assert connection_of(with_file).password == "of-file"
    missing = KafkaSettings(protocol="SASL_SSL", username="ann", password_file=str(file) + "x")
    with pytest.raises(ConfigError, match="password"):
        connection_of(missing)


@pytest.mark.parametrize("timeout_s", [0.0, 5.9, 301.0, float("nan")])
def test_timeout_that_no_worker_can_live_with_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigError) as caught:
        connection_of(KafkaSettings(request_timeout_s=timeout_s))
    assert caught.value.field == "kafka.request_timeout_s"


def test_rich_shows_no_password() -> None:
    connection = Connection(protocol="SASL_PLAINTEXT", username="u", password="geheim")
    said = StringIO()
    Console(file=said, width=200).print(Pretty(connection))
    assert "geheim" not in said.getvalue()
    assert "u@127.0.0.1" in said.getvalue()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (KafkaSettings(run=""), "kafka.run"),
        (KafkaSettings(run="a b"), "kafka.run"),
        (KafkaSettings(run="a" * 101), "kafka.run"),
        (KafkaSettings(kinds=()), "kafka.kinds"),
        (KafkaSettings(kinds=("nope",)), "kafka.kinds"),
        (KafkaSettings(kinds_of={"SPY": ()}), "kafka.kinds_of.SPY"),
    ],
)
def test_settings_that_no_session_can_have_are_refused(settings: KafkaSettings, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connection_of(settings)
    assert caught.value.field == field
