"""What a backtest that is asked for costs: the venue of its own request, checked and carried."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.backtest_process import arguments_of, refused
from infra.backtests import BacktestSpec, run_backtest
from infra.settings import (
    AccountSettings,
    Settings,
    VenueSettings,
    parse_venue,
    with_venue,
)
from infra.times import parse_time
from schemas import topics as t
from schemas.control import BacktestRequest, BacktestResult
from schemas.enums import RunStatus
from schemas.errors import ConfigError
from streams.log import Published
from tests.unit.web_run import START_NS, Run, problem

VENUE = {
    "fee": {"type": "per_share", "rate": 0.005, "minimum": 1},
    "slippage": {"type": "ticks", "ticks": 1},
    "participation": "0.1",
    "limit_fill": "through",
}
BODY = {"strategy_name": "buy_and_hold", "start_date": "2014-01-01", "end_date": "2014-02-01"}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"fee": {"type": "per_share", "rate": -1}}, "venue.fee.rate", "give 0 or more"),
    ({"fee": {"type": "per_share", "rate": "nan"}}, "venue.fee.rate", "give 0 or more"),
    (
        {"fee": {"type": "nix"}},
        "venue.fee.type",
        "choose none, per_share, basis_points, maker_taker; docs/venue.md",
    ),
    (
        {"slippage": {"type": "nix"}},
        "venue.slippage.type",
        "choose none, ticks, basis_points, spread_share; docs/venue.md",
    ),
    ({"fee": {"type": 5}}, "venue.fee.type", "choose none, per_share"),
    ({"fee": {"type": "per_share"}}, "venue.fee", "docs/venue.md"),
    ({"slippage": {"type": "ticks", "ticks": "one"}}, "venue.slippage.ticks", "docs/venue.md"),
    ({"fees": 1}, "venue.fees", "did you mean venue.fee?"),
    ({"latency": {"submit": 1}}, "venue.latency.submit", "did you mean venue.latency.submit_ns?"),
    (
        {"fee": {"type": "per_share", "rate": 1, "minimun": 1}},
        "venue.fee.minimun",
        "did you mean venue.fee.minimum?",
    ),
    ({"fee": {"type": "none", "Rate2": 1}}, "venue.fee.Rate2", "known of type none: type"),
    (
        {"slippage": {"type": "ticks", "ticks": 1, "share": "0.5"}},
        "venue.slippage.share",
        "known of type ticks: type, ticks",
    ),
    ({"participation": 0}, "venue.participation", "give more than 0 and at most 1"),
    ({"participation": 1e-99}, "venue.participation", "give at most 38"),
    ({"limit_fill": "x"}, "venue.limit_fill", "choose touch or through"),
    ({"execution_data": "x"}, "venue.execution_data", "choose trade or quote or bar"),
]


def request(**fields: Any) -> BacktestRequest:
    """Return a request for a backtest."""
    values = {"strategy_name": "buy_and_hold", **fields}
    return BacktestRequest(event_id="e", ts_event_ns=0, task_id="task", **values)


@pytest.mark.parametrize(("table", "field", "remedy"), REFUSED)
def test_venue_that_cannot_be_used_is_refused_by_its_setting(
    table: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_venue(table)

    assert caught.value.field == field
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ({"fee": {"type": "nix"}}, "nix"),
        ({"slippage": {"type": "ticks", "ticks": "one"}}, "one"),
        ({"fee": {"type": "per_share"}}, {"type": "per_share"}),
        ({"fee": {"type": "x" * 1000}}, None),
    ],
)
def test_value_that_cannot_be_used_is_named(table: dict[str, Any], value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_venue(table)

    assert caught.value.value == value


@pytest.mark.parametrize("path", ["/api/backtest/run", "/api/backtest/run-async"])
def test_model_that_there_is_not_is_named_over_http(path: str) -> None:
    run = Run(has_stage=False)
    Agent(run)
    with run.client() as client:
        body = {**BODY, "venue": {"fee": {"type": "nix"}}}
        (error,) = problem(client.post(path, json=body), 422)["errors"]

    assert (error["detail"], error["value"]) == (
        "the request: there is no such model of fee",
        "nix",
    )
    assert error["remedy"].startswith("choose none, per_share")


def test_unknown_setting_of_the_command_line_is_said_to_be_of_its_option() -> None:
    with pytest.raises(ConfigError, match="--venue: unknown setting"):
        with_venue(Settings(), '{"fees": 1}')
    with pytest.raises(ConfigError, match="the request: unknown setting"):
        parse_venue({"fees": 1})


def test_venue_without_anything_is_the_default() -> None:
    assert parse_venue({}) == VenueSettings()
    assert "--venue" not in " ".join(arguments_of(request(), Path("data")))
    with pytest.raises(ConfigError, match="no JSON object"):
        with_venue(Settings(), "fee=1")


def test_backtest_has_the_costs_of_its_request_and_its_manifest_shows_them(tmp_path: Path) -> None:
    (text,) = (
        a for a in arguments_of(request(venue=VENUE), Path("data")) if a.startswith("--venue=")
    )
    settings = with_venue(Settings(), text.removeprefix("--venue="))
    spec = BacktestSpec(
        strategy="buy_and_hold",
        symbols=("IBM",),
        start_ns=parse_time("2014-01-01", "from"),
        end_ns=parse_time("2014-02-01", "to"),
    )

    free = run_backtest(spec, out=tmp_path / "free")
    paid = run_backtest(msgspec.structs.replace(spec, settings=settings), out=tmp_path / "paid")

    assert free.metrics.total_fees == 0
    assert paid.metrics.total_fees > 0
    venue: Any = msgspec.to_builtins(paid.manifest.config)["venue"]
    assert (venue["fee"]["type"], venue["fee"]["rate"]) == ("per_share", "0.005")
    assert (venue["slippage"]["ticks"], venue["limit_fill"]) == (1, "through")


def test_strategy_that_there_is_not_is_answered_with_names_and_no_file() -> None:
    failure = refused(request(strategy_name="nope"), Path("data"))

    assert failure is not None
    assert "choose one of" in failure.detail
    assert ".py" not in failure.detail


class Agent:
    """Refuses what cannot be run, and keeps what it was asked."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.asked: list[BacktestRequest] = []
        run.log.listen(self)

    def __call__(self, published: Sequence[Published]) -> None:
        """Answer every request among ``published``."""
        for item in published:
            if not isinstance(item.record, BacktestRequest):
                continue
            asked = item.record
            self.asked.append(asked)
            failure = refused(asked, Path("data"))
            status = RunStatus.COMPLETED if failure is None else failure.status
            code = "" if failure is None else failure.code
            detail = "" if failure is None else failure.detail
            head = (f"r-{asked.task_id}", START_NS, asked.task_id, asked.event_id, asked.task_id)
            result = BacktestResult(
                *head, asked.strategy_name, status, {"code": code}, "", detail, START_NS
            )
            self._run.log.append([(t.BACKTEST_RESULTS, result)])


@pytest.mark.parametrize("path", ["/api/backtest/run", "/api/backtest/run-async"])
def test_venue_of_a_request_is_carried_in_its_record(path: str) -> None:
    run = Run(has_stage=False)
    agent = Agent(run)
    with run.client() as client:
        assert client.post(path, json={**BODY, "venue": VENUE}).status_code == 200
        assert client.post(path, json=BODY).status_code == 200

    assert [asked.venue for asked in agent.asked] == [VENUE, {}]


@pytest.mark.parametrize("path", ["/api/backtest/run", "/api/backtest/run-async"])
@pytest.mark.parametrize(("table", "field", "remedy"), REFUSED)
def test_venue_that_cannot_be_used_is_a_problem_with_a_pointer(
    path: str, table: dict[str, Any], field: str, remedy: str
) -> None:
    run = Run(has_stage=False)
    Agent(run)
    with run.client() as client:
        found = problem(client.post(path, json={**BODY, "venue": table}), 422)

    (error,) = found["errors"]
    assert error["pointer"] == "/" + field.replace(".", "/")
    assert remedy in error.get("remedy", "") or remedy in error["detail"]


def test_unknown_strategy_is_a_problem_with_value_and_remedy() -> None:
    run = Run(has_stage=False)
    Agent(run)
    with run.client() as client:
        body = {**BODY, "strategy_name": "nope"}
        (error,) = problem(client.post("/api/backtest/run", json=body), 404)["errors"]

    assert (error["pointer"], error["value"]) == ("/strategy_name", "nope")
    assert error["detail"] == "strategy nope not found"
    assert error["remedy"].startswith("choose one of ")


def test_figures_are_those_of_the_account_that_trades_where_settings_name_others(
    tmp_path: Path,
) -> None:
    spec = BacktestSpec(
        strategy="buy_and_hold",
        symbols=("IBM",),
        end_ns=parse_time("1998-12-31", "to"),
        settings=Settings(accounts=(AccountSettings(account_id="other", cash=Decimal(777)),)),
    )
    alone = msgspec.structs.replace(spec, settings=Settings())

    found = run_backtest(spec, out=tmp_path / "two").metrics
    expected = run_backtest(alone, out=tmp_path / "one").metrics

    assert found == expected
    assert found.final_equity not in (777, found.initial_equity)
