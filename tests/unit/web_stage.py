"""How the stages answer the commands of the web app, for tests without an engine."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from schemas import topics as t
from schemas.commands import (
    ApproveOrder,
    CheckOrder,
    CommandReceipt,
    OrderChecked,
    ReplaceOrder,
    SubmitOrder,
)
from schemas.control import StrategyCommand, StrategyStateChanged
from schemas.enums import (
    AutonomyMode,
    BreakerState,
    KillAction,
    OrderStatus,
    ReceiptOutcome,
    Side,
    StrategyAction,
    StrategyStatus,
)
from schemas.envelope import Header
from schemas.order_events import (
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderFilled,
    OrderInitialized,
    OrderPendingApproval,
    OrderPendingCancel,
    OrderReplaced,
    OrderReplaceRejected,
    OrderSubmitted,
)
from schemas.risk import BreakerChanged, Kill, RiskDecision, SetLimits
from streams.memory_log import MemoryLog

Records = list[tuple[str, Header]]

MOST = Decimal(1000)
"""Above this quantity the stage refuses a replace."""


def receipt(record: Any, outcome: ReceiptOutcome, code: str = "") -> CommandReceipt:
    """Return the answer to a command."""
    return CommandReceipt(
        f"r-{record.event_id}",
        record.ts_event_ns,
        record.client_order_id,
        record.event_id,
        record.account_id,
        record.client_order_id,
        outcome,
        code,
        "because",
    )


def event(kind: type[OrderEvent], record: Any, status: OrderStatus, *rest: Any) -> Any:
    """Return an order event that ``record`` causes."""
    return kind(
        f"{kind.__name__}-{record.event_id}",
        record.ts_event_ns,
        record.client_order_id,
        record.event_id,
        record.account_id,
        getattr(record, "strategy_id", "manual"),
        record.client_order_id,
        "SPY.ARCX",
        status,
        *rest,
    )


def decision_on(record: Any, code: str = "") -> RiskDecision:
    """Return the gate's word on a command."""
    return RiskDecision(
        f"d-{record.event_id}",
        record.ts_event_ns,
        record.client_order_id,
        record.event_id,
        record.account_id,
        record.strategy_id,
        record.client_order_id,
        "SPY.ARCX",
        not code,
        0,
        code,
        "2000" if code else "",
        "1000" if code else "",
        "global" if code else "",
    )


def on_replace(_log: MemoryLog, record: ReplaceOrder) -> Records:
    """Refuse an order that is closed, deny much, and let the venue refuse a limit of 13."""
    if record.client_order_id == "o-1":
        code = "NOT_REPLACEABLE"
        return [(t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.REFUSED, code))]
    taken = (t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.ACCEPTED))
    status = OrderStatus.ACCEPTED
    if record.quantity is not None and record.quantity > MOST:
        denied = event(OrderReplaceRejected, record, status, "MAX_POSITION", "2000 against 1000")
        decision = decision_on(record, "MAX_POSITION")
        return [taken, (t.RISK_DECISIONS, decision), (t.ORDER_EVENTS, denied)]
    approved = (t.RISK_DECISIONS, decision_on(record))
    if record.limit_price == 13:
        refused = event(OrderReplaceRejected, record, status, "BAD_LUCK", "the venue says no")
        return [taken, approved, (t.ORDER_EVENTS, refused)]
    done = event(
        OrderReplaced,
        record,
        status,
        record.quantity or Decimal(10),
        record.limit_price,
        record.stop_price,
    )
    return [taken, approved, (t.ORDER_EVENTS, done)]


def on_kill(log: MemoryLog, record: Kill) -> Records:
    """Stop entries, or ask for the cancel of all orders that were submitted and did not end.

    A flatten does nothing; that of the strategy momentum is denied for the reason ``halted``, and
    waits for a person for the reason ``ask``.
    """
    if record.action is KillAction.STOP_ENTRIES:
        changed = BreakerChanged(
            f"k-{record.event_id}",
            record.ts_event_ns,
            record.event_id,
            record.event_id,
            record.scope,
            record.scope_id,
            BreakerState.REDUCING,
            7,
            record.operator,
            record.reason,
        )
        return [(t.RISK_BREAKER, changed)]
    if record.action is not KillAction.CANCEL_ALL:
        return held_flatten(record) if record.reason in ("halted", "ask") else []
    orders: dict[str, SubmitOrder] = {}
    for item in log.read(t.ACCOUNT_INPUTS, 0, 1000):
        if isinstance(item.record, SubmitOrder):
            orders[item.record.client_order_id] = item.record
    ended = {
        item.record.client_order_id
        for item in log.read(t.ORDER_EVENTS, 0, 1000)
        if isinstance(item.record, (OrderFilled, OrderCanceled, OrderDenied))
    }
    return [
        (t.ORDER_EVENTS, event(OrderPendingCancel, order, OrderStatus.PENDING_CANCEL))
        for name, order in orders.items()
        if name not in ended
    ]


def held_flatten(record: Kill) -> Records:
    """Return the order of a flatten, and that it does not go."""
    head = (record.ts_event_ns, "f-1", record.event_id, "paper", "momentum", "f-1", "SPY.ARCX")
    begun = OrderInitialized(
        f"i-{record.event_id}", *head, OrderStatus.INITIALIZED, Side.SELL, Decimal(10)
    )
    held: OrderEvent = OrderDenied(
        f"d-{record.event_id}", *head, OrderStatus.DENIED, "BREAKER_HALTED", "no new orders"
    )
    if record.reason == "ask":
        status = OrderStatus.PENDING_APPROVAL
        held = OrderPendingApproval(f"p-{record.event_id}", *head, status, record.ts_event_ns)
    return [(t.ORDER_EVENTS, begun), (t.ORDER_EVENTS, held)]


def on_approve(_log: MemoryLog, record: ApproveOrder) -> Records:
    """Let a waiting order go or end it; only those whose id begins with ``wait`` wait."""
    if not record.client_order_id.startswith("wait"):
        return [(t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.REFUSED, "NOT_WAITING"))]
    taken = (t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.ACCEPTED))
    if not record.is_approved:
        denied = event(OrderDenied, record, OrderStatus.DENIED, "NOT_APPROVED", record.reason)
        return [taken, (t.ORDER_EVENTS, denied)]
    submitted = event(OrderSubmitted, record, OrderStatus.SUBMITTED, "BUY", Decimal(10), "MARKET")
    return [taken, (t.ORDER_EVENTS, submitted)]


def on_limits(_log: MemoryLog, record: SetLimits) -> Records:
    """Publish limits as applied."""
    return [(t.RISK_LIMITS, record)]


def on_check(_log: MemoryLog, record: CheckOrder) -> Records:
    """Deny what is more than the stage allows."""
    order = record.order
    code = "MAX_POSITION" if order.quantity > MOST else ""
    answer = OrderChecked(
        f"ch-{record.event_id}",
        record.ts_event_ns,
        record.correlation_id,
        record.event_id,
        order.account_id,
        order.strategy_id,
        order.client_order_id,
        order.instrument_id,
        not code,
        3,
        AutonomyMode.AUTOMATIC,
        code,
        "2000" if code else "",
        "1000" if code else "",
    )
    return [(t.ORDER_RECEIPTS, answer)]


_STATUS = {
    StrategyAction.START: StrategyStatus.RUNNING,
    StrategyAction.RESUME: StrategyStatus.RUNNING,
    StrategyAction.PAUSE: StrategyStatus.PAUSED,
    StrategyAction.STOP: StrategyStatus.STOPPED,
    StrategyAction.SET_PARAMETERS: StrategyStatus.RUNNING,
}


def on_strategy(_log: MemoryLog, record: StrategyCommand) -> Records:
    """Do what a strategy is told; ``fast`` of 0 is not taken."""
    parameters: dict[str, Any] = {"fast": 50, "slow": 200, **record.parameters}
    detail = record.reason
    if parameters["fast"] == 0:
        parameters["fast"], detail = 50, "cannot be used (fast=0); give a value of at least 1"
    state = StrategyStateChanged(
        f"st-{record.event_id}",
        record.ts_event_ns,
        record.event_id,
        record.event_id,
        record.strategy_id,
        "momentum_crossover",
        "paper",
        _STATUS[record.action],
        parameters,
        ["SPY.ARCX"],
        detail,
    )
    return [(t.STRATEGY_STATES, state)]


def pending(order: SubmitOrder, expires_ns: int) -> OrderPendingApproval:
    """Return the event that an order waits for a person."""
    pending: OrderPendingApproval = event(
        OrderPendingApproval, order, OrderStatus.PENDING_APPROVAL, expires_ns
    )
    return pending


def venue_accepted(order: SubmitOrder) -> OrderAccepted:
    """Return the event that the venue works an order."""
    accepted: OrderAccepted = event(OrderAccepted, order, OrderStatus.ACCEPTED, "v-9")
    return accepted


ANSWERS: dict[type[Any], Callable[[MemoryLog, Any], Records]] = {
    ReplaceOrder: on_replace,
    Kill: on_kill,
    ApproveOrder: on_approve,
    SetLimits: on_limits,
    CheckOrder: on_check,
    StrategyCommand: on_strategy,
}
"""What a stage publishes when it reads a command of a type."""
