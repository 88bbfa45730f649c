"""Slots: everything a check or a fill needs about one account, strategy and instrument, found once.

A slot is derived state: it points into accounts and is built anew after a restore, and when limits,
instruments or exchange rates change.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agents.account.breaker import Breakers
from agents.account.state import Account, Holding
from agents.domain.limits import EffectiveLimits, ScopedLimits, compose
from agents.domain.position import Position
from schemas.enums import InstrumentState, Scope
from schemas.instruments import Instrument, Universe
from schemas.risk import LimitSet
from schemas.sessions import SessionTable
from schemas.values import ONE, Grid

if TYPE_CHECKING:
    from agents.account.exposure import Exposure


class Slot:
    """One account, strategy and instrument with its positions, grids and effective limits.

    ``factor`` is what one unit of price is worth in the account's base currency (multiplier times
    exchange rate, None without a rate), ``is_plain`` whether that is exactly 1. ``exposure`` holds
    the sums of the whole account.
    """

    __slots__ = (
        "account",
        "breakers",
        "checks",
        "close_ns",
        "exposure",
        "factor",
        "holding",
        "index",
        "instrument",
        "instrument_id",
        "is_plain",
        "limits",
        "max_daily_loss",
        "max_drawdown",
        "open_ns",
        "position",
        "price_grid",
        "quantity_grid",
        "scopes",
        "session_closes",
        "session_opens",
        "strategy_id",
    )

    def __init__(
        self,
        account: Account,
        strategy_id: str,
        instrument: Instrument,
        index: int,
        effective: EffectiveLimits,
        breakers: Breakers,
        grids: tuple[Grid, Grid],
        sessions: SessionTable | None,
        rate: Decimal | None,
        exposure: Exposure,
    ) -> None:
        self.account = account
        self.factor = None if rate is None else instrument.multiplier * rate
        self.is_plain = self.factor == 1
        self.exposure = exposure
        self.strategy_id = strategy_id
        self.instrument = instrument
        self.instrument_id = instrument.instrument_id
        self.index = index
        self.limits = limits = effective.limits
        self.checks: tuple[Callable[[Any], Any], ...] | None = None
        # Marks are float64, and so is what they are compared with.
        loss, fall = limits.max_daily_loss, limits.max_drawdown
        self.max_daily_loss = None if loss is None else float(loss)
        self.max_drawdown = None if fall is None else float(fall)
        self.scopes = effective
        self.breakers = breakers
        self.price_grid, self.quantity_grid = grids
        key = f"{strategy_id}|{instrument.instrument_id}"
        position = account.positions.get(key)
        if position is None:
            position = account.positions[key] = Position(instrument.multiplier)
        holding = account.holdings.get(instrument.instrument_id)
        if holding is None:
            holding = account.holdings[instrument.instrument_id] = Holding()
        account.strategies.setdefault(strategy_id)
        self.position = position
        self.holding = holding
        self.session_opens: list[int] = [] if sessions is None else sessions.open_ns.tolist()
        self.session_closes: list[int] = [] if sessions is None else sessions.close_ns.tolist()
        self.open_ns = 0
        self.close_ns = 0

    def is_in_session(self, now_ns: int) -> bool:
        """Return whether ``now_ns`` lies in a regular session; always True without a calendar."""
        if not self.session_opens:
            return True
        if not self.open_ns <= now_ns < self.close_ns:
            row = bisect_right(self.session_opens, now_ns) - 1
            if row < 0:
                return False
            self.open_ns, self.close_ns = self.session_opens[row], self.session_closes[row]
        return self.open_ns <= now_ns < self.close_ns


class Book:
    """The stage's reference data: universe, limits by scope, halts, exchange rates, last prices."""

    def __init__(
        self, universe: Universe, sessions: Mapping[str, SessionTable], limits: LimitSet
    ) -> None:
        self.universe = universe
        self.sessions = sessions
        self.limits: dict[str, LimitSet] = {f"{Scope.GLOBAL}|": limits}
        self.states: dict[str, InstrumentState] = {}
        self.rates: dict[str, Decimal] = {}
        self.prices: dict[str, float] = {}
        self.price_times: dict[str, int] = {}

    def scoped(self, account_id: str, strategy_id: str, instrument_id: str) -> ScopedLimits:
        """Return the limit sets that concern one account, strategy and instrument, widest first."""
        found: ScopedLimits = []
        for scope, scope_id in (
            (Scope.GLOBAL, ""),
            (Scope.ACCOUNT, account_id),
            (Scope.STRATEGY, strategy_id),
            (Scope.INSTRUMENT, instrument_id),
        ):
            limits = self.limits.get(f"{scope}|{scope_id}")
            if limits is not None:
                found.append((f"{scope.lower()} {scope_id}".strip(), limits))
        return found

    def slot(
        self,
        account: Account,
        strategy_id: str,
        instrument_id: str,
        breakers: Breakers,
        exposure: Exposure,
    ) -> Slot | None:
        """Build the slot of one account, strategy and instrument.

        None if the instrument is not known.
        """
        index = self.universe.index(instrument_id)
        if index is None:
            return None
        instrument = self.universe.instruments[index]
        effective = compose(self.scoped(account.config.account_id, strategy_id, instrument_id))
        return Slot(
            account,
            strategy_id,
            instrument,
            index,
            effective,
            breakers,
            (self.universe.price_grids[index], self.universe.quantity_grids[index]),
            self.sessions.get(instrument.calendar) if instrument.calendar else None,
            self.rate(instrument.currency, account.config.base_currency),
            exposure,
        )

    def rate(self, currency: str, base: str) -> Decimal | None:
        """Return how many units of ``base`` one unit of ``currency`` is worth; None if unknown."""
        if currency == base:
            return ONE
        direct = self.rates.get(f"{currency}/{base}")
        if direct is not None:
            return direct
        inverse = self.rates.get(f"{base}/{currency}")
        return None if inverse is None else 1 / inverse

    def price(self, slot: Slot) -> Decimal | None:
        """Return the last reference price of a slot's instrument on its grid, or None."""
        last = self.prices.get(slot.instrument_id)
        return None if last is None else slot.price_grid.nearest(last)
