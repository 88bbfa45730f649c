"""What operators may do to the account stage: limits, breaker, and the three acts of stopping.

Stop entries puts the breaker into REDUCING, cancel all asks the venue to take out every open order
and ends those that wait for approval, flatten sends reduce-only market orders against every
position. They are different acts and none implies another.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from agents.account.state import Account
from agents.domain.position import Position
from agents.processor import Outbox
from schemas.commands import SubmitOrder
from schemas.enums import BreakerState, KillAction, OrderStatus, OrderType, Scope, Side
from schemas.identifiers import derived_id
from schemas.order_events import OrderInitialized
from schemas.risk import Kill, SetBreaker, SetLimits
from schemas.topics import ORDER_EVENTS, RISK_LIMITS

if TYPE_CHECKING:
    from agents.account.stage import AccountStage


def set_limits(stage: AccountStage, command: SetLimits, out: Outbox) -> None:
    """Replace the limits of one scope and publish them as applied."""
    for name in command.limits.__struct_fields__:
        bound = getattr(command.limits, name)
        if isinstance(bound, (Decimal, float)) and not math.isfinite(bound):
            stage.dead_letter(command, f"{name} of {bound} is no bound", out)
            return
    stage.book.limits[f"{command.scope}|{command.scope_id}"] = command.limits
    out.append((RISK_LIMITS, command))


def set_breaker(stage: AccountStage, command: SetBreaker, now_ns: int, out: Outbox) -> None:
    """Trip or reset the breaker of one scope; a reset or a milder state needs a reason."""
    is_stricter = stage.breakers.is_stricter(command.scope, command.scope_id, command.state)
    if not is_stricter and not command.reason.strip():
        stage.dead_letter(command, "a breaker is not reset without a reason", out)
        return
    stage.gate.change_breaker(
        command.scope,
        command.scope_id,
        command.state,
        command.operator,
        command.reason,
        command.event_id,
        now_ns,
        out,
    )


def kill(stage: AccountStage, command: Kill, now_ns: int, out: Outbox) -> None:
    """Carry out one of the three acts of stopping within its scope."""
    if command.action is KillAction.STOP_ENTRIES:
        if stage.breakers.is_stricter(command.scope, command.scope_id, BreakerState.REDUCING):
            stage.gate.change_breaker(
                command.scope,
                command.scope_id,
                BreakerState.REDUCING,
                command.operator,
                command.reason,
                command.event_id,
                now_ns,
                out,
            )
        return
    for account in stage.accounts.values():
        if command.action is KillAction.CANCEL_ALL:
            for order_id in [*account.open_orders, *account.pending_approval]:
                order = account.orders[order_id]
                if _is_concerned(
                    command, account, order.command.strategy_id, order.command.instrument_id
                ):
                    stage.gate.request_cancel(order, command.reason, command.event_id, now_ns, out)
        else:
            _flatten(stage, account, command, now_ns, out)


def _is_concerned(command: Kill, account: Account, strategy_id: str, instrument_id: str) -> bool:
    return {
        Scope.GLOBAL: True,
        Scope.ACCOUNT: command.scope_id == account.config.account_id,
        Scope.STRATEGY: command.scope_id == strategy_id,
        Scope.INSTRUMENT: command.scope_id == instrument_id,
    }[command.scope]


def _flatten(
    stage: AccountStage, account: Account, command: Kill, now_ns: int, out: Outbox
) -> None:
    account_id, cause = account.config.account_id, command.event_id
    for key, position in _in_order_of_closing(account):
        strategy_id, instrument_id = key.split("|", 1)
        if not position.quantity or not _is_concerned(command, account, strategy_id, instrument_id):
            continue
        # Made of the position, not of its place: read twice, the command asks for the same orders.
        event_id = derived_id(f"flatten:{account_id}|{key}", cause, 0)
        order_id = f"flatten-{event_id}"
        head = (event_id, now_ns, order_id, cause, account_id, strategy_id, order_id, instrument_id)
        side = Side.SELL if position.quantity > 0 else Side.BUY
        quantity, kind = abs(position.quantity), OrderType.MARKET
        if order_id not in account.orders:
            begun = OrderInitialized(
                *head, OrderStatus.INITIALIZED, side, quantity, kind, is_reduce_only=True
            )
            out.append((ORDER_EVENTS, begun))
        submit = SubmitOrder(*head, side, quantity, kind, is_reduce_only=True)
        stage.gate.on_submit(submit, now_ns, out)


def _in_order_of_closing(account: Account) -> list[tuple[str, Position]]:
    """Return the positions, first those with plain orders that their exits take the place of.

    Until these are on their way out, they may keep back exits of other strategies.
    """
    orders = (account.orders[order_id].command for order_id in account.open_orders)
    beside = {
        (f"{order.strategy_id}|{order.instrument_id}", order.side)
        for order in orders
        if not order.is_reduce_only
    }

    def rank(item: tuple[str, Position]) -> bool:
        key, position = item
        return (key, Side.SELL if position.quantity > 0 else Side.BUY) not in beside

    return sorted(account.positions.items(), key=rank)
