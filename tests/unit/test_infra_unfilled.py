"""Orders that the venue could not fill are told of, with the reason as far as the data show it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents.runners.results import OrderTally
from infra.backtests import Backtest, BacktestSpec, run_backtest
from infra.composition import Setup, compose
from infra.feeds import LiveSource
from infra.settings import Settings, VenueSettings, parse_venue
from infra.tables import show_backtest
from infra.times import parse_time
from infra.unfilled import unfilled
from schemas.columns import MarketBatch
from schemas.errors import ConfigError
from tests.generated import START_NS, session, universe

RANGE: dict[str, Any] = {
    "start_ns": parse_time("2014-01-01", "from"),
    "end_ns": parse_time("2014-02-01", "to"),
    "symbols": ("IBM",),
}


def run(out: Path, venue: dict[str, Any]) -> Backtest:
    """Return a backtest over a month of bundled daily bars."""
    settings = Settings(venue=parse_venue(venue))
    return run_backtest(BacktestSpec(strategy="buy_and_hold", settings=settings, **RANGE), out=out)


def setup(**venue: Any) -> Setup:
    """Return a run of two instruments, AA with quotes and trades and BB with trades alone."""
    symbols = universe(("AA", "BB"))
    source = LiveSource(
        "set",
        symbols.instruments,
        ("trade", "quote"),
        (),
        first_ns=START_NS,
        until_ns=START_NS + 1,
        kinds_of={"BB": ("trade",)},
    )
    return compose(Settings(venue=VenueSettings(**venue)), source)


def none() -> Iterator[MarketBatch]:
    """Yield nothing: the data need not be read again."""
    raise AssertionError("read")


def test_participation_that_leaves_no_unit_is_told_everywhere(tmp_path: Path) -> None:
    done = run(tmp_path / "run", {"participation": "1e-12"})

    (warning,) = done.warnings
    assert done.metrics.fills == 0
    assert warning.startswith(
        "IBM.XNYS: 1 order reached the venue and none was filled: venue.parti"
    )
    assert "1E-12 leaves less than one unit (1) of each bar, of which the largest has 12,729,4" in (
        warning
    )
    assert done.as_dict()["warnings"] == [warning]
    assert json.loads((tmp_path / "run" / "warnings.json").read_bytes()) == {"warnings": [warning]}
    assert warning in done.report.read_text(encoding="utf-8")
    shown = io.StringIO()
    show_backtest(Console(file=shown, width=100), done, 1.0)
    assert f"warning: {warning}\n" in shown.getvalue()


def test_backtest_that_is_filled_warns_of_nothing(tmp_path: Path) -> None:
    done = run(tmp_path / "run", {"participation": "0.1"})

    assert done.metrics.fills > 0
    assert done.warnings == []


def test_data_that_there_are_not_are_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "run", {"execution_data": "quote"})

    error = caught.value
    assert (error.field, error.value) == ("venue.execution_data", "quote")
    assert error.remedy == "choose auto or bar, which there is"
    assert not (tmp_path / "run").exists()


def test_instrument_without_the_data_that_fill_orders_is_named() -> None:
    tally = OrderTally({"AA.XXXX": 3, "BB.XXXX": 2}, {"AA.XXXX": 3}, {"EXPIRED": 2})

    (told,) = unfilled(setup(execution_data="quote"), tally, none)

    assert told == (
        "BB.XXXX: 2 orders reached the venue and none was filled: the data have no quotes of it,"
        " which venue.execution_data asks for"
    )


def test_orders_that_no_price_reached_are_told_with_their_ends_if_none_was_filled() -> None:
    tally = OrderTally({"AA.XXXX": 9, "BB.XXXX": 2}, {}, {"EXPIRED": 2, "IOC": 4})

    (told,) = unfilled(setup(), tally, none)

    assert told == (
        "11 orders reached the venue and none was filled (2 EXPIRED, 4 IOC, 5 working at the end):"
        " no event that came behind them reached their prices in time"
    )
    assert unfilled(setup(), tally._replace(filled={"BB.XXXX": 1}), none) == []
    assert unfilled(setup(), OrderTally({}, {}, {}), none) == []


def test_data_are_read_again_only_until_a_size_leaves_a_unit() -> None:
    batch = session(universe(("AA", "BB")), 400)
    tally = OrderTally({"AA.XXXX": 1}, {}, {})
    read: list[int] = []

    def batches() -> Iterator[MarketBatch]:
        for number in range(9):
            read.append(number)
            yield batch

    (told,) = unfilled(setup(participation=Decimal("0.5")), tally, batches)
    assert (len(read), told[:7]) == (1, "1 order")
    (told,) = unfilled(setup(participation=Decimal("1e-9")), tally, batches)
    assert len(read) == 10
    assert told.startswith("AA.XXXX: 1 order reached the venue and none was filled: venue.partic")


def test_sizes_that_there_are_not_are_no_share_of_anything() -> None:
    batch = session(universe(("AA", "BB")), 400)
    batch.trades.size[:] = 0
    tally = OrderTally({"BB.XXXX": 1}, {}, {})

    (told,) = unfilled(setup(participation=Decimal("0.5")), tally, lambda: [batch])

    assert told.endswith(
        "its trades have no size of which venue.participation could give a share; leave it out"
    )
