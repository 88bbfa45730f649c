"""The tables of the documents name what the code has: codes, limits, models, metrics, hooks."""

from __future__ import annotations

import ast
import re
from typing import get_args

import msgspec
import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from agents.domain import indicators
from agents.domain.metrics import Metrics
from agents.runners.kafka.meters import Meters
from agents.strategy.api import Strategy
from agents.venue.models import Fee, Slippage
from infra.database.settings import DatabaseSettings
from infra.kafka.settings import KafkaSettings
from infra.settings import EXAMPLE
from schemas.risk import LimitSet
from streams.database.tables import FLOW_BY_SOURCE, SERIES_BY_SOURCE
from streams.database.tiers import Tier
from tests.source_tree import ROOT


def rows(document: str, heading: str) -> list[list[str]]:
    """Return the cells of all table rows below ``heading``, up to the next heading of its level."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    part = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(document: str, heading: str, column: int) -> set[str]:
    """Return every name in backquotes in one column of the tables below ``heading``."""
    cells = [row[column] for row in rows(document, heading)]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def denial_codes() -> set[str]:
    """Return every code that the account stage denies an order with."""
    found = set()
    for path in (ROOT / "agents/account").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            first = node.args[0] if node.args else None
            if node.func.id in ("Denial", "_bounds") and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def test_every_reason_code_is_explained_and_no_other() -> None:
    assert named("risk.md", "Reason codes", 0) == denial_codes(), (
        "bring the table of docs/risk.md up to what agents/account denies with"
    )


def test_every_limit_is_in_the_table_of_the_codes() -> None:
    fields = {field.name for field in msgspec.structs.fields(LimitSet)}
    assert named("risk.md", "Reason codes", 2) == fields, (
        "name each field of LimitSet beside the code that it leads to, in docs/risk.md"
    )


@pytest.mark.parametrize(("setting", "models"), [("slippage", Slippage), ("fee", Fee)])
def test_every_model_of_the_venue_is_explained(setting: str, models: object) -> None:
    tags = {str(model.__struct_config__.tag) for model in get_args(models)}
    told = {row[1].strip("`") for row in rows("venue.md", "Models") if row[0] == f"`{setting}`"}
    assert told == tags, "bring the models of docs/venue.md up to agents/venue/models.py"


def test_every_metric_has_a_formula() -> None:
    told: set[str] = set()
    for heading in ("Returns", "Drawdown", "Trades", "Activity and costs"):
        told |= named("metrics.md", heading, 0)
    fields = {field.name for field in msgspec.structs.fields(Metrics)}
    assert told == fields, "bring docs/metrics.md up to agents/domain/metrics.py"


def test_every_meter_of_a_worker_is_explained_with_its_labels() -> None:
    told = {
        name: set(re.findall(r"`([^`]+)`", labels))
        for name, labels, _ in rows("kafka.md", "Health and metrics")[2:]
    }
    meters = [meter for meter in vars(Meters()).values() if isinstance(meter, MetricWrapperBase)]
    shown = {
        f"`{meter._name}{'_total' if isinstance(meter, Counter) else ''}`": set(meter._labelnames)
        for meter in meters
    }
    assert told == shown, "bring docs/kafka.md up to agents/runners/kafka/meters.py"


def test_every_setting_of_kafka_is_in_the_example() -> None:
    for field in msgspec.structs.fields(KafkaSettings):
        assert re.search(rf"^(# )?{field.name} = ", EXAMPLE, re.MULTILINE), field.name


def test_every_hook_and_call_of_a_strategy_is_explained() -> None:
    public = {
        name
        for name, value in vars(Strategy).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }
    told = {name.split("(")[0] for name in named("strategies.md", "Event form", 0)}
    assert told | {"signals"} == public, (
        "bring the tables of docs/strategies.md up to agents/strategy/api.py"
    )


def test_every_indicator_is_explained() -> None:
    told = {name.split("(")[0] for name in named("strategies.md", "Indicators", 0)}
    public = {name for name in indicators.__all__ if name[0].isupper()}
    assert told == public - {"Indicator", "NotRescalableError"}, (
        "bring the table of docs/strategies.md up to agents.domain.indicators"
    )


def test_every_table_of_the_storage_is_explained_with_its_topics() -> None:
    known: dict[str, set[str]] = {}
    for (topic, _), series in SERIES_BY_SOURCE.items():
        known.setdefault(series.relation, set()).add(topic)
    for (topic, _), flow in FLOW_BY_SOURCE.items():
        known.setdefault(flow.relation, set()).add(topic)
    told = {
        row[0].strip("`"): set(re.findall(r"`([^`]+)`", row[2]))
        for row in rows("storage.md", "Tables")[2:]
    }
    assert told == known, "bring the table of docs/storage.md up to streams/database/tables.py"


def test_every_setting_of_the_database_is_in_its_document() -> None:
    fields = {f"database.{field.name}" for field in msgspec.structs.fields(DatabaseSettings)}
    told = {row[0].strip("`") for row in rows("storage.md", "Settings")[2:]}
    assert told == fields, "bring the table of docs/storage.md up to DatabaseSettings"


def test_every_tier_is_in_its_document() -> None:
    assert {row[0].strip("`") for row in rows("storage.md", "Tiers")[2:]} == set(Tier)
