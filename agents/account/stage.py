"""The account stage: one ordered input, and what follows from each record of it.

The input is ``account.inputs``: order commands, venue reports, limits, breaker and autonomy
commands, reference prices, instruments, corporate actions, rates. Reference prices come as columns
of the loaded batch and are consumed lazily, always before a record at the same or a later place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import msgspec

from agents.account import actions, operators, portfolio
from agents.account.breaker import Breakers
from agents.account.config import AccountStageConfig
from agents.account.dead_letters import DeadLetters
from agents.account.gate import Gate
from agents.account.mark_rows import opens_of
from agents.account.marks import NS, Marks
from agents.account.orders import OrderManager, add_working
from agents.account.saved import StageState
from agents.account.slots import Book
from agents.account.state import Order, new_account
from agents.account.what_if import check_order
from agents.domain.order_state import TRANSITIONS, Step
from agents.processor import Outbox
from schemas.columns import EquityColumns, MarketBatch, PriceColumns
from schemas.commands import ApproveOrder, CancelOrder, CheckOrder, ReplaceOrder, SubmitOrder
from schemas.enums import AutonomyMode, OrderStatus, Scope
from schemas.envelope import Header
from schemas.errors import ConfigError, RecordError
from schemas.identifiers import derived_base, derived_id, timer_id
from schemas.instruments import (
    OTHER_THING,
    CorporateAction,
    ExchangeRate,
    Instrument,
    Universe,
)
from schemas.market_data import InstrumentStatus, ReferencePrice
from schemas.order_events import (
    Fill,
    OrderFilled,
    OrderPartiallyFilled,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueReport,
    VenueTriggered,
)
from schemas.risk import Kill, SetAutonomy, SetBreaker, SetLimits
from schemas.sessions import SessionTable
from schemas.topics import ACCOUNT_INPUTS, ORDER_EVENTS, ORDER_FILLS, RISK_LIMITS, STRATEGY_INPUTS

PROCESSOR_VERSION = "account-3"
_FILL = TRANSITIONS[Step.FILL]
_FILL_PART = TRANSITIONS[Step.FILL_PART]

_Handler = Callable[[Any, int, Outbox], None]
_Report = TypeVar("_Report", bound=VenueReport)


class AccountStage:
    """Risk gate, order manager and portfolio of all accounts."""

    def __init__(
        self,
        config: AccountStageConfig,
        universe: Universe,
        sessions: Mapping[str, SessionTable],
        calendars: Collection[str] = (),
    ) -> None:
        """Take settings, instruments and sessions; ``calendars`` are those of accounts elsewhere.

        All accounts of a run are marked at the same instants, wherever they are.
        """
        self.config = config
        names = {*calendars, *(account.calendar for account in config.accounts)}
        self._open_ns = opens_of(sessions.get(name) for name in names)
        self.accounts = {c.account_id: new_account(c) for c in config.accounts}
        self.book = Book(universe, sessions, config.limits)
        self.now_ns = 0
        self._sessions = sessions
        self._instruments: dict[str, Instrument] = {}
        self._dead_letters = DeadLetters()
        self._manager = OrderManager(int(config.closed_order_retention_s * NS))
        self._assemble(Breakers())

    def _assemble(self, breakers: Breakers) -> None:
        """Make everything that works on the state; the state is whole."""
        self.marks = Marks(
            self.config, self.book, self._sessions, self._open_ns, self.accounts, self._on_snapshot
        )
        self.gate = gate = Gate(
            self.config,
            self.accounts,
            self.book,
            breakers,
            self.marks,
            self._manager,
            self._dead_letters,
        )
        self._handlers: dict[type[Any], _Handler] = {
            SubmitOrder: gate.on_submit,
            CancelOrder: gate.on_cancel,
            ReplaceOrder: gate.on_replace,
            ApproveOrder: gate.on_approve,
            CheckOrder: self._on_check,
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
        for report in (
            VenueAccepted,
            VenueRejected,
            VenueTriggered,
            VenueCanceled,
            VenueExpired,
            VenueReplaced,
        ):
            self._handlers[report] = self._on_report

    @property
    def dead_letters(self) -> int:
        """How many records could not be used, in this process."""
        return self._dead_letters.count

    @property
    def breakers(self) -> Breakers:
        """The circuit breaker of every scope."""
        return self.gate.breakers

    @property
    def autonomy(self) -> AutonomyMode:
        """Whether orders go by themselves, wait for a person, or do not go."""
        return self.gate.autonomy

    # ---- driving

    def start(self, now_ns: int, out: Outbox) -> None:
        """Publish the limits that the run begins with."""
        for key, limits in self.book.limits.items():
            scope, _, scope_id = key.partition("|")
            cause = f"start:limits:{key}"
            event_id = derived_id("account:limits", cause, 0)
            command = SetLimits(
                event_id, now_ns, cause, cause, Scope(scope), scope_id, limits, "configuration"
            )
            out.append((RISK_LIMITS, command))

    def load(self, batch: MarketBatch, prices: PriceColumns) -> None:
        """Take the reference prices of a batch.

        One that holds a corporate action has none: marks take the prices of a batch by columns, and
        those before the action are on another share count, or under another name, than those after.
        Runners cut their batches there; where one does not, the action raises InvariantError.
        """
        self.marks.load(batch, prices)

    def on_record(self, record: Header, pos: int, now_ns: int, out: Outbox) -> None:
        """Handle one record that stands at ``pos`` of the loaded batch, at time ``now_ns``."""
        self.marks.advance(pos, out)
        if now_ns > self.now_ns:
            self.now_ns = now_ns
        for account in self.accounts.values():
            if account.pending_approval:
                self.gate.lapse_approvals(account, now_ns, out)
        handler = self._handlers.get(type(record))
        if handler is not None:
            handler(record, now_ns, out)
        else:
            reason = f"{type(record).__name__} does not belong on {ACCOUNT_INPUTS}"
            self.dead_letter(record, reason, out)

    def end(self, out: Outbox, now_ns: int) -> EquityColumns:
        """Finish the batch, whose last event was at ``now_ns``, and return its equity marks."""
        self.marks.finish(out)
        return self.marks.take_rows()

    def finish(self, now_ns: int, out: Outbox) -> EquityColumns:
        """Mark and publish every account a last time, for the run is over; return the marks."""
        self.now_ns = max(self.now_ns, now_ns)
        self.marks.end(now_ns, out)
        # A snapshot may be due at this very instant: this is another record.
        self._on_snapshot(now_ns, out, "final")
        return self.marks.take_rows()

    # ---- venue reports

    def _on_report(self, report: VenueReport, now_ns: int, out: Outbox) -> None:
        account = self.accounts.get(report.account_id)
        order = account.orders.get(report.client_order_id) if account is not None else None
        if account is None or order is None:
            self.dead_letter(report, f"order {report.client_order_id} is not known", out)
            return
        report = _under_its_name(report, order)
        slot = self.gate.slot(account, report.strategy_id, report.instrument_id)
        base = derived_base(f"account:{report.account_id}", report.event_id)
        before = order.status
        if slot is None or not self._manager.report(account, slot, order, report, base, out):
            reason = f"{type(report).__name__} is illegal for an order that is {before.value}"
            self.dead_letter(report, reason, out)

    def _on_fill(self, fill: Fill, now_ns: int, out: Outbox) -> None:
        order_id, account_id, strategy_id = fill.client_order_id, fill.account_id, fill.strategy_id
        account = self.accounts.get(account_id)
        order = account.orders.get(order_id) if account is not None else None
        if account is None or order is None:
            self.dead_letter(fill, f"order {order_id} is not known", out)
            return
        fill = _under_its_name(fill, order)
        slot = self.gate.slot(account, strategy_id, fill.instrument_id)
        quantity = fill.quantity
        filled = order.filled + quantity
        leaves = order.quantity - filled
        status = (_FILL_PART if leaves else _FILL).get(order.status)
        is_possible = quantity.is_finite() and fill.price.is_finite() and fill.fee.is_finite()
        if (
            slot is None
            or status is None
            or not is_possible
            or not 0 < quantity <= order.quantity - order.filled
            or fill.trade_id in order.trade_ids
        ):
            reason = f"fill of {quantity} on order {order.status.value}, leaves {leaves}"
            self.dead_letter(fill, reason, out)
            return
        if status is OrderStatus.PENDING_CANCEL:
            order.status_before_cancel = OrderStatus.PARTIALLY_FILLED
        order.status = status
        order.filled = filled
        order.notional += quantity * fill.price
        add_working(slot, order.command.side, -quantity)
        base = derived_base(f"account:{account_id}", fill.event_id)
        kind: type[OrderFilled | OrderPartiallyFilled] = OrderFilled
        if leaves:
            order.trade_ids.append(fill.trade_id)
            kind = OrderPartiallyFilled
        else:
            self._manager.close(account, slot, order, now_ns)
        event = kind(
            f"{base}-0",
            fill.ts_event_ns,
            order_id,
            fill.event_id,
            account_id,
            strategy_id,
            order_id,
            fill.instrument_id,
            status,
            fill.trade_id,
            quantity,
            fill.price,
            filled,
            leaves,
            order.notional / filled,
        )
        out.append((ORDER_EVENTS, event))
        out.append((ORDER_FILLS, fill))
        out.append((STRATEGY_INPUTS, fill))
        portfolio.apply_fill(account, slot, fill, base, out)
        self.marks.touch(account_id, strategy_id, fill.instrument_id)

    # ---- operators

    def _on_check(self, command: CheckOrder, now_ns: int, out: Outbox) -> None:
        check_order(self.gate, self.accounts, command, now_ns, out)

    def _on_set_limits(self, command: SetLimits, now_ns: int, out: Outbox) -> None:
        operators.set_limits(self, command, out)
        self.gate.forget()

    def _on_set_breaker(self, command: SetBreaker, now_ns: int, out: Outbox) -> None:
        operators.set_breaker(self, command, now_ns, out)

    def _on_set_autonomy(self, command: SetAutonomy, now_ns: int, out: Outbox) -> None:
        self.gate.autonomy = command.mode
        self.gate.approval_timeout_s = command.approval_timeout_s

    def _on_kill(self, command: Kill, now_ns: int, out: Outbox) -> None:
        operators.kill(self, command, now_ns, out)

    # ---- reference data

    def _on_price(self, price: ReferencePrice, now_ns: int, out: Outbox) -> None:
        self.marks.set_price(price.instrument_id, price.price, price.ts_event_ns)

    def _on_status(self, status: InstrumentStatus, now_ns: int, out: Outbox) -> None:
        self.book.states[status.instrument_id] = status.state

    def _on_instrument(self, instrument: Instrument, now_ns: int, out: Outbox) -> None:
        try:
            self.book.universe.add(instrument)
        except ConfigError as error:
            self.dead_letter(instrument, str(error), out)
            return
        self._instruments[instrument.instrument_id] = instrument
        self._rebuild()

    def _on_rate(self, rate: ExchangeRate, now_ns: int, out: Outbox) -> None:
        if not rate.rate.is_finite() or rate.rate <= 0:
            self.dead_letter(rate, f"rate {rate.rate} is no positive number", out)
            return
        self.book.rates[f"{rate.base_currency}/{rate.quote_currency}"] = rate.rate
        self._rebuild()

    def _on_action(self, action: CorporateAction, now_ns: int, out: Outbox) -> None:
        index = self.book.universe.index(action.instrument_id)
        if index is None:
            self.dead_letter(action, f"instrument {action.instrument_id} is not known", out)
            return
        instrument = self.book.universe.instruments[index]
        is_split = action.kind == "SPLIT"
        if not (action.ratio.is_finite() and action.ratio > 0 and action.amount.is_finite()):
            reason = f"ratio {action.ratio}, amount {action.amount}: not a positive ratio"
            self.dead_letter(action, reason, out)
            return
        if action.kind == "SYMBOL_CHANGE":
            new_id = self.book.universe.new_id(action)
            if new_id is None:
                reason = f"instrument {action.new_symbol} is not known, or {OTHER_THING}"
                self.dead_letter(action, reason, out)
                return
            if new_id == action.instrument_id:
                self.dead_letter(action, f"instrument {new_id} has that name already", out)
                return
            action = msgspec.structs.replace(action, new_symbol=new_id)
        self.marks.close(now_ns, out)
        if is_split:
            self.marks.split(action.instrument_id, float(action.ratio))
        for account in self.accounts.values():
            base = derived_base(f"account:{account.config.account_id}", action.event_id)
            portfolio.apply_action(account, self.book, action, instrument, base, out)
            if is_split:
                actions.scale_orders(self, account, action, instrument, now_ns, out)
            elif action.kind == "SYMBOL_CHANGE":
                actions.rename_orders(account, action, out)
        if action.kind == "SYMBOL_CHANGE":
            actions.carry_over(self, action, now_ns, out)
        self._rebuild()

    def _rebuild(self) -> None:
        """Forget everything that was derived from reference data."""
        self.gate.forget()
        self.marks.rebuild()

    def _on_snapshot(self, ts_ns: int, out: Outbox, name: str = "snapshot") -> None:
        for account in self.accounts.values():
            account_id = account.config.account_id
            cause = timer_id(f"{name}:{account_id}", ts_ns)
            event_id = derived_id(f"account:{account_id}", cause, 0)
            portfolio.snapshot_account(
                account, self.book, self.config.initial_margin, ts_ns, event_id, cause, out
            )

    def dead_letter(self, record: Header, reason: str, out: Outbox) -> None:
        """Publish a record that could not be used, with the reason."""
        self._dead_letters.add(record, reason, self.now_ns, out)

    # ---- snapshots

    def snapshot(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        for account in self.accounts.values():
            del account.closed[: account.closed_head]
            account.closed_head = 0
        book, gate = self.book, self.gate
        return msgspec.json.encode(
            StageState(
                PROCESSOR_VERSION,
                list(self.accounts.values()),
                gate.breakers,
                book.limits,
                list(self._instruments.values()),
                book.states,
                book.rates,
                dict(sorted(book.prices.items())),
                dict(sorted(book.price_times.items())),
                gate.autonomy,
                gate.approval_timeout_s,
                self.marks.price_ns,
                self.marks.is_marked,
                self.marks.period,
                self.now_ns,
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave.

        Raises RecordError for another processor version.
        """
        known = msgspec.json.decode(state, type=StageState)
        if known.version != PROCESSOR_VERSION:
            raise RecordError(
                "a snapshot of the account stage is of another version",
                field="version",
                value=known.version,
                remedy="go on with the version that wrote it, or begin a new session",
            )
        self.accounts = {a.config.account_id: a for a in known.accounts}
        book = self.book
        book.limits, book.states, book.rates = known.limits, known.states, known.rates
        book.prices, book.price_times = known.prices, known.price_times
        self._instruments = {item.instrument_id: item for item in known.instruments}
        for instrument in known.instruments:
            book.universe.add(instrument)
        self.now_ns = known.now_ns
        self._assemble(known.breakers)
        self.gate.autonomy = known.autonomy
        self.gate.approval_timeout_s = known.approval_timeout_s
        self.marks.resume(known.price_ns, known.is_marked, known.period)


def _under_its_name(report: _Report, order: Order) -> _Report:
    """Return a report under the name that its order has: a symbol change may have overtaken it."""
    name = order.command.instrument_id
    if report.instrument_id == name:
        return report
    return msgspec.structs.replace(report, instrument_id=name)
