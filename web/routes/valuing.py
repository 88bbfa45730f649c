"""Positions and accounts of the read models as answers, marked at the last price.

An account's figures are the sums over the very positions that are answered, closed ones included,
at the same prices: a snapshot beside positions of this moment would contradict them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from schemas.portfolio import EquityMark, PositionChanged
from schemas.values import ONE, ZERO, from_float, money, rounded, tidy
from web.answers import portfolio as answers
from web.context import Context
from web.routes.standing import buying_power, daily_pnl, standing_of
from web.times import format_time
from web.views.configured import configured
from web.views.models import Views


class _Worth(NamedTuple):
    """What one position is worth in its currency; at its cost where there is no price."""

    price: Decimal | None
    value: Decimal
    profit: Decimal


class _Sums:
    """Sums over positions, in ``base``; what has no exchange rate counts nothing, as in the stage.

    ``cash`` is by currency, and what the positions brought or took; ``missing`` names instruments
    without a price and currencies without a rate.
    """

    def __init__(self, views: Views, items: list[PositionChanged], base: str) -> None:
        self._views, self._base = views, base
        self.realized = self.unrealized = self.fees = self.dividends = ZERO
        self.cash: dict[str, Decimal] = {}
        self.missing: dict[str, None] = {}
        self._values: dict[str, Decimal] = {}
        for item in items:
            self._add(item)
        for share in dict.fromkeys((item.account_id, item.strategy_id) for item in items):
            for currency, paid in views.portfolio.dividends.of(*share).items():
                self.dividends += self._in_base(paid, currency)
                self._book(currency, paid)

    def _add(self, item: PositionChanged) -> None:
        worth = _worth(self._views, item)
        realized, fees = rounded(item.realized_pnl), rounded(item.fees)
        self.realized += self._in_base(realized, item.currency)
        self.fees += self._in_base(fees, item.currency)
        self._book(item.currency, realized - fees - (worth.value - worth.profit))
        if not item.quantity:
            return
        if worth.price is None:
            self.missing[item.instrument_id] = None
        self.unrealized += self._in_base(worth.profit, item.currency)
        value = self._in_base(worth.value, item.currency)
        self._values[item.instrument_id] = self._values.get(item.instrument_id, ZERO) + value

    def _book(self, currency: str, amount: Decimal) -> None:
        self.cash[currency] = self.cash.get(currency, ZERO) + amount

    def _in_base(self, amount: Decimal, currency: str) -> Decimal:
        rate = self._views.portfolio.rate(currency, self._base)
        if rate is None:
            self.missing[currency] = None
            return ZERO
        return rounded(amount * rate)

    def explains(self, mark: EquityMark, start: Decimal) -> bool:
        """Return whether a mark's cash is what the positions brought and took since ``start``.

        Cash in several currencies is not compared, for the rates at the mark are not known.
        """
        cash = start + self.cash.get(self._base, ZERO)
        return set(self.cash) - {self._base} != set() or tidy(mark.cash - float(cash)) == 0

    @property
    def gross(self) -> Decimal:
        """Return the exposure without signs, each instrument net over strategies."""
        return sum((abs(value) for value in self._values.values()), ZERO)

    @property
    def net(self) -> Decimal:
        """Return the exposure with signs."""
        return sum(self._values.values(), ZERO)

    @property
    def booked(self) -> Decimal:
        """Return what is gained for good: realized results and dividends less fees."""
        return self.realized + self.dividends - self.fees

    @property
    def profit(self) -> Decimal:
        """Return all that was gained: ``booked`` and the open result."""
        return self.booked + self.unrealized


async def account_answer(context: Context, account_id: str) -> answers.Account:
    """Return an account, summed over its positions, as it stands.

    Raises ProblemError (503) for a stored run while the database is away.
    """
    views = context.views
    answer, is_summed = _summed(views, account_id, "")
    standing = await standing_of(context, account_id, answer.as_of_ns)
    answer.daily_pnl = daily_pnl(views, answer, standing)
    snapshot = views.portfolio.snapshots.get((account_id, ""))
    if snapshot is not None:
        answer.snapshot_ns = snapshot.ts_event_ns
        answer.snapshot_at = format_time(snapshot.ts_event_ns)
    power = buying_power(views, answer, standing) if is_summed else None
    if power is not None:
        answer.buying_power = rounded(power)
    elif snapshot is not None:
        answer.buying_power = snapshot.buying_power
    return answer


def share_answer(views: Views, account_id: str, strategy_id: str) -> answers.Account:
    """Return a strategy's share of an account, summed over its positions."""
    return _summed(views, account_id, strategy_id)[0]


def _summed(views: Views, account_id: str, strategy_id: str) -> tuple[answers.Account, bool]:
    """Return the sums over positions, and whether equity and exposures are of them, not a mark."""
    portfolio = views.portfolio
    base = _base_currency(views, account_id)
    of_account = portfolio.positions_of(account_id)
    items = [p for p in of_account if strategy_id in ("", p.strategy_id)]
    mark = portfolio.marks.get((account_id, strategy_id))
    as_of_ns = _as_of(views, account_id, of_account)
    answer = answers.Account(account_id, strategy_id, base)
    answer.as_of_ns, answer.as_of = as_of_ns, format_time(as_of_ns) if as_of_ns else None
    if base is None:
        return answer, False
    sums = _Sums(views, items, base)
    answer.realized_pnl, answer.fees, answer.dividends = sums.realized, sums.fees, sums.dividends
    answer.missing_prices = list(sums.missing)
    answer.unrealized_pnl = sums.unrealized
    answer.gross_exposure, answer.net_exposure = sums.gross, sums.net
    initial = initial_cash(views, account_id)
    start = ZERO if strategy_id else initial
    if start is not None:
        answer.equity = start + sums.profit
    is_paid_known = portfolio.dividends.are_known(account_id, strategy_id)
    if not is_paid_known:
        # Without what was paid the sums say too little.
        answer.dividends = answer.equity = None
    is_summed = answer.equity is not None
    if mark is not None and _is_newer(mark, items):
        is_explained = portfolio.dividends.is_whole or start is None or sums.explains(mark, start)
        if start is not None and not (is_paid_known and is_explained):
            _as_marked(answer, mark)
            is_summed = False
            answer.dividends = None
            if sums.missing:
                answer.unrealized_pnl = None
            sums.cash = {base: money(mark.cash) - start}
        elif sums.missing:
            # The stage had prices that are not at hand here, as in a run whose market data was left
            # out of its log. Its mark is of these very positions.
            _as_marked(answer, mark)
            is_summed = False
            if start is not None:
                answer.unrealized_pnl = money(mark.equity) - start - sums.booked
            answer.missing_prices = []
    if not strategy_id and initial is not None:
        sums.cash[base] = sums.cash.get(base, ZERO) + initial
        answer.cash = {name: amount for name, amount in sums.cash.items() if amount or name == base}
        answer.initial_equity = initial
    _add_peak(views, answer, mark, initial)
    return answer, is_summed


def _as_of(views: Views, account_id: str, items: list[PositionChanged]) -> int | None:
    """Return the newest instant (ns) that an account's figures take in; None if there is none."""
    found = [item.ts_event_ns for item in items]
    for item in items:
        last = views.market.last_price(item.instrument_id) if item.quantity else None
        if last is not None:
            found.append(last[1])
    portfolio, share = views.portfolio, (account_id, "")
    stated = (portfolio.marks.get(share), portfolio.snapshots.get(share))
    found.extend(record.ts_event_ns for record in stated if record is not None)
    return max(found, default=None)


def _is_newer(mark: EquityMark, items: list[PositionChanged]) -> bool:
    """Return whether a mark has all changes of positions: it counts those of its own instant."""
    return all(item.ts_event_ns <= mark.ts_event_ns for item in items)


def _as_marked(answer: answers.Account, mark: EquityMark) -> None:
    answer.equity = money(mark.equity)
    answer.gross_exposure = money(mark.gross_exposure)
    answer.net_exposure = money(mark.net_exposure)
    answer.as_of_ns, answer.as_of = mark.ts_event_ns, format_time(mark.ts_event_ns)


def _add_peak(
    views: Views, answer: answers.Account, mark: EquityMark | None, initial: Decimal | None
) -> None:
    """Add the peak and how far below it the equity is.

    A strategy's results begin at 0, so its peak is none to divide by: what it may lose is its
    capital, or where it has none of its own the money that its account began with.
    """
    if answer.equity is None:
        return
    peaks = [answer.equity]
    if answer.strategy_id:
        base = share_base(views, answer.account_id, answer.strategy_id)
        peaks.append(ZERO)
        if mark is not None:
            peaks.append(money(mark.equity - mark.drawdown))
    else:
        base = ZERO
        if initial is not None:
            peaks.append(initial)
        snapshot = views.portfolio.snapshots.get((answer.account_id, ""))
        if snapshot is not None:
            peaks.append(money(float(snapshot.peak_equity)))
        if mark is not None and mark.drawdown > -1:
            # A mark says how far below the peak it is, so the marks before it need not be known.
            peaks.append(money(mark.equity / (1 + mark.drawdown)))
    answer.peak_equity = peak = max(peaks)
    if base is not None and base + peak > 0:
        answer.drawdown_pct = float(100 * (answer.equity - peak) / (base + peak))


def share_base(views: Views, account_id: str, strategy_id: str) -> Decimal | None:
    """Return the money that a strategy's results are measured by; None if it is not known.

    That is its capital, or without one what its account began with. Orders of another account may
    bear the strategy's name: they have none of its capital.
    """
    strategy = configured(views.system.manifest).strategy(strategy_id)
    if strategy is not None and strategy.account_id == account_id and strategy.capital:
        return strategy.capital
    return initial_cash(views, account_id)


def initial_cash(views: Views, account_id: str) -> Decimal | None:
    """Return what an account began with; None if neither manifest nor a snapshot tells."""
    account = configured(views.system.manifest).account(account_id)
    if account is not None:
        return account.cash
    known = views.portfolio.snapshots.get((account_id, ""))
    if known is None:
        return None
    # A snapshot's realized result has its dividends in it.
    return rounded(known.equity - known.realized_pnl - known.unrealized_pnl + known.fees)


def _base_currency(views: Views, account_id: str) -> str | None:
    snapshot = views.portfolio.snapshots.get((account_id, ""))
    if snapshot is not None:
        return snapshot.base_currency
    account = configured(views.system.manifest).account(account_id)
    return account.base_currency if account is not None else None


def _worth(views: Views, item: PositionChanged) -> _Worth:
    """Return a position's worth and open result, to 12 decimal places."""
    last = views.market.last_price(item.instrument_id)
    instrument = views.market.instruments.get(item.instrument_id)
    size = item.quantity * (instrument.multiplier if instrument is not None else ONE)
    if last is None or instrument is None:
        return _Worth(None, rounded(size * item.average_price), ZERO)
    price = from_float(last[0])
    return _Worth(price, rounded(size * price), rounded(size * (price - item.average_price)))


def position_answer(views: Views, item: PositionChanged) -> answers.Position:
    """Return one position, marked at the last price."""
    worth = _worth(views, item)
    is_marked = worth.price is not None or not item.quantity
    return answers.Position(
        item.account_id,
        item.strategy_id,
        item.instrument_id,
        views.market.symbol_of(item.instrument_id),
        item.quantity,
        item.average_price,
        worth.price,
        worth.value if is_marked else None,
        worth.profit if is_marked else None,
        item.realized_pnl,
        item.realized_pnl_fifo,
        item.fees,
        item.currency,
    )
