"""The pre-trade checks, one small function each.

A check takes an ``Intent`` (the command with its slot and what follows from both) and returns None, or a ``Denial`` with
the stable code, the measured value, the limit and whose limit it is. ``CHECKS`` is their order: cheap and absolute ones
first, those that value the account last. The first denial is the answer.

    code                     denied when
    INSTRUMENT_UNKNOWN       nobody defined the instrument (decided by the stage)
    INSTRUMENT_NOT_TRADABLE  its definition says so
    INSTRUMENT_HALTED        the venue halted or closed it
    NOT_ALLOWED, DENY_LISTED allow and deny lists
    BREAKER_HALTED           breaker of a scope is HALTED
    BREAKER_REDUCING         breaker is REDUCING and the order would not reduce exposure
    OBSERVE_ONLY             autonomy mode lets no order go
    COMMAND_EXPIRED          the command lapsed before it was decided
    SESSION_CLOSED           outside the regular session, where a limit asks for it
    ORDER_INVALID            a price that the order type needs is missing
    PRICE_OFF_GRID, QUANTITY_OFF_GRID
    QUANTITY_BELOW_MIN, QUANTITY_ABOVE_MAX   by the instrument or by a limit
    NO_PRICE, PRICE_STALE    no price to decide on, or an old one
    NO_RATE                  the instrument's currency has no exchange rate
    NOTIONAL_BELOW_MIN, NOTIONAL_ABOVE_MAX
    PRICE_COLLAR             limit or stop price too far from the price decided on
    REDUCE_ONLY              a reduce-only order that would not reduce
    LONG_ONLY, NOT_SHORTABLE the order could make the position short
    OPEN_ORDERS, ORDER_RATE, DUPLICATE_INTENT, SELF_MATCH
    MAX_POSITION, MAX_POSITION_NOTIONAL      worst case, working orders included
    DAILY_LOSS, DRAWDOWN     marked equity, unrealized included
    GROSS_EXPOSURE, NET_EXPOSURE, BUYING_POWER
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from agents.account.slots import Book, Slot
from agents.account.valuation import Valuation
from schemas.commands import SubmitOrder
from schemas.enums import (
    AccountKind,
    AutonomyMode,
    BreakerState,
    InstrumentState,
    OrderType,
    Side,
)
from schemas.values import ZERO, decimal_text

NS = 1_000_000_000


class Denial(NamedTuple):
    """Why an order may not go."""

    code: str
    measured: str = ""
    limit: str = ""
    scope: str = ""
    detail: str = ""


class Intent:
    """A submit with everything the checks look at; what is dear is computed when first asked for."""

    __slots__ = (
        "autonomy", "book", "command", "equity", "initial_margin", "is_reducing", "now_ns", "price", "rate", "signed",
        "slot", "valuation",
    )  # fmt: skip

    def __init__(
        self,
        command: SubmitOrder,
        slot: Slot,
        book: Book,
        now_ns: int,
        autonomy: AutonomyMode,
        initial_margin: Decimal,
    ) -> None:
        self.command = command
        self.slot = slot
        self.book = book
        self.now_ns = now_ns
        self.autonomy = autonomy
        self.initial_margin = initial_margin
        self.signed = signed = command.quantity if command.side is Side.BUY else -command.quantity
        self.valuation: Valuation | None = None
        self.equity = 0.0
        held = slot.holding.quantity
        if not held or (held > 0) == (signed > 0):
            self.is_reducing = False
        else:
            # Only if it makes the net position smaller whatever else fills.
            working = slot.holding.working_sell if held > 0 else slot.holding.working_buy
            self.is_reducing = abs(signed) + working <= abs(held)
        grid = slot.price_grid
        if command.decision_price > 0:
            self.price: Decimal | None = grid.to_decimal(grid.to_unit(command.decision_price))
        else:
            self.price = book.price(slot)
        self.rate = book.rate(slot.instrument.currency, slot.account.config.base_currency)

    def value(self) -> Valuation:
        """Return the account's valuation at this instant (computed once)."""
        if self.valuation is None:
            self.valuation = Valuation.of(self.slot.account, self.book)
        return self.valuation

    def order_price(self) -> Decimal:
        """Return the price at which the order's notional is counted: its limit, else the price decided on."""
        limit = self.command.limit_price
        if limit is not None:
            return limit
        assert self.price is not None  # check_price has denied the order otherwise
        return self.price

    def notional(self) -> Decimal:
        """Return quantity x price x multiplier in the account's base currency."""
        assert self.rate is not None  # check_price has denied the order otherwise
        return self.command.quantity * self.order_price() * self.slot.instrument.multiplier * self.rate

    def worst_position(self) -> Decimal:
        """Return the signed net position if this order and all working orders of its side fill."""
        holding = self.slot.holding
        if self.signed > 0:
            return holding.quantity + holding.working_buy + self.signed
        return holding.quantity - holding.working_sell + self.signed

    def added_exposure(self) -> Decimal:
        """Return by how much the instrument's worst-case exposure grows, in units (0 if it does not)."""
        holding = self.slot.holding
        before = max(
            abs(holding.quantity + holding.working_buy), abs(holding.quantity - holding.working_sell)
        )
        added = abs(self.worst_position()) - before
        return added if added > 0 else ZERO


Check = Callable[[Intent], Denial | None]


def _text(value: Decimal | float | int) -> str:
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


def check_tradable(intent: Intent) -> Denial | None:
    slot = intent.slot
    if not slot.instrument.is_tradable:
        return Denial("INSTRUMENT_NOT_TRADABLE", "not tradable", "tradable", "instrument")
    state = intent.book.states.get(slot.instrument_id)
    if state is not None and state is not InstrumentState.OPEN:
        return Denial("INSTRUMENT_HALTED", state.value, InstrumentState.OPEN.value, "venue")
    limits = slot.limits
    if limits.allow is not None and slot.instrument_id not in limits.allow:
        return Denial("NOT_ALLOWED", slot.instrument_id, "allow list", slot.scopes.scope("allow"))
    if limits.deny is not None and slot.instrument_id in limits.deny:
        return Denial("DENY_LISTED", slot.instrument_id, "deny list", slot.scopes.scope("deny"))
    return None


def check_breaker(intent: Intent) -> Denial | None:
    slot = intent.slot
    if not slot.breakers.states:
        return None
    state, scope = slot.breakers.effective(
        slot.account.config.account_id, slot.strategy_id, slot.instrument_id
    )
    if state is BreakerState.HALTED:
        return Denial("BREAKER_HALTED", "new order", "no new orders", scope)
    if state is BreakerState.REDUCING and not intent.is_reducing:
        return Denial("BREAKER_REDUCING", "adds exposure", "only reducing orders", scope)
    return None


def check_autonomy(intent: Intent) -> Denial | None:
    if intent.autonomy is AutonomyMode.OBSERVE_ONLY:
        return Denial("OBSERVE_ONLY", "order", "no orders in this mode", "global")
    expires = intent.command.expires_at_ns
    if expires and intent.now_ns > expires:
        return Denial("COMMAND_EXPIRED", str(intent.now_ns), str(expires), "command")
    return None


def check_session(intent: Intent) -> Denial | None:
    slot = intent.slot
    if slot.limits.require_session and not slot.is_in_session(intent.now_ns):
        return Denial(
            "SESSION_CLOSED", str(intent.now_ns), slot.instrument.calendar, slot.scopes.scope("require_session")
        )
    return None


def check_order_form(intent: Intent) -> Denial | None:
    command, slot = intent.command, intent.slot
    kind = command.order_type
    if kind is not OrderType.MARKET:
        grid = slot.price_grid
        needs_limit = kind is OrderType.LIMIT or kind is OrderType.STOP_LIMIT
        needs_stop = kind is OrderType.STOP or kind is OrderType.STOP_LIMIT
        for name, price, is_needed in (
            ("limit_price", command.limit_price, needs_limit),
            ("stop_price", command.stop_price, needs_stop),
        ):
            if not is_needed:
                continue
            if price is None or price <= 0:
                return Denial("ORDER_INVALID", str(price), f"{name} above 0 for {kind.value}", "order")
            if grid.from_decimal(price) is None:
                return Denial("PRICE_OFF_GRID", _text(price), _text(grid.increment), "instrument")
    quantity = command.quantity
    if slot.quantity_grid.from_decimal(quantity) is None:
        return Denial("QUANTITY_OFF_GRID", _text(quantity), _text(slot.quantity_grid.increment), "instrument")
    return None


def check_quantity(intent: Intent) -> Denial | None:
    quantity, instrument, slot = intent.command.quantity, intent.slot.instrument, intent.slot
    limits = slot.limits
    if quantity < instrument.min_quantity:
        return Denial("QUANTITY_BELOW_MIN", _text(quantity), _text(instrument.min_quantity), "instrument")
    if instrument.max_quantity is not None and quantity > instrument.max_quantity:
        return Denial("QUANTITY_ABOVE_MAX", _text(quantity), _text(instrument.max_quantity), "instrument")
    if limits.min_quantity is not None and quantity < limits.min_quantity:
        return Denial(
            "QUANTITY_BELOW_MIN", _text(quantity), _text(limits.min_quantity), slot.scopes.scope("min_quantity")
        )
    if limits.max_quantity is not None and quantity > limits.max_quantity:
        return Denial(
            "QUANTITY_ABOVE_MAX", _text(quantity), _text(limits.max_quantity), slot.scopes.scope("max_quantity")
        )
    return None


def check_price(intent: Intent) -> Denial | None:
    slot, command = intent.slot, intent.command
    if intent.rate is None:
        return Denial(
            "NO_RATE", slot.instrument.currency, slot.account.config.base_currency, "account",
            "publish an exchange rate for the pair",
        )  # fmt: skip
    if intent.price is None:
        return Denial("NO_PRICE", "none", "a quote, trade or reference price", "instrument")
    stale_after = slot.limits.stale_after_s
    if stale_after is not None:
        seen = command.decision_ts_ns or intent.book.price_times.get(slot.instrument_id, 0)
        age_s = (intent.now_ns - seen) / NS
        if age_s > stale_after:
            return Denial("PRICE_STALE", f"{age_s:.3f} s", f"{stale_after} s", slot.scopes.scope("stale_after_s"))
    collar = slot.limits.price_collar
    if collar is not None:
        for price in (command.limit_price, command.stop_price):
            if price is not None and abs(price - intent.price) > collar * intent.price:
                away = abs(price - intent.price) / intent.price
                return Denial(
                    "PRICE_COLLAR", f"{away:.6f}", _text(collar), slot.scopes.scope("price_collar"),
                    f"{_text(price)} against {_text(intent.price)}",
                )  # fmt: skip
    return None


def check_notional(intent: Intent) -> Denial | None:
    slot = intent.slot
    notional = intent.notional()
    instrument, limits = slot.instrument, slot.limits
    for low, scope in (
        (instrument.min_notional, "instrument"),
        (limits.min_notional, slot.scopes.scope("min_notional")),
    ):
        if low is not None and notional < low:
            return Denial("NOTIONAL_BELOW_MIN", _text(notional), _text(low), scope)
    for high, scope in (
        (instrument.max_notional, "instrument"),
        (limits.max_notional, slot.scopes.scope("max_notional")),
    ):
        if high is not None and notional > high:
            return Denial("NOTIONAL_ABOVE_MAX", _text(notional), _text(high), scope)
    return None


def check_direction(intent: Intent) -> Denial | None:
    slot = intent.slot
    if intent.command.is_reduce_only and not intent.is_reducing:
        held = slot.holding.quantity
        if not held or (held > 0) == (intent.signed > 0):
            return Denial("REDUCE_ONLY", _text(intent.signed), f"a position to reduce; held {_text(held)}", "order")
    if intent.signed < 0 and intent.worst_position() < 0:
        worst = _text(intent.worst_position())
        if slot.limits.is_long_only:
            return Denial("LONG_ONLY", worst, "0", slot.scopes.scope("is_long_only"))
        if not slot.instrument.is_shortable:
            return Denial("NOT_SHORTABLE", worst, "0", "instrument")
        if slot.account.config.kind is AccountKind.CASH:
            return Denial("NOT_SHORTABLE", worst, "0", "account", "a cash account cannot be short")
    return None


def check_flow(intent: Intent) -> Denial | None:
    slot = intent.slot
    account, limits = slot.account, slot.limits
    if limits.max_open_orders is not None and len(account.open_orders) >= limits.max_open_orders:
        return Denial(
            "OPEN_ORDERS", str(len(account.open_orders) + 1), str(limits.max_open_orders),
            slot.scopes.scope("max_open_orders"),
        )  # fmt: skip
    if limits.max_order_rate is not None:
        window_ns = int((limits.order_rate_window_s or 1.0) * NS)
        sent, most = account.sent, limits.max_order_rate
        # The window is full if the order sent ``most`` orders ago still lies in it.
        if not most or (len(sent) >= most and sent[-most] > intent.now_ns - window_ns):
            return Denial(
                "ORDER_RATE", str(most + 1), f"{limits.max_order_rate} in {window_ns / NS} s",
                slot.scopes.scope("max_order_rate"),
            )  # fmt: skip
    if limits.duplicate_window_s is not None:
        seen = account.recent_intents.get(intent_key(intent.command))
        if seen is not None and intent.now_ns - seen < limits.duplicate_window_s * NS:
            return Denial(
                "DUPLICATE_INTENT", f"{(intent.now_ns - seen) / NS:.3f} s", f"{limits.duplicate_window_s} s",
                slot.scopes.scope("duplicate_window_s"),
            )  # fmt: skip
    return None


def intent_key(command: SubmitOrder) -> str:
    """Return what makes two orders the same intent."""
    return (
        f"{command.strategy_id}|{command.instrument_id}|{command.side}|{command.quantity}"
        f"|{command.order_type}|{command.limit_price}|{command.stop_price}"
    )


def check_self_match(intent: Intent) -> Denial | None:
    slot = intent.slot
    holding = slot.holding
    opposite = holding.working_sell if intent.signed > 0 else holding.working_buy
    if not opposite or slot.limits.allow_self_match is not False:
        return None
    command = intent.command
    price = command.limit_price
    for order_id in slot.account.open_orders:
        other = slot.account.orders[order_id]
        if other.command.instrument_id != slot.instrument_id or other.command.side is command.side:
            continue
        theirs = other.limit_price
        if other.command.order_type in (OrderType.STOP, OrderType.STOP_LIMIT):
            continue
        crosses = price is None or theirs is None or (
            price >= theirs if command.side is Side.BUY else price <= theirs
        )
        if crosses:
            return Denial("SELF_MATCH", order_id, "no crossing of own orders", slot.scopes.scope("allow_self_match"))
    return None


def check_position(intent: Intent) -> Denial | None:
    slot = intent.slot
    limits = slot.limits
    if limits.max_position is None and limits.max_position_notional is None:
        return None
    if intent.is_reducing:
        return None
    worst = abs(intent.worst_position())
    if limits.max_position is not None and worst > limits.max_position:
        return Denial("MAX_POSITION", _text(worst), _text(limits.max_position), slot.scopes.scope("max_position"))
    bound = limits.max_position_notional
    if bound is not None:
        assert intent.rate is not None
        notional = worst * intent.order_price() * slot.instrument.multiplier * intent.rate
        if notional > bound:
            return Denial(
                "MAX_POSITION_NOTIONAL", _text(notional), _text(bound), slot.scopes.scope("max_position_notional")
            )
    return None


def check_losses(intent: Intent) -> Denial | None:
    slot = intent.slot
    limits, account = slot.limits, slot.account
    if limits.max_daily_loss is None and limits.max_drawdown is None:
        return None
    if intent.is_reducing:
        return None
    equity = intent.equity
    if slot.max_daily_loss is not None:
        loss = account.day_start_equity - equity
        if loss > slot.max_daily_loss:
            return Denial("DAILY_LOSS", f"{loss:.2f}", _text(limits.max_daily_loss), slot.scopes.scope("max_daily_loss"))
    if slot.max_drawdown is not None and account.peak_equity > 0:
        fall = (account.peak_equity - equity) / account.peak_equity
        if fall > slot.max_drawdown:
            return Denial("DRAWDOWN", f"{fall:.6f}", _text(limits.max_drawdown), slot.scopes.scope("max_drawdown"))
    return None


def check_exposure(intent: Intent) -> Denial | None:
    slot = intent.slot
    limits, account = slot.limits, slot.account
    assert intent.rate is not None
    added = intent.added_exposure() * intent.order_price() * slot.instrument.multiplier * intent.rate
    is_cash = account.config.kind is AccountKind.CASH
    if not added and not (is_cash and intent.signed > 0):
        # An order that cannot add exposure can still turn the net exposure; bound it below.
        if limits.max_net_exposure is None:
            return None
    value = intent.value()
    if limits.max_gross_exposure is not None and value.gross_worst + added > limits.max_gross_exposure:
        return Denial(
            "GROSS_EXPOSURE", _text(value.gross_worst + added), _text(limits.max_gross_exposure),
            slot.scopes.scope("max_gross_exposure"),
        )  # fmt: skip
    if limits.max_net_exposure is not None and not intent.is_reducing:
        signed = intent.notional() if intent.signed > 0 else -intent.notional()
        net = value.net_long_worst + signed if signed > 0 else value.net_short_worst + signed
        if abs(net) > limits.max_net_exposure:
            return Denial(
                "NET_EXPOSURE", _text(abs(net)), _text(limits.max_net_exposure), slot.scopes.scope("max_net_exposure")
            )
    if is_cash:
        return _check_cash(intent, value)
    if added and added * intent.initial_margin > value.excess(intent.initial_margin):
        power = value.excess(intent.initial_margin) / intent.initial_margin
        return Denial("BUYING_POWER", _text(added), f"{power:.2f}", "account", "Reg-T initial margin")
    return None


def _check_cash(intent: Intent, value: Valuation) -> Denial | None:
    if intent.signed < 0:
        return None
    notional = intent.notional()
    if notional > value.free_cash:
        return Denial("BUYING_POWER", _text(notional), f"{value.free_cash:.2f}", "account", "cash account")
    return None


CHECKS: tuple[Check, ...] = (
    check_tradable, check_breaker, check_autonomy, check_session, check_order_form, check_quantity,
    check_price, check_notional, check_direction, check_flow, check_self_match, check_position,
    check_losses, check_exposure,
)  # fmt: skip


def applicable(slot: Slot) -> tuple[Check, ...]:
    """Return the checks that can deny anything of a slot, in order; what no limit bounds is left out."""
    limits, instrument = slot.limits, slot.instrument
    has_notional = (
        limits.min_notional, limits.max_notional, instrument.min_notional, instrument.max_notional,
    ) != (None, None, None, None)  # fmt: skip
    is_needed: dict[Check, bool] = {
        check_session: bool(limits.require_session),
        check_notional: has_notional,
        check_flow: (limits.max_open_orders, limits.max_order_rate, limits.duplicate_window_s) != (None, None, None),
        check_self_match: limits.allow_self_match is False,
        check_position: (limits.max_position, limits.max_position_notional) != (None, None),
        check_losses: (limits.max_daily_loss, limits.max_drawdown) != (None, None),
    }
    return tuple(check for check in CHECKS if is_needed.get(check, True))


def first_denial(intent: Intent) -> Denial | None:
    """Return the first denial of all checks, or None if the order may go."""
    slot = intent.slot
    checks = slot.checks
    if checks is None:
        checks = slot.checks = applicable(slot)
    for check in checks:
        denial = check(intent)
        if denial is not None:
            return denial
    return None
