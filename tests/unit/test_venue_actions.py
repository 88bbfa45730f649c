"""Corporate actions at the paper venue: orders, commands on their way, positions, last prices."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from schemas.enums import CorporateActionKind, InstrumentState
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.order_events import Fill, VenueCanceled, VenueReplaced
from tests.unit.venue_script import A, B, Player, Status, Trade, replace, submit


def acted(kind: str, **fields: Any) -> CorporateAction:
    """Return a corporate action on A."""
    return CorporateAction(
        event_id="action",
        ts_event_ns=0,
        instrument_id=A,
        kind=CorporateActionKind(kind),
        **fields,
    )


def twins(
    price_increment: str = "0.01", quantity_increment: str = "1", multiplier: str = "1"
) -> Universe:
    """Return A in cents and whole shares, and B with these grids; ``multiplier`` is of both."""
    grids = {A: ("0.01", "1"), B: (price_increment, quantity_increment)}
    universe = Universe(
        [
            Instrument(
                instrument_id=name,
                symbol=name[:3],
                venue="XNYS",
                ts_event_ns=0,
                price_increment=Decimal(price),
                quantity_increment=Decimal(quantity),
                multiplier=Decimal(multiplier),
            )
            for name, (price, quantity) in grids.items()
        ]
    )
    for source in ("trade", "quote", "bar"):
        universe.source_index(source)
    return universe


def of(records: Sequence[Header], kind: type[Any]) -> list[Any]:
    """Return the records of one type."""
    return [record for record in records if isinstance(record, kind)]


def holding(universe: Universe, a: str = "100", b: str = "") -> Player:
    """Return a player whose strategy holds so much of the two."""
    player = Player(universe=universe)
    player.play([Trade(1, 1000), Trade(1, 1000, name=B)])
    for order_id, name, quantity in (("a", A, a), ("b", B, b)):
        if quantity:
            player.play([submit(order_id, "BUY", quantity, name=name), Trade(2, 1000, 9999, name)])
    return player


# ---- splits


def test_split_scales_orders_and_what_a_reduce_only_order_may_sell() -> None:
    player = holding(twins())
    player.play([submit("rest", "BUY", "10", limit="5")])

    records = player.play(
        [
            acted("SPLIT", ratio=Decimal(2)),
            Trade(3, 250, 9999),
            submit("exit", "SELL", "500", is_reduce_only=True),
            Trade(4, 250, 9999),
        ]
    )

    filled = {fill.client_order_id: (fill.quantity, fill.price) for fill in of(records, Fill)}
    assert filled == {"rest": (20, Decimal("2.50")), "exit": (220, Decimal("2.50"))}


def test_order_of_which_a_split_leaves_nothing_is_canceled() -> None:
    player = Player(universe=twins())
    player.play([submit("rest", "BUY", "1", limit="5")])

    (canceled,) = player.play([acted("SPLIT", ratio=Decimal("0.1"))])

    assert isinstance(canceled, VenueCanceled)
    assert canceled.reason == "SPLIT"


# ---- symbol changes


@pytest.mark.parametrize("new_symbol", [B, "BBB"])
def test_orders_and_position_go_on_under_the_new_name(new_symbol: str) -> None:
    player = holding(twins())
    player.play([submit("rest", "SELL", "10", limit="11")])

    records = player.play(
        [
            acted("SYMBOL_CHANGE", new_symbol=new_symbol),
            replace("rest", "20", limit="11", name=B),
            submit("exit", "SELL", "100", name=B, is_reduce_only=True),
            Trade(3, 1000, 9999, name=B),
            Trade(4, 1100, 9999, name=B),
        ]
    )

    assert [report.instrument_id for report in of(records, VenueReplaced)] == [B]
    filled = {
        fill.client_order_id: (fill.instrument_id, fill.quantity) for fill in of(records, Fill)
    }
    assert filled == {"exit": (B, 100), "rest": (B, 20)}


def test_position_of_the_old_name_joins_that_of_the_new_one() -> None:
    player = holding(twins(), "100", "50")

    records = player.play(
        [
            acted("SYMBOL_CHANGE", new_symbol=B),
            submit("exit", "SELL", "500", name=B, is_reduce_only=True),
            Trade(3, 1000, 9999, name=B),
        ]
    )

    assert [fill.quantity for fill in of(records, Fill)] == [150]


@pytest.mark.parametrize(
    ("quantity_increment", "price_increment"), [("0.1", "0.01"), ("1", "0.25")]
)
def test_position_goes_on_where_the_new_grids_are_others_and_orders_do_not(
    quantity_increment: str, price_increment: str
) -> None:
    player = holding(twins(price_increment, quantity_increment))
    player.play([submit("rest", "SELL", "10", limit="11")])

    records = player.play(
        [
            acted("SYMBOL_CHANGE", new_symbol=B),
            submit("exit", "SELL", "500", name=B, is_reduce_only=True),
            Trade(3, 40, 9999, name=B),
        ]
    )

    ended = of(records, VenueCanceled)[0]
    assert (ended.client_order_id, ended.reason) == ("rest", "SYMBOL_CHANGE")
    assert [fill.quantity for fill in of(records, Fill)] == [100]


@pytest.mark.parametrize(("new_symbol", "lots"), [("ZZZ", "1"), (B, "10")])
def test_name_that_cannot_hold_it_ends_the_orders_and_leaves_the_position(
    new_symbol: str, lots: str
) -> None:
    player = holding(twins("0.01", lots))
    player.play([submit("rest", "SELL", "10", limit="11")])

    records = player.play(
        [
            acted("SYMBOL_CHANGE", new_symbol=new_symbol),
            submit("exit", "SELL", "500", is_reduce_only=True),
            Trade(3, 1000, 9999),
        ]
    )

    assert of(records, VenueCanceled)[0].client_order_id == "rest"
    assert [fill.quantity for fill in of(records, Fill)] == [100]


@pytest.mark.parametrize(
    ("told", "quantities"),
    [([], []), ([Status(2, InstrumentState.OPEN, B)], [10])],
    ids=["of the old name alone", "of the new name too"],
)
def test_halt_goes_along_unless_the_new_name_has_a_state_of_its_own(
    told: list[Status], quantities: list[int]
) -> None:
    player = Player(universe=twins())
    player.play([*told, Status(2, InstrumentState.HALTED, A)])

    records = player.play(
        [
            acted("SYMBOL_CHANGE", new_symbol=B),
            submit("entry", "BUY", "10", name=B),
            Trade(3, 1000, 9999, name=B),
        ]
    )

    assert [fill.quantity for fill in of(records, Fill)] == quantities
