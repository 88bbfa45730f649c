"""The portfolio: what fills, splits, dividends and symbol changes do to positions and cash.

Invariants, checked on every change: an account's holding in an instrument is the sum of its
strategies' positions, and cash moves by exactly what was paid and received.
"""

from __future__ import annotations

from decimal import Decimal

from agents.account.exposure import Exposure
from agents.account.slots import Book, Slot
from agents.account.state import Account, Holding
from agents.account.valuation import Valuation, in_base
from agents.domain.position import Position
from agents.processor import Outbox
from schemas.enums import AccountKind, Side
from schemas.errors import InvariantError
from schemas.instruments import CorporateAction, Instrument
from schemas.order_events import Fill
from schemas.portfolio import AccountSnapshot, PositionChanged
from schemas.topics import PORTFOLIO_ACCOUNTS, PORTFOLIO_POSITIONS
from schemas.values import ZERO


def apply_fill(account: Account, slot: Slot, fill: Fill, base: str, out: Outbox) -> None:
    """Apply an execution to position, holding and cash, and publish the position."""
    signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
    position = slot.position
    position.apply_fill(signed, fill.price, fill.fee)
    slot.holding.quantity += signed
    slot.exposure.changed[slot.instrument_id] = None
    currency = slot.instrument.currency
    multiplier = slot.instrument.multiplier
    amount = signed * fill.price if multiplier == 1 else signed * fill.price * multiplier
    account.cash[currency] = account.cash.get(currency, ZERO) - amount - fill.fee
    out.append(
        (
            PORTFOLIO_POSITIONS,
            PositionChanged(
                f"{base}-1",
                fill.ts_event_ns,
                fill.client_order_id,
                fill.event_id,
                fill.account_id,
                fill.strategy_id,
                fill.instrument_id,
                position.quantity,
                position.average_price(),
                position.realized,
                position.realized_fifo,
                position.fees,
                currency,
            ),
        )
    )


def check_sums(account: Account) -> None:
    """Raise InvariantError if a holding is not the sum of its strategies' positions."""
    sums: dict[str, Decimal] = {}
    for key, position in account.positions.items():
        instrument_id = key.split("|", 1)[1]
        sums[instrument_id] = sums.get(instrument_id, ZERO) + position.quantity
    for instrument_id, holding in account.holdings.items():
        if sums.get(instrument_id, ZERO) != holding.quantity:
            raise InvariantError(
                "the positions of the strategies do not sum to the account's holding",
                field=f"{account.config.account_id}/{instrument_id}",
                value=f"{sums.get(instrument_id)} != {holding.quantity}",
                remedy="stop trading this account and report the journal",
            )


def apply_action(
    account: Account,
    book: Book,
    action: CorporateAction,
    instrument: Instrument,
    base: str,
    out: Outbox,
) -> None:
    """Apply a corporate action to every position of the account in its instrument."""
    suffix = f"|{action.instrument_id}"
    keys = [key for key in account.positions if key.endswith(suffix)]
    told: list[tuple[int, str, str, Position]] = []
    for ordinal, key in enumerate(keys):
        position = account.positions[key]
        strategy_id = key[: -len(suffix)]
        if action.kind == "SPLIT":
            _split(account, book, action, instrument, position)
        elif action.kind == "DIVIDEND":
            paid = position.quantity * action.amount * instrument.multiplier
            rate = book.rate(action.currency, instrument.currency)
            position.dividends += paid * (rate or ZERO)
            account.cash[action.currency] = account.cash.get(action.currency, ZERO) + paid
        elif action.kind == "SYMBOL_CHANGE":
            # Nothing is left under the old name, results neither: who adds up positions counts
            # them once.
            nothing = Position(position.multiplier)
            told.append((2 * ordinal, strategy_id, action.instrument_id, nothing))
            position = _moved(account, key, strategy_id, action.new_symbol)
            told.append((2 * ordinal + 1, strategy_id, action.new_symbol, position))
            continue
        if position.quantity or action.kind == "SPLIT":
            told.append((ordinal, strategy_id, action.instrument_id, position))
    for ordinal, strategy_id, instrument_id, position in told:
        out.append(
            (
                PORTFOLIO_POSITIONS,
                PositionChanged(
                    f"{base}-{ordinal}",
                    action.ts_event_ns,
                    action.event_id,
                    action.event_id,
                    account.config.account_id,
                    strategy_id,
                    instrument_id,
                    position.quantity,
                    position.average_price(),
                    position.realized,
                    position.realized_fifo,
                    position.fees,
                    instrument.currency,
                    action.kind.value.lower(),
                ),
            )
        )
    if action.kind == "SYMBOL_CHANGE":
        _rename(account, book, action)
        _sum_holding(account, action.new_symbol)
        return
    _sum_holding(account, action.instrument_id)


def _moved(account: Account, key: str, strategy_id: str, new_id: str) -> Position:
    """Bring a position under its new name and return it, with what stood there already."""
    new_key = f"{strategy_id}|{new_id}"
    known = account.positions.get(new_key)
    position = account.positions[new_key] = account.positions.pop(key)
    if known is not None:
        position.absorb(known)
    return position


def _rename(account: Account, book: Book, action: CorporateAction) -> None:
    """Bring price and holding of an instrument under its new name."""
    old, new = action.instrument_id, action.new_symbol
    if old in book.prices:
        book.prices.setdefault(new, book.prices[old])
        book.price_times.setdefault(new, book.price_times.get(old, 0))
    gone = account.holdings.pop(old, None)
    if gone is not None:
        holding = account.holdings.setdefault(new, Holding())
        holding.working_buy += gone.working_buy
        holding.working_sell += gone.working_sell


def _split(
    account: Account,
    book: Book,
    action: CorporateAction,
    instrument: Instrument,
    position: Position,
) -> None:
    last = book.prices.get(action.instrument_id)
    # The caller has brought the last price onto the new share count already.
    price = instrument.price_grid().nearest(last) if last else ZERO
    if not price:
        price = position.average_price() / action.ratio
    in_lieu = position.apply_split(action.ratio, instrument.quantity_increment, price)
    if in_lieu:
        account.cash[instrument.currency] = account.cash.get(instrument.currency, ZERO) + in_lieu


def _sum_holding(account: Account, instrument_id: str) -> None:
    holding: Holding | None = account.holdings.get(instrument_id)
    if holding is None:
        return
    suffix = f"|{instrument_id}"
    holding.quantity = sum(
        (p.quantity for key, p in account.positions.items() if key.endswith(suffix)), ZERO
    )


def snapshot_account(
    account: Account,
    book: Book,
    initial_margin: Decimal,
    ts_ns: int,
    event_id: str,
    cause: str,
    out: Outbox,
) -> None:
    """Publish the account as it stands, valued exactly at the last reference prices."""
    check_sums(account)
    value = Valuation.of(account, book)
    exposure = Exposure(account, book)
    exposure.refresh()
    realized = fees = ZERO
    for key, position in account.positions.items():
        instrument_id = key.split("|", 1)[1]
        gained = position.realized + position.dividends
        realized += in_base(gained, instrument_id, account, book)
        fees += in_base(position.fees, instrument_id, account, book)
    if account.config.kind is AccountKind.CASH:
        power = exposure.free_cash()
    else:
        power = exposure.excess(initial_margin) / initial_margin
    equity = float(value.equity)
    peak = max(account.peak_equity, equity)
    out.append(
        (
            PORTFOLIO_ACCOUNTS,
            AccountSnapshot(
                event_id,
                ts_ns,
                cause,
                cause,
                account.config.account_id,
                "",
                account.config.base_currency,
                dict(account.cash),
                value.equity,
                realized,
                value.unrealized,
                fees,
                value.gross,
                value.net,
                power,
                Decimal(repr(peak)),
                (equity - peak) / peak if peak > 0 else 0.0,
                value.equity - Decimal(repr(account.day_start_equity)),
                value.missing,
            ),
        )
    )
