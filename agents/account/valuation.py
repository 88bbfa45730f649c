"""What an account is worth at an instant, exactly, in its base currency.

Holdings are marked at the last reference price; one that has no price yet is marked at its average cost and listed as
missing, never as zero.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from agents.account.slots import Book
from agents.account.state import Account
from schemas.values import ZERO


class Valuation(NamedTuple):
    """Amounts in the account's base currency.

    ``gross_worst`` counts each instrument at the larger of what it would be if all working buys, or all working sells,
    filled; ``net_long_worst`` and ``net_short_worst`` are the net exposure after all working buys, or sells.
    ``free_cash`` is the base-currency cash less what working buys may cost.
    """

    equity: Decimal
    cash: Decimal
    unrealized: Decimal
    gross: Decimal
    net: Decimal
    gross_worst: Decimal
    net_long_worst: Decimal
    net_short_worst: Decimal
    free_cash: Decimal
    missing: list[str]

    def excess(self, initial_margin: Decimal) -> Decimal:
        """Return the equity that no position or working order needs as initial margin."""
        return self.equity - self.gross_worst * initial_margin

    @classmethod
    def of(cls, account: Account, book: Book) -> Valuation:
        """Value ``account`` at the last reference prices."""
        base = account.config.base_currency
        cash = ZERO
        missing: list[str] = []
        for currency, amount in account.cash.items():
            rate = book.rate(currency, base)
            if rate is None:
                missing.append(currency)
                continue
            cash += amount * rate if currency != base else amount
        market = gross = net = gross_worst = long_worst = short_worst = reserved = ZERO
        for instrument_id, holding in account.holdings.items():
            quantity, buys, sells = holding.quantity, holding.working_buy, holding.working_sell
            if not quantity and not buys and not sells:
                continue
            unit = _unit_value(account, book, instrument_id, missing)
            value = quantity * unit
            market += value
            gross += abs(value)
            net += value
            high, low = (quantity + buys) * unit, (quantity - sells) * unit
            gross_worst += max(abs(high), abs(low))
            long_worst += high
            short_worst += low
            if buys:
                reserved += buys * unit
        cost = ZERO
        for position in account.positions.values():
            if position.quantity:
                cost += position.cost
        return cls(
            cash + market, cash, market - cost, gross, net, gross_worst, long_worst, short_worst,
            cash - reserved, missing,
        )  # fmt: skip


def _unit_value(account: Account, book: Book, instrument_id: str, missing: list[str]) -> Decimal:
    """Return the value of one unit in base currency."""
    universe = book.universe
    index = universe.index(instrument_id)
    assert index is not None  # a holding exists only for instruments that were known at its first order
    instrument = universe.instruments[index]
    grid = universe.price_grids[index]
    price = book.prices.get(instrument_id)
    if price is not None:
        mark = grid.to_decimal(grid.to_unit(price))
    else:
        missing.append(instrument_id)
        mark = _average_cost(account, instrument_id)
    if instrument.currency == account.config.base_currency:
        return mark if instrument.multiplier == 1 else mark * instrument.multiplier
    rate = book.rate(instrument.currency, account.config.base_currency)
    if rate is None:
        missing.append(instrument.currency)
        return ZERO
    return mark * instrument.multiplier * rate


def _average_cost(account: Account, instrument_id: str) -> Decimal:
    suffix = f"|{instrument_id}"
    cost = quantity = ZERO
    for key, position in account.positions.items():
        if key.endswith(suffix) and position.quantity:
            cost += position.cost / position.multiplier
            quantity += position.quantity
    return abs(cost / quantity) if quantity else ZERO
