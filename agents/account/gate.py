"""The risk gate: what becomes of an order command before anything reaches a venue.

Each command is judged by the checks at its place of the input, and goes, waits for a person, or is
denied. The gate also keeps the breaker and the autonomy mode, since both decide what may go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from agents.account.breaker import Breakers
from agents.account.checks import first_denial, intent_key
from agents.account.config import AccountStageConfig
from agents.account.dead_letters import DeadLetters
from agents.account.exposure import Exposure
from agents.account.intent import Denial, Intent, fingerprint, impossible
from agents.account.marks import NS, Marks
from agents.account.orders import OrderManager, add_working, base_of
from agents.account.slots import Book, Slot
from agents.account.state import Account, Order
from agents.domain.order_state import TRANSITIONS, Step
from agents.processor import Outbox
from schemas.commands import ApproveOrder, CancelOrder, ReplaceOrder, SubmitOrder
from schemas.enums import AutonomyMode, BreakerState, OrderStatus, ReceiptOutcome, Scope
from schemas.identifiers import APPROVAL_TIMER, derived_base, derived_id, timer_id
from schemas.order_events import OrderExpired
from schemas.risk import BreakerChanged
from schemas.topics import ORDER_EVENTS, RISK_BREAKER, STRATEGY_INPUTS

_INTENTS_KEPT = 1024
_NAMED = 5
_CANCELABLE = TRANSITIONS[Step.REQUEST_CANCEL]


class Verdict(NamedTuple):
    """What the gate says to an order: a denial, or the orders to be canceled before it goes."""

    denial: Denial | None
    in_the_way: tuple[Order, ...] = ()


_APPROVED = Verdict(None)


class Gate:
    """Judges the order commands of all accounts; the state itself lives in the accounts."""

    def __init__(
        self,
        config: AccountStageConfig,
        accounts: Mapping[str, Account],
        book: Book,
        breakers: Breakers,
        marks: Marks,
        manager: OrderManager,
        dead_letters: DeadLetters,
    ) -> None:
        self.autonomy = config.autonomy
        self.approval_timeout_s = config.approval_timeout_s
        self.breakers = breakers
        self._config = config
        self._accounts = accounts
        self._book = book
        self._marks = marks
        self._manager = manager
        self._dead_letters = dead_letters
        self._slots: dict[tuple[str, str, str], Slot] = {}
        self._exposures: dict[str, Exposure] = {}

    # ---- slots

    def slot(self, account: Account, strategy_id: str, instrument_id: str) -> Slot | None:
        """Return the slot of one account, strategy and instrument; None for no instrument.

        None as well for a strategy whose name holds the separator of the accounts' keys.
        """
        account_id = account.config.account_id
        key = (account_id, strategy_id, instrument_id)
        slot = self._slots.get(key)
        if slot is None and "|" not in strategy_id:
            exposure = self._exposures.get(account_id)
            if exposure is None:
                exposure = self._exposures[account_id] = Exposure(account, self._book)
            slot = self._book.slot(account, strategy_id, instrument_id, self.breakers, exposure)
            if slot is not None:
                self._slots[key] = slot
        return slot

    def forget(self) -> None:
        """Forget what was derived: limits, rates, instruments or share counts changed."""
        self._slots.clear()
        self._exposures.clear()

    # ---- submits

    def on_submit(self, command: SubmitOrder, now_ns: int, out: Outbox) -> None:
        """Judge one order and let it go, wait or refuse it."""
        account = self._accounts.get(command.account_id)
        if account is None:
            self._refuse_unknown(command, now_ns, out)
            return
        producer = f"account:{command.account_id}"
        order_id = command.client_order_id
        known = account.orders.get(order_id)
        if known is not None:
            is_same = fingerprint(known.command) == fingerprint(command)
            outcome = ReceiptOutcome.DUPLICATE if is_same else ReceiptOutcome.CONFLICT
            detail = f"order {order_id} exists already"
            self._manager.receipt(command, producer, outcome, now_ns, out, "ORDER_ID_USED", detail)
            return
        if command.wants_receipt:
            self._manager.receipt(command, producer, ReceiptOutcome.ACCEPTED, now_ns, out)
        cause = command.event_id
        base = derived_base(producer, cause)
        order = Order(command, command.quantity, command.limit_price, command.stop_price)
        account.orders[order_id] = order
        denial = impossible(command)
        slot = None
        if denial is None:
            slot = self.slot(account, command.strategy_id, command.instrument_id)
        if slot is None:
            unknown = Denial("INSTRUMENT_UNKNOWN", command.instrument_id, "a defined instrument")
            self._refuse(account, order, denial or unknown, base, cause, now_ns, out)
            return
        verdict = self.judge(account, slot, command, now_ns)
        if verdict.denial is not None:
            self._refuse(account, order, verdict.denial, base, cause, now_ns, out)
        elif self.autonomy is AutonomyMode.SEMI_AUTOMATIC:
            expires_ns = now_ns + int(self.approval_timeout_s * NS)
            self._manager.hold(account, order, expires_ns, base, cause, now_ns, out)
        else:
            self._make_way(verdict, cause, now_ns, out)
            self._release(account, slot, order, base, cause, now_ns, out)

    def _refuse_unknown(self, command: SubmitOrder, now_ns: int, out: Outbox) -> None:
        account_id = command.account_id
        self._manager.receipt(
            command,
            f"account:{account_id}",
            ReceiptOutcome.REFUSED,
            now_ns,
            out,
            "ACCOUNT_UNKNOWN",
            "no such account",
        )
        self._dead_letters.add(command, f"account {account_id} is not known", now_ns, out)

    def judge(
        self,
        account: Account,
        slot: Slot,
        command: SubmitOrder,
        now_ns: int,
        is_replace: bool = False,
    ) -> Verdict:
        """Return what the checks find against an order; nothing is changed.

        A new exit at once of all that a strategy holds takes the place of its plain orders on that
        side, such as a stop: they have nothing left to close and would turn the position, so they
        are canceled before it. Any other exit is denied where they could, if nothing allows that:
        one that may end unfilled, as a replace may, would leave the position without its stop.
        """
        denial = impossible(command)
        if denial is not None:
            return Verdict(denial)
        margin = self._config.initial_margin
        intent = Intent(command, slot, self._book, now_ns, self.autonomy, margin)
        if slot.max_daily_loss is not None or slot.max_drawdown is not None:
            self._marks.settle_account(account)
            intent.equity = self._marks.equity(account)
            intent.day_start = self._marks.day_start(account, now_ns)
        beside = intent.in_the_way() if intent.is_exit else []
        lasts = intent.closes_all() and not is_replace
        intent.makes_way = lasts and all(o.status in _CANCELABLE for o in beside)
        denial = first_denial(intent)
        if denial is None:
            return Verdict(None, tuple(beside)) if intent.makes_way and beside else _APPROVED
        if beside and not intent.makes_way:
            intent.makes_way = True
            if first_denial(intent) is None:
                denial = denial._replace(
                    detail=f"{named(beside)} may fill after it and turn the position: cancel first,"
                    " or close all at once with a reduce-only market order that is GTC"
                )
        return Verdict(denial)

    def judge_apart(self, account: Account, command: SubmitOrder, now_ns: int) -> Verdict:
        """Return what the checks would find against an order, and leave no trace of it.

        A slot makes its entries in the account, so this one is of a copy.
        """
        self._marks.settle_account(account)
        apart = msgspec.structs.replace(
            account,
            positions=dict(account.positions),
            holdings=dict(account.holdings),
            strategies=dict(account.strategies),
        )
        slot = self._book.slot(
            apart,
            command.strategy_id,
            command.instrument_id,
            self.breakers,
            Exposure(apart, self._book),
        )
        if slot is None:
            name = command.instrument_id
            return Verdict(Denial("INSTRUMENT_UNKNOWN", name, "a defined instrument"))
        return self.judge(account, slot, command, now_ns)

    def _make_way(self, verdict: Verdict, cause: str, now_ns: int, out: Outbox) -> None:
        """Ask for the cancel of the orders that an exit takes the place of, before it goes."""
        for order in verdict.in_the_way:
            self.request_cancel(order, "", cause, now_ns, out)

    def _release(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        base: str,
        cause: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        if slot.instrument_id not in self._book.prices:
            decided = order.command.decision_price
            slot.holding.decided = slot.price_grid.nearest(decided)
        epoch = self.breakers.epoch
        self._manager.approve(account, slot, order, epoch, base, cause, now_ns, out)
        window_s = slot.limits.duplicate_window_s
        if window_s is None:
            return
        recent = account.recent_intents
        recent[intent_key(order.command)] = now_ns
        if len(recent) > _INTENTS_KEPT:
            horizon_ns = now_ns - int(window_s * NS)
            account.recent_intents = {k: at for k, at in recent.items() if at >= horizon_ns}

    def _refuse(
        self,
        account: Account,
        order: Order,
        denial: Denial,
        base: str,
        cause: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        self.deny(account, order, denial, base, cause, now_ns, out)
        if self._config.does_breach_trip and denial.code in ("DAILY_LOSS", "DRAWDOWN"):
            account_id = account.config.account_id
            reason = f"{denial.code}: {denial.measured} against {denial.limit}"
            state = BreakerState.REDUCING
            if self.breakers.is_stricter(Scope.ACCOUNT, account_id, state):
                self.change_breaker(
                    Scope.ACCOUNT, account_id, state, "risk gate", reason, cause, now_ns, out
                )

    def change_breaker(
        self,
        scope: Scope,
        scope_id: str,
        state: BreakerState,
        operator: str,
        reason: str,
        cause: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        """Put a scope into ``state`` and publish it; nothing happens if it stands there already."""
        if not self.breakers.change(scope, scope_id, state, reason):
            return
        event_id = derived_id(f"breaker:{scope}|{scope_id}", cause, 0)
        epoch = self.breakers.epoch
        changed = BreakerChanged(
            event_id, now_ns, cause, cause, scope, scope_id, state, epoch, operator, reason
        )
        out.append((RISK_BREAKER, changed))

    # ---- cancels and replaces

    def on_cancel(self, command: CancelOrder, now_ns: int, out: Outbox) -> None:
        """Ask the venue to take out an order; one that waits for approval ends here."""
        account, order = self._find(command, now_ns, out)
        if account is None or order is None:
            return
        producer = f"account:{command.account_id}"
        cause = command.event_id
        base = derived_base(producer, cause)
        if order.status is OrderStatus.PENDING_APPROVAL:
            self.take_back(order, command.reason, base, cause, now_ns, out)
        elif not self._manager.request_cancel(order, base, cause, now_ns, out):
            detail = f"order is {order.status.value}"
            refused = ReceiptOutcome.REFUSED
            self._manager.receipt(command, producer, refused, now_ns, out, "NOT_CANCELABLE", detail)
            return
        if command.wants_receipt:
            self._manager.receipt(command, producer, ReceiptOutcome.ACCEPTED, now_ns, out)

    def request_cancel(
        self, order: Order, reason: str, cause: str, now_ns: int, out: Outbox
    ) -> None:
        """Cancel one of the orders that a record concerns, or end one that waits for approval."""
        base = base_of(order.command, cause)
        if order.status is OrderStatus.PENDING_APPROVAL:
            self.take_back(order, reason, base, cause, now_ns, out)
        else:
            self._manager.request_cancel(order, base, cause, now_ns, out)

    def take_back(
        self, order: Order, reason: str, base: str, cause: str, now_ns: int, out: Outbox
    ) -> None:
        """End an order that waits for approval: nothing has reached a venue."""
        account = self._accounts[order.command.account_id]
        denial = Denial("CANCELED_BY_OWNER", "cancel", "waiting for approval", "order", reason)
        self.deny(account, order, denial, base, cause, now_ns, out)

    def deny(
        self,
        account: Account,
        order: Order,
        denial: Denial,
        base: str,
        cause: str,
        now_ns: int,
        out: Outbox,
    ) -> None:
        """End an order that has not gone to a venue."""
        epoch = self.breakers.epoch
        self._manager.deny(account, order, denial, epoch, base, cause, now_ns, out)

    def _find(
        self, command: CancelOrder | ReplaceOrder, now_ns: int, out: Outbox
    ) -> tuple[Account | None, Order | None]:
        account = self._accounts.get(command.account_id)
        order = account.orders.get(command.client_order_id) if account is not None else None
        if order is None:
            self._manager.receipt(
                command,
                f"account:{command.account_id}",
                ReceiptOutcome.REFUSED,
                now_ns,
                out,
                "ORDER_UNKNOWN",
                f"no order {command.client_order_id} is remembered",
            )
        return account, order

    def on_replace(self, command: ReplaceOrder, now_ns: int, out: Outbox) -> None:
        """Judge an order as a replace would make it, and send the replace or refuse it."""
        account, order = self._find(command, now_ns, out)
        if account is None or order is None:
            return
        producer = f"account:{command.account_id}"
        base = derived_base(producer, command.event_id)
        slot = self.slot(account, order.command.strategy_id, order.command.instrument_id)
        quantity = order.quantity if command.quantity is None else command.quantity
        is_open = order.status in TRANSITIONS[Step.REPLACE]
        if (
            slot is None
            or not is_open
            or order.status is OrderStatus.PENDING_CANCEL
            or order.is_replacing
            or not quantity.is_finite()
            or quantity <= order.filled
        ):
            state = (
                "another replace is on its way"
                if order.is_replacing
                else f"order is {order.status.value}"
            )
            detail = f"{state}, filled {order.filled}"
            refused = ReceiptOutcome.REFUSED
            self._manager.receipt(
                command, producer, refused, now_ns, out, "NOT_REPLACEABLE", detail
            )
            return
        if command.wants_receipt:
            self._manager.receipt(command, producer, ReceiptOutcome.ACCEPTED, now_ns, out)
        denial = self._judge_replace(account, slot, order, command, quantity, now_ns)
        epoch = self.breakers.epoch
        if denial is not None:
            self._manager.refuse_replace(order, command, denial, epoch, base, now_ns, out)
        else:
            self._manager.send_replace(slot, order, command, epoch, base, now_ns, out)

    def _judge_replace(
        self,
        account: Account,
        slot: Slot,
        order: Order,
        command: ReplaceOrder,
        quantity: Decimal,
        now_ns: int,
    ) -> Denial | None:
        """Judge the order as if it were new and its old self were gone."""
        limit, stop = command.limit_price, command.stop_price
        wanted = msgspec.structs.replace(
            order.command,
            quantity=quantity - order.filled,
            limit_price=order.limit_price if limit is None else limit,
            stop_price=order.stop_price if stop is None else stop,
            decision_price=0.0,
            decision_ts_ns=0,
            expires_at_ns=0,
        )
        leaves, side = order.leaves(), order.command.side
        before = account.open_orders
        add_working(slot, side, -leaves)
        account.open_orders = {k: None for k in before if k != command.client_order_id}
        verdict = self.judge(account, slot, wanted, now_ns, is_replace=True)
        account.open_orders = before
        add_working(slot, side, leaves)
        return verdict.denial

    # ---- approvals

    def on_approve(self, command: ApproveOrder, now_ns: int, out: Outbox) -> None:
        """Let an order that waits for a person go, or end it; it is judged once more."""
        account = self._accounts.get(command.account_id)
        order = account.orders.get(command.client_order_id) if account is not None else None
        if account is None or order is None or order.status is not OrderStatus.PENDING_APPROVAL:
            reason = f"order {command.client_order_id} does not wait for approval"
            if not command.wants_receipt:
                self._dead_letters.add(command, reason, now_ns, out)
                return
            # The sender is told: a second click is no fault that somebody has to look at.
            producer, refused = f"account:{command.account_id}", ReceiptOutcome.REFUSED
            self._manager.receipt(command, producer, refused, now_ns, out, "NOT_WAITING", reason)
            return
        cause = command.event_id
        base = derived_base(f"account:{command.account_id}", cause)
        if command.wants_receipt:
            producer = f"account:{command.account_id}"
            self._manager.receipt(command, producer, ReceiptOutcome.ACCEPTED, now_ns, out)
        slot = self.slot(account, order.command.strategy_id, order.command.instrument_id)
        if not command.is_approved or slot is None:
            who, why = command.operator, command.reason
            verdict = Verdict(Denial("NOT_APPROVED", "refused", "approval", who, why))
        else:
            # Its terms are what a split has left of those that were asked for.
            renewed = msgspec.structs.replace(
                order.command,
                quantity=order.quantity,
                limit_price=order.limit_price,
                stop_price=order.stop_price,
                decision_price=0.0,
                decision_ts_ns=0,
            )
            verdict = self.judge(account, slot, renewed, now_ns)
        if verdict.denial is not None or slot is None:
            assert verdict.denial is not None  # an order without a slot has just been denied
            self._refuse(account, order, verdict.denial, base, cause, now_ns, out)
        else:
            self._make_way(verdict, cause, now_ns, out)
            self._release(account, slot, order, base, cause, now_ns, out)

    def lapse_approvals(self, account: Account, now_ns: int, out: Outbox) -> None:
        """Expire the orders of an account for which nobody spoke in time."""
        for order_id in list(account.pending_approval):
            order = account.orders[order_id]
            if order.expires_ns > now_ns:
                continue
            order.status = OrderStatus.EXPIRED
            self._manager.close(account, None, order, order.expires_ns)
            cause = timer_id(f"{APPROVAL_TIMER}{order_id}", order.expires_ns)
            command = order.command
            event = OrderExpired(
                derived_id(f"account:{command.account_id}", cause, 0),
                order.expires_ns,
                order_id,
                cause,
                command.account_id,
                command.strategy_id,
                order_id,
                command.instrument_id,
                OrderStatus.EXPIRED,
            )
            out.append((ORDER_EVENTS, event))
            out.append((STRATEGY_INPUTS, event))


def named(orders: Sequence[Order]) -> str:
    """Return the ids of orders, of the first ones if they are many."""
    names = [order.command.client_order_id for order in orders[:_NAMED]]
    return ", ".join(names) + (" and more" if len(orders) > _NAMED else "")
