"""What an account's holdings and working orders come to, kept up holding by holding.

Sums of Decimals are exact, so a holding's old share can be taken out and its new one put in: an
order costs what changed since the one before, not a walk over everything the account holds. Where
many prices change between two orders even that is much, and most orders are far from every bound:
``is_well_within`` adds up float64 values first, and says yes only if no rounding could matter.
"""

from __future__ import annotations

from decimal import Decimal
from math import nan
from typing import NamedTuple

from agents.account.slots import Book
from agents.account.state import Account
from agents.account.valuation import cash_in_base, unit_value
from schemas.enums import Side
from schemas.values import ZERO


class _Share(NamedTuple):
    """One holding's part of the sums, and what it was computed from."""

    price: float | None
    quantity: Decimal
    buys: Decimal
    sells: Decimal
    market: Decimal
    gross: Decimal
    high: Decimal
    low: Decimal
    reserved: Decimal


_ROUNDING = 1e-9
"""Bound on the relative error of a float64 sum, generous by five powers of ten."""


class _Rough(NamedTuple):
    """One holding in float64, per unit of price: as held, after all buys, after all sells.

    ``worst`` is the largest of them without sign, ``grain`` what rounding a price to the grid can
    change of it. NaN where there is no exchange rate.
    """

    held: float
    high: float
    low: float
    worst: float
    grain: float


class Exposure:
    """Sums over an account's holdings in its base currency, at the last reference prices.

    ``market``: what the positions are worth. ``gross_worst`` counts each instrument at the larger
    of what it would be if all working buys, or all working sells, filled; ``net_long_worst`` and
    ``net_short_worst`` are the net exposure after all working buys, or sells. ``reserved``: what
    working buys may cost. ``changed`` names the holdings that changed since the last estimate.
    Derived state: make it anew when exchange rates, grids or share counts change.
    """

    __slots__ = (
        "_account",
        "_book",
        "_rough",
        "_shares",
        "changed",
        "gross_worst",
        "market",
        "net_long_worst",
        "net_short_worst",
        "reserved",
    )

    def __init__(self, account: Account, book: Book) -> None:
        self._account = account
        self._book = book
        self._shares: dict[str, _Share] = {}
        self._rough: dict[str, _Rough] = {}
        self.changed: dict[str, None] = dict.fromkeys(account.holdings)
        self.market = self.gross_worst = ZERO
        self.net_long_worst = self.net_short_worst = self.reserved = ZERO

    def refresh(self) -> None:
        """Bring the sums to the present prices, positions and working orders."""
        shares, prices = self._shares, self._book.prices
        for instrument_id, holding in self._account.holdings.items():
            price = prices.get(instrument_id)
            known = shares.get(instrument_id)
            if known is not None:
                if (
                    price is not None
                    and price == known[0]
                    and holding.quantity == known[1]
                    and holding.working_buy == known[2]
                    and holding.working_sell == known[3]
                ):
                    continue
                self._take_out(known)
            elif not holding.quantity and not holding.working_buy and not holding.working_sell:
                continue
            shares[instrument_id] = self._put_in(
                instrument_id, price, holding.quantity, holding.working_buy, holding.working_sell
            )

    def _take_out(self, share: _Share) -> None:
        _, _, _, _, market, gross, high, low, reserved = share
        self.market -= market
        self.gross_worst -= gross
        self.net_long_worst -= high
        self.net_short_worst -= low
        if reserved:
            self.reserved -= reserved

    def _put_in(
        self, instrument_id: str, price: float | None, held: Decimal, buys: Decimal, sells: Decimal
    ) -> _Share:
        unit = unit_value(self._account, self._book, instrument_id, [])
        market = held * unit
        high = market + buys * unit if buys else market
        low = market - sells * unit if sells else market
        gross = max(abs(high), abs(low))
        reserved = buys * unit if buys else ZERO
        self.market += market
        self.gross_worst += gross
        self.net_long_worst += high
        self.net_short_worst += low
        self.reserved += reserved
        return _Share(price, held, buys, sells, market, gross, high, low, reserved)

    def is_well_within(
        self,
        added: float,
        signed_notional: float,
        initial_margin: float,
        max_gross: float,
        max_net: float,
    ) -> bool:
        """Return whether an order is so far from every bound that float64 is enough to say so.

        ``added`` is by how much it grows the gross exposure. False means that it has to be computed
        exactly, not that a bound is broken.
        """
        if self.changed:
            self._estimate_changed()
        prices = self._book.prices
        market = long = short = gross = grain = 0.0
        for instrument_id, rough in self._rough.items():
            held, high, low, worst, grain_of = rough
            price = prices.get(instrument_id, nan)
            market += held * price
            long += high * price
            short += low * price
            gross += worst * price
            grain += grain_of
        # What costs nothing has no sign: it must hold on both sides.
        net = max(
            abs(long + signed_notional) if signed_notional >= 0 else 0.0,
            abs(short + signed_notional) if signed_notional <= 0 else 0.0,
        )
        slack = grain + _ROUNDING * (gross + added + abs(signed_notional))
        cash = float(cash_in_base(self._account, self._book, []))
        needed = (gross + added) * initial_margin + slack * (1.0 + initial_margin)
        # Comparisons with NaN are False: without a price or a rate nothing is well within.
        return (
            gross + added + slack < max_gross
            and net + slack < max_net
            and cash + market - needed > _ROUNDING * abs(cash)
        )

    def _estimate_changed(self) -> None:
        account, book = self._account, self._book
        for instrument_id in self.changed:
            holding = account.holdings[instrument_id]
            held, buys, sells = holding.quantity, holding.working_buy, holding.working_sell
            if not (held or buys or sells):
                self._rough.pop(instrument_id, None)
                continue
            index = book.universe.index(instrument_id)
            assert index is not None  # a holding exists only for an instrument that was known
            instrument = book.universe.instruments[index]
            rate = book.rate(instrument.currency, account.config.base_currency)
            factor = nan if rate is None else float(instrument.multiplier * rate)
            high, low = float(held + buys) * factor, float(held - sells) * factor
            worst = max(abs(high), abs(low))
            grain = worst * float(instrument.price_increment)
            self._rough[instrument_id] = _Rough(float(held) * factor, high, low, worst, grain)
        self.changed.clear()

    def excess(self, initial_margin: Decimal) -> Decimal:
        """Return the equity that no position or working order needs as initial margin."""
        cash = cash_in_base(self._account, self._book, [])
        return cash + self.market - self.gross_worst * initial_margin

    def free_cash(self) -> Decimal:
        """Return the cash less what working buys may cost, a limit above the price included."""
        account, book = self._account, self._book
        above = ZERO
        for order_id in account.open_orders:
            order = account.orders[order_id]
            if order.command.side is Side.BUY and order.limit_price is not None:
                instrument_id = order.command.instrument_id
                unit = unit_value(account, book, instrument_id, [])
                limit = unit_value(account, book, instrument_id, [], order.limit_price)
                if limit > unit:
                    above += (order.leaves() + order.pending_increase) * (limit - unit)
        return cash_in_base(account, book, []) - self.reserved - above
