"""docker-compose.yml: each service that stays is looked after; nobody creates topics unasked."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.kafka.live import LIVE_CONFIG
from infra.settings import parse_settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"topics", "recording"}
"""Services that do one thing and end."""


def test_it_has_what_a_session_needs() -> None:
    wanted = {"kafka", "timescaledb", "worker", "sink", "web", "prometheus", "grafana"}
    assert wanted | ONCE == set(SERVICES)


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))
def test_service_that_stays_has_a_health_check_a_volume_and_a_restart(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= check.keys()
    assert service["restart"] == "unless-stopped"
    named = [v.partition(":")[0] for v in service["volumes"] if not v.startswith(".")]
    assert named
    assert set(named) <= COMPOSE["volumes"].keys()


def test_topics_come_from_the_catalogue_alone() -> None:
    environment = SERVICES["kafka"]["environment"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert SERVICES["topics"]["command"] == ["topics", "apply"]
    for name in ("worker", "sink", "web", "recording"):
        condition = SERVICES[name]["depends_on"]["topics"]["condition"]
        assert condition == "service_completed_successfully"


@pytest.mark.parametrize(("name", "host"), [("sink", "timescaledb"), ("web", "127.0.0.1")])
def test_history_is_kept_in_the_database_of_the_file(name: str, host: str) -> None:
    service = SERVICES[name]
    assert f"@{host}:5432/millrace" in service["environment"]["MILLRACE_DATABASE_DSN"]
    assert service["depends_on"]["timescaledb"]["condition"] == "service_healthy"


def test_it_runs_what_make_live_runs() -> None:
    text = (ROOT / "infra" / "docker" / "millrace.toml").read_text()
    assert tomllib.loads(text) == tomllib.loads(LIVE_CONFIG)


def test_ports_are_open_on_this_machine_alone() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_files_that_are_mounted_are_there_and_the_settings_are_good() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists()
    text = (ROOT / "infra" / "docker" / "millrace.toml").read_text()
    assert parse_settings(tomllib.loads(text), "docker").strategies
