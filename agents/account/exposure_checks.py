"""The checks that look at positions and at the account as a whole: position, losses, exposure.

An order that only reduces, or closes what its strategy holds, passes the limits on positions,
losses and exposure: they must never keep anybody from closing. What cash or margin does not carry
is denied all the same: of opposite positions of two strategies, closing one lets the other's stand
alone. Exposure counts working orders as if they filled.
"""

from __future__ import annotations

from decimal import Decimal
from math import inf

from agents.account.intent import Denial, Intent
from schemas.enums import AccountKind
from schemas.values import decimal_text


def check_position(intent: Intent) -> Denial | None:
    """Deny a position above its limits, all working orders of the side counted."""
    return None if intent.is_reducing else _unless_closing(intent, _position_denial(intent))


def _unless_closing(intent: Intent, denial: Denial | None) -> Denial | None:
    return None if denial is None or intent.is_closing() else denial


def _position_denial(intent: Intent) -> Denial | None:
    slot = intent.slot
    limits, worst = slot.limits, abs(intent.worst)
    most = limits.max_position
    if most is not None and worst > most:
        scope = slot.scopes.scope("max_position")
        return Denial("MAX_POSITION", decimal_text(worst), decimal_text(most), scope)
    bound = limits.max_position_notional
    if bound is not None and worst * intent.unit > bound:
        scope = slot.scopes.scope("max_position_notional")
        notional = decimal_text(worst * intent.unit)
        return Denial("MAX_POSITION_NOTIONAL", notional, decimal_text(bound), scope)
    return None


def check_losses(intent: Intent) -> Denial | None:
    """Deny after too large a loss of the day, or too deep a fall from the peak."""
    return None if intent.is_reducing else _unless_closing(intent, _loss_denial(intent))


def _loss_denial(intent: Intent) -> Denial | None:
    slot = intent.slot
    account, equity = slot.account, intent.equity
    if slot.max_daily_loss is not None:
        loss = intent.day_start - equity
        if loss > slot.max_daily_loss:
            scope = slot.scopes.scope("max_daily_loss")
            return Denial("DAILY_LOSS", f"{loss:.2f}", _text(slot.limits.max_daily_loss), scope)
    if slot.max_drawdown is not None and account.peak_equity > 0:
        fall = (account.peak_equity - equity) / account.peak_equity
        if fall > slot.max_drawdown:
            scope = slot.scopes.scope("max_drawdown")
            return Denial("DRAWDOWN", f"{fall:.6f}", _text(slot.limits.max_drawdown), scope)
    return None


def _text(limit: Decimal | None) -> str:
    return "" if limit is None else decimal_text(limit)


def check_exposure(intent: Intent) -> Denial | None:
    """Deny more gross or net exposure than allowed, and what cash or margin does not carry."""
    slot = intent.slot
    limits = slot.limits
    is_cash = slot.account.config.kind is AccountKind.CASH
    added = intent.added_exposure() * intent.unit
    if not added and not (is_cash and intent.signed > 0) and limits.max_net_exposure is None:
        return None
    exposure = slot.exposure
    if not is_cash and exposure.is_well_within(
        float(added),
        float(intent.notional) if intent.signed > 0 else -float(intent.notional),
        float(intent.initial_margin),
        _bound(limits.max_gross_exposure),
        _bound(limits.max_net_exposure),
    ):
        return None
    exposure.refresh()
    if not intent.is_reducing:
        denial = _unless_closing(intent, _exposure_denial(intent, added))
        if denial is not None:
            return denial
    if is_cash:
        return _check_cash(intent)
    margin = intent.initial_margin
    if added:
        excess = exposure.excess(margin)
        if added * margin > excess:
            power = f"{excess / margin:.2f}"
            measured = decimal_text(added)
            return Denial("BUYING_POWER", measured, power, "account", "Reg-T initial margin")
    return None


def _exposure_denial(intent: Intent, added: Decimal) -> Denial | None:
    slot = intent.slot
    limits, exposure = slot.limits, slot.exposure
    bound = limits.max_gross_exposure
    if bound is not None and exposure.gross_worst + added > bound:
        scope = slot.scopes.scope("max_gross_exposure")
        gross = decimal_text(exposure.gross_worst + added)
        return Denial("GROSS_EXPOSURE", gross, decimal_text(bound), scope)
    bound = limits.max_net_exposure
    if bound is not None:
        if intent.signed > 0:
            net = abs(exposure.net_long_worst + intent.notional)
        else:
            net = abs(exposure.net_short_worst - intent.notional)
        if net > bound:
            scope = slot.scopes.scope("max_net_exposure")
            return Denial("NET_EXPOSURE", decimal_text(net), decimal_text(bound), scope)
    return None


def _bound(limit: Decimal | None) -> float:
    return inf if limit is None else float(limit)


def _check_cash(intent: Intent) -> Denial | None:
    if intent.signed < 0:
        return None
    free = intent.slot.exposure.free_cash()
    if intent.notional > free:
        measured = decimal_text(intent.notional)
        return Denial("BUYING_POWER", measured, f"{free:.2f}", "account", "cash account")
    return None
