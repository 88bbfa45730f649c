"""The pre-trade checks, one small function each.

A check takes an ``Intent`` and returns None, or a ``Denial`` with the stable code, the measured
value, the limit and whose limit it is. ``CHECKS`` is their order: cheap and absolute ones first,
those that value the account last. The first denial is the answer.

    code                     denied when
    INSTRUMENT_UNKNOWN       nobody defined the instrument (decided by the stage)
    INSTRUMENT_NOT_TRADABLE  its definition says so
    INSTRUMENT_HALTED        the venue halted or closed it
    NOT_ALLOWED, DENY_LISTED allow and deny lists
    BREAKER_HALTED           breaker of a scope is HALTED
    BREAKER_REDUCING         breaker is REDUCING and the order reduces no position: neither its
                             strategy's nor, unless the strategy's breaker is it, the account's
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
    REDUCE_ONLY              a reduce-only order that would not reduce its strategy's position
    LONG_ONLY, NOT_SHORTABLE the order could make the position short
    OPEN_ORDERS, ORDER_RATE, DUPLICATE_INTENT, SELF_MATCH
    MAX_POSITION, MAX_POSITION_NOTIONAL      worst case, working orders included
    DAILY_LOSS, DRAWDOWN     marked equity, unrealized included
    GROSS_EXPOSURE, NET_EXPOSURE, BUYING_POWER
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from agents.account.exposure_checks import check_exposure, check_losses, check_position
from agents.account.intent import Denial, Intent
from agents.account.slots import Slot
from agents.account.state import Order
from schemas.commands import SubmitOrder
from schemas.enums import (
    AccountKind,
    AutonomyMode,
    BreakerState,
    InstrumentState,
    OrderStatus,
    OrderType,
    Scope,
    Side,
)
from schemas.values import decimal_text

NS = 1_000_000_000
_REDUCING = "only reducing orders"

Check = Callable[[Intent], Denial | None]


def check_lists(intent: Intent) -> Denial | None:
    """Deny what its definition, the allow list or the deny list rules out."""
    slot = intent.slot
    if not slot.instrument.is_tradable:
        return Denial("INSTRUMENT_NOT_TRADABLE", "not tradable", "tradable", "instrument")
    limits = slot.limits
    if limits.allow is not None and slot.instrument_id not in limits.allow:
        return Denial("NOT_ALLOWED", slot.instrument_id, "allow list", slot.scopes.scope("allow"))
    if limits.deny is not None and slot.instrument_id in limits.deny:
        return Denial("DENY_LISTED", slot.instrument_id, "deny list", slot.scopes.scope("deny"))
    return None


def check_states(intent: Intent) -> Denial | None:
    """Deny what a halt, a breaker, the autonomy mode or the command's own end forbids."""
    slot = intent.slot
    if intent.book.states:
        state = intent.book.states.get(slot.instrument_id)
        if state is not None and state is not InstrumentState.OPEN:
            return Denial("INSTRUMENT_HALTED", state.value, InstrumentState.OPEN.value, "venue")
    if slot.breakers.states:
        account_id = slot.account.config.account_id
        known, scope = slot.breakers.effective(account_id, slot.strategy_id, slot.instrument_id)
        if known is BreakerState.HALTED:
            return Denial("BREAKER_HALTED", "new order", "no new orders", scope)
        if known is BreakerState.REDUCING and not intent.is_closing():
            if slot.breakers.of(Scope.STRATEGY, slot.strategy_id) is BreakerState.REDUCING:
                scope = f"strategy {slot.strategy_id}"
                held = f"the strategy holds {decimal_text(slot.position.quantity)}"
                return Denial("BREAKER_REDUCING", "adds exposure", _REDUCING, scope, held)
            if not intent.is_reducing:
                return Denial("BREAKER_REDUCING", "adds exposure", _REDUCING, scope)
    if intent.autonomy is AutonomyMode.OBSERVE_ONLY:
        return Denial("OBSERVE_ONLY", "order", "no orders in this mode", "global")
    expires = intent.command.expires_at_ns
    if expires and intent.now_ns > expires:
        return Denial("COMMAND_EXPIRED", str(intent.now_ns), str(expires), "command")
    return None


def check_session(intent: Intent) -> Denial | None:
    """Deny an order outside the regular session, where a limit asks for it."""
    slot = intent.slot
    if slot.is_in_session(intent.now_ns):
        return None
    scope = slot.scopes.scope("require_session")
    return Denial("SESSION_CLOSED", str(intent.now_ns), slot.instrument.calendar, scope)


def check_form(intent: Intent) -> Denial | None:
    """Deny prices and quantities that are missing or off their grids."""
    command, slot = intent.command, intent.slot
    kind = command.order_type
    if kind is not OrderType.MARKET:
        if kind is not OrderType.STOP:
            denial = _price_denial("limit_price", command.limit_price, kind, slot)
            if denial is not None:
                return denial
        if kind is not OrderType.LIMIT:
            denial = _price_denial("stop_price", command.stop_price, kind, slot)
            if denial is not None:
                return denial
    if not slot.quantity_grid.holds(command.quantity):
        increment = decimal_text(slot.quantity_grid.increment)
        quantity = decimal_text(command.quantity)
        return Denial("QUANTITY_OFF_GRID", quantity, increment, "instrument")
    return None


def _price_denial(name: str, price: Decimal | None, kind: OrderType, slot: Slot) -> Denial | None:
    if price is None or price <= 0:
        return Denial("ORDER_INVALID", str(price), f"{name} above 0 for {kind.value}", "order")
    if not slot.price_grid.holds(price):
        increment = decimal_text(slot.price_grid.increment)
        return Denial("PRICE_OFF_GRID", decimal_text(price), increment, "instrument")
    return None


def check_quantity(intent: Intent) -> Denial | None:
    """Deny quantities outside the bounds of the instrument and of the limits.

    What is left of a position may be less than an order must be: all of it can be closed.
    """
    quantity, slot = intent.command.quantity, intent.slot
    instrument, limits = slot.instrument, slot.limits
    low, high = instrument.least_quantity(), instrument.max_quantity
    is_rest = intent.is_exit and quantity == abs(slot.position.quantity)
    if quantity < low and not is_rest:
        return _bounds("QUANTITY_BELOW_MIN", quantity, low, "instrument")
    if high is not None and quantity > high:
        return _bounds("QUANTITY_ABOVE_MAX", quantity, high, "instrument")
    if intent.is_exit:
        return None
    least, most = limits.min_quantity, limits.max_quantity
    if least is not None and quantity < least:
        return _bounds("QUANTITY_BELOW_MIN", quantity, least, slot.scopes.scope("min_quantity"))
    if most is not None and quantity > most:
        return _bounds("QUANTITY_ABOVE_MAX", quantity, most, slot.scopes.scope("max_quantity"))
    return None


def _bounds(code: str, measured: Decimal, limit: Decimal, scope: str) -> Denial:
    return Denial(code, decimal_text(measured), decimal_text(limit), scope)


def check_price(intent: Intent) -> Denial | None:
    """Deny without a fresh price and an exchange rate, and prices outside the collar."""
    slot, command, decided = intent.slot, intent.command, intent.price
    if slot.factor is None:
        currency, base = slot.instrument.currency, slot.account.config.base_currency
        return Denial("NO_RATE", currency, base, "account", "publish an exchange rate for the pair")
    if decided is None:
        return Denial("NO_PRICE", "none", "a quote, trade or reference price", "instrument")
    limits = slot.limits
    stale_after = limits.stale_after_s
    if stale_after is not None:
        seen = command.decision_ts_ns or intent.book.price_times.get(slot.instrument_id, 0)
        age_s = (intent.now_ns - seen) / NS
        if age_s > stale_after:
            scope = slot.scopes.scope("stale_after_s")
            return Denial("PRICE_STALE", f"{age_s:.3f} s", f"{stale_after} s", scope)
    collar = limits.price_collar
    if collar is None:
        return None
    for price in (command.limit_price, command.stop_price):
        if price is not None and abs(price - decided) > collar * decided:
            away = f"{abs(price - decided) / decided:.6f}"
            detail = f"{decimal_text(price)} against {decimal_text(decided)}"
            scope = slot.scopes.scope("price_collar")
            return Denial("PRICE_COLLAR", away, decimal_text(collar), scope, detail)
    return None


def check_notional(intent: Intent) -> Denial | None:
    """Deny orders worth less or more than the instrument and the limits allow."""
    if intent.is_exit:
        return None
    slot, notional = intent.slot, intent.notional
    instrument, limits, scopes = slot.instrument, slot.limits, slot.scopes
    for low, scope in (
        (instrument.min_notional, "instrument"),
        (limits.min_notional, scopes.scope("min_notional")),
    ):
        if low is not None and notional < low:
            return _bounds("NOTIONAL_BELOW_MIN", notional, low, scope)
    high = instrument.max_notional
    if high is not None and notional > high:
        return _bounds("NOTIONAL_ABOVE_MAX", notional, high, "instrument")
    high = limits.max_notional
    if high is not None and notional > high:
        return _bounds("NOTIONAL_ABOVE_MAX", notional, high, scopes.scope("max_notional"))
    return None


def check_direction(intent: Intent) -> Denial | None:
    """Deny reduce-only orders that would not reduce, and shorts that nobody allows."""
    slot = intent.slot
    if intent.command.is_reduce_only:
        held = slot.position.quantity
        if not held or (held > 0) == (intent.signed > 0):
            limit = (
                f"a position of strategy {slot.strategy_id} to reduce; held {decimal_text(held)}"
            )
            return Denial("REDUCE_ONLY", decimal_text(intent.signed), limit, "order")
    may_short = intent.signed < 0 and intent.worst < 0
    if may_short and (not intent.is_exit or intent.can_exit_short()):
        worst = decimal_text(intent.worst)
        if slot.limits.is_long_only:
            return Denial("LONG_ONLY", worst, "0", slot.scopes.scope("is_long_only"))
        if not slot.instrument.is_shortable:
            return Denial("NOT_SHORTABLE", worst, "0", "instrument")
        if slot.account.config.kind is AccountKind.CASH:
            return Denial("NOT_SHORTABLE", worst, "0", "account", "a cash account cannot be short")
    return None


def check_flow(intent: Intent) -> Denial | None:
    """Deny too many open orders, too many orders in a window, and repeated intents."""
    slot = intent.slot
    account, limits, scopes = slot.account, slot.limits, slot.scopes
    if intent.is_exit:
        return None
    count = limits.max_open_orders
    if count is not None and len(account.open_orders) >= count:
        measured = str(len(account.open_orders) + 1)
        return Denial("OPEN_ORDERS", measured, str(count), scopes.scope("max_open_orders"))
    most = limits.max_order_rate
    if most is not None:
        window_ns = int((limits.order_rate_window_s or 1.0) * NS)
        sent = account.sent
        # The window is full if the order sent ``most`` orders ago still lies in it.
        if not most or (len(sent) >= most and sent[-most] > intent.now_ns - window_ns):
            limit = f"{most} in {window_ns / NS} s"
            return Denial("ORDER_RATE", str(most + 1), limit, scopes.scope("max_order_rate"))
    if limits.duplicate_window_s is not None:
        seen = account.recent_intents.get(intent_key(intent.command))
        if seen is not None and intent.now_ns - seen < limits.duplicate_window_s * NS:
            age, limit = (intent.now_ns - seen) / NS, f"{limits.duplicate_window_s} s"
            scope = scopes.scope("duplicate_window_s")
            return Denial("DUPLICATE_INTENT", f"{age:.3f} s", limit, scope)
    return None


def intent_key(command: SubmitOrder) -> str:
    """Return what makes two orders the same intent."""
    return (
        f"{command.strategy_id}|{command.instrument_id}|{command.side}|{command.quantity}"
        f"|{command.order_type}|{command.limit_price}|{command.stop_price}"
    )


def check_self_match(intent: Intent) -> Denial | None:
    """Deny an order that could trade with a working one of the same account."""
    slot, command = intent.slot, intent.command
    holding, price = slot.holding, command.limit_price
    if not (holding.working_sell if intent.signed > 0 else holding.working_buy):
        return None
    for order_id in slot.account.open_orders:
        other = slot.account.orders[order_id]
        theirs = other.limit_price
        if (
            other.command.instrument_id != slot.instrument_id
            or other.command.side is command.side
            or (
                other.command.order_type in (OrderType.STOP, OrderType.STOP_LIMIT)
                and not _is_triggered(other)
            )
        ):
            continue
        if price is None and theirs is None:
            # Neither of two market orders rests, so they cannot meet.
            continue
        if (
            price is None
            or theirs is None
            or (price >= theirs if command.side is Side.BUY else price <= theirs)
        ):
            scope = slot.scopes.scope("allow_self_match")
            return Denial("SELF_MATCH", order_id, "no crossing of own orders", scope)
    return None


def _is_triggered(order: Order) -> bool:
    """Return whether a stop order works as the limit or market order that it becomes."""
    status = order.status
    if status is OrderStatus.PENDING_CANCEL:
        status = order.status_before_cancel
    return status in (OrderStatus.TRIGGERED, OrderStatus.PARTIALLY_FILLED)


CHECKS: tuple[Check, ...] = (
    check_lists,
    check_states,
    check_session,
    check_form,
    check_quantity,
    check_price,
    check_notional,
    check_direction,
    check_flow,
    check_self_match,
    check_position,
    check_losses,
    check_exposure,
)


def applicable(slot: Slot) -> tuple[Check, ...]:
    """Return the checks that can deny anything of a slot, in order; the rest is left out."""
    limits, instrument = slot.limits, slot.instrument

    def has(*bounds: object) -> bool:
        return any(bound is not None for bound in bounds)

    is_needed: dict[Check, bool] = {
        check_lists: not instrument.is_tradable or has(limits.allow, limits.deny),
        check_session: bool(limits.require_session),
        check_notional: has(
            limits.min_notional,
            limits.max_notional,
            instrument.min_notional,
            instrument.max_notional,
        ),
        check_flow: has(limits.max_open_orders, limits.max_order_rate, limits.duplicate_window_s),
        check_self_match: limits.allow_self_match is False,
        check_position: has(limits.max_position, limits.max_position_notional),
        check_losses: has(limits.max_daily_loss, limits.max_drawdown),
    }
    return tuple(check for check in CHECKS if is_needed.get(check, True))


def first_denial(intent: Intent) -> Denial | None:
    """Return the first denial of all checks, or None if the order may go."""
    slot = intent.slot
    checks = slot.checks
    if checks is None:
        checks = slot.checks = applicable(slot)
    for check in checks:
        denial: Denial | None = check(intent)
        if denial is not None:
            return denial
    return None
