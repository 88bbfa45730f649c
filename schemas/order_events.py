"""What happened to orders. Past tense.

Venue reports (``Venue…``) travel from a venue to the account stage on ``account.inputs``; order
events are what the order manager makes of them, on ``orders.events``. Deny is ours, reject is the
venue's, cancel is asked for, expire is time's.
"""

from __future__ import annotations

from decimal import Decimal

from schemas.enums import LiquiditySide, OrderStatus, OrderType, Side, TimeInForce
from schemas.envelope import Record


class VenueReport(Record, gc=False, omit_defaults=True, tag="venue_report"):
    """Base of what a venue says about one order."""

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    venue_order_id: str


class VenueAccepted(VenueReport, gc=False, omit_defaults=True, tag="venue_accepted"):
    """The venue works the order."""


class VenueRejected(VenueReport, gc=False, omit_defaults=True, tag="venue_rejected"):
    """The venue refuses an order, or a change of one.

    ``command`` says what it refuses: submit, replace or cancel.
    """

    command: str
    code: str
    detail: str = ""


class VenueTriggered(VenueReport, gc=False, omit_defaults=True, tag="venue_triggered"):
    """A stop was triggered; a stop-limit now rests as a limit order."""


class VenueCanceled(VenueReport, gc=False, omit_defaults=True, tag="venue_canceled"):
    """The venue took the order out: on request, or the rest of an IOC or FOK order (``reason``)."""

    reason: str = ""


class VenueExpired(VenueReport, gc=False, omit_defaults=True, tag="venue_expired"):
    """The order's time is over."""


class VenueReplaced(VenueReport, gc=False, omit_defaults=True, tag="venue_replaced"):
    """The venue works the order with new values."""

    quantity: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


class Fill(VenueReport, gc=False, omit_defaults=True, tag="fill"):
    """An execution: one record on ``account.inputs``, ``orders.fills`` and to the strategy.

    ``ts_event_ns`` is the instant of execution, which for a fill from a bar is the model's instant
    within the bar. ``fee`` is positive when paid. ``reference_price`` is the price before slippage.
    """

    trade_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    currency: str
    liquidity_side: LiquiditySide
    reference_price: Decimal
    leaves_quantity: Decimal
    market_event_id: str = ""


class OrderEvent(Record, gc=False, omit_defaults=True, tag="order_event"):
    """Base of order events; ``status`` is the order's state after the event."""

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    status: OrderStatus


class OrderInitialized(OrderEvent, gc=False, omit_defaults=True, tag="order_initialized"):
    """The account stage asked for the order itself: no command of the account's input did.

    It stands where the command would; what becomes of the order follows.
    """

    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    is_reduce_only: bool = False
    parent_order_id: str = ""


class OrderDenied(OrderEvent, gc=False, omit_defaults=True, tag="order_denied"):
    """The risk gate refused the order before it was sent."""

    code: str
    detail: str = ""


class OrderPendingApproval(OrderEvent, gc=False, omit_defaults=True, tag="order_pending_approval"):
    """The order waits for a person until ``expires_at_ns``."""

    expires_at_ns: int


class OrderSubmitted(OrderEvent, gc=False, omit_defaults=True, tag="order_submitted"):
    """The order is on its way to the venue."""

    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC


class OrderAccepted(OrderEvent, gc=False, omit_defaults=True, tag="order_accepted"):
    """The venue works the order."""

    venue_order_id: str


class OrderRejected(OrderEvent, gc=False, omit_defaults=True, tag="order_rejected"):
    """The venue refused the order."""

    code: str
    detail: str = ""


class OrderReplaceRejected(OrderEvent, gc=False, omit_defaults=True, tag="order_replace_rejected"):
    """A replace was refused, by us or by the venue; the order stands as it was."""

    code: str
    detail: str = ""


class OrderCancelRejected(OrderEvent, gc=False, omit_defaults=True, tag="order_cancel_rejected"):
    """A cancel was refused; the order stands as it was."""

    code: str
    detail: str = ""


class OrderTriggered(OrderEvent, gc=False, omit_defaults=True, tag="order_triggered"):
    """The stop was triggered."""


class OrderPartiallyFilled(OrderEvent, gc=False, omit_defaults=True, tag="order_partially_filled"):
    """A part was executed."""

    trade_id: str
    last_quantity: Decimal
    last_price: Decimal
    cumulative_quantity: Decimal
    leaves_quantity: Decimal
    average_price: Decimal


class OrderFilled(OrderEvent, gc=False, omit_defaults=True, tag="order_filled"):
    """The rest was executed."""

    trade_id: str
    last_quantity: Decimal
    last_price: Decimal
    cumulative_quantity: Decimal
    leaves_quantity: Decimal
    average_price: Decimal


class OrderPendingCancel(OrderEvent, gc=False, omit_defaults=True, tag="order_pending_cancel"):
    """A cancel is on its way to the venue."""


class OrderCanceled(OrderEvent, gc=False, omit_defaults=True, tag="order_canceled"):
    """The order was taken out."""

    reason: str = ""


class OrderExpired(OrderEvent, gc=False, omit_defaults=True, tag="order_expired"):
    """The order's time is over."""


class OrderReplaced(OrderEvent, gc=False, omit_defaults=True, tag="order_replaced"):
    """The order stands with new values: by a replace, a split or a symbol change.

    ``cumulative_quantity`` was executed so far, at ``average_price``; older records do not say.
    """

    quantity: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    cumulative_quantity: Decimal | None = None
    average_price: Decimal | None = None


class OrderUnknown(OrderEvent, gc=False, omit_defaults=True, tag="order_unknown"):
    """Nobody can say what became of the order.

    It is never sent again, and counts against the limits.
    """

    detail: str = ""
