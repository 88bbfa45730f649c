"""The venue's reports: one place that makes their ids, prices and fees.

An answer to a command is caused by the command; a fill, trigger or end is caused by the market event that brought it about.
"""

from __future__ import annotations

from agents.processor import Outbox
from agents.paper.models import FeeModel
from agents.paper.resting import Resting
from schemas.commands import VenueCancel, VenueReplace, VenueSubmit
from schemas.enums import LiquiditySide, Side
from schemas.identifiers import derived_base
from schemas.instruments import Universe
from schemas.order_events import (
    Fill,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueTriggered,
)
from schemas.topics import ACCOUNT_INPUTS
from schemas.values import ZERO

_PRODUCER = "venue:paper"


class Reporter:
    """Makes reports and puts them on ``account.inputs``."""

    def __init__(self, universe: Universe, fee: FeeModel | None) -> None:
        self._universe = universe
        self._fee = fee

    def accepted(self, command: VenueSubmit, order: Resting, ts_ns: int, out: Outbox) -> None:
        """The venue works the order."""
        out.append((
            ACCOUNT_INPUTS,
            VenueAccepted(
                f"{derived_base(_PRODUCER, command.event_id)}-0", ts_ns, command.client_order_id, command.event_id,
                command.account_id, command.strategy_id, command.client_order_id, command.instrument_id,
                order.venue_order_id(),
            ),
        ))  # fmt: skip

    def rejected(self, command: VenueSubmit, code: str, ts_ns: int, out: Outbox) -> None:
        """The venue refuses a new order."""
        self._reject(command, "submit", code, ts_ns, out)

    def unknown(self, command: VenueCancel | VenueReplace, kind: str, ts_ns: int, out: Outbox) -> None:
        """The venue has no such working order."""
        self._reject(command, kind, "UNKNOWN_ORDER", ts_ns, out)

    def _reject(
        self, command: VenueSubmit | VenueCancel | VenueReplace, kind: str, code: str, ts_ns: int, out: Outbox
    ) -> None:
        out.append((
            ACCOUNT_INPUTS,
            VenueRejected(
                f"{derived_base(_PRODUCER, command.event_id)}-0", ts_ns, command.client_order_id, command.event_id,
                command.account_id, command.strategy_id, command.client_order_id, command.instrument_id, "", kind, code,
            ),
        ))  # fmt: skip

    def refused(
        self, order: Resting, kind: str, code: str, detail: str, ts_ns: int, cause: str, out: Outbox
    ) -> None:
        """The venue refuses a replace or cancel of a working order."""
        out.append((ACCOUNT_INPUTS, VenueRejected(*self._head(order, ts_ns, cause, 0), kind, code, detail)))

    def canceled(
        self, order: Resting, ts_ns: int, cause: str, reason: str, out: Outbox, ordinal: int = 0
    ) -> None:
        """The order was taken out."""
        out.append((ACCOUNT_INPUTS, VenueCanceled(*self._head(order, ts_ns, cause, ordinal), reason)))

    def expired(self, order: Resting, ts_ns: int, cause: str, out: Outbox) -> None:
        """The order's time is over."""
        out.append((ACCOUNT_INPUTS, VenueExpired(*self._head(order, ts_ns, cause, 0))))

    def replaced(self, order: Resting, ts_ns: int, cause: str, out: Outbox) -> None:
        """The order stands with new values."""
        grid = self._universe.price_grids[order.index]
        out.append((
            ACCOUNT_INPUTS,
            VenueReplaced(
                *self._head(order, ts_ns, cause, 0),
                self._universe.quantity_grids[order.index].to_decimal(order.quantity),
                None if order.limit is None else grid.to_decimal(order.limit),
                None if order.stop is None else grid.to_decimal(order.stop),
            ),
        ))  # fmt: skip

    def triggered(self, order: Resting, ts_ns: int, market_id: str, out: Outbox) -> None:
        """The stop was triggered."""
        out.append((ACCOUNT_INPUTS, VenueTriggered(*self._head(order, ts_ns, market_id, 2))))

    def fill(
        self, order: Resting, ticks: int, reference_ticks: int, units: int, ts_ns: int, liquidity: LiquiditySide,
        market_id: str, out: Outbox,
    ) -> None:  # fmt: skip
        """An execution; ``order.filled`` counts it already."""
        universe, index = self._universe, order.index
        instrument = universe.instruments[index]
        grid, quantity_grid = universe.price_grids[index], universe.quantity_grids[index]
        quantity, price = quantity_grid.to_decimal(units), grid.to_decimal(ticks)
        fee = ZERO
        if self._fee is not None:
            value = quantity * price if instrument.multiplier == 1 else quantity * price * instrument.multiplier
            before = quantity_grid.to_decimal(order.filled - units)
            fee = self._fee(value, quantity, liquidity, before, order.fees)
            order.fees += fee
        order_id = order.client_order_id
        base = derived_base(_PRODUCER, f"{market_id}|{order_id}")
        out.append((
            ACCOUNT_INPUTS,
            Fill(
                f"{base}-0", ts_ns, order_id, market_id, order.account_id, order.strategy_id, order_id,
                order.instrument_id, order.venue_order_id(), base, Side.BUY if order.sign > 0 else Side.SELL,
                quantity, price, fee, instrument.currency, liquidity,
                price if reference_ticks == ticks else grid.to_decimal(reference_ticks),
                quantity_grid.to_decimal(order.quantity - order.filled), market_id,
            ),
        ))  # fmt: skip

    @staticmethod
    def _head(
        order: Resting, ts_ns: int, cause: str, ordinal: int
    ) -> tuple[str, int, str, str, str, str, str, str, str]:
        base = derived_base(_PRODUCER, f"{cause}|{order.client_order_id}")
        order_id = order.client_order_id
        return (
            f"{base}-{ordinal}", ts_ns, order_id, cause, order.account_id, order.strategy_id, order_id,
            order.instrument_id, order.venue_order_id(),
        )  # fmt: skip
