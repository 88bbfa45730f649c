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


FIRST = {"AA.XXXX": START_NS, "BB.XXXX": START_NS}
"""When the first orders went."""


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
    assert (
        "1E-12 leaves less than one unit (1) of each bar behind the first of them, of which"
        in warning
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
    tally = OrderTally({"AA.XXXX": 3, "BB.XXXX": 2}, {"AA.XXXX": 3}, {"EXPIRED": 2}, FIRST)

    (told,) = unfilled(setup(execution_data="quote"), tally, {}, none)

    assert told == (
        "BB.XXXX: 2 orders reached the venue and none was filled: the data have no quotes of it,"
        " which venue.execution_data asks for"
    )


def test_ends_of_orders_are_told_with_their_meanings_if_none_was_filled() -> None:
    ends = {"EXPIRED": 2, "IOC": 3, "UNKNOWN_THING": 1}
    tally = OrderTally({"AA.XXXX": 9, "BB.XXXX": 2}, {}, ends, FIRST)

    (told,) = unfilled(setup(), tally, {}, none)

    assert told == (
        "11 orders reached the venue and none was filled: 2 EXPIRED (their time was over),"
        " 3 IOC (not filled by the event that decides them), 1 UNKNOWN_THING, 5 working at the end"
    )
    assert unfilled(setup(), tally._replace(filled={"BB.XXXX": 1}), {}, none) == []
    assert unfilled(setup(), OrderTally({}, {}, {}, {}), {}, none) == []


def test_data_are_read_again_only_until_a_size_leaves_a_unit() -> None:
    batch = session(universe(("AA", "BB")), 400)
    tally = OrderTally({"AA.XXXX": 1}, {}, {}, FIRST)
    read: list[int] = []

    def batches() -> Iterator[MarketBatch]:
        for number in range(9):
            read.append(number)
            yield batch

    (told,) = unfilled(setup(participation=Decimal("0.5")), tally, {}, batches)
    assert (len(read), told[:7]) == (1, "1 order")
    (told,) = unfilled(setup(participation=Decimal("1e-9")), tally, {}, batches)
    assert len(read) == 10
    assert told.startswith("AA.XXXX: 1 order reached the venue and none was filled: venue.partic")


def test_sizes_that_there_are_not_are_no_share_of_anything() -> None:
    batch = session(universe(("AA", "BB")), 400)
    batch.trades.size[:] = 0
    tally = OrderTally({"BB.XXXX": 1}, {}, {}, FIRST)

    (told,) = unfilled(setup(participation=Decimal("0.5")), tally, {}, lambda: [batch])

    assert told.endswith(
        "its trades behind the first of them have no size of which venue.participation could give"
        " a share; leave it out"
    )


@pytest.mark.parametrize("tier", ["trade", "quote"])
def test_sizes_before_the_first_order_are_no_reason_against_its_want_of_them(tier: str) -> None:
    batch = session(universe(("AA", "BB")), 400)
    clock = batch.clock
    first_ns = int(clock[len(clock) // 2])
    run = setup(participation=Decimal("0.5"), execution_data=tier)
    for table, sizes in (
        (batch.trades, batch.trades.size),
        (batch.quotes, batch.quotes.bid_size),
        (batch.quotes, batch.quotes.ask_size),
    ):
        sizes[clock[table.pos] >= first_ns] = 1
        sizes[clock[table.pos] < first_ns] = 1e6

    def told(at_ns: int) -> str:
        tally = OrderTally({"AA.XXXX": 1}, {}, {"POST_ONLY": 1}, {"AA.XXXX": at_ns})
        (line,) = unfilled(run, tally, {}, lambda: [batch])
        return line.partition("none was filled: ")[2]

    assert told(first_ns) == (
        f"venue.participation = 0.5 leaves less than one unit (1) of each {tier} behind the first"
        " of them, of which the largest has 1; raise it, or leave it out for no bound"
    )
    assert told(int(clock[0])) == "1 POST_ONLY (they would not have rested, but traded at once)"
    # Nothing is known of events that there are not.
    assert (
        told(int(clock[-1]) + 1) == "1 POST_ONLY (they would not have rested, but traded at once)"
    )


OWN = """
from decimal import Decimal
from millrace import Strategy
from schemas.enums import OrderType, TimeInForce

class PostOnly(Strategy):
    def on_bar(self, bar):
        limit = Decimal(round(bar.close * 1.5))
        self.buy(
            bar.instrument_id, 1, order_type=OrderType.LIMIT, limit_price=limit, is_post_only=True
        )

class Whole(Strategy):
    def on_bar(self, bar):
        self.buy(bar.instrument_id, 5, time_in_force=TimeInForce.FOK)

class Market(Strategy):
    def on_bar(self, bar):
        self.buy(bar.instrument_id, 1)
"""


@pytest.mark.parametrize(
    ("strategy", "participation", "reason"),
    [
        ("PostOnly", "1", " POST_ONLY (they would not have rested, but traded at once)"),
        ("Whole", "1", " FOK (not filled whole by the event that decides them)"),
        ("Market", "0.1", "0.1 leaves less than one unit (1) of each bar behind the first of them"),
    ],
)
def test_no_price_is_blamed_for_what_another_cause_kept_from_filling(
    tmp_path: Path, strategy: str, participation: str, reason: str
) -> None:
    # The first bar is large, but nothing fills on the event that it was decided on.
    rows = [f"2023-01-{day:02},ZZZ,100,101,99,100,{3 if day > 2 else 10**6}" for day in range(2, 7)]
    data = tmp_path / "days.csv"
    data.write_text("\n".join(["timestamp,symbol,open,high,low,close,volume", *rows, ""]))
    code = tmp_path / "mine.py"
    code.write_text(OWN)
    settings = Settings(venue=parse_venue({"participation": participation}))
    spec = BacktestSpec(strategy=f"{code}:{strategy}", data=str(data), settings=settings)

    done = run_backtest(spec, out=tmp_path / "run")

    warning = next(line for line in done.warnings if "reached the venue" in line)
    assert done.metrics.fills == 0
    assert reason in warning


def test_run_whose_orders_were_all_denied_says_by_which_codes() -> None:
    nothing = OrderTally({}, {}, {}, {})
    (told,) = unfilled(setup(), nothing, {"QUANTITY_ABOVE_MAX": 1200, "BREAKER": 1}, none)
    assert told == "all orders were denied by the risk gate: 1 BREAKER, 1,200 QUANTITY_ABOVE_MAX"
