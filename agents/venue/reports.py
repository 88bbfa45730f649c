"""The venue's reports: one place that makes their ids, prices and fees.

An answer to a command is caused by the command; a fill, trigger or end is caused by the market
event or the instant that brought it about. Ids are derived from that cause and the order, so a
second run makes the same ones.
"""

from __future__ import annotations

from agents.processor import Outbox
from agents.venue.book import Resting
from agents.venue.matching import Touch
from agents.venue.models import Execution, Fee, NoFee
from schemas.commands import VenueCancel, VenueReplace, VenueSubmit
from schemas.enums import LiquiditySide, Side
from schemas.identifiers import derived_base, derived_id
from schemas.instruments import Universe
from schemas.order_events import (
    Fill,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueReport,
    VenueTriggered,
)
from schemas.topics import ACCOUNT_INPUTS
from schemas.values import ZERO

_PRODUCER = "venue:paper"
# One market event may trigger an order, fill it and end it: each report has its ordinal.
_FILLED, _ENDED, _TRIGGERED = 0, 1, 2

_COMMAND_NAMES = {VenueSubmit: "submit", VenueReplace: "replace", VenueCancel: "cancel"}


class Reporter:
    """Makes reports and puts them on ``account.inputs``."""

    def __init__(self, universe: Universe, fee: Fee) -> None:
        self._universe = universe
        self._fee = None if isinstance(fee, NoFee) else fee

    def accepted(self, command: VenueSubmit, order: Resting, ts_ns: int, out: Outbox) -> None:
        """Report that the venue works the order."""
        report = VenueAccepted(
            derived_id(_PRODUCER, command.event_id, 0),
            ts_ns,
            command.client_order_id,
            command.event_id,
            command.account_id,
            command.strategy_id,
            command.client_order_id,
            command.instrument_id,
            order.venue_order_id(),
        )
        out.append((ACCOUNT_INPUTS, report))

    def rejected(
        self,
        command: VenueSubmit | VenueReplace | VenueCancel,
        code: str,
        detail: str,
        ts_ns: int,
        out: Outbox,
    ) -> None:
        """Report that the venue refuses a command."""
        report = VenueRejected(
            derived_id(_PRODUCER, command.event_id, 0),
            ts_ns,
            command.client_order_id,
            command.event_id,
            command.account_id,
            command.strategy_id,
            command.client_order_id,
            command.instrument_id,
            "",
            _COMMAND_NAMES[type(command)],
            code,
            detail,
        )
        out.append((ACCOUNT_INPUTS, report))

    def canceled(self, order: Resting, reason: str, ts_ns: int, cause: str, out: Outbox) -> None:
        """Report that the order was taken out."""
        self._report(VenueCanceled, order, ts_ns, cause, _ENDED, out, reason)

    def expired(self, order: Resting, ts_ns: int, cause: str, out: Outbox) -> None:
        """Report that the order's time is over."""
        self._report(VenueExpired, order, ts_ns, cause, _ENDED, out)

    def triggered(self, order: Resting, ts_ns: int, market_id: str, out: Outbox) -> None:
        """Report that the stop was triggered."""
        self._report(VenueTriggered, order, ts_ns, market_id, _TRIGGERED, out)

    def replaced(self, order: Resting, ts_ns: int, cause: str, out: Outbox) -> None:
        """Report that the order stands with new values."""
        grid = self._universe.price_grids[order.index]
        quantity = self._universe.quantity_grids[order.index].to_decimal(order.quantity)
        limit = None if order.limit is None else grid.to_decimal(order.limit)
        stop = None if order.stop is None else grid.to_decimal(order.stop)
        self._report(VenueReplaced, order, ts_ns, cause, 0, out, quantity, limit, stop)

    def fill(
        self, order: Resting, found: Touch, price: int, units: int, market_id: str, out: Outbox
    ) -> None:
        """Report an execution of ``units`` at ``price`` (ticks), counted in ``order.filled``."""
        universe, index = self._universe, order.index
        instrument = universe.instruments[index]
        grid, lots = universe.price_grids[index], universe.quantity_grids[index]
        quantity, at = lots.to_decimal(units), grid.to_decimal(price)
        fee = ZERO
        if self._fee is not None:
            before = lots.to_decimal(order.filled - units)
            notional = quantity * at * instrument.multiplier
            execution = Execution(notional, quantity, before, order.fees, found.is_maker)
            fee = self._fee.of(execution)
            order.fees += fee
        order_id = order.client_order_id
        base = derived_base(_PRODUCER, f"{market_id}|{order.key()}")
        report = Fill(
            f"{base}-{_FILLED}",
            found.ts_ns,
            order_id,
            market_id,
            order.account_id,
            order.strategy_id,
            order_id,
            order.instrument_id,
            order.venue_order_id(),
            base,
            Side.BUY if order.sign > 0 else Side.SELL,
            quantity,
            at,
            fee,
            instrument.currency,
            LiquiditySide.MAKER if found.is_maker else LiquiditySide.TAKER,
            at if price == found.price else grid.to_decimal(found.price),
            lots.to_decimal(order.quantity - order.filled),
            market_id,
        )
        out.append((ACCOUNT_INPUTS, report))

    @staticmethod
    def _report(
        kind: type[VenueReport],
        order: Resting,
        ts_ns: int,
        cause: str,
        ordinal: int,
        out: Outbox,
        *values: object,
    ) -> None:
        order_id = order.client_order_id
        report = kind(
            derived_id(_PRODUCER, f"{cause}|{order.key()}", ordinal),
            ts_ns,
            order_id,
            cause,
            order.account_id,
            order.strategy_id,
            order_id,
            order.instrument_id,
            order.venue_order_id(),
            *values,
        )
        out.append((ACCOUNT_INPUTS, report))
