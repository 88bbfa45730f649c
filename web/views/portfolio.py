"""Accounts, positions and equity curves, as the account stage marked them last."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from decimal import Decimal

from schemas.instruments import ExchangeRate, Instrument
from schemas.portfolio import AccountSnapshot, EquityMark, PositionChanged
from schemas.values import ONE, ZERO
from streams.log import Published
from web.views.dividends import Dividends
from web.views.owned import Owned
from web.views.pnl import Results

_CURVE_MAX = 5_000

ShareKey = tuple[str, str]
"""Account and strategy; an empty strategy is the whole account."""


class Curve:
    """An equity curve of the whole run in bounded memory.

    When it is full every second point leaves, and from then on only every second mark (every
    fourth, ...) comes in. The newest mark is always its last point.
    """

    __slots__ = ("_heard", "_last", "_points", "_step")

    def __init__(self) -> None:
        self._points: list[EquityMark] = []
        self._last: EquityMark | None = None
        self._heard = 0
        self._step = 1

    def all_points(self) -> list[EquityMark]:
        """Return every point that is kept, the oldest first, the newest mark last."""
        if self._last is None or (self._points and self._points[-1] is self._last):
            return list(self._points)
        return [*self._points, self._last]

    def add(self, mark: EquityMark) -> None:
        """Take in the next mark."""
        if self._heard % self._step == 0:
            self._points.append(mark)
            if len(self._points) >= _CURVE_MAX:
                self._points = self._points[::2]
                self._step *= 2
        self._heard += 1
        self._last = mark

    def __len__(self) -> int:
        return len(self._points)

    @property
    def is_thinned(self) -> bool:
        """Whether marks between the points were left out."""
        return self._step > 1

    def points(self, limit: int) -> Iterator[EquityMark]:
        """Yield at most ``limit`` points, evenly over the run, the newest mark last."""
        if self._last is None:
            return
        step = -(-len(self._points) // max(limit - 1, 1))
        for mark in self._points[::step]:
            if mark is not self._last:
                yield mark
        yield self._last


class Portfolio:
    """Newest positions by account, strategy, instrument; marks and curve by account, strategy.

    Closed positions stay, one for each account, strategy and instrument that was traded, as they do
    in the account stage: an account's results are the sum over all of them. ``rates`` are
    the newest exchange rates by "BASE/QUOTE".
    """

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self.results = Results()
        self.dividends = Dividends(instruments)
        self.rates: dict[str, Decimal] = {}
        self._positions: dict[tuple[str, str, str], PositionChanged] = {}
        self._snapshots: dict[ShareKey, AccountSnapshot] = {}
        self._marks: dict[ShareKey, EquityMark] = {}
        self._curves: dict[ShareKey, Curve] = {}
        self.positions: Mapping[tuple[str, str, str], PositionChanged] = self._positions
        self.snapshots: Mapping[ShareKey, AccountSnapshot] = self._snapshots
        self.marks: Mapping[ShareKey, EquityMark] = self._marks
        self.curves: Mapping[ShareKey, Curve] = self._curves

    def of(self, accounts: frozenset[str]) -> Portfolio:
        """Return what there is of some accounts: it follows this one, and knows of no other."""
        own = copy.copy(self)
        own.results = self.results.of(accounts)
        own.positions = Owned(self._positions, accounts)
        own.snapshots = Owned(self._snapshots, accounts)
        own.marks = Owned(self._marks, accounts)
        own.curves = Owned(self._curves, accounts)
        return own

    def on_position(self, item: Published) -> None:
        """Take in a changed position."""
        self.results.begin.see(item)
        position = item.record
        if not isinstance(position, PositionChanged):
            return
        key = (position.account_id, position.strategy_id, position.instrument_id)
        self.results.on_position(position, self._positions.get(key))
        self._positions[key] = position
        self.dividends.on_position(position)

    def on_rate(self, rate: ExchangeRate) -> None:
        """Take in an exchange rate."""
        self.rates[f"{rate.base_currency}/{rate.quote_currency}"] = rate.rate

    def rate(self, currency: str, base: str) -> Decimal | None:
        """Return what a unit of ``currency`` is worth in ``base``; None if that is not known."""
        if currency == base:
            return ONE
        direct, inverse = self.rates.get(f"{currency}/{base}"), self.rates.get(f"{base}/{currency}")
        return direct or (1 / inverse if inverse else None)

    def on_snapshot(self, snapshot: AccountSnapshot) -> None:
        """Take in an account's snapshot."""
        self._snapshots[snapshot.account_id, snapshot.strategy_id] = snapshot

    def on_mark(self, mark: EquityMark) -> None:
        """Take in a point of an equity curve."""
        key = (mark.account_id, mark.strategy_id)
        self._marks[key] = mark
        self._curves.setdefault(key, Curve()).add(mark)

    def account_ids(self) -> list[str]:
        """Return the ids of all accounts that were heard of, sorted."""
        shares = (*self.snapshots, *self.marks)
        return sorted({share[0] for share in shares} | {key[0] for key in self.positions})

    def positions_of(self, account_id: str) -> list[PositionChanged]:
        """Return the positions of an account by strategy and instrument."""
        return [p for key, p in sorted(self.positions.items()) if key[0] == account_id]

    def net_of(self, account_id: str) -> dict[str, Decimal]:
        """Return an account's net quantity by instrument, over all strategies."""
        net: dict[str, Decimal] = {}
        for position in self.positions_of(account_id):
            net[position.instrument_id] = net.get(position.instrument_id, ZERO) + position.quantity
        return net
