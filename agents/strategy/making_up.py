"""What an array strategy orders after one of its orders did not come about.

Its orders bring the position to a target, each sized as if those before it were filled. Where the
risk gate or the venue refuses one, the position would be elsewhere until the next signal.
"""

from __future__ import annotations

from decimal import Decimal

from agents.strategy.api import View
from schemas.order_events import OrderDenied, OrderEvent
from schemas.values import ZERO

_AGAIN = ".again"
"""Ends the name of an order that was refused and is placed once more."""


def order_after(
    view: View, event: OrderEvent, instrument_id: str, missing: Decimal
) -> tuple[Decimal, str]:
    """Return the signed quantity to order after ``missing`` was refused, 0 for none, and its name.

    A later order was sized as if the refused one were filled: where the position grows without it,
    it is ordered again, under a name that tells so and is not repeated. Else the position that a
    denied order would have turned is closed, under a new name (empty here); the old side is not
    kept.
    """
    order_id = event.client_order_id
    held, working = view.positions[instrument_id], view.working[instrument_id]
    if _is_followed(view, order_id, instrument_id):
        is_larger = abs(held + working) > abs(held + working + missing)
        if is_larger and not order_id.endswith(_AGAIN):
            return missing, f"{order_id}{_AGAIN}"
        return ZERO, ""
    is_turn = held and (held > 0) != (missing > 0) and abs(missing) > abs(held)
    if is_turn and not working and isinstance(event, OrderDenied):
        return -held, ""
    return ZERO, ""


def _is_followed(view: View, order_id: str, instrument_id: str) -> bool:
    """Return whether an order is open that was placed behind another one."""

    def number(name: str) -> int:
        return int(name.removeprefix(view.prefix).removesuffix(_AGAIN))

    return any(
        named == instrument_id and number(other) > number(order_id)
        for other, (named, _) in view.open_orders.items()
    )
