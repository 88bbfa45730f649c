"""Limits, feed and warm-up of a backtest that is asked for: checked, carried, and held to."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.backtest_process import arguments_of, refused, unfit
from infra.backtests import BacktestSpec, run_backtest
from infra.cli import app
from infra.settings import RiskSettings, Settings, with_limits
from infra.times import parse_time
from schemas.control import BacktestRequest
from schemas.errors import ConfigError
from schemas.risk import LimitSet
from streams.log import Published
from tests.unit.web_run import Run, problem

BODY = {"strategy_name": "buy_and_hold", "start_date": "2014-01-01", "end_date": "2014-02-01"}
LIMITS = LimitSet(max_position=Decimal("12.5"), deny=["SPY"], is_long_only=True)


def request(**fields: Any) -> BacktestRequest:
    """Return a request for a backtest."""
    values = {"strategy_name": "buy_and_hold", **fields}
    return BacktestRequest(event_id="e", ts_event_ns=0, task_id="task", **values)


def options_of(asked: BacktestRequest) -> dict[str, Any]:
    """Return what the command line makes of a request."""
    command, bound, _ = app.parse_args(arguments_of(asked, Path("data")), print_error=False)
    assert command.__name__ == "backtest"
    return dict(bound.arguments)


def test_options_of_a_request_are_those_of_the_command_line() -> None:
    asked = request(limits=LIMITS, on="1h", interval="5m", warmup_days=1.5)

    found = options_of(asked)

    assert (found["on"], found["interval"], found["warmup_days"]) == ("1h", "5m", 1.5)
    assert with_limits(Settings(), found["limits"]).risk.limits == LIMITS
    assert not {"on", "interval", "warmup_days", "limits"} & options_of(request()).keys()


@pytest.mark.parametrize(
    ("text", "field", "remedy"),
    [
        ('{"max_positon": 1}', "risk.limits.max_positon", "did you mean risk.limits.max_position?"),
        ('{"max_position": "x"}', "risk.limits.max_position", "docs/risk.md"),
        ('{"max_position": NaN}', "limits", "write"),
        ('{"max_position": "nan"}', "risk.limits.max_position", "give one from 0"),
        ("[1]", "limits", "write"),
    ],
)
def test_limits_of_the_command_line_that_cannot_be_used_are_named(
    text: str, field: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        with_limits(Settings(), text)

    assert caught.value.field == field
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"limits": LimitSet(max_drawdown=Decimal(20))}, "risk.limits.max_drawdown"),
        ({"warmup_days": float("nan")}, "warmup_days"),
        ({"warmup_days": -1.0}, "warmup_days"),
        ({"warmup_days": 1e300}, "warmup_days"),
    ],
)
def test_option_that_cannot_be_used_is_refused_before_a_process_begins(
    fields: dict[str, Any], named: str
) -> None:
    failure = refused(request(**fields), Path("data"))

    assert failure is not None
    assert failure.code == "bad_request"
    assert f"({named}=" in failure.detail


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"on": "7m"}, "on"), ({"warmup_days": 2.0, "end_ns": 10}, "warmup_days")],
)
def test_option_that_does_not_fit_the_data_is_refused_while_it_waits(
    fields: dict[str, Any], named: str
) -> None:
    failure = unfit(request(**fields), Path("data"))

    assert failure is not None
    assert f"({named}=" in failure.detail


class Asked:
    """Keeps what was asked for."""

    def __init__(self, run: Run) -> None:
        self.requests: list[BacktestRequest] = []
        run.log.listen(self)

    def __call__(self, published: Sequence[Published]) -> None:
        """Keep the requests among ``published``."""
        self.requests += [p.record for p in published if isinstance(p.record, BacktestRequest)]


def test_options_over_http_are_carried_in_the_record() -> None:
    run = Run(has_stage=False)
    asked = Asked(run)
    limits = msgspec.to_builtins(LIMITS)
    body = {**BODY, "limits": limits, "on": "1d", "interval": "1d", "warmup_days": 30}
    with run.client() as client:
        assert client.post("/api/backtest/run-async", json=body).status_code == 200

    (record,) = asked.requests
    assert record.limits == LIMITS
    assert (record.on, record.interval, record.warmup_days) == ("1d", "1d", 30.0)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"limits": {"max_drawdown": 20}}, "/limits/max_drawdown"),
        ({"limits": {"max_positon": 1}}, "/limits/max_positon"),
        ({"warmup_days": -1}, "/warmup_days"),
        ({"on": 5}, "/on"),
    ],
)
def test_option_over_http_that_cannot_be_used_is_a_problem_with_a_pointer(
    fields: dict[str, Any], pointer: str
) -> None:
    run = Run(has_stage=False)
    asked = Asked(run)
    with run.client() as client:
        found = problem(client.post("/api/backtest/run", json={**BODY, **fields}), 422)

    assert found["errors"][0]["pointer"] == pointer
    assert asked.requests == []


def test_limits_hold_and_a_name_that_means_nothing_is_told(tmp_path: Path) -> None:
    limits = LimitSet(max_quantity=Decimal(1), deny=["IBN"])
    spec = BacktestSpec(
        strategy="buy_and_hold",
        symbols=("IBM",),
        start_ns=parse_time("2014-01-01", "from"),
        end_ns=parse_time("2014-02-01", "to"),
        settings=Settings(risk=RiskSettings(limits=limits)),
    )

    done = run_backtest(spec, out=tmp_path / "out")

    assert done.result.denials["QUANTITY_ABOVE_MAX"] > 0
    unknown, denied = done.warnings
    assert unknown.startswith("limits.deny names IBN")
    assert unknown.endswith("did you mean IBM?")
    assert denied.startswith("all orders were denied by the risk gate: ")
