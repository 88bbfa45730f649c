"""The order manager: commands and venue reports through the transition table, orders and working quantities kept.

Every method takes the record that causes the change and appends what follows from it to the outbox. What the table
does not allow is dead-lettered and counted, and changes nothing.
"""

from __future__ import annotations

from decimal import Decimal

from agents.account.checks import Denial
from agents.account.slots import Slot
from agents.account.state import Account, Order
from agents.domain.order_state import TRANSITIONS, Step
from agents.processor import Outbox
from schemas.commands import (
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
from schemas.topics import ORDER_EVENTS, ORDER_RECEIPTS, RISK_DECISIONS, STRATEGY_INPUTS, VENUE_COMMANDS
from schemas.values import ZERO

NS = 1_000_000_000
_CLOSED_SLACK = 4096
_DENY = TRANSITIONS[Step.DENY]


def add_working(slot: Slot, side: Side, quantity: Decimal) -> None:
    """Change the working quantity of a side; a negative ``quantity`` releases."""
    if side is Side.BUY:
        slot.holding.working_buy += quantity
    else:
        slot.holding.working_sell += quantity


class OrderManager:
    """Orders of all accounts; the state itself lives in the accounts."""

    def __init__(self, retention_ns: int) -> None:
        self._retention_ns = retention_ns

    def close(self, account: Account, slot: Slot | None, order: Order, now_ns: int) -> None:
        """Take a finished order out of the open ones and release what it held."""
        command = order.command
        leaves = order.quantity - order.filled
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
        self, record: SubmitOrder | CancelOrder | ReplaceOrder, producer: str, outcome: ReceiptOutcome,
        now_ns: int, out: Outbox, code: str = "", detail: str = "",
    ) -> None:  # fmt: skip
        """Answer a command at the door."""
        base = derived_base(f"{producer}:receipt", record.event_id)
        out.append((
            ORDER_RECEIPTS,
            CommandReceipt(
                f"{base}-0", now_ns, record.client_order_id, record.event_id, record.account_id,
                record.client_order_id, outcome, code, detail,
            ),
        ))  # fmt: skip

    def deny(
        self, account: Account, order: Order, denial: Denial, epoch: int, base: str, cause: str,
        now_ns: int, out: Outbox,
    ) -> None:  # fmt: skip
        """Record the gate's refusal of an order; it is terminal."""
        command = order.command
        order.status = OrderStatus.DENIED
        account.denials += 1
        self.close(account, None, order, now_ns)
        out.append((RISK_DECISIONS, _refusal(command, denial, epoch, f"{base}-0", cause, now_ns)))
        event = OrderDenied(
            f"{base}-1", now_ns, command.client_order_id, cause, command.account_id, command.strategy_id,
            command.client_order_id, command.instrument_id, OrderStatus.DENIED, denial.code, _words(denial),
        )  # fmt: skip
        out.append((ORDER_EVENTS, event))
        out.append((STRATEGY_INPUTS, event))

    def approve(
        self, account: Account, slot: Slot, order: Order, epoch: int, base: str, cause: str, now_ns: int,
        out: Outbox,
    ) -> None:  # fmt: skip
        """Let an order go: decision, order event, and the order on its way to the venue."""
        command = order.command
        order_id, account_id, strategy_id = command.client_order_id, command.account_id, command.strategy_id
        instrument_id = command.instrument_id
        order.status = OrderStatus.SUBMITTED
        order.breaker_epoch = epoch
        order.sent_ns = now_ns
        account.open_orders[order_id] = None
        account.pending_approval.pop(order_id, None)
        add_working(slot, command.side, order.quantity)
        if slot.limits.max_order_rate is not None:
            account.sent.append(now_ns)
            if len(account.sent) > 2 * max(slot.limits.max_order_rate, 1024):
                del account.sent[: -slot.limits.max_order_rate]
        decision_id = f"{base}-0"
        out.append((
            RISK_DECISIONS,
            RiskDecision(
                decision_id, now_ns, order_id, cause, account_id, strategy_id, order_id, instrument_id, True, epoch
            ),
        ))  # fmt: skip
        out.append((
            ORDER_EVENTS,
            OrderSubmitted(
                f"{base}-1", now_ns, order_id, cause, account_id, strategy_id, order_id, instrument_id,
                OrderStatus.SUBMITTED, command.side, order.quantity, command.order_type, order.limit_price,
                order.stop_price, command.time_in_force,
            ),
        ))  # fmt: skip
        out.append((
            VENUE_COMMANDS,
            VenueSubmit(
                f"{base}-2", now_ns, order_id, cause, account_id, strategy_id, order_id, instrument_id,
                command.side, order.quantity, command.order_type, order.limit_price, order.stop_price,
                command.time_in_force, command.is_post_only, command.is_reduce_only, decision_id, epoch,
            ),
        ))  # fmt: skip

    def hold(
        self, account: Account, order: Order, expires_ns: int, base: str, cause: str, now_ns: int, out: Outbox
    ) -> None:
        """Let an order wait for a person."""
        command = order.command
        order.status = OrderStatus.PENDING_APPROVAL
        order.expires_ns = expires_ns
        account.pending_approval[command.client_order_id] = None
        out.append((
            ORDER_EVENTS,
            OrderPendingApproval(
                f"{base}-1", now_ns, command.client_order_id, cause, command.account_id, command.strategy_id,
                command.client_order_id, command.instrument_id, OrderStatus.PENDING_APPROVAL, expires_ns,
            ),
        ))  # fmt: skip

    def request_cancel(
        self, order: Order, base: str, cause: str, now_ns: int, out: Outbox
    ) -> bool:
        """Send a cancel to the venue; False if the order's state does not allow it."""
        target = TRANSITIONS[Step.REQUEST_CANCEL].get(order.status)
        if target is None:
            return False
        command = order.command
        order.status_before_cancel = order.status
        order.status = target
        order_id = command.client_order_id
        out.append((
            ORDER_EVENTS,
            OrderPendingCancel(
                f"{base}-1", now_ns, order_id, cause, command.account_id, command.strategy_id, order_id,
                command.instrument_id, target,
            ),
        ))  # fmt: skip
        out.append((
            VENUE_COMMANDS,
            VenueCancel(
                f"{base}-2", now_ns, order_id, cause, command.account_id, command.strategy_id, order_id,
                command.instrument_id,
            ),
        ))  # fmt: skip
        return True

    def send_replace(
        self, slot: Slot, order: Order, replace: ReplaceOrder, epoch: int, base: str, now_ns: int, out: Outbox
    ) -> None:
        """Send an approved replace to the venue; an increase counts against the limits at once."""
        command = order.command
        order_id = command.client_order_id
        quantity = replace.quantity if replace.quantity is not None else order.quantity
        added = quantity - order.quantity
        order.pending_increase = max(added, ZERO)
        if order.pending_increase:
            add_working(slot, command.side, order.pending_increase)
        head = (now_ns, order_id, replace.event_id, command.account_id, command.strategy_id, order_id)
        out.append((
            RISK_DECISIONS, RiskDecision(f"{base}-0", *head, command.instrument_id, True, epoch)
        ))  # fmt: skip
        limit = replace.limit_price if replace.limit_price is not None else order.limit_price
        stop = replace.stop_price if replace.stop_price is not None else order.stop_price
        out.append((
            VENUE_COMMANDS,
            VenueReplace(f"{base}-2", *head, command.instrument_id, quantity, limit, stop, f"{base}-0", epoch),
        ))  # fmt: skip

    def refuse_replace(
        self, order: Order, replace: ReplaceOrder, denial: Denial, epoch: int, base: str, now_ns: int, out: Outbox
    ) -> None:
        """Record the gate's refusal of a replace; the order stands as it was."""
        command = order.command
        out.append((RISK_DECISIONS, _refusal(command, denial, epoch, f"{base}-0", replace.event_id, now_ns)))
        _both(out, OrderReplaceRejected(
            f"{base}-1", now_ns, command.client_order_id, replace.event_id, command.account_id,
            command.strategy_id, command.client_order_id, command.instrument_id, order.status, denial.code,
            _words(denial),
        ))  # fmt: skip

    def report(self, account: Account, slot: Slot, order: Order, report: VenueReport, base: str, out: Outbox) -> bool:
        """Apply a venue's report other than a fill; False if the transition table does not allow it."""
        handler = _HANDLERS.get(type(report))
        if handler is None:
            return False
        return handler(self, account, slot, order, report, base, out)

    def _move(self, order: Order, step: Step) -> bool:
        target = TRANSITIONS[step].get(order.status)
        if target is None:
            return False
        order.status = target
        return True

    def _on_accepted(
        self, account: Account, slot: Slot, order: Order, report: VenueReport, base: str, out: Outbox
    ) -> bool:
        if not self._move(order, Step.ACCEPT):
            return False
        if order.status is OrderStatus.PENDING_CANCEL:
            order.status_before_cancel = OrderStatus.ACCEPTED
        order.venue_order_id = report.venue_order_id
        out.append((
            ORDER_EVENTS,
            OrderAccepted(
                f"{base}-0", report.ts_event_ns, report.client_order_id, report.event_id, report.account_id,
                report.strategy_id, report.client_order_id, report.instrument_id, order.status,
                report.venue_order_id,
            ),
        ))  # fmt: skip
        return True

    def _on_rejected(
        self, account: Account, slot: Slot, order: Order, report: VenueReport, base: str, out: Outbox
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
        if order.pending_increase:
            add_working(slot, order.command.side, -order.pending_increase)
            order.pending_increase = ZERO
        _both(out, OrderReplaceRejected(*head, order.status, report.code, report.detail))
        return True

    def _on_triggered(
        self, account: Account, slot: Slot, order: Order, report: VenueReport, base: str, out: Outbox
    ) -> bool:
        if not self._move(order, Step.TRIGGER):
            return False
        if order.status is OrderStatus.PENDING_CANCEL:
            order.status_before_cancel = OrderStatus.TRIGGERED
        out.append((ORDER_EVENTS, OrderTriggered(*_head(report, base), order.status)))
        return True

    def _on_canceled(
        self, account: Account, slot: Slot, order: Order, report: VenueReport, base: str, out: Outbox
    ) -> bool:
        assert isinstance(report, VenueCanceled)
        if not self._move(order, Step.CANCEL):
            return False
        self._end(account, slot, order, report)
        _both(out, OrderCanceled(*_head(report, base), order.status, report.reason))
        return True

    def _on_expired(
        self, account: Account, slot: Slot, order: Order, report: VenueReport, base: str, out: Outbox
    ) -> bool:
        if not self._move(order, Step.EXPIRE):
            return False
        self._end(account, slot, order, report)
        _both(out, OrderExpired(*_head(report, base), order.status))
        return True

    def _end(self, account: Account, slot: Slot, order: Order, report: VenueReport) -> None:
        if order.pending_increase:
            add_working(slot, order.command.side, -order.pending_increase)
            order.pending_increase = ZERO
        self.close(account, slot, order, report.ts_event_ns)

    def _on_replaced(
        self, account: Account, slot: Slot, order: Order, report: VenueReport, base: str, out: Outbox
    ) -> bool:
        assert isinstance(report, VenueReplaced)
        if not self._move(order, Step.REPLACE):
            return False
        change = report.quantity - order.quantity - order.pending_increase
        if change:
            add_working(slot, order.command.side, change)
        order.pending_increase = ZERO
        order.quantity = report.quantity
        order.limit_price, order.stop_price = report.limit_price, report.stop_price
        _both(out, OrderReplaced(
            *_head(report, base), order.status, report.quantity, report.limit_price, report.stop_price
        ))  # fmt: skip
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
        f"{base}-0", report.ts_event_ns, report.client_order_id, report.event_id, report.account_id,
        report.strategy_id, report.client_order_id, report.instrument_id,
    )  # fmt: skip


def _both(out: Outbox, event: Record) -> None:
    """Publish an order event, and send it to the order's strategy as well."""
    out.append((ORDER_EVENTS, event))
    out.append((STRATEGY_INPUTS, event))


def _words(denial: Denial) -> str:
    text = f"{denial.measured} against {denial.limit}"
    if denial.scope:
        text += f" ({denial.scope})"
    return f"{text}; {denial.detail}" if denial.detail else text


def _refusal(
    command: SubmitOrder, denial: Denial, epoch: int, event_id: str, cause: str, now_ns: int
) -> RiskDecision:
    return RiskDecision(
        event_id, now_ns, command.client_order_id, cause, command.account_id, command.strategy_id,
        command.client_order_id, command.instrument_id, False, epoch, denial.code, denial.measured,
        denial.limit, denial.scope, denial.detail,
    )  # fmt: skip
