"""Figures of accounts and strategies: that they agree with the positions beside them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import topics as t
from schemas.control import RunManifest
from schemas.enums import CorporateActionKind
from schemas.envelope import Header
from schemas.instruments import CorporateAction, ExchangeRate
from schemas.portfolio import EquityMark, PositionChanged
from tests.unit.web_gate import Gate, bearer
from tests.unit.web_run import (
    START_NS,
    Run,
    exact,
    instrument,
    mark,
    position,
    problem,
    snapshot,
    submit,
    trade,
)
from tests.unit.web_runs import FakeRuns

Records = Sequence[tuple[str, Header]]
MINUTE_NS = 60 * 10**9


def manifest_of(account_id: str) -> tuple[str, Header]:
    """Return the manifest of a run with an account of that name."""
    accounts = {"accounts": [{"account_id": account_id, "cash": "1"}]}
    config: dict[str, object] = {"accounts": accounts}
    return t.SYSTEM_RUNS, RunManifest(ts_event_ns=START_NS, run_id="run-1", config=config)


def manifest(
    *, cash: str = "10000", capital: str | None = None, owner: str = "paper"
) -> tuple[str, Header]:
    """Return the manifest of a run with one account and one strategy, which ``owner`` has."""
    config: dict[str, object] = {
        "accounts": {"accounts": [{"account_id": "paper", "cash": cash}]},
        "strategies": [{"strategy_id": "momentum", "account_id": owner, "capital": capital}],
    }
    return t.SYSTEM_RUNS, RunManifest(ts_event_ns=START_NS, run_id="run-1", config=config)


def held(quantity: str, average: str, realized: str, **changes: Any) -> tuple[str, PositionChanged]:
    """Return a position in SPY, or in what ``changes`` name, that cost fees of 1.25."""
    record = msgspec.structs.replace(
        position(quantity),
        average_price=Decimal(average),
        realized_pnl=Decimal(realized),
        fees=Decimal("1.25"),
        **changes,
    )
    return t.PORTFOLIO_POSITIONS, record


def share_mark(equity: float, below_peak: float, *, at: int = 60) -> tuple[str, EquityMark]:
    """Return a mark of a strategy, as the account stage makes it: an amount below the peak."""
    record = msgspec.structs.replace(
        mark(equity, at=at), strategy_id="momentum", drawdown=below_peak
    )
    return t.PORTFOLIO_EQUITY, record


def answered(records: Records, path: str = "/api/portfolio/paper") -> Any:
    """Return the answer of a run with ``records``, numbers as texts."""
    run = Run()
    run.log.append([(t.REFERENCE_INSTRUMENTS, instrument()), *records])
    with run.client() as client:
        return exact(client.get(path))


def total(rows: Sequence[dict[str, str]], name: str) -> Decimal:
    """Return the sum of a figure."""
    return sum((Decimal(row[name]) for row in rows), Decimal(0))


def busy() -> list[tuple[str, Header]]:
    """Return an account that traded on after its snapshot and its last mark."""
    third = "165.3333333333333333333333333"
    return [
        manifest(),
        (t.REFERENCE_INSTRUMENTS, instrument("IBM", "XNYS")),
        (t.PORTFOLIO_ACCOUNTS, snapshot()),
        (t.PORTFOLIO_EQUITY, mark(10000.5)),
        held("9", third, "-837.2802000000000000000000000", ts_event_ns=START_NS + 100),
        held("-4", "165.10", "12.50", strategy_id="manual", ts_event_ns=START_NS + 110),
        held("0", "0", "31.40", instrument_id="IBM.XNYS", ts_event_ns=START_NS + 120),
        (t.MARKET_EVENTS, trade(166.1, at=MINUTE_NS)),
    ]


@pytest.mark.parametrize("query", ["", "?strategy_id=manual", "?account_id=paper"])
def test_net_quantity_is_that_of_the_account_whichever_positions_are_asked_for(query: str) -> None:
    answer = answered(busy(), f"/api/positions/SPY{query}")

    assert answer["net_quantity"] == {"paper": "5"}
    assert len(answer["positions"]) == (1 if "strategy" in query else 2)


LISTS = (
    "/api/orders",
    "/api/positions",
    "/api/portfolio/pnl",
    "/api/fills",
    "/api/trades",
    "/api/risk/decisions",
    "/api/risk/limits",
)


@pytest.mark.parametrize("path", [*LISTS, "/api/risk"])
@pytest.mark.parametrize("run_id", ["", "old"])
def test_list_of_an_account_that_the_run_does_not_have_is_refused(path: str, run_id: str) -> None:
    run = Run(runs=FakeRuns(old=busy()))
    run.log.append([manifest_of("desk")] if run_id else busy())
    with run.client() as client:
        refused = problem(client.get(f"{path}?account_id=nope&run_id={run_id}"), 422)
        assert client.get(f"{path}?account_id=paper&run_id={run_id}").status_code == 200
        assert client.get(f"{path}?account_id=&run_id={run_id}").status_code == 200

    assert (refused["code"], refused["candidates"]) == ("account_unknown", ["paper"])
    assert refused["errors"][0]["value"] == "nope"


def test_account_passes_where_a_run_tells_of_none_or_an_order_names_it() -> None:
    known = Run()
    known.log.append([*busy(), (t.ACCOUNT_INPUTS, submit("o-1", account_id="refused"))])
    with Run().client() as silent, known.client() as client:
        assert silent.get("/api/orders?account_id=any").json()["count"] == 0
        assert client.get("/api/orders?account_id=refused").json()["count"] == 1


@pytest.mark.parametrize("path", LISTS[:-1])
def test_key_of_an_account_is_told_of_no_other(path: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    headers = bearer(gate.key("read", accounts=("desk",)))
    run = Run(gate=gate.keeper)
    run.log.append(busy())
    with run.client() as client:
        assert client.get(f"{path}?account_id=desk", headers=headers).status_code == 200
        refused = problem(client.get(f"{path}?account_id=paper", headers=headers), 422)

    assert refused["candidates"] == ["desk"]


@pytest.mark.parametrize("name", ["realized_pnl", "unrealized_pnl", "fees"])
def test_account_is_the_sum_of_its_positions_and_of_its_strategies(name: str) -> None:
    answer = answered(busy())

    whole = Decimal(answer["account"][name])
    assert whole == total(answer["positions"], name) == total(answer["strategies"], name)
    assert whole


def test_equity_is_what_its_parts_come_to_at_the_instant_that_is_stated() -> None:
    answer = answered(busy())
    account = answer["account"]
    parts = ("initial_equity", "realized_pnl", "dividends", "unrealized_pnl")

    equity = sum(Decimal(account[name]) for name in parts) - Decimal(account["fees"])
    assert Decimal(account["equity"]) == equity
    worth = total(answer["positions"], "market_value")
    assert Decimal(account["cash"]["USD"]) + worth == equity
    assert Decimal(account["net_exposure"]) == worth == Decimal("830.5")
    assert {row["as_of_ns"] for row in (account, *answer["strategies"])} == {
        str(START_NS + MINUTE_NS)
    }
    assert account["missing_prices"] == []


def test_results_by_strategy_say_the_same_as_the_strategies_of_the_account() -> None:
    run = Run()
    run.log.append([(t.REFERENCE_INSTRUMENTS, instrument()), *busy()])
    with run.client() as client:
        shares = exact(client.get("/api/portfolio/paper"))["strategies"]
        groups = exact(client.get("/api/portfolio/pnl?group_by=strategy"))["groups"]

    for share, group in zip(shares, groups, strict=True):
        for name in ("realized_pnl", "unrealized_pnl", "fees"):
            assert Decimal(share[name]) == Decimal(group[name])
        assert Decimal(share["equity"]) == Decimal(group["net_pnl"])


def test_amounts_are_written_without_noise() -> None:
    answer = answered(busy())

    assert answer["positions"][-1]["realized_pnl"] == "-837.2802"
    for row in (answer["account"], *answer["positions"], *answer["strategies"]):
        for text in (value for value in row.values() if isinstance(value, str)):
            assert "000000" not in text.partition(".")[2] or text.endswith("Z")


@pytest.mark.parametrize("is_action_first", [True, False])
def test_dividends_count_once_in_cash_and_equity(is_action_first: bool) -> None:
    action = CorporateAction(
        event_id="div-1",
        ts_event_ns=START_NS,
        instrument_id="SPY.ARCX",
        kind=CorporateActionKind.DIVIDEND,
        amount=Decimal("0.50"),
    )
    records: list[tuple[str, Header]] = [
        (t.REFERENCE_ACTIONS, action),
        (t.ACCOUNT_INPUTS, action),
        held("10", "100", "0", reason="dividend", causation_id="div-1"),
    ]
    ordered = records if is_action_first else records[::-1]
    run = Run()
    run.log.append([(t.REFERENCE_INSTRUMENTS, instrument()), manifest()])
    with run.client() as client:
        for record in ordered:
            run.append(client, [record])
        account = exact(client.get("/api/portfolio/paper"))["account"]

    assert account["dividends"] == "5.00"
    assert account["cash"] == {"USD": "9003.75"}
    assert account["missing_prices"] == ["SPY.ARCX"]
    assert account["equity"] == "10003.75"


@pytest.mark.parametrize(
    ("cash", "dividends", "equity"), [(9003.75, None, "10004"), (8998.75, "0", "10008.75")]
)
def test_run_of_which_only_the_state_is_known_says_where_dividends_are_unknown(
    cash: float, dividends: str | None, equity: str
) -> None:
    run = Run()
    marked = msgspec.structs.replace(mark(10_004.0), cash=cash)
    records = [manifest(), held("10", "100", "0"), (t.PORTFOLIO_EQUITY, marked)]
    run.log.append([(t.REFERENCE_INSTRUMENTS, instrument()), *records])
    run.log.append([(t.MARKET_EVENTS, trade(101.0, at=120))])
    with run.client() as client:
        run.context.views.forget()
        account = exact(client.get("/api/portfolio/account"))

    assert (account["dividends"], account["equity"]) == (dividends, equity)
    assert Decimal(account["cash"]["USD"]) == Decimal(str(cash))


def test_amounts_of_another_currency_are_in_the_base_currency() -> None:
    rate = ExchangeRate(
        event_id="r",
        ts_event_ns=START_NS,
        base_currency="EUR",
        quote_currency="USD",
        rate=Decimal("1.25"),
    )
    position = held("10", "165.10", "4", currency="EUR")
    records = [manifest(), position, (t.MARKET_EVENTS, trade(166.1))]

    account = answered([*records, (t.REFERENCE_RATES, rate)])["account"]
    unknown = answered(records)["account"]

    assert (account["realized_pnl"], account["unrealized_pnl"]) == ("5.00", "12.50")
    assert Decimal(account["cash"]["EUR"]) == Decimal(4) - Decimal("1.25") - 1651
    assert (unknown["realized_pnl"], unknown["missing_prices"]) == ("0", ["EUR"])


def test_account_without_prices_at_hand_is_as_the_stage_marked_it() -> None:
    marked = (t.PORTFOLIO_EQUITY, mark(99193.92190000002))

    account = answered([manifest(), held("10", "165.10", "4"), marked])["account"]

    assert account["equity"] == "99193.9219"
    assert Decimal(account["unrealized_pnl"]) == Decimal("99193.9219") - 10000 - 4 + Decimal("1.25")
    assert account["as_of_ns"] == str(START_NS + 60)


@pytest.mark.parametrize(
    ("capital", "owner", "base"),
    [("5000", "paper", 5000), (None, "paper", 10_000), ("5000", "other", 10_000)],
    ids=["capital", "account", "capital of another account"],
)
def test_drawdown_of_a_strategy_is_measured_by_the_money_it_has(
    capital: str | None, owner: str, base: int
) -> None:
    records = [
        manifest(capital=capital, owner=owner),
        share_mark(-365.12, -465.12),
        held("0", "0", "-363.87"),
    ]
    share = answered(records)["strategies"][0]
    curve = answered(records, "/api/portfolio/paper/equity?strategy_id=momentum")

    assert share["equity"] == "-365.12"
    assert share["peak_equity"] == "100"
    assert float(share["drawdown_pct"]) == pytest.approx(-46_512 / (base + 100))
    assert float(curve["points"][0]["drawdown_pct"]) == pytest.approx(-46_512 / (base + 100))


def test_amounts_of_curves_are_without_digits_of_arithmetic() -> None:
    records = [manifest(), (t.PORTFOLIO_EQUITY, mark(99568.96500000003))]

    (point,) = answered(records, "/api/portfolio/paper/equity")["points"]
    series = answered(records, "/api/portfolio/history")

    assert point["equity"] == "99568.965"
    assert (series["equity"], series["profit_loss"]) == (["99568.965"], ["89568.965"])


def test_drawdown_of_a_strategy_is_null_where_there_is_nothing_to_measure_it_by() -> None:
    records = [share_mark(-365.12, -465.12), held("0", "0", "-363.87")]

    share = answered(records)["strategies"][0]
    curve = answered(records, "/api/portfolio/paper/equity?strategy_id=momentum")

    assert share["drawdown_pct"] is None
    assert curve["points"][0]["drawdown_pct"] is None


@pytest.mark.parametrize("peak", [10_500.0, 98_765.43], ids=["round", "digits"])
def test_drawdown_of_an_account_is_below_the_peak_of_its_marks(peak: float) -> None:
    below = msgspec.structs.replace(mark(10_200.0), drawdown=(10_200.0 - peak) / peak)
    records = [manifest(), (t.PORTFOLIO_EQUITY, below), held("0", "0", "-9.75")]

    account = answered(records)["account"]

    assert Decimal(account["peak_equity"]) == Decimal(str(peak))
    assert account["equity"] == "9989.00"
    assert float(account["drawdown_pct"]) == pytest.approx(100 * (9989 / peak - 1))
