"""The order manager: commands and venue reports through the transition table.

Every method takes the record that causes the change and appends what follows from it to the outbox.
What the table does not allow is dead-lettered and counted, and changes nothing.
"""

from __future__ import annotations

from decimal import Decimal

from agents.account.intent import Denial
from agents.account.slots import Slot
from agents.account.state import Account, Order
from agents.domain.order_state import TRANSITIONS, Step
from agents.processor import Outbox
from schemas.commands import (
    ApproveOrder,
    CancelOrder,
    CommandReceipt,
    ReplaceOrder,
    SubmitOrder,
    VenueCancel,
    VenueReplace,
    VenueSubmit,
)
from schemas.enums import OrderStatus, ReceiptOutcome, Side
from schemas.envelope import Record
from schemas.identifiers import derived_base
from schemas.order_events import (
    OrderAccepted,
    OrderCanceled,
    OrderCancelRejected,
    OrderDenied,
    OrderExpired,
    OrderPendingApproval,
    OrderPendingCancel,
    OrderRejected,
    OrderReplaced,
    OrderReplaceRejected,
    OrderSubmitted,
    OrderTriggered,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueReport,
    VenueTriggered,
)
from schemas.risk import RiskDecision
from schemas.topics import (
    ORDER_EVENTS,
    ORDER_RECEIPTS,
    RISK_DECISIONS,
    STRATEGY_INPUTS,
    VENUE_COMMANDS,
)
from schemas.values import ZERO

NS = 1_000_000_000
_CLOSED_SLACK = 4096
_DENY = TRANSITIONS[Step.DENY]


def add_working(slot: Slot, side: Side, quantity: Decimal) -> None:
    """Change the working quantity of a side; a negative ``quantity`` releases."""
    slot.exposure.changed[slot.instrument_id] = None
    if side is Side.BUY:
        slot.holding.working_buy += quantity
    else:
        slot.holding.working_sell += quantity


def move(order: Order, step: Step) -> bool:
    """Take an order through one step; False if the table does not allow it.

    What happens while a cancel is pending changes what a refused cancel goes back to.
    """
    target = TRANSITIONS[step].get(order.status)
    if target is None:
        return False
    if target is OrderStatus.PENDING_CANCEL:
        before = order.status_before_cancel
        order.status_before_cancel = TRANSITIONS[step].get(before, before)
    order.status = target
    return True


class OrderManager:
    """Orders of all accounts; the state itself lives in the accounts."""

    def __init__(self, retention_ns: int) -> None:
        self._retention_ns = retention_ns

    def close(self, account: Account, slot: Slot | None, order: Order, now_ns: int) -> None:
        """Take a finished order out of the open ones and release what it held."""
        command = order.command
        leaves = order.quantity - order.filled + order.pending_increase
        order.pending_increase = ZERO
        if leaves and slot is not None and command.client_order_id in account.open_orders:
            add_working(slot, command.side, -leaves)
        account.open_orders.pop(command.client_order_id, None)
        account.pending_approval.pop(command.client_order_id, None)
        order.closed_ns = now_ns
        closed = account.closed
        closed.append((now_ns, command.client_order_id))
        horizon = now_ns - self._retention_ns
        head = account.closed_head
        while closed[head][0] < horizon:
            account.orders.pop(closed[head][1], None)
            head += 1
        if head > _CLOSED_SLACK:
            del closed[:head]
            head = 0
        account.closed_head = head

    def receipt(
        self,
        record: SubmitOrder | CancelOrder | ReplaceOrder | ApproveOrder,
        producer: str,
        outcome: ReceiptOutcome,
        now_ns: int,
        out: Outbox,
        code: str = "",
        detail: str = "",
    ) -> None:
        """Answer a command at the door."""
        event_id = f"{derived_base(f'{producer}:receipt', record.event_id)}-0"
        order_id = record.client_order_id
        head = (event_id, now_ns, order_id, record.event_id, record.account_id, order_id)
        out.append((ORDER_RECEIPTS, CommandReceipt(*head, outcome, code, detail)))

    def deny(
        self,
        account: Account,
        order: Order,
        denial: Denial,
        epoch: int,
        base: str,
        cause: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        """Record the gate's refusal of an order; it is terminal."""
        order.status = OrderStatus.DENIED
        account.denials += 1
        self.close(account, None, order, now_ns)
        head = _head_of(order.command, cause, now_ns)
        out.append((RISK_DECISIONS, RiskDecision(f"{base}-0", *head, False, epoch, *denial)))
        event = OrderDenied(f"{base}-1", *head, OrderStatus.DENIED, denial.code, denial.in_words())
        _both(out, event)

    def approve(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        epoch: int,
        base: str,
        cause: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        """Let an order go: decision, order event, and the order on its way to the venue."""
        command = order.command
        order_id, quantity = command.client_order_id, order.quantity
        order.status = OrderStatus.SUBMITTED
        order.breaker_epoch = epoch
        order.sent_ns = now_ns
        account.open_orders[order_id] = None
        account.pending_approval.pop(order_id, None)
        add_working(slot, command.side, quantity)
        rate = slot.limits.max_order_rate
        if rate is not None:
            account.sent.append(now_ns)
            if len(account.sent) > 2 * max(rate, 1024):
                del account.sent[:-rate]
        head = _head_of(command, cause, now_ns)
        terms = (
            command.side,
            quantity,
            command.order_type,
            order.limit_price,
            order.stop_price,
            command.time_in_force,
        )
        decision_id = f"{base}-0"
        out.append((RISK_DECISIONS, RiskDecision(decision_id, *head, True, epoch)))
        event = OrderSubmitted(f"{base}-1", *head, OrderStatus.SUBMITTED, *terms)
        out.append((ORDER_EVENTS, event))
        is_post_only, is_reduce_only = command.is_post_only, command.is_reduce_only
        submit = VenueSubmit(
            f"{base}-2", *head, *terms, is_post_only, is_reduce_only, decision_id, epoch
        )
        out.append((VENUE_COMMANDS, submit))

    def hold(
        self,
        account: Account,
        order: Order,
        expires_ns: int,
        base: str,
        cause: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        """Let an order wait for a person."""
        order.status = OrderStatus.PENDING_APPROVAL
        order.expires_ns = expires_ns
        account.pending_approval[order.command.client_order_id] = None
        head = _head_of(order.command, cause, now_ns)
        event = OrderPendingApproval(f"{base}-1", *head, order.status, expires_ns)
        out.append((ORDER_EVENTS, event))

    def request_cancel(self, order: Order, base: str, cause: str, now_ns: int, out: Outbox) -> bool:
        """Send a cancel to the venue; False if the order's state does not allow it."""
        target = TRANSITIONS[Step.REQUEST_CANCEL].get(order.status)
        if target is None:
            return False
        order.status_before_cancel = order.status
        order.status = target
        head = _head_of(order.command, cause, now_ns)
        out.append((ORDER_EVENTS, OrderPendingCancel(f"{base}-1", *head, target)))
        out.append((VENUE_COMMANDS, VenueCancel(f"{base}-2", *head)))
        return True

    def send_replace(
        self,
        slot: Slot,
        order: Order,
        replace: ReplaceOrder,
        epoch: int,
        base: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        """Send an approved replace to the venue; an increase counts against the limits at once."""
        quantity = order.quantity if replace.quantity is None else replace.quantity
        order.is_replacing = True
        order.pending_increase = max(quantity - order.quantity, ZERO)
        if order.pending_increase:
            add_working(slot, order.command.side, order.pending_increase)
        limit = order.limit_price if replace.limit_price is None else replace.limit_price
        stop = order.stop_price if replace.stop_price is None else replace.stop_price
        head = _head_of(order.command, replace.event_id, now_ns)
        decision_id = f"{base}-0"
        out.append((RISK_DECISIONS, RiskDecision(decision_id, *head, True, epoch)))
        command = VenueReplace(f"{base}-2", *head, quantity, limit, stop, decision_id, epoch)
        out.append((VENUE_COMMANDS, command))

    def refuse_replace(
        self,
        order: Order,
        replace: ReplaceOrder,
        denial: Denial,
        epoch: int,
        base: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        """Record the gate's refusal of a replace; the order stands as it was."""
        head = _head_of(order.command, replace.event_id, now_ns)
        out.append((RISK_DECISIONS, RiskDecision(f"{base}-0", *head, False, epoch, *denial)))
        words = denial.in_words()
        _both(out, OrderReplaceRejected(f"{base}-1", *head, order.status, denial.code, words))

    def report(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        report: VenueReport,
        base: str,
        out: Outbox,
    ) -> bool:
        """Apply a venue's report other than a fill; False if the table does not allow it."""
        handler = _HANDLERS.get(type(report))
        if handler is None:
            return False
        return handler(self, account, slot, order, report, base, out)

    def _move(self, order: Order, step: Step) -> bool:
        return move(order, step)

    def _on_accepted(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        report: VenueReport,
        base: str,
        out: Outbox,
    ) -> bool:
        if not self._move(order, Step.ACCEPT):
            return False
        order.venue_order_id = report.venue_order_id
        event = OrderAccepted(*_head(report, base), order.status, report.venue_order_id)
        out.append((ORDER_EVENTS, event))
        return True

    def _on_rejected(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        report: VenueReport,
        base: str,
        out: Outbox,
    ) -> bool:
        assert isinstance(report, VenueRejected)
        head = _head(report, base)
        if report.command == "submit":
            if not self._move(order, Step.REJECT):
                return False
            self.close(account, slot, order, report.ts_event_ns)
            _both(out, OrderRejected(*head, order.status, report.code, report.detail))
            return True
        if report.command == "cancel":
            if order.status is OrderStatus.PENDING_CANCEL:
                order.status = order.status_before_cancel
            _both(out, OrderCancelRejected(*head, order.status, report.code, report.detail))
            return True
        order.is_replacing = False
        if order.pending_increase:
            add_working(slot, order.command.side, -order.pending_increase)
            order.pending_increase = ZERO
        _both(out, OrderReplaceRejected(*head, order.status, report.code, report.detail))
        return True

    def _on_triggered(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        report: VenueReport,
        base: str,
        out: Outbox,
    ) -> bool:
        if not self._move(order, Step.TRIGGER):
            return False
        out.append((ORDER_EVENTS, OrderTriggered(*_head(report, base), order.status)))
        return True

    def _on_canceled(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        report: VenueReport,
        base: str,
        out: Outbox,
    ) -> bool:
        assert isinstance(report, VenueCanceled)
        if not self._move(order, Step.CANCEL):
            return False
        self.close(account, slot, order, report.ts_event_ns)
        _both(out, OrderCanceled(*_head(report, base), order.status, report.reason))
        return True

    def _on_expired(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        report: VenueReport,
        base: str,
        out: Outbox,
    ) -> bool:
        if not self._move(order, Step.EXPIRE):
            return False
        self.close(account, slot, order, report.ts_event_ns)
        _both(out, OrderExpired(*_head(report, base), order.status))
        return True

    def _on_replaced(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        report: VenueReport,
        base: str,
        out: Outbox,
    ) -> bool:
        assert isinstance(report, VenueReplaced)
        if not report.quantity.is_finite() or report.quantity <= order.filled:
            return False
        if not self._move(order, Step.REPLACE):
            return False
        change = report.quantity - order.quantity - order.pending_increase
        if change:
            add_working(slot, order.command.side, change)
        order.pending_increase = ZERO
        order.is_replacing = False
        order.quantity = report.quantity
        order.limit_price, order.stop_price = report.limit_price, report.stop_price
        head = _head(report, base)
        _both(out, _replaced(head, order))
        return True


_HANDLERS = {
    VenueAccepted: OrderManager._on_accepted,
    VenueRejected: OrderManager._on_rejected,
    VenueTriggered: OrderManager._on_triggered,
    VenueCanceled: OrderManager._on_canceled,
    VenueExpired: OrderManager._on_expired,
    VenueReplaced: OrderManager._on_replaced,
}


def _head(report: VenueReport, base: str) -> tuple[str, int, str, str, str, str, str, str]:
    """Return the fields that every order event made of a report begins with."""
    return (
        f"{base}-0",
        report.ts_event_ns,
        report.client_order_id,
        report.event_id,
        report.account_id,
        report.strategy_id,
        report.client_order_id,
        report.instrument_id,
    )


def restate(order: Order, cause: str, now_ns: int, out: Outbox) -> None:
    """Publish how an order stands behind what changed it without asking its venue."""
    head = _head_of(order.command, cause, now_ns)
    _both(out, _replaced((f"{base_of(order.command, cause)}-0", *head), order))


def base_of(command: SubmitOrder, cause: str) -> str:
    """Return the common part of the ids of what a record of many orders makes of one of them."""
    return derived_base(f"account:{command.account_id}:{command.client_order_id}", cause)


def _replaced(head: tuple[str, int, str, str, str, str, str, str], order: Order) -> OrderReplaced:
    terms = (order.quantity, order.limit_price, order.stop_price)
    return OrderReplaced(*head, order.status, *terms, order.filled, order.average_price())


def _head_of(
    command: SubmitOrder, cause: str, now_ns: int
) -> tuple[int, str, str, str, str, str, str]:
    """Return the fields behind the id that every record about an order begins with."""
    order_id = command.client_order_id
    return (
        now_ns,
        order_id,
        cause,
        command.account_id,
        command.strategy_id,
        order_id,
        command.instrument_id,
    )


def _both(out: Outbox, event: Record) -> None:
    """Publish an order event, and send it to the order's strategy as well."""
    out.append((ORDER_EVENTS, event))
    out.append((STRATEGY_INPUTS, event))
