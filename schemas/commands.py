"""Order commands: what strategies and people ask for. Imperative names.

A command travels on ``account.inputs``; what the risk gate lets through travels on
``venue.commands``.
"""

from __future__ import annotations

from decimal import Decimal

from schemas.enums import AutonomyMode, OrderType, Side, TimeInForce
from schemas.envelope import Record


class SubmitOrder(Record, gc=False, omit_defaults=True, tag="submit_order"):
    """Ask for an order.

    ``decision_price`` and ``decision_ts_ns`` are the quote or trade the order was decided on.
    ``parent_order_id`` is empty for an order that stands alone. ``expires_at_ns`` 0: the command
    itself does not lapse. ``wants_receipt``: the sender waits for a CommandReceipt.
    """

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    is_post_only: bool = False
    is_reduce_only: bool = False
    decision_price: float = 0.0
    decision_ts_ns: int = 0
    parent_order_id: str = ""
    expires_at_ns: int = 0
    wants_receipt: bool = False


class ReplaceOrder(Record, gc=False, omit_defaults=True, tag="replace_order"):
    """Ask to change quantity or prices of a working order; None leaves a value as it is.

    ``quantity`` is the new total, what is filled already included.
    """

    account_id: str
    strategy_id: str
    client_order_id: str
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    wants_receipt: bool = False


class CancelOrder(Record, gc=False, omit_defaults=True, tag="cancel_order"):
    """Ask to cancel a working order."""

    account_id: str
    strategy_id: str
    client_order_id: str
    reason: str = ""
    wants_receipt: bool = False


class ApproveOrder(Record, gc=False, omit_defaults=True, tag="approve_order"):
    """A person lets a waiting order go, or does not (semi-automatic mode)."""

    account_id: str
    client_order_id: str
    is_approved: bool
    operator: str
    reason: str = ""
    wants_receipt: bool = False


class CheckOrder(Record, gc=False, omit_defaults=True, tag="check_order"):
    """Ask what the risk gate would say to ``order`` at this place of the input; nothing is sent."""

    account_id: str
    order: SubmitOrder


class VenueSubmit(Record, gc=False, omit_defaults=True, tag="venue_submit"):
    """An order that the risk gate approved, on its way to the venue.

    ``decision_id`` names the RiskDecision; ``breaker_epoch`` is the epoch in which it was given,
    and a gateway refuses an older one.
    """

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce
    is_post_only: bool
    is_reduce_only: bool
    decision_id: str
    breaker_epoch: int


class VenueReplace(Record, gc=False, omit_defaults=True, tag="venue_replace"):
    """A change of a working order that the risk gate approved."""

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    decision_id: str
    breaker_epoch: int


class VenueCancel(Record, gc=False, omit_defaults=True, tag="venue_cancel"):
    """A cancel on its way to the venue."""

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str


class CommandReceipt(Record, gc=False, omit_defaults=True, tag="command_receipt"):
    """What became of a command at the account stage's door.

    Accepted for processing, duplicate, conflict, refused.
    """

    account_id: str
    client_order_id: str
    outcome: str
    code: str = ""
    detail: str = ""


class OrderChecked(Record, gc=False, omit_defaults=True, tag="order_checked"):
    """What the risk gate would have said to an order: approved, or denied by the check ``code``.

    ``measured``, ``limit`` and ``scope`` as in a RiskDecision; ``autonomy`` is the mode that stood.
    """

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    is_approved: bool
    breaker_epoch: int
    autonomy: AutonomyMode
    code: str = ""
    measured: str = ""
    limit: str = ""
    scope: str = ""
    detail: str = ""
