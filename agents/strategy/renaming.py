"""A symbol change as strategies see it: what they hold goes on under the new name.

An instance works on some instruments of its strategy, in the array form on one. What it holds of an
instrument, and the orders that it has there, pass to the instance that works on the new name; at
the last price, so that the capital of neither changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from agents.strategy.instance import Instance
from schemas.errors import ConfigError
from schemas.values import ZERO


def rename(instances: Iterable[Instance], old: str, new: str) -> None:
    """Bring what instances know of ``old`` under its new name.

    One that holds something or has orders, of a strategy that does not trade ``new``, fails: it
    would never hear of them again.
    """
    instances = list(instances)
    takers = {i.config.strategy_id: i for i in instances if new in i.view.instruments}
    for giver in instances:
        view = giver.view
        if old not in view.instruments:
            continue
        orders = [key for key, (theirs, _) in view.open_orders.items() if theirs == old]
        if not view.positions[old] and not orders:
            continue
        taker = takers.get(giver.config.strategy_id)
        if taker is None:
            giver.fail(
                ConfigError(
                    f"{old}, which the strategy holds or has orders in, is {new} now",
                    field="instruments",
                    value=", ".join(view.instruments),
                    remedy=f"close the position by hand, or let the strategy trade {new} too",
                )
            )
        else:
            _move(giver, taker, old, new, orders)


def _move(giver: Instance, taker: Instance, old: str, new: str, orders: list[str]) -> None:
    gone, view = giver.view, taker.view
    held, gone.positions[old] = gone.positions[old], ZERO
    price = gone.prices.get(old)
    if price is not None:
        worth = held * price * gone.instruments[old].multiplier
        gone.cash += worth
        view.cash -= worth
        view.prices.setdefault(new, price)
    view.positions[new] += held
    gone.working[old] = ZERO
    for key in orders:
        _, left = gone.open_orders.pop(key)
        view.open_orders[key] = (new, left)
        view.working[new] += left
