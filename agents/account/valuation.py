"""What an account is worth at an instant, exactly, in its base currency.

Holdings are marked at the last reference price; one that has no price yet is marked at its average
cost and listed as missing, never as zero.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from agents.account.slots import Book
from agents.account.state import Account
from schemas.values import MONEY_CONTEXT, ZERO

_PRECISION = Decimal("1E-12")
"""To what worths in another currency are rounded, so that sums of them stay exact."""


class Valuation(NamedTuple):
    """Amounts in the account's base currency.

    ``unrealized`` is the worth of the positions less their cost at the present exchange rates;
    ``gross`` and ``net`` are exposures. ``missing`` names instruments without a price and
    currencies without a rate.
    """

    equity: Decimal
    cash: Decimal
    unrealized: Decimal
    gross: Decimal
    net: Decimal
    missing: list[str]

    @classmethod
    def of(cls, account: Account, book: Book) -> Valuation:
        """Value ``account`` at the last reference prices."""
        missing: list[str] = []
        cash = cash_in_base(account, book, missing)
        gross = net = ZERO
        for instrument_id, holding in account.holdings.items():
            if holding.quantity:
                value = holding.quantity * unit_value(account, book, instrument_id, missing)
                gross += abs(value)
                net += value
        cost = ZERO
        for key, position in account.positions.items():
            if position.quantity:
                instrument_id = key.split("|", 1)[1]
                cost += in_base(position.cost, instrument_id, account, book)
        return cls(cash + net, cash, net - cost, gross, net, missing)


def cash_in_base(account: Account, book: Book, missing: list[str]) -> Decimal:
    """Return the account's cash in its base currency; currencies without a rate are ``missing``."""
    base = account.config.base_currency
    total = ZERO
    for currency, amount in account.cash.items():
        if currency == base:
            total += amount
            continue
        rate = book.rate(currency, base)
        if rate is None:
            missing.append(currency)
        else:
            total += _rounded(amount * rate)
    return total


def in_base(amount: Decimal, instrument_id: str, account: Account, book: Book) -> Decimal:
    """Return an amount in an instrument's currency in base currency; 0 without a rate."""
    index = book.universe.index(instrument_id)
    assert index is not None  # a position exists only for an instrument that was known
    currency = book.universe.instruments[index].currency
    if currency == account.config.base_currency:
        return amount
    rate = book.rate(currency, account.config.base_currency)
    return ZERO if rate is None else _rounded(amount * rate)


def unit_value(
    account: Account,
    book: Book,
    instrument_id: str,
    missing: list[str],
    at: Decimal | None = None,
) -> Decimal:
    """Return the worth of one unit in base currency, at the last price or at price ``at``."""
    universe = book.universe
    index = universe.index(instrument_id)
    assert index is not None  # a holding exists only for an instrument that was known
    instrument = universe.instruments[index]
    price = book.prices.get(instrument_id)
    if at is not None:
        mark = at
    elif price is not None:
        mark = universe.price_grids[index].nearest(price)
    else:
        missing.append(instrument_id)
        mark = average_cost(account, instrument_id)
        holding = account.holdings.get(instrument_id)
        if not mark and holding is not None:
            mark = holding.decided
    if instrument.currency == account.config.base_currency:
        return mark if instrument.multiplier == 1 else mark * instrument.multiplier
    rate = book.rate(instrument.currency, account.config.base_currency)
    if rate is None:
        missing.append(instrument.currency)
        return ZERO
    return _rounded(mark * instrument.multiplier * rate)


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_PRECISION, context=MONEY_CONTEXT)


def average_cost(account: Account, instrument_id: str) -> Decimal:
    """Return the mean cost of a unit that the account's strategies hold, in its own currency.

    Whatever they hold it for: of opposite positions the costs are added up without sign, since
    their difference by the net quantity is no price.
    """
    suffix = f"|{instrument_id}"
    cost = quantity = ZERO
    for key, position in account.positions.items():
        if key.endswith(suffix) and position.quantity:
            cost += abs(position.cost / position.multiplier)
            quantity += abs(position.quantity)
    return _rounded(cost / quantity) if quantity else ZERO
