"""Backtests against computations that share no code with the engine.

Each reference works on whole hundredths of a cent with numpy: averages, crossings, the fill at the
next event, quantities, cash.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from agents.strategy.parameters import ParameterValue
from infra.backtests import Backtest, BacktestSpec, run_backtest
from infra.times import parse_time
from schemas.columns import Ints
from schemas.enums import CorporateActionKind
from streams.datasets import open_data
from tests.generated import trades, universe, write_csv

UNITS = 10_000  # of the references' grid in one dollar
CASH = 100_000


class Fill(NamedTuple):
    """A fill of the reference: event, signed quantity, price on the grid."""

    at: int
    quantity: int
    price: int


def _sums(price: Ints, length: int) -> Ints:
    """Return ``length`` times the average of the last ``length`` prices, 0 until there are any."""
    sums = np.zeros(len(price), np.int64)
    sums[length - 1 :] = np.convolve(price, np.ones(length, np.int64), "valid")
    return sums


def _crossover(
    decided: Ints, executed: Ints, fast: int, slow: int, quantity: int = 0
) -> list[Fill]:
    """Return the fills of a crossover: decided on a price, executed at the price of the next event.

    ``quantity`` 0 puts the whole equity to work.
    """
    is_above = _sums(decided, fast) * slow > _sums(decided, slow) * fast
    target = np.where(is_above, 1, -1)
    target[: slow - 1] = 0
    cash, held = CASH * UNITS, 0
    fills = []
    for at in np.flatnonzero(np.diff(target, prepend=0)).tolist():
        if at + 1 >= len(executed):
            break
        equity = cash + held * int(decided[at])
        size = quantity or equity // int(decided[at])
        change = int(target[at]) * size - held
        fills.append(Fill(at + 1, change, int(executed[at + 1])))
        cash -= change * fills[-1].price
        held += change
    return fills


def _run(out: Path, strategy: str, **terms: Any) -> Backtest:
    return run_backtest(BacktestSpec(strategy=strategy, cash=Decimal(CASH), **terms), out=out)


def _lines(done: Backtest, name: str) -> list[dict[str, str]]:
    with (done.folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def _fills(done: Backtest, ts: Ints) -> list[Fill]:
    """Return the fills of a backtest in the form of the reference; ``ts`` are the events' times."""
    return [
        Fill(
            int(np.searchsorted(ts, int(line["time_ns"]))),
            int(line["quantity"]) * (1 if line["side"] == "BUY" else -1),
            int(Decimal(line["price"]) * UNITS),
        )
        for line in _lines(done, "fills")
    ]


def _grid(values: Sequence[float] | np.ndarray[Any, Any]) -> Ints:
    units: Ints = np.rint(np.asarray(values) * UNITS).astype(np.int64)
    return units


@pytest.mark.parametrize("quantity", [0, 25])
def test_crossover_on_trades_fills_as_the_reference_does(tmp_path: Path, quantity: int) -> None:
    market = trades(universe(), 4000, days=3)
    price = _grid(market.trades.price)
    parameters: dict[str, ParameterValue] = {"fast": 7, "slow": 31, "quantity": float(quantity)}
    done = _run(
        tmp_path / "out",
        "momentum_crossover",
        data=str(write_csv(tmp_path / "gen.csv", market)),
        parameters=parameters,
    )

    expected = _crossover(price, price, 7, 31, quantity)

    assert len(expected) > 50
    assert _fills(done, market.trades.ts) == expected
    held = sum(fill.quantity for fill in expected)
    cash = CASH * UNITS - sum(fill.quantity * fill.price for fill in expected)
    assert done.metrics.final_equity == float(Decimal(cash + held * int(price[-1])) / UNITS)
    assert Decimal(_lines(done, "equity")[-1]["cash"]) == Decimal(cash) / UNITS


def test_crossover_on_daily_bars_fills_at_the_next_open_as_the_reference_does(
    tmp_path: Path,
) -> None:
    terms: dict[str, Any] = {
        "symbols": ("SPY",),
        "start_ns": parse_time("2003-01-01", "from"),
        "end_ns": parse_time("2012-12-31", "to", is_end=True),
    }
    done = _run(
        tmp_path / "out",
        "momentum_crossover",
        data="daily",
        parameters={"fast": 10, "slow": 50, "quantity": 300.0},
        **terms,
    )
    data = open_data("daily", symbols=["SPY"])
    bars = [b.bars for b in data.batches(start_ns=terms["start_ns"], end_ns=terms["end_ns"])]
    opens, closes = (
        _grid(np.concatenate([getattr(b, n) for b in bars])) for n in ("open", "close")
    )
    ts = np.concatenate([b.ts for b in bars])

    expected = _crossover(closes, opens, 10, 50, 300)

    assert len(expected) > 20
    assert _fills(done, ts) == expected
    held = np.zeros(len(ts), np.int64)
    for fill in expected:
        held[fill.at :] += fill.quantity
    cash = Decimal(CASH * UNITS - sum(fill.quantity * fill.price for fill in expected)) / UNITS
    dividends = Decimal(0)
    for action in data.actions(terms["start_ns"], terms["end_ns"]):
        before = int(np.searchsorted(ts, action.ts_event_ns)) - 1
        dividends += int(held[before]) * action.amount
    assert done.metrics.total_dividends == pytest.approx(float(dividends), abs=1e-9)
    assert done.metrics.final_equity == pytest.approx(
        float(cash + dividends + int(held[-1]) * Decimal(int(closes[-1])) / UNITS), abs=1e-9
    )


def test_buy_and_hold_neither_gains_nor_loses_by_the_split_of_ibm(tmp_path: Path) -> None:
    done = _run(
        tmp_path / "out",
        "buy_and_hold",
        data="daily",
        symbols=("IBM",),
        start_ns=parse_time("1999-05-03", "from"),
        end_ns=parse_time("1999-06-30", "to", is_end=True),
    )
    splits = [
        action
        for action in open_data("daily", symbols=["IBM"]).actions()
        if action.kind is CorporateActionKind.SPLIT
    ]
    equity = np.array([float(line["equity"]) for line in _lines(done, "equity")])

    assert [action.ratio for action in splits] == [2]
    assert np.abs(np.diff(equity) / equity[:-1]).max() < 0.2
    assert done.metrics.max_drawdown_pct > -20


def test_buy_and_hold_earns_price_and_dividends_through_a_split(tmp_path: Path) -> None:
    terms: dict[str, Any] = {
        "data": "daily",
        "symbols": ("IBM",),
        "end_ns": parse_time("2005-12-31", "to"),
    }
    done = _run(tmp_path / "out", "buy_and_hold", parameters={"reinvest": False}, **terms)
    data = open_data("daily", symbols=["IBM"])
    bars = [batch.bars for batch in data.batches(end_ns=terms["end_ns"])]
    opens, closes = (
        _grid(np.concatenate([getattr(b, n) for b in bars])) for n in ("open", "close")
    )

    held = Decimal(CASH * UNITS // int(closes[0]))
    cash = CASH - held * int(opens[1]) / UNITS
    dividends = Decimal(0)
    for action in data.actions(end_ns=terms["end_ns"]):
        if action.kind is CorporateActionKind.SPLIT:
            held *= action.ratio
        else:
            dividends += held * action.amount

    assert len(_lines(done, "fills")) == 1
    assert dividends > 5000
    assert done.metrics.total_dividends == pytest.approx(float(dividends))
    final = cash + dividends + held * int(closes[-1]) / UNITS
    assert done.metrics.final_equity == pytest.approx(float(final))
    assert done.metrics.total_return_pct == pytest.approx(float(final / CASH - 1) * 100)


def test_buy_and_hold_that_reinvests_ends_with_more_shares_than_one_that_does_not(
    tmp_path: Path,
) -> None:
    bought = {}
    for is_reinvesting in (True, False):
        done = _run(
            tmp_path / str(is_reinvesting),
            "buy_and_hold",
            data="daily",
            symbols=("IBM",),
            parameters={"reinvest": is_reinvesting},
        )
        bought[is_reinvesting] = sum(int(line["quantity"]) for line in _lines(done, "fills"))
    assert bought[True] > bought[False]
