"""Metrics of a run: what its equity curve and its closed trades say.

Everything is folded as the run goes, so memory grows with the number of days, not with the number
of events. ``docs/metrics.md`` has every metric with its formula, unit and when it has no value.

Returns are sampled by day: r_i = E_i / E_{i-1} - 1 with E_i the last mark of day i and E_0 the
initial equity. P is ``periods_per_year`` (252 trading days). Sums are ``math.fsum``. Percentages
are numbers such as -8.5.

    total_return_pct    100 (E_n / E_0 - 1)
    cagr_pct            100 ((E_n / E_0) ** (1 / years) - 1), years of 365.25 days; needs a day
    volatility_pct      100 s sqrt(P), s the sample standard deviation of r (n - 1)
    sharpe_ratio        mean(r) / s sqrt(P); the riskless rate is 0
    sortino_ratio       mean(r) / d sqrt(P), d = sqrt(mean(min(r, 0)²)) over all days, two or more
                        (the three have no value if an E_(i-1) is 0 or less)
    max_drawdown_pct    100 min(E_t / max_{s<=t} E_s - 1) over all marks, not days only
    calmar_ratio        cagr_pct / -max_drawdown_pct
    win_rate            100 winning trades / all closed trades (a trade of exactly 0 does not win)
    profit_factor       sum of wins / -sum of losses
    expectancy          mean net result of a closed trade
    exposure_pct        100 marks with a position / all marks
    turnover            value traded / mean of E_0 to E_n

A closed trade runs from flat to flat, or to the fill that turns the position; its result is net of
its fees. What has no value (a ratio over 0, too few days) is None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import msgspec
import numpy as np

from schemas.columns import EquityColumns, Ints
from schemas.enums import Side
from schemas.order_events import Fill
from schemas.portfolio import PositionChanged
from schemas.values import ZERO

PERIODS_PER_YEAR = 252
DAY_NS = 86_400_000_000_000
_YEAR_NS = 365.25 * DAY_NS

# A return is a quotient near 1 less 1, so rounding alone scatters equal returns by about this much.
# A ratio over such a deviation would be noise.
_ROUNDING_NOISE = 1e-15


class ClosedTrade(msgspec.Struct, frozen=True):
    """One round trip.

    ``pnl`` is net of ``fees``; ``slippage`` is what its fills cost against their reference prices.
    Both prices are averages.
    """

    strategy_id: str
    instrument_id: str
    side: Side
    quantity: Decimal
    entry_ns: int
    exit_ns: int
    entry_price: Decimal
    exit_price: Decimal
    pnl: Decimal
    fees: Decimal
    slippage: Decimal


class Metrics(msgspec.Struct, kw_only=True):
    """Metrics of one run; see the module's text for the formulas."""

    initial_equity: float
    final_equity: float
    net_profit: float
    total_return_pct: float
    cagr_pct: float | None
    volatility_pct: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    calmar_ratio: float | None
    max_drawdown_pct: float
    max_drawdown_start_ns: int | None
    max_drawdown_trough_ns: int | None
    max_drawdown_end_ns: int | None
    max_drawdown_length_days: float | None
    total_trades: int
    winning_trades: int
    losing_trades: int
    long_trades: int
    short_trades: int
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    average_win: float | None
    average_loss: float | None
    best_trade: float | None
    worst_trade: float | None
    average_trade_duration_s: float | None
    exposure_pct: float | None
    turnover: float | None
    total_fees: float
    total_slippage: float
    total_dividends: float
    fills: int
    days: int


class _OpenTrade:
    """A position since it was last flat.

    ``carried`` is what fills had realized of trades that ended in this one under a new name.
    """

    __slots__ = (
        "carried",
        "cost",
        "entered",
        "entry_ns",
        "exited",
        "fees",
        "multiplier",
        "proceeds",
        "quantity",
        "slippage",
    )

    def __init__(self, entry_ns: int, multiplier: Decimal) -> None:
        self.entry_ns = entry_ns
        self.multiplier = multiplier
        self.quantity = ZERO
        self.entered = self.exited = ZERO
        self.cost = self.proceeds = self.fees = self.slippage = self.carried = ZERO

    def realized(self) -> Decimal:
        """Return what the fills that left it have gained, before fees."""
        if not self.exited:
            return ZERO
        gained = (self.proceeds - self.cost * self.exited / self.entered) * self.multiplier
        return gained if self.quantity > 0 else -gained

    def joined(self, other: _OpenTrade) -> _OpenTrade:
        """Return both as one; of opposite ones the larger, less what the smaller takes from it.

        Of equal ones it is what fills had closed of one of them; if they had not, all of it at
        cost.
        """
        large, small = self, other
        if (abs(self.quantity), self.exited) < (abs(other.quantity), other.exited):
            large, small = other, self
        whole = _OpenTrade(min(self.entry_ns, other.entry_ns), large.multiplier)
        whole.carried = self.carried + other.carried
        whole.quantity = self.quantity + other.quantity
        whole.fees, whole.slippage = self.fees + other.fees, self.slippage + other.slippage
        if (self.quantity > 0) == (other.quantity > 0):
            for name in ("entered", "exited", "cost", "proceeds"):
                setattr(whole, name, getattr(self, name) + getattr(other, name))
            return whole
        whole.entry_ns = large.entry_ns
        taken = abs(small.quantity)
        whole.entered, whole.exited = large.entered - taken, large.exited
        whole.cost = large.cost - taken * large.cost / large.entered
        whole.proceeds = large.proceeds
        # The prices stay those of the larger, and what the smaller had gained is not lost.
        whole.carried += small.realized()
        if not whole.quantity and not whole.exited:
            whole.entered = whole.exited = large.entered
            whole.cost = whole.proceeds = large.cost
        return whole


class TradeFold:
    """Folds fills into closed trades and their statistics."""

    def __init__(self, on_trade: Callable[[ClosedTrade], None] | None = None) -> None:
        self._on_trade = on_trade
        self._open: dict[tuple[str, str], _OpenTrade] = {}
        self._left: dict[tuple[str, str], str] = {}
        self.count = self.wins = self.losses = self.longs = self.fills = 0
        self.won = self.lost = self.fees = self.slippage = self.traded = ZERO
        self.best: Decimal | None = None
        self.worst: Decimal | None = None
        self.duration_ns = 0

    def apply(self, fill: Fill, multiplier: Decimal) -> None:
        """Take one fill, in the order of execution."""
        signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
        slippage = (fill.price - fill.reference_price) * signed * multiplier
        self.fills += 1
        self.fees += fill.fee
        self.slippage += slippage
        self.traded += fill.quantity * fill.price * multiplier
        key = (fill.strategy_id, fill.instrument_id)
        trade = self._open.get(key)
        if trade is None:
            trade = self._open[key] = _OpenTrade(fill.ts_event_ns, multiplier)
        trade.multiplier = multiplier
        held = trade.quantity
        if not held or (held > 0) == (signed > 0):
            self._enter(trade, signed, fill.price, fill.fee, slippage)
            return
        closing = signed if abs(signed) <= abs(held) else -held
        # Multiplied before divided, so that the parts of a fee are exact where they can be.
        fee, cost = fill.fee * closing / signed, slippage * closing / signed
        trade.exited += abs(closing)
        trade.proceeds += abs(closing) * fill.price
        trade.fees += fee
        trade.slippage += cost
        trade.quantity = held + closing
        if trade.quantity:
            return
        del self._open[key]
        self._close(key, trade, fill.ts_event_ns, held > 0)
        opening = signed - closing
        if opening:
            trade = self._open[key] = _OpenTrade(fill.ts_event_ns, multiplier)
            self._enter(trade, opening, fill.price, fill.fee - fee, slippage - cost)

    @staticmethod
    def _enter(
        trade: _OpenTrade, signed: Decimal, price: Decimal, fee: Decimal, slippage: Decimal
    ) -> None:
        trade.quantity += signed
        trade.entered += abs(signed)
        trade.cost += abs(signed) * price
        trade.fees += fee
        trade.slippage += slippage

    def _close(self, key: tuple[str, str], trade: _OpenTrade, exit_ns: int, is_long: bool) -> None:
        gross = (trade.proceeds - trade.cost) * trade.multiplier
        pnl = (gross if is_long else -gross) + trade.carried - trade.fees
        self.count += 1
        self.longs += is_long
        self.duration_ns += exit_ns - trade.entry_ns
        if pnl > 0:
            self.wins += 1
            self.won += pnl
        elif pnl < 0:
            self.losses += 1
            self.lost += pnl
        self.best = pnl if self.best is None or pnl > self.best else self.best
        self.worst = pnl if self.worst is None or pnl < self.worst else self.worst
        if self._on_trade is not None:
            self._on_trade(
                ClosedTrade(
                    key[0],
                    key[1],
                    Side.BUY if is_long else Side.SELL,
                    trade.entered,
                    trade.entry_ns,
                    exit_ns,
                    trade.cost / trade.entered,
                    trade.proceeds / trade.exited,
                    pnl,
                    trade.fees,
                    trade.slippage,
                )
            )

    def on_position(self, change: PositionChanged, new_id: str | None = None) -> None:
        """Bring an open trade behind a corporate action, as its position tells of it.

        ``new_id`` is the instrument that a symbol change leads to, where the caller knows it. Only
        runs that told of such a change by one record need it: of the old name, with what is held.
        """
        strategy_id, instrument_id = change.strategy_id, change.instrument_id
        if change.reason == "split":
            self.rescale(strategy_id, instrument_id, change.quantity)
        elif change.reason == "symbol_change":
            # Two records: the first is that of the old name.
            key = (strategy_id, change.causation_id)
            old = self._left.pop(key, None)
            if old is not None:
                self.rename(strategy_id, old, instrument_id, change.ts_event_ns)
            elif not change.quantity:
                self._left[key] = instrument_id
            elif new_id is not None:
                self.rename(strategy_id, instrument_id, new_id, change.ts_event_ns)

    def rescale(self, strategy_id: str, instrument_id: str, quantity: Decimal) -> None:
        """Bring an open trade onto the share count after a split, which made it ``quantity``.

        A position that the split paid out whole is no closed trade: no fill says what it fetched,
        so it ends here and shows in the equity alone.
        """
        key = (strategy_id, instrument_id)
        trade = self._open.get(key)
        if trade is None:
            return
        if not quantity:
            del self._open[key]
            return
        trade.entered = trade.entered * quantity / trade.quantity
        trade.exited = trade.exited * quantity / trade.quantity
        trade.quantity = quantity

    def rename(self, strategy_id: str, old_id: str, new_id: str, at_ns: int) -> None:
        """Bring an open trade under the new name of its instrument, at an instant.

        One that is open there already becomes part of it. Opposite ones close each other at cost:
        what is left is open, and no fill says that anything was closed. If nothing is left, what
        fills had closed of them before is a closed trade; if they had not, there is none.
        """
        trade = self._open.pop((strategy_id, old_id), None)
        if trade is None:
            return
        key = (strategy_id, new_id)
        known = self._open.pop(key, None)
        if known is None:
            self._open[key] = trade
            return
        whole = trade.joined(known)
        if whole.quantity:
            self._open[key] = whole
        elif trade.exited or known.exited or whole.carried:
            larger = trade if trade.exited >= known.exited else known
            self._close(key, whole, at_ns, larger.quantity > 0)


class EquityFold:
    """Folds equity marks into daily returns, drawdown and exposure."""

    def __init__(self, initial: float, start_ns: int, day_of: Callable[[Ints], Ints]) -> None:
        self.initial = self.final = self._peak = initial
        self.start_ns = self.last_ns = self._peak_ns = start_ns
        self._day_of = day_of
        self._day: int | None = None
        self.daily: list[float] = []
        self.marks = self.exposed = 0
        self.worst = 0.0
        self.worst_start_ns: int | None = None
        self.worst_trough_ns: int | None = None
        self.worst_end_ns: int | None = None

    def apply(self, rows: EquityColumns) -> None:
        """Take the marks of one account, in order."""
        if not len(rows):
            return
        equity, ts = rows.equity, rows.ts
        days = self._day_of(ts)
        ends = np.flatnonzero(days[1:] != days[:-1])
        for row in [*ends.tolist(), len(days) - 1]:
            if self._day == int(days[row]):
                self.daily[-1] = float(equity[row])
            else:
                self._day = int(days[row])
                self.daily.append(float(equity[row]))
        self.marks += len(rows)
        self.exposed += int(np.count_nonzero(rows.gross))
        self._fold_drawdown(equity.tolist(), ts.tolist())
        self.final, self.last_ns = float(equity[-1]), int(ts[-1])

    def _fold_drawdown(self, equity: list[float], ts: list[int]) -> None:
        peak = self._peak
        for value, at in zip(equity, ts, strict=True):
            if value >= peak:
                if self.worst_start_ns == self._peak_ns and self.worst_end_ns is None:
                    self.worst_end_ns = at
                peak, self._peak_ns = value, at
            elif peak > 0:
                fall = value / peak - 1
                if fall < self.worst:
                    self.worst = fall
                    self.worst_start_ns, self.worst_trough_ns = self._peak_ns, at
                    self.worst_end_ns = None
        self._peak = peak

    def settle(self, equity: float) -> None:
        """Take the exact equity at the end of the run as the last value of the curve."""
        self.final = equity
        if self.daily:
            self.daily[-1] = equity
        self._fold_drawdown([equity], [self.last_ns])


def compute(
    curve: EquityFold,
    trades: TradeFold,
    dividends: Decimal = ZERO,
    periods_per_year: int = PERIODS_PER_YEAR,
) -> Metrics:
    """Return the metrics of a finished run."""
    levels = [curve.initial, *curve.daily]
    # From nothing, or from debt, there is no return: what counts returns has no value then.
    has_returns = all(level > 0 for level in levels[:-1])
    returns = [b / a - 1 for a, b in pairwise(levels)] if has_returns else []
    mean, deviation, downside = _moments(returns)
    root = math.sqrt(periods_per_year)
    drawdown = 100 * curve.worst
    cagr = _cagr(curve)
    length = None
    if curve.worst_start_ns is not None:
        end = curve.worst_end_ns if curve.worst_end_ns is not None else curve.last_ns
        length = (end - curve.worst_start_ns) / DAY_NS
    total = trades.won + trades.lost
    mean_equity = math.fsum(levels) / len(levels)
    return Metrics(
        initial_equity=curve.initial,
        final_equity=curve.final,
        net_profit=curve.final - curve.initial,
        total_return_pct=100 * (curve.final / curve.initial - 1) if curve.initial else 0.0,
        cagr_pct=cagr,
        volatility_pct=None if deviation is None else 100 * deviation * root,
        sharpe_ratio=_ratio(mean, deviation, root),
        sortino_ratio=_ratio(mean, downside, root),
        calmar_ratio=None if cagr is None or not drawdown else cagr / -drawdown,
        max_drawdown_pct=drawdown,
        max_drawdown_start_ns=curve.worst_start_ns,
        max_drawdown_trough_ns=curve.worst_trough_ns,
        max_drawdown_end_ns=curve.worst_end_ns,
        max_drawdown_length_days=length,
        total_trades=trades.count,
        winning_trades=trades.wins,
        losing_trades=trades.losses,
        long_trades=trades.longs,
        short_trades=trades.count - trades.longs,
        win_rate=_share(100 * trades.wins, trades.count),
        profit_factor=float(trades.won / -trades.lost) if trades.lost else None,
        expectancy=float(total / trades.count) if trades.count else None,
        average_win=float(trades.won / trades.wins) if trades.wins else None,
        average_loss=float(trades.lost / trades.losses) if trades.losses else None,
        best_trade=None if trades.best is None else float(trades.best),
        worst_trade=None if trades.worst is None else float(trades.worst),
        average_trade_duration_s=_share(trades.duration_ns / 1e9, trades.count),
        exposure_pct=_share(100 * curve.exposed, curve.marks),
        turnover=float(trades.traded) / mean_equity if mean_equity > 0 else None,
        total_fees=float(trades.fees),
        total_slippage=float(trades.slippage),
        total_dividends=float(dividends),
        fills=trades.fills,
        days=len(curve.daily),
    )


def _cagr(curve: EquityFold) -> float | None:
    years = (curve.last_ns - curve.start_ns) / _YEAR_NS
    if curve.initial <= 0 or curve.final <= 0 or years * 365.25 < 1:
        return None
    try:
        growth: float = (curve.final / curve.initial) ** (1 / years)
    except OverflowError:
        # A gain of a few days, compounded over a year, may leave float64.
        return None
    return 100 * (growth - 1)


def _moments(returns: list[float]) -> tuple[float | None, float | None, float | None]:
    """Return mean, sample deviation and downside deviation of the daily returns, None of one."""
    n = len(returns)
    if n < 2:  # one day's ratio to itself says nothing but its sign
        return None, None, None
    mean = math.fsum(returns) / n
    downside = _root(math.fsum(min(r, 0.0) ** 2 for r in returns) / n)
    return mean, _root(math.fsum((r - mean) ** 2 for r in returns) / (n - 1)), downside


def _root(variance: float) -> float:
    deviation = math.sqrt(variance)
    return deviation if deviation > _ROUNDING_NOISE else 0.0


def _ratio(mean: float | None, deviation: float | None, root: float) -> float | None:
    return mean / deviation * root if mean is not None and deviation else None


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
