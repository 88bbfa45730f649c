"""The account stage: one ordered input, and what follows from each record of it.

The input is ``account.inputs``: order commands, venue reports, limits, breaker and autonomy commands, reference prices,
instruments, corporate actions, rates. Reference prices come as columns of the loaded batch and are consumed lazily, always
before a record at the same or a later place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from agents.account import operators, portfolio
from agents.account.breaker import Breakers
from agents.account.checks import Denial, Intent, first_denial, intent_key
from agents.account.config import AccountStageConfig
from agents.account.marks import NS, Marks
from agents.account.orders import OrderManager, add_working
from agents.account.slots import Book, Slot
from agents.account.state import Account, Order, new_account
from agents.domain.order_state import CLOSED, OPEN, TRANSITIONS, Step
from agents.processor import Outbox
from schemas.columns import EquityColumns, MarketBatch, PriceColumns
from schemas.commands import ApproveOrder, CancelOrder, ReplaceOrder, SubmitOrder
from schemas.control import DeadLetter
from schemas.enums import AutonomyMode, BreakerState, InstrumentState, OrderStatus, ReceiptOutcome, Scope
from schemas.envelope import Header, Record
from schemas.errors import RecordError
from schemas.identifiers import derived_base, derived_id, timer_id
from schemas.instruments import CorporateAction, ExchangeRate, Instrument, Universe
from schemas.market_data import InstrumentStatus, ReferencePrice
from schemas.order_events import Fill, OrderExpired, OrderFilled, OrderPartiallyFilled, VenueReport
from schemas.risk import BreakerChanged, Kill, LimitSet, SetAutonomy, SetBreaker, SetLimits
from schemas.sessions import SessionTable
from schemas.topics import (
    ACCOUNT_INPUTS,
    ORDER_EVENTS,
    ORDER_FILLS,
    RISK_BREAKER,
    RISK_LIMITS,
    STRATEGY_INPUTS,
    SYSTEM_DEAD_LETTERS,
)
from schemas.values import ZERO

PROCESSOR_VERSION = "account-1"
_FILL = TRANSITIONS[Step.FILL]
_FILL_PART = TRANSITIONS[Step.FILL_PART]


class _State(msgspec.Struct, gc=True):
    """The snapshot of the stage."""

    version: str
    accounts: list[Account]
    breakers: Breakers
    limits: dict[str, LimitSet]
    states: dict[str, InstrumentState]
    rates: dict[str, Decimal]
    prices: dict[str, float]
    price_times: dict[str, int]
    autonomy: AutonomyMode
    approval_timeout_s: float
    bucket: int
    period: int
    now_ns: int


class AccountStage:
    """Risk gate, order manager and portfolio of all accounts."""

    def __init__(
        self, config: AccountStageConfig, universe: Universe, sessions: Mapping[str, SessionTable]
    ) -> None:
        self.config = config
        self.accounts = {c.account_id: new_account(c) for c in config.accounts}
        self.book = Book(universe, sessions, config.limits)
        self.breakers = Breakers()
        self.autonomy = config.autonomy
        self.approval_timeout_s = config.approval_timeout_s
        self.now_ns = 0
        self.dead_letters = 0
        self._sessions = sessions
        self._manager = OrderManager(int(config.closed_order_retention_s * NS))
        self._slots: dict[tuple[str, str, str], Slot | None] = {}
        self.marks = self._new_marks()
        self._handlers: dict[type[Any], Callable[[Any, int, Outbox], None]] = {
            SubmitOrder: self._on_submit,
            CancelOrder: self._on_cancel,
            ReplaceOrder: self._on_replace,
            ApproveOrder: self._on_approve,
            Fill: self._on_fill,
            SetLimits: self._on_set_limits,
            SetBreaker: self._on_set_breaker,
            SetAutonomy: self._on_set_autonomy,
            Kill: self._on_kill,
            ReferencePrice: self._on_price,
            InstrumentStatus: self._on_status,
            Instrument: self._on_instrument,
            CorporateAction: self._on_action,
            ExchangeRate: self._on_rate,
        }

    def _new_marks(self) -> Marks:
        return Marks(self.config, self.book, self._sessions, self.accounts, self._on_snapshot)

    # ---- driving -----------------------------------------------------------------------------

    def start(self, now_ns: int, out: Outbox) -> None:
        """Publish the limits that the run begins with."""
        for key, limits in self.book.limits.items():
            scope, _, scope_id = key.partition("|")
            cause = f"start:limits:{key}"
            event_id = derived_id("account:limits", cause, 0)
            out.append((
                RISK_LIMITS,
                SetLimits(event_id, now_ns, cause, cause, Scope(scope), scope_id, limits, "configuration"),
            ))  # fmt: skip

    def load(self, batch: MarketBatch, prices: PriceColumns) -> None:
        """Take the reference prices of a batch."""
        self.marks.load(batch, prices)

    def on_record(self, record: Header, pos: int, now_ns: int, out: Outbox) -> None:
        """Handle one record of the input that stands at ``pos`` of the loaded batch, at time ``now_ns``."""
        self.marks.advance(pos, out)
        if now_ns > self.now_ns:
            self.now_ns = now_ns
        self._lapse_approvals(now_ns, out)
        handler = self._handlers.get(type(record))
        if handler is not None:
            handler(record, now_ns, out)
        elif isinstance(record, VenueReport):
            self._on_report(record, out)
        else:
            self.dead_letter(record, f"{type(record).__name__} does not belong on {ACCOUNT_INPUTS}", out)

    def end(self, out: Outbox, now_ns: int) -> EquityColumns:
        """Finish the batch, whose last event was at ``now_ns``, and return the equity marks of it."""
        self.marks.finish(out)
        return self.marks.take_rows()

    def finish(self, now_ns: int, out: Outbox) -> None:
        """Publish a last snapshot of every account: the run is over."""
        self.now_ns = max(self.now_ns, now_ns)
        self._on_snapshot(now_ns, out)

    # ---- orders ------------------------------------------------------------------------------

    def _slot(self, account: Account, strategy_id: str, instrument_id: str) -> Slot | None:
        key = (account.config.account_id, strategy_id, instrument_id)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self.book.slot(account, strategy_id, instrument_id, self.breakers)
        return slot

    def submit(self, command: SubmitOrder, now_ns: int, out: Outbox) -> None:
        """Judge one order and let it go, wait or refuse it."""
        self._on_submit(command, now_ns, out)

    def _on_submit(self, command: SubmitOrder, now_ns: int, out: Outbox) -> None:
        account = self.accounts.get(command.account_id)
        producer = f"account:{command.account_id}"
        order_id = command.client_order_id
        if account is None:
            self._manager.receipt(
                command, producer, ReceiptOutcome.REFUSED, now_ns, out, "ACCOUNT_UNKNOWN", "no such account"
            )
            self.dead_letter(command, f"account {command.account_id} is not known", out)
            return
        known = account.orders.get(order_id)
        if known is not None:
            is_same = _fingerprint(known.command) == _fingerprint(command)
            outcome = ReceiptOutcome.DUPLICATE if is_same else ReceiptOutcome.CONFLICT
            self._manager.receipt(
                command, producer, outcome, now_ns, out, "ORDER_ID_USED", f"order {order_id} exists already"
            )
            return
        if command.wants_receipt:
            self._manager.receipt(command, producer, ReceiptOutcome.ACCEPTED, now_ns, out)
        base = derived_base(producer, command.event_id)
        order = Order(command, command.quantity, command.limit_price, command.stop_price)
        account.orders[order_id] = order
        slot = self._slot(account, command.strategy_id, command.instrument_id)
        if slot is None:
            denial: Denial | None = Denial("INSTRUMENT_UNKNOWN", command.instrument_id, "a defined instrument")
        else:
            denial = self._judge(account, slot, command, now_ns)
        if denial is not None or slot is None:
            assert denial is not None  # an order without a slot has just been denied
            self._refuse(account, order, denial, base, command.event_id, now_ns, out)
        elif self.autonomy is AutonomyMode.SEMI_AUTOMATIC:
            expires = now_ns + int(self.approval_timeout_s * NS)
            self._manager.hold(account, order, expires, base, command.event_id, now_ns, out)
        else:
            self._release(account, slot, order, base, command.event_id, now_ns, out)

    def _judge(self, account: Account, slot: Slot, command: SubmitOrder, now_ns: int) -> Denial | None:
        intent = Intent(command, slot, self.book, now_ns, self.autonomy, self.config.initial_margin)
        if slot.max_daily_loss is not None or slot.max_drawdown is not None:
            self.marks.settle_account(account)
            intent.equity = self.marks.equity(account)
        return first_denial(intent)

    def _release(
        self, account: Account, slot: Slot, order: Order, base: str, cause: str, now_ns: int, out: Outbox
    ) -> None:
        self._manager.approve(account, slot, order, self.breakers.epoch, base, cause, now_ns, out)
        if slot.limits.duplicate_window_s is not None:
            self._remember_intent(account, order.command, now_ns, slot.limits.duplicate_window_s)

    @staticmethod
    def _remember_intent(account: Account, command: SubmitOrder, now_ns: int, window_s: float) -> None:
        recent = account.recent_intents
        recent[intent_key(command)] = now_ns
        if len(recent) > 1024:
            horizon = now_ns - int(window_s * NS)
            account.recent_intents = {key: at for key, at in recent.items() if at >= horizon}

    def _refuse(
        self, account: Account, order: Order, denial: Denial, base: str, cause: str, now_ns: int, out: Outbox
    ) -> None:
        self._manager.deny(account, order, denial, self.breakers.epoch, base, cause, now_ns, out)
        if self.config.does_breach_trip and denial.code in ("DAILY_LOSS", "DRAWDOWN"):
            reason = f"{denial.code}: {denial.measured} against {denial.limit}"
            self.change_breaker(
                Scope.ACCOUNT, account.config.account_id, BreakerState.REDUCING, "risk gate", reason, cause,
                now_ns, out,
            )  # fmt: skip

    def _on_cancel(self, command: CancelOrder, now_ns: int, out: Outbox) -> None:
        account, order = self._find(command, now_ns, out)
        if account is None or order is None:
            return
        base = derived_base(f"account:{command.account_id}", command.event_id)
        if order.status is OrderStatus.PENDING_APPROVAL:
            denial = Denial("CANCELED_BY_OWNER", "cancel", "waiting for approval", "order", command.reason)
            self._manager.deny(
                account, order, denial, self.breakers.epoch, base, command.event_id, now_ns, out
            )
        elif not self._manager.request_cancel(order, base, command.event_id, now_ns, out):
            self._manager.receipt(
                command, f"account:{command.account_id}", ReceiptOutcome.REFUSED, now_ns, out,
                "NOT_CANCELABLE", f"order is {order.status.value}",
            )  # fmt: skip
            return
        if command.wants_receipt:
            self._manager.receipt(
                command, f"account:{command.account_id}", ReceiptOutcome.ACCEPTED, now_ns, out
            )

    def _find(
        self, command: CancelOrder | ReplaceOrder, now_ns: int, out: Outbox
    ) -> tuple[Account | None, Order | None]:
        account = self.accounts.get(command.account_id)
        order = account.orders.get(command.client_order_id) if account is not None else None
        if order is None:
            self._manager.receipt(
                command, f"account:{command.account_id}", ReceiptOutcome.REFUSED, now_ns, out,
                "ORDER_UNKNOWN", f"no order {command.client_order_id} is remembered",
            )  # fmt: skip
        return account, order

    def _on_replace(self, command: ReplaceOrder, now_ns: int, out: Outbox) -> None:
        account, order = self._find(command, now_ns, out)
        if account is None or order is None:
            return
        producer = f"account:{command.account_id}"
        base = derived_base(producer, command.event_id)
        slot = self._slot(account, order.command.strategy_id, order.command.instrument_id)
        is_open = order.status in TRANSITIONS[Step.REPLACE] and order.status is not OrderStatus.PENDING_CANCEL
        quantity = command.quantity if command.quantity is not None else order.quantity
        if slot is None or not is_open or order.pending_increase or quantity <= order.filled:
            state = f"order is {order.status.value}, filled {order.filled}"
            self._manager.receipt(command, producer, ReceiptOutcome.REFUSED, now_ns, out, "NOT_REPLACEABLE", state)
            return
        if command.wants_receipt:
            self._manager.receipt(command, producer, ReceiptOutcome.ACCEPTED, now_ns, out)
        wanted = msgspec.structs.replace(
            order.command,
            quantity=quantity - order.filled,
            limit_price=command.limit_price if command.limit_price is not None else order.limit_price,
            stop_price=command.stop_price if command.stop_price is not None else order.stop_price,
            decision_price=0.0,
            decision_ts_ns=0,
            expires_at_ns=0,
        )
        # Judge the order as if it were new and its old self were gone.
        leaves = order.leaves()
        add_working(slot, order.command.side, -leaves)
        account.open_orders.pop(command.client_order_id)
        denial = self._judge(account, slot, wanted, now_ns)
        account.open_orders[command.client_order_id] = None
        add_working(slot, order.command.side, leaves)
        if denial is not None:
            self._manager.refuse_replace(order, command, denial, self.breakers.epoch, base, now_ns, out)
        else:
            self._manager.send_replace(slot, order, command, self.breakers.epoch, base, now_ns, out)

    def _on_approve(self, command: ApproveOrder, now_ns: int, out: Outbox) -> None:
        account = self.accounts.get(command.account_id)
        order = account.orders.get(command.client_order_id) if account is not None else None
        if account is None or order is None or order.status is not OrderStatus.PENDING_APPROVAL:
            self.dead_letter(command, f"order {command.client_order_id} does not wait for approval", out)
            return
        base = derived_base(f"account:{command.account_id}", command.event_id)
        slot = self._slot(account, order.command.strategy_id, order.command.instrument_id)
        if not command.is_approved or slot is None:
            denial: Denial | None = Denial("NOT_APPROVED", "refused", "approval", command.operator, command.reason)
        else:
            renewed = msgspec.structs.replace(order.command, decision_price=0.0, decision_ts_ns=0)
            denial = self._judge(account, slot, renewed, now_ns)
        if denial is not None or slot is None:
            assert denial is not None  # an order without a slot has just been denied
            self._refuse(account, order, denial, base, command.event_id, now_ns, out)
        else:
            self._release(account, slot, order, base, command.event_id, now_ns, out)

    def _lapse_approvals(self, now_ns: int, out: Outbox) -> None:
        for account in self.accounts.values():
            if not account.pending_approval:
                continue
            for order_id in list(account.pending_approval):
                order = account.orders[order_id]
                if order.expires_ns > now_ns:
                    continue
                order.status = OrderStatus.EXPIRED
                self._manager.close(account, None, order, order.expires_ns)
                cause = timer_id(f"approval:{order_id}", order.expires_ns)
                command = order.command
                event = OrderExpired(
                    derived_id(f"account:{command.account_id}", cause, 0), order.expires_ns, order_id, cause,
                    command.account_id, command.strategy_id, order_id, command.instrument_id, OrderStatus.EXPIRED,
                )  # fmt: skip
                out.append((ORDER_EVENTS, event))
                out.append((STRATEGY_INPUTS, event))

    # ---- venue reports -----------------------------------------------------------------------

    def _on_report(self, report: VenueReport, out: Outbox) -> None:
        account = self.accounts.get(report.account_id)
        order = account.orders.get(report.client_order_id) if account is not None else None
        if account is None or order is None:
            self.dead_letter(report, f"order {report.client_order_id} is not known", out)
            return
        slot = self._slot(account, report.strategy_id, report.instrument_id)
        base = derived_base(f"account:{report.account_id}", report.event_id)
        before = order.status
        if slot is None or not self._manager.report(account, slot, order, report, base, out):
            self.dead_letter(report, f"{type(report).__name__} is illegal for an order that is {before.value}", out)

    def _on_fill(self, fill: Fill, now_ns: int, out: Outbox) -> None:
        account = self.accounts.get(fill.account_id)
        order = account.orders.get(fill.client_order_id) if account is not None else None
        slot = None if account is None else self._slot(account, fill.strategy_id, fill.instrument_id)
        if account is None or order is None or slot is None:
            self.dead_letter(fill, f"order {fill.client_order_id} is not known", out)
            return
        filled = order.filled + fill.quantity
        leaves = order.quantity - filled
        table = _FILL if leaves == 0 else _FILL_PART
        status = table.get(order.status)
        if status is None or leaves < 0 or fill.trade_id in order.trade_ids:
            self.dead_letter(fill, f"fill of {fill.quantity} on order {order.status.value}, leaves {leaves}", out)
            return
        order.status = status
        order.filled = filled
        order.notional += fill.quantity * fill.price
        add_working(slot, order.command.side, -fill.quantity)
        order_id = fill.client_order_id
        base = derived_base(f"account:{fill.account_id}", fill.event_id)
        kind = OrderPartiallyFilled
        if leaves:
            order.trade_ids.append(fill.trade_id)
        else:
            kind = OrderFilled  # type: ignore[assignment]
            self._manager.close(account, slot, order, now_ns)
        out.append((
            ORDER_EVENTS,
            kind(
                f"{base}-0", fill.ts_event_ns, order_id, fill.event_id, fill.account_id, fill.strategy_id, order_id,
                fill.instrument_id, status, fill.trade_id, fill.quantity, fill.price, filled, leaves,
                order.notional / filled,
            ),
        ))  # fmt: skip
        out.append((ORDER_FILLS, fill))
        out.append((STRATEGY_INPUTS, fill))
        portfolio.apply_fill(account, slot, fill, base, out)
        self.marks.touch(fill.account_id)

    # ---- operators and reference data --------------------------------------------------------

    def _on_set_limits(self, command: SetLimits, now_ns: int, out: Outbox) -> None:
        operators.set_limits(self, command, out)
        self._slots.clear()

    def _on_set_breaker(self, command: SetBreaker, now_ns: int, out: Outbox) -> None:
        operators.set_breaker(self, command, now_ns, out)

    def _on_set_autonomy(self, command: SetAutonomy, now_ns: int, out: Outbox) -> None:
        self.autonomy = command.mode
        self.approval_timeout_s = command.approval_timeout_s

    def _on_kill(self, command: Kill, now_ns: int, out: Outbox) -> None:
        operators.kill(self, command, now_ns, out)

    def change_breaker(
        self, scope: Scope, scope_id: str, state: BreakerState, operator: str, reason: str, cause: str,
        now_ns: int, out: Outbox,
    ) -> None:  # fmt: skip
        """Put a scope into ``state`` and publish the change; nothing happens if it stands there already."""
        if not self.breakers.change(scope, scope_id, state, reason):
            return
        event_id = derived_id(f"breaker:{scope}|{scope_id}", cause, 0)
        out.append((
            RISK_BREAKER,
            BreakerChanged(
                event_id, now_ns, cause, cause, scope, scope_id, state, self.breakers.epoch, operator, reason
            ),
        ))  # fmt: skip

    def request_cancel(self, account: Account, order: Order, cause: Record, ordinal: int, now_ns: int, out: Outbox) -> None:
        """Cancel one order on behalf of an operator's command."""
        base = derived_base(f"account:{account.config.account_id}:{ordinal}", cause.event_id)
        self._manager.request_cancel(order, base, cause.event_id, now_ns, out)

    def _on_price(self, price: ReferencePrice, now_ns: int, out: Outbox) -> None:
        self.marks.set_price(price.instrument_id, price.price, price.ts_event_ns)

    def _on_status(self, status: InstrumentStatus, now_ns: int, out: Outbox) -> None:
        self.book.states[status.instrument_id] = status.state

    def _on_instrument(self, instrument: Instrument, now_ns: int, out: Outbox) -> None:
        self.book.universe.add(instrument)
        self._slots.clear()
        self.marks.rebuild()

    def _on_rate(self, rate: ExchangeRate, now_ns: int, out: Outbox) -> None:
        self.book.rates[f"{rate.base_currency}/{rate.quote_currency}"] = rate.rate
        self.marks.rebuild()

    def _on_action(self, action: CorporateAction, now_ns: int, out: Outbox) -> None:
        index = self.book.universe.index(action.instrument_id)
        if index is None:
            self.dead_letter(action, f"instrument {action.instrument_id} is not known", out)
            return
        instrument = self.book.universe.instruments[index]
        if action.kind == "SPLIT":
            self.marks.split(action.instrument_id, float(action.ratio))
        for account in self.accounts.values():
            base = derived_base(f"account:{account.config.account_id}", action.event_id)
            portfolio.apply_action(account, self.book, action, instrument, base, out)
            if action.kind == "SPLIT":
                self._split_orders(account, action)
        self._slots.clear()
        self.marks.rebuild()

    def _split_orders(self, account: Account, action: CorporateAction) -> None:
        """Scale open orders as the venue scales them: quantity by the ratio, prices against it, on the grids."""
        holding = account.holdings.get(action.instrument_id)
        index = self.book.universe.index(action.instrument_id)
        if holding is None or index is None:
            return
        operators.scale_orders(account, holding, action, self.book.universe.instruments[index])

    def _on_snapshot(self, ts_ns: int, out: Outbox) -> None:
        for account in self.accounts.values():
            account_id = account.config.account_id
            cause = timer_id(f"snapshot:{account_id}", ts_ns)
            event_id = derived_id(f"account:{account_id}", cause, 0)
            portfolio.snapshot_account(
                account, self.book, self.config.initial_margin, ts_ns, event_id, cause, out
            )

    def dead_letter(self, record: Header, reason: str, out: Outbox) -> None:
        """Publish a record that could not be used, with the reason."""
        self.dead_letters += 1
        event_id = getattr(record, "event_id", "")
        out.append((
            SYSTEM_DEAD_LETTERS,
            DeadLetter(
                event_id=derived_id("account:dead-letter", event_id, 0),
                ts_event_ns=getattr(record, "ts_event_ns", self.now_ns),
                causation_id=event_id,
                topic=ACCOUNT_INPUTS,
                partition=0,
                offset=0,
                reason=reason,
                value=msgspec.json.encode(record),
            ),
        ))  # fmt: skip

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        for account in self.accounts.values():
            del account.closed[: account.closed_head]
            account.closed_head = 0
        book = self.book
        return msgspec.json.encode(
            _State(
                PROCESSOR_VERSION, list(self.accounts.values()), self.breakers, book.limits, book.states,
                book.rates, book.prices, book.price_times, self.autonomy, self.approval_timeout_s,
                self.marks.bucket, self.marks.period, self.now_ns,
            )
        )  # fmt: skip

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave; raises RecordError for another processor version."""
        known = msgspec.json.decode(state, type=_State)
        if known.version != PROCESSOR_VERSION:
            raise RecordError(
                "a snapshot of the account stage is of another version",
                field="version", value=known.version, remedy="rebuild the state from the journal",
            )  # fmt: skip
        self.accounts = {a.config.account_id: a for a in known.accounts}
        self.breakers = known.breakers
        book = self.book
        book.limits, book.states, book.rates = known.limits, known.states, known.rates
        book.prices, book.price_times = known.prices, known.price_times
        self.autonomy, self.approval_timeout_s = known.autonomy, known.approval_timeout_s
        self.now_ns = known.now_ns
        self._slots.clear()
        self.marks = self._new_marks()
        self.marks.bucket, self.marks.period = known.bucket, known.period


def _fingerprint(command: SubmitOrder) -> tuple[object, ...]:
    """Return what two submits with one client order id must share to be the same request."""
    return (
        command.strategy_id, command.instrument_id, command.side, command.quantity, command.order_type,
        command.limit_price, command.stop_price, command.time_in_force, command.is_post_only,
        command.is_reduce_only,
    )  # fmt: skip


