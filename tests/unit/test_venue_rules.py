"""The rule table of the paper venue, row by row: what fills an order, at what price, when, as what.

Event prices are in ticks of a cent, so 10000 is 100.00. The order is given at time 10.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from agents.venue.config import VenueConfig
from schemas.order_events import Fill, VenueCanceled, VenueReport, VenueTriggered
from tests.unit.venue_script import Bar, Event, Player, Quote, Trade, submit

TAKER, MAKER = "TAKER", "MAKER"


class Row(NamedTuple):
    """One line of the table: ``want`` is (price, time, liquidity), or the reason of a cancel."""

    name: str
    order: dict[str, Any]
    events: list[Event]
    want: tuple[str, int, str] | str | None
    config: dict[str, Any] = {}


def bar(start: int, opened: int, high: int, low: int, closed: int) -> Bar:
    """Return a bar of ten ns."""
    return Bar(start + 10, start, opened, high, low, closed)


THROUGH = {"limit_fill": "through"}
BUY_99 = {"limit": "99.00"}
SELL_101 = {"side": "SELL", "limit": "101.00"}
STOP_101 = {"stop": "101.00"}
SELL_STOP_99 = {"side": "SELL", "stop": "99.00"}
STOP_LIMIT = {"stop": "101.00", "limit": "101.50"}

ON_TRADES = [
    Row("market fills at the next trade", {}, [Trade(11, 10003)], ("100.03", 11, TAKER)),
    Row("a late trade happens at the clock", {}, [Trade(3, 10003)], ("100.03", 10, TAKER)),
    Row("an arriving limit takes a better trade", BUY_99, [Trade(11, 9890)], ("98.90", 11, TAKER)),
    Row("an arriving limit takes its price", BUY_99, [Trade(11, 9900)], ("99.00", 11, TAKER)),
    Row(
        "a resting limit fills at the limit",
        BUY_99,
        [Trade(11, 9950), Trade(12, 9880)],
        ("99.00", 12, MAKER),
    ),
    Row(
        "a resting limit fills on touch",
        BUY_99,
        [Trade(11, 9950), Trade(12, 9900)],
        ("99.00", 12, MAKER),
    ),
    Row(
        "through: a touch is not enough",
        BUY_99,
        [Trade(11, 9950), Trade(12, 9900)],
        None,
        THROUGH,
    ),
    Row("through: nor on arrival", BUY_99, [Trade(11, 9900)], None, THROUGH),
    Row(
        "through: beyond is",
        BUY_99,
        [Trade(11, 9950), Trade(12, 9899)],
        ("99.00", 12, MAKER),
        THROUGH,
    ),
    Row(
        "a selling limit mirrors it",
        SELL_101,
        [Trade(11, 10050), Trade(12, 10120)],
        ("101.00", 12, MAKER),
    ),
    Row("a stop fills at the gap price", STOP_101, [Trade(11, 10130)], ("101.30", 11, TAKER)),
    Row("a stop waits for its price", STOP_101, [Trade(11, 10099)], None),
    Row(
        "a stop may be touched",
        STOP_101,
        [Trade(11, 10000), Trade(12, 10100)],
        ("101.00", 12, TAKER),
    ),
    Row("a selling stop mirrors it", SELL_STOP_99, [Trade(11, 9850)], ("98.50", 11, TAKER)),
    Row("a stop-limit fills on its trigger", STOP_LIMIT, [Trade(11, 10120)], ("101.20", 11, TAKER)),
    Row(
        "a stop-limit rests beyond its limit",
        STOP_LIMIT,
        [Trade(11, 10200), Trade(12, 10140)],
        ("101.50", 12, MAKER),
    ),
    Row("IOC ends with the first trade", {**BUY_99, "tif": "IOC"}, [Trade(11, 9950)], "IOC"),
    Row(
        "IOC takes the first trade",
        {**BUY_99, "tif": "IOC"},
        [Trade(11, 9890)],
        ("98.90", 11, TAKER),
    ),
    Row("FOK ends with the first trade", {**BUY_99, "tif": "FOK"}, [Trade(11, 9950)], "FOK"),
    Row(
        "an IOC stop waits for its trigger",
        {**STOP_101, "tif": "IOC"},
        [Trade(11, 10000), Trade(12, 10110)],
        ("101.10", 12, TAKER),
    ),
    Row("quotes do not fill on the trade tier", {}, [Quote(11, 9999, 10001)], None),
    Row("broken trades do not fill", {}, [Trade(11, float("nan")), Trade(12, 0)], None),
]

ON_QUOTES = [
    Row("buying takes the ask", {}, [Quote(11, 9999, 10001)], ("100.01", 11, TAKER)),
    Row("selling takes the bid", {"side": "SELL"}, [Quote(11, 9999, 10001)], ("99.99", 11, TAKER)),
    Row(
        "market waits for its side",
        {},
        [Quote(11, 9999, 0), Quote(12, 9999, 10002)],
        ("100.02", 12, TAKER),
    ),
    Row("an IOC does not wait", {"tif": "IOC"}, [Quote(11, 9999, 0)], "IOC"),
    Row("trades do not fill a market order", {}, [Trade(11, 10000)], None),
    Row(
        "an arriving limit takes a better ask",
        BUY_99,
        [Quote(11, 9880, 9890)],
        ("98.90", 11, TAKER),
    ),
    Row(
        "through: an arriving limit takes the ask at its limit",
        BUY_99,
        [Quote(11, 9890, 9900)],
        ("99.00", 11, TAKER),
        THROUGH,
    ),
    Row(
        "a resting limit fills when the ask reaches it",
        BUY_99,
        [Quote(11, 9940, 9950), Quote(12, 9880, 9890)],
        ("99.00", 12, MAKER),
    ),
    Row(
        "through: not when the ask touches it",
        BUY_99,
        [Quote(11, 9940, 9950), Quote(12, 9890, 9900)],
        None,
        THROUGH,
    ),
    Row(
        "a trade through a resting limit fills it",
        BUY_99,
        [Quote(11, 9940, 9950), Trade(12, 9899)],
        ("99.00", 12, MAKER),
    ),
    Row(
        "a trade at a resting limit does not",
        BUY_99,
        [Quote(11, 9940, 9950), Trade(12, 9900)],
        None,
    ),
    Row("a trade does not fill an arriving limit", BUY_99, [Trade(11, 9800)], None),
    Row(
        "a buying stop looks at the ask",
        STOP_101,
        [Quote(11, 10098, 10099), Quote(12, 10099, 10102)],
        ("101.02", 12, TAKER),
    ),
    Row(
        "a selling stop looks at the bid",
        SELL_STOP_99,
        [Quote(11, 9901, 9902), Quote(12, 9898, 9902)],
        ("98.98", 12, TAKER),
    ),
    Row("a missing bid triggers nothing", SELL_STOP_99, [Quote(11, 0, 9902)], None),
    Row("a trade triggers nothing", STOP_101, [Trade(11, 10200)], None),
]

ON_BARS = [
    Row(
        "market fills at the open, at the bar's start",
        {},
        [bar(10, 10002, 10010, 9990, 10005)],
        ("100.02", 10, TAKER),
    ),
    Row("a bar that began before does not count", {}, [bar(9, 10002, 10010, 9990, 10005)], None),
    Row(
        "an arriving limit takes a better open",
        BUY_99,
        [bar(10, 9890, 9950, 9880, 9900)],
        ("98.90", 10, TAKER),
    ),
    Row(
        "a limit within the bar fills at its close",
        BUY_99,
        [bar(10, 9950, 9960, 9890, 9940)],
        ("99.00", 20, MAKER),
    ),
    Row(
        "a resting limit gets a better open as a maker",
        BUY_99,
        [bar(10, 9950, 9960, 9940, 9950), bar(20, 9880, 9900, 9870, 9890)],
        ("98.80", 20, MAKER),
    ),
    Row(
        "through: touching the low is not enough",
        BUY_99,
        [bar(10, 9950, 9960, 9900, 9940)],
        None,
        THROUGH,
    ),
    Row(
        "a stop gaps at the open",
        STOP_101,
        [bar(10, 10150, 10160, 10140, 10150)],
        ("101.50", 10, TAKER),
    ),
    Row(
        "a stop within the bar fills at the stop",
        STOP_101,
        [bar(10, 10050, 10160, 10040, 10050)],
        ("101.00", 20, TAKER),
    ),
    Row(
        "a selling stop mirrors it",
        SELL_STOP_99,
        [bar(10, 9950, 9960, 9890, 9940)],
        ("99.00", 20, TAKER),
    ),
    Row(
        "a stop-limit within the bar fills at the stop",
        STOP_LIMIT,
        [bar(10, 10050, 10160, 10040, 10050)],
        ("101.00", 20, TAKER),
    ),
    Row(
        "a stop-limit that gaps rests, though the bar came back",
        STOP_LIMIT,
        [bar(10, 10200, 10250, 10100, 10120), bar(20, 10160, 10170, 10140, 10150)],
        ("101.50", 30, MAKER),
    ),
    Row(
        "IOC takes the open or nothing",
        {**BUY_99, "tif": "IOC"},
        [bar(10, 9950, 9960, 9890, 9940)],
        "IOC",
    ),
    Row("a corrected bar fills nothing", {}, [Bar(20, 10, 1, 1, 1, 1, revision=1)], None),
]

CASES = [
    (tier, row)
    for tier, rows in (("trade", ON_TRADES), ("quote", ON_QUOTES), ("bar", ON_BARS))
    for row in rows
]


def outcome(reports: list[VenueReport]) -> tuple[str, int, str] | str | None:
    """Return what became of the order, in the words of the table."""
    for report in reports:
        if isinstance(report, Fill):
            return str(report.price), report.ts_event_ns, report.liquidity_side.value
        if isinstance(report, VenueCanceled):
            return report.reason
    return None


@pytest.mark.parametrize(("tier", "row"), CASES, ids=[f"{tier}: {row.name}" for tier, row in CASES])
def test_rule(tier: str, row: Row) -> None:
    player = Player(VenueConfig(execution_data=tier, **row.config))

    reports = player.play([Trade(10, 10000), submit(**row.order), *row.events])

    assert outcome([r for r in reports if isinstance(r, VenueReport)]) == row.want


def test_stop_reports_its_trigger_before_its_fill() -> None:
    reports = Player().play([submit(stop="101.00"), Trade(11, 10130)])

    assert [type(report) for report in reports[1:]] == [VenueTriggered, Fill]


def test_slippage_is_against_the_order_and_named_in_the_reference_price() -> None:
    from agents.venue.config import TickSlippage

    player = Player(VenueConfig(slippage=TickSlippage(3)))

    reports = player.play([submit("b"), submit("s", "SELL"), Trade(1, 10000)])

    fills = [(r.price, r.reference_price) for r in reports if isinstance(r, Fill)]
    hundred = Decimal("100.00")
    assert fills == [(Decimal("100.03"), hundred), (Decimal("99.97"), hundred)]


def test_slippage_stops_at_the_limit() -> None:
    from agents.venue.config import TickSlippage

    player = Player(VenueConfig(slippage=TickSlippage(3)))

    reports = player.play([submit(limit="100.01"), Trade(1, 10000)])

    assert [r.price for r in reports if isinstance(r, Fill)] == [Decimal("100.01")]


def test_on_a_bar_the_stop_comes_before_the_limit() -> None:
    player = Player(VenueConfig(execution_data="bar"))
    exits = [
        submit("profit", "SELL", limit="105.00", is_reduce_only=True),
        submit("loss", "SELL", stop="95.00", is_reduce_only=True),
    ]

    reports = player.play(
        [
            submit("entry"),
            bar(0, 10000, 10010, 9990, 10000),
            *exits,
            bar(10, 10000, 10600, 9400, 10000),
        ]
    )

    fills = [r.client_order_id for r in reports if isinstance(r, Fill)]
    ends = [(r.client_order_id, r.reason) for r in reports if isinstance(r, VenueCanceled)]
    assert fills == ["entry", "loss"]
    assert ends == [("profit", "REDUCE_ONLY")]
