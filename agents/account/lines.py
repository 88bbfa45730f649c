"""Equity lines: an account, or one strategy of it, as an amount of cash and weighted prices.

A line is derived from the exact state and brought up to date instrument by instrument, so that a
fill costs the same whether an account holds one instrument or five hundred. Every sum that the
float64 values come from is exact: it does not show in which order the changes came, nor a restart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from agents.account.slots import Book
from agents.account.state import Account, Holding
from agents.account.valuation import average_cost
from agents.domain.position import Position
from schemas.values import ZERO

Weight = tuple[int, float, float, str]
"""Instrument index, worth of one unit of price, average cost while there is no price, id."""

Span = tuple[int, int, float, list[Weight]]
"""Noted marks: first bound, the bound behind the last, cash, weights."""


class Part(NamedTuple):
    """What a line holds of the instrument with index ``code``.

    ``factor`` and ``rate`` lead to the base currency.
    """

    code: int
    held: Holding | Position
    factor: float
    rate: Decimal


class Line:
    """One equity line; ``strategy_id`` is empty for the account as a whole.

    ``changed`` names the instruments whose position changed since ``refresh``; ``weights`` are by
    instrument index, and never changed in place: noted spans hold them.
    """

    __slots__ = (
        "_booked",
        "_booked_sum",
        "_parts",
        "account",
        "cash",
        "changed",
        "source",
        "spans",
        "strategy_id",
        "weights",
    )

    def __init__(self, account: Account, strategy_id: str, source: int) -> None:
        self.account = account
        self.strategy_id = strategy_id
        self.source = source
        self.cash = 0.0
        self.weights: list[Weight] = []
        self.changed: dict[str, None] = {"": None}  # a new line has to be refreshed
        self.spans: list[Span] = []
        self._parts: dict[str, Part] = {}
        self._booked: dict[str, Decimal] = {}
        self._booked_sum = ZERO

    def add(self, instrument_id: str, part: Part) -> None:
        """Take in what the line holds of one instrument."""
        self._parts[instrument_id] = part
        self.changed[instrument_id] = None

    def refresh(self, rates: Mapping[str, Decimal], book: Book) -> None:
        """Bring cash and weights to the exact state.

        ``rates`` are those of the account's currencies to its base currency.
        """
        weights = self.weights.copy()
        for instrument_id in self.changed:
            part = self._parts.get(instrument_id)
            if part is None:
                continue
            held = part.held
            if isinstance(held, Position):
                # A strategy has no cash of its own: what it earned and paid stands for it.
                booked = (held.realized + held.dividends - held.fees - held.cost) * part.rate
                self._booked_sum += booked - self._booked.get(instrument_id, ZERO)
                self._booked[instrument_id] = booked
            place = bisect_left(weights, (part.code,))
            is_known = place < len(weights) and weights[place][0] == part.code
            if held.quantity:
                cost = self._cost(instrument_id, held) if instrument_id not in book.prices else 0.0
                weight = (part.code, float(held.quantity) * part.factor, cost, instrument_id)
                weights[place : place + is_known] = [weight]
            elif is_known:
                del weights[place]
        self.changed.clear()
        self.weights = weights
        if self.strategy_id:
            self.cash = float(self._booked_sum)
        else:
            cash = self.account.cash.items()
            self.cash = float(sum((amount * rates[name] for name, amount in cash), ZERO))

    def _cost(self, instrument_id: str, held: Holding | Position) -> float:
        if isinstance(held, Position):
            return float(held.average_price())
        return float(average_cost(self.account, instrument_id))
