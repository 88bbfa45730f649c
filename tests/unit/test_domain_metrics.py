"""Every metric against a case that can be worked out by hand; the sums stand beside the numbers."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.domain.metrics import (
    DAY_NS,
    ClosedTrade,
    EquityFold,
    Metrics,
    TradeFold,
    compute,
)
from schemas.columns import EquityColumns, Ints
from schemas.enums import LiquiditySide, Side
from schemas.order_events import Fill

NS = 1_000_000_000
YEAR_NS = 365 * DAY_NS + DAY_NS // 4
ONE = Decimal(1)

Mark = tuple[int, float, float]
"""Time in ns, equity, gross exposure."""


def buy(quantity: str, price: str, **terms: str) -> Fill:
    return _fill(Side.BUY, quantity, price, **terms)


def sell(quantity: str, price: str, **terms: str) -> Fill:
    return _fill(Side.SELL, quantity, price, **terms)


def _fill(
    side: Side,
    quantity: str,
    price: str,
    *,
    at_s: str = "0",
    fee: str = "0",
    reference: str = "",
    strategy: str = "s",
    instrument: str = "X",
) -> Fill:
    return Fill(
        "e",
        int(at_s) * NS,
        "o",
        "c",
        "paper",
        strategy,
        "o",
        instrument,
        "v",
        trade_id="t",
        side=side,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        currency="USD",
        liquidity_side=LiquiditySide.TAKER,
        reference_price=Decimal(reference or price),
        leaves_quantity=Decimal(0),
    )


def fold(*fills: Fill, multiplier: Decimal = ONE) -> tuple[TradeFold, list[ClosedTrade]]:
    trades: list[ClosedTrade] = []
    folded = TradeFold(trades.append)
    for fill in fills:
        folded.apply(fill, multiplier)
    return folded, trades


def utc_day(ts: Ints) -> Ints:
    return ts // DAY_NS


def table(marks: list[Mark]) -> EquityColumns:
    ts = np.array([mark[0] for mark in marks], np.int64)
    n = len(ts)
    zeros = np.zeros(n)
    return EquityColumns(
        pos=np.arange(n),
        ts=ts,
        instrument=np.zeros(n, np.int32),
        source=np.zeros(n, np.int32),
        seq=np.arange(n),
        equity=np.array([mark[1] for mark in marks]),
        cash=zeros,
        gross=np.array([mark[2] for mark in marks]),
        net=zeros,
        drawdown=zeros,
    )


def curve(initial: float, marks: list[Mark], start_ns: int = 0) -> EquityFold:
    folded = EquityFold(initial, start_ns, utc_day)
    folded.apply(table(marks))
    return folded


def daily(initial: float, *levels: float) -> EquityFold:
    """Return a curve with one mark at the end of each day."""
    return curve(initial, [((i + 1) * DAY_NS, level, 0.0) for i, level in enumerate(levels)])


def of(equity: EquityFold, *fills: Fill) -> Metrics:
    return compute(equity, fold(*fills)[0])


# ---- return and ratios


def test_return_and_profit_are_of_the_last_equity_against_the_first() -> None:
    metrics = of(daily(100.0, 110.0, 99.0, 118.8))
    assert (metrics.initial_equity, metrics.final_equity) == (100.0, 118.8)
    assert metrics.net_profit == pytest.approx(18.8)
    assert metrics.total_return_pct == pytest.approx(18.8)
    assert metrics.days == 3


def test_ratios_of_three_days_as_the_document_works_them_out() -> None:
    # r = 0.1, -0.1, 0.2; mean = 0.2 / 3; deviations 0.1/3, -0.5/3, 0.4/3: their squares sum to
    # 0.42 / 9, so s² = 0.42 / 18 = 0.07 / 3. Downside: d² = 0.01 / 3. 252 days a year.
    metrics = of(daily(100.0, 110.0, 99.0, 118.8))
    assert metrics.volatility_pct == pytest.approx(100 * math.sqrt(0.07 / 3) * math.sqrt(252))
    assert metrics.volatility_pct == pytest.approx(242.49, abs=0.005)
    # 0.0666667 / 0.1527525 = 0.4364358; times 15.8745079 = 6.9282032 = 4 √3.
    assert metrics.sharpe_ratio == pytest.approx(4 * math.sqrt(3))
    # 0.0666667 / 0.0577350 = 1.1547005; times 15.8745079 = 18.3303028 = √336.
    assert metrics.sortino_ratio == pytest.approx(math.sqrt(336))


@pytest.mark.parametrize("level", [0.0, -100.0])
def test_equity_that_goes_through_nothing_has_no_ratios(level: float) -> None:
    metrics = of(daily(100.0, level, 50.0, 110.0))
    assert metrics.volatility_pct is metrics.sharpe_ratio is metrics.sortino_ratio is None
    assert metrics.total_return_pct == pytest.approx(10.0)
    # What ends there came from something.
    assert of(daily(100.0, 50.0, level)).volatility_pct is not None


def test_annual_growth_over_two_years_of_365_and_a_quarter_days() -> None:
    # 100 to 121 in two years: 1.1² = 1.21.
    metrics = of(curve(100.0, [(2 * YEAR_NS, 121.0, 0.0)]))
    assert metrics.cagr_pct == pytest.approx(10.0)


def test_annual_growth_counts_from_the_start_of_the_run_not_from_the_first_mark() -> None:
    metrics = of(curve(100.0, [(3 * YEAR_NS, 90.0, 0.0), (4 * YEAR_NS, 50.0, 0.0)], 3 * YEAR_NS))
    assert metrics.cagr_pct == pytest.approx(-50.0)


def test_annual_growth_needs_a_day_and_something_left() -> None:
    assert of(curve(100.0, [(DAY_NS - 1, 101.0, 0.0)])).cagr_pct is None
    assert of(curve(100.0, [(DAY_NS, 101.0, 0.0)])).cagr_pct is not None
    assert of(curve(100.0, [(YEAR_NS, 0.0, 0.0)])).cagr_pct is None
    assert of(curve(100.0, [(YEAR_NS, -5.0, 0.0)])).cagr_pct is None


def test_annual_growth_beyond_float64_has_no_value() -> None:
    assert of(curve(1.0, [(DAY_NS, 1e9, 0.0)])).cagr_pct is None


def test_calmar_is_annual_growth_over_the_deepest_fall() -> None:
    # Peak 125, trough 100: a fall of 20 %. One year, 100 to 110: growth of 10 %. 10 / 20 = 0.5.
    year = [(DAY_NS, 125.0, 0.0), (2 * DAY_NS, 100.0, 0.0), (YEAR_NS, 110.0, 0.0)]
    metrics = of(curve(100.0, [*year]))
    assert metrics.max_drawdown_pct == pytest.approx(-20.0)
    assert metrics.calmar_ratio == pytest.approx(0.5)


def test_ratios_without_a_denominator_have_no_value() -> None:
    rising = of(daily(100.0, 110.0, 121.0))
    assert rising.sortino_ratio is None  # no day fell
    assert rising.calmar_ratio is None
    assert rising.sharpe_ratio is None  # 10 % twice: no deviation but rounding
    assert rising.volatility_pct == 0.0
    single = of(daily(100.0, 90.0))
    assert (single.volatility_pct, single.sharpe_ratio) == (None, None)
    assert single.sortino_ratio is None  # it would be -√252, whatever the day lost


def test_run_without_marks_has_counts_and_nothing_else() -> None:
    metrics = of(EquityFold(100.0, 0, utc_day))
    assert (metrics.days, metrics.final_equity, metrics.total_return_pct) == (0, 100.0, 0.0)
    for name in ("cagr_pct", "volatility_pct", "sharpe_ratio", "sortino_ratio", "calmar_ratio"):
        assert getattr(metrics, name) is None
    for name in ("win_rate", "profit_factor", "expectancy", "average_win", "average_loss"):
        assert getattr(metrics, name) is None
    for name in ("best_trade", "worst_trade", "average_trade_duration_s", "exposure_pct"):
        assert getattr(metrics, name) is None
    for name in ("start_ns", "trough_ns", "end_ns", "length_days"):
        assert getattr(metrics, f"max_drawdown_{name}") is None
    assert metrics.max_drawdown_pct == 0.0
    assert metrics.turnover == 0.0


def test_a_day_ends_with_its_last_mark() -> None:
    # Day 0 has marks at noon (90) and before midnight (110), day 1 at noon (121): r = 0.1, 0.1.
    noon, last = DAY_NS // 2, DAY_NS - 1
    folded = curve(100.0, [(noon, 90.0, 0.0), (last, 110.0, 0.0), (DAY_NS + noon, 121.0, 0.0)])
    assert folded.daily == [110.0, 121.0]
    # A nanosecond later it is the next day's.
    folded = curve(100.0, [(noon, 90.0, 0.0), (DAY_NS + 1, 110.0, 0.0)])
    assert folded.daily == [90.0, 110.0]


def test_settled_equity_replaces_the_last_value_of_the_last_day() -> None:
    folded = daily(100.0, 110.0, 120.0)
    folded.settle(99.0)
    metrics = of(folded)
    assert (metrics.final_equity, folded.daily) == (99.0, [110.0, 99.0])
    assert metrics.max_drawdown_pct == pytest.approx(100 * (99 / 120 - 1))
    assert metrics.days == 2


# ---- drawdown


def test_drawdown_runs_from_its_peak_to_the_first_mark_back_at_it() -> None:
    # 100, 120 (day 2), 90 (day 3), 96, 120 (day 5), 130: 90 / 120 - 1 = -25 %.
    metrics = of(daily(100.0, 100.0, 120.0, 90.0, 96.0, 120.0, 130.0))
    assert metrics.max_drawdown_pct == pytest.approx(-25.0)
    assert metrics.max_drawdown_start_ns == 2 * DAY_NS
    assert metrics.max_drawdown_trough_ns == 3 * DAY_NS
    assert metrics.max_drawdown_end_ns == 5 * DAY_NS
    assert metrics.max_drawdown_length_days == 3.0


def test_drawdown_that_is_not_over_runs_to_the_end_of_the_run() -> None:
    metrics = of(daily(100.0, 120.0, 90.0, 119.0))
    assert metrics.max_drawdown_start_ns == DAY_NS
    assert metrics.max_drawdown_end_ns is None
    assert metrics.max_drawdown_length_days == 2.0


def test_drawdown_from_the_initial_equity_starts_with_the_run() -> None:
    metrics = of(daily(100.0, 80.0, 100.0))
    assert (metrics.max_drawdown_start_ns, metrics.max_drawdown_end_ns) == (0, 2 * DAY_NS)


def test_first_of_two_equal_drawdowns_is_told() -> None:
    metrics = of(daily(100.0, 90.0, 100.0, 90.0, 100.0))
    assert metrics.max_drawdown_trough_ns == DAY_NS
    assert metrics.max_drawdown_end_ns == 2 * DAY_NS


def test_deeper_drawdown_behind_a_higher_peak_takes_over() -> None:
    # 90 / 100 - 1 = -10 %, then 100 / 200 - 1 = -50 % from the peak of day 2.
    metrics = of(daily(100.0, 90.0, 200.0, 100.0))
    assert metrics.max_drawdown_pct == pytest.approx(-50.0)
    assert metrics.max_drawdown_start_ns == 2 * DAY_NS
    assert metrics.max_drawdown_end_ns is None


def test_drawdown_sees_marks_within_a_day() -> None:
    hour = DAY_NS // 24
    metrics = of(curve(100.0, [(hour, 50.0, 0.0), (2 * hour, 100.0, 0.0)]))
    assert metrics.max_drawdown_pct == -50.0
    assert metrics.max_drawdown_length_days == pytest.approx(2 / 24)


# ---- trades


def test_long_trade_earns_the_rise_less_its_fees() -> None:
    # 100 at 10, sold at 12: 200 - 1 - 2 = 197.
    folded, trades = fold(
        buy("100", "10", fee="1", at_s="10"), sell("100", "12", fee="2", at_s="70")
    )
    assert trades == [
        ClosedTrade(
            "s",
            "X",
            Side.BUY,
            Decimal(100),
            10 * NS,
            70 * NS,
            Decimal(10),
            Decimal(12),
            Decimal(197),
            Decimal(3),
            Decimal(0),
        )
    ]
    metrics = compute(daily(1000.0, 1197.0), folded)
    assert (metrics.total_trades, metrics.long_trades, metrics.short_trades) == (1, 1, 0)
    assert (metrics.fills, metrics.total_fees) == (2, 3.0)
    assert metrics.average_trade_duration_s == 60.0


def test_short_trade_earns_the_fall() -> None:
    _, (trade,) = fold(sell("10", "50"), buy("10", "45"))
    assert (trade.side, trade.pnl, trade.quantity) == (Side.SELL, Decimal(50), Decimal(10))


def test_scaled_trade_has_average_prices() -> None:
    # In: 100 at 10 and 300 at 14: 5,200 / 400 = 13. Out: 200 at 15 and 200 at 16: 15.5.
    # 400 (15.5 - 13) = 1,000.
    _, (trade,) = fold(
        buy("100", "10"), buy("300", "14"), sell("200", "15", at_s="5"), sell("200", "16", at_s="9")
    )
    assert (trade.entry_price, trade.exit_price) == (Decimal(13), Decimal("15.5"))
    assert (trade.pnl, trade.quantity, trade.exit_ns) == (Decimal(1000), Decimal(400), 9 * NS)


def test_fill_that_turns_the_position_is_divided_with_its_fee_and_slippage() -> None:
    # 100 long at 10; 300 sold at 12 with fee 3, reference 12.01: a third closes (fee 1), two thirds
    # open a short of 200 (fee 2), which 200 bought at 11 close with 1 more: (12 - 11) 200 - 3.
    # Slippage of the sale: (12 - 12.01) x -300 = 3, a third is the first trade's.
    _, trades = fold(
        buy("100", "10"), sell("300", "12", fee="3", reference="12.01"), buy("200", "11", fee="1")
    )
    assert [(t.side, t.pnl, t.fees, t.slippage) for t in trades] == [
        (Side.BUY, Decimal(199), Decimal(1), Decimal(1)),
        (Side.SELL, Decimal(197), Decimal(3), Decimal(2)),
    ]


def test_trade_statistics_of_two_wins_a_loss_and_one_at_zero() -> None:
    # +100, +50, -30, 0: best 100, worst -30, wins 150 / 2, losses -30 / 1, all 120 / 4.
    prices = ((10, 11), (10, "10.5"), (10, "9.7"), (10, 10))
    fills = [f for a, b in prices for f in (buy("100", str(a)), sell("100", str(b)))]
    metrics = of(daily(1000.0, 1120.0), *fills)
    assert (metrics.total_trades, metrics.winning_trades, metrics.losing_trades) == (4, 2, 1)
    assert metrics.win_rate == 50.0
    assert metrics.profit_factor == 5.0
    assert metrics.expectancy == 30.0
    assert (metrics.average_win, metrics.average_loss) == (75.0, -30.0)
    assert (metrics.best_trade, metrics.worst_trade) == (100.0, -30.0)


def test_only_wins_have_no_profit_factor_and_no_average_loss() -> None:
    metrics = of(daily(100.0, 101.0), buy("1", "10"), sell("1", "11"))
    assert (metrics.win_rate, metrics.average_win) == (100.0, 1.0)
    assert (metrics.profit_factor, metrics.average_loss) == (None, None)
    lost = of(daily(100.0, 99.0), buy("1", "11"), sell("1", "10"))
    assert (lost.win_rate, lost.profit_factor, lost.average_win) == (0.0, 0.0, None)


def test_open_trade_counts_its_fills_and_fees_only() -> None:
    metrics = of(daily(100.0, 101.0), buy("1", "10", fee="0.5"))
    assert (metrics.total_trades, metrics.fills, metrics.total_fees) == (0, 1, 0.5)


def test_trades_of_strategies_and_instruments_are_apart() -> None:
    folded, trades = fold(
        buy("1", "10", strategy="a"),
        sell("1", "11", strategy="b"),
        buy("1", "20", strategy="a", instrument="Y"),
        sell("1", "12", strategy="a"),
        buy("1", "10", strategy="b"),
    )
    assert [(t.strategy_id, t.instrument_id, t.pnl) for t in trades] == [
        ("a", "X", Decimal(2)),
        ("b", "X", Decimal(1)),
    ]
    assert (folded.count, folded.longs) == (2, 1)


def test_multiplier_scales_results_slippage_and_turnover() -> None:
    # One contract of 50: bought at 100 (reference 99), sold at 103: 3 x 50, slippage 1 x 50,
    # traded (100 + 103) x 50 = 10,150 over a mean equity of 10,150.
    folded, (trade,) = fold(
        buy("1", "100", reference="99"), sell("1", "103"), multiplier=Decimal(50)
    )
    metrics = compute(daily(10_150.0, 10_150.0), folded)
    assert trade.pnl == Decimal(150)
    assert metrics.total_slippage == 50.0
    assert metrics.turnover == 1.0


def test_slippage_is_a_cost_for_buys_above_and_sales_below_the_reference() -> None:
    # (10.02 - 10) x 100 + (11.97 - 12) x -100 = 2 + 3.
    fills = buy("100", "10.02", reference="10"), sell("100", "11.97", reference="12")
    assert of(daily(1.0, 1.0), *fills).total_slippage == pytest.approx(5.0)


def test_turnover_is_value_traded_over_the_mean_of_all_levels() -> None:
    # Traded 100 x 10 + 100 x 12 = 2,200; levels 1,000, 1,100, 1,200: mean 1,100.
    metrics = of(daily(1000.0, 1100.0, 1200.0), buy("100", "10"), sell("100", "12"))
    assert metrics.turnover == pytest.approx(2.0)
    assert of(daily(1.0, -2.0), buy("1", "1")).turnover is None


def test_exposure_is_the_share_of_marks_with_a_position() -> None:
    marks = [(i * NS, 100.0, gross) for i, gross in enumerate((0.0, 50.0, 10.0, 0.0), start=1)]
    assert of(curve(100.0, marks)).exposure_pct == 50.0


def test_dividends_are_told_as_they_were_paid() -> None:
    assert compute(daily(1.0, 1.0), TradeFold(), Decimal("-12.5")).total_dividends == -12.5


def test_split_keeps_the_result_of_an_open_trade() -> None:
    # 100 at 70 become 700 (7:1), worth 10 each; sold at 12: 8,400 - 7,000.
    folded, trades = fold(buy("100", "70"))
    folded.rescale("s", "X", Decimal(700))
    folded.apply(sell("700", "12"), ONE)
    (trade,) = trades
    assert (trade.pnl, trade.quantity) == (Decimal(1400), Decimal(700))
    assert (trade.entry_price, trade.exit_price) == (Decimal(10), Decimal(12))


def test_split_behind_a_partial_exit_rescales_both_sides() -> None:
    # 100 at 70, half sold at 80 (+500); the other 50 become 350 at 10, sold at 11 (+350).
    folded, trades = fold(buy("100", "70"), sell("50", "80"))
    folded.rescale("s", "X", Decimal(350))
    folded.apply(sell("350", "11"), ONE)
    (trade,) = trades
    assert (trade.pnl, trade.quantity) == (Decimal(850), Decimal(700))


def test_open_trade_goes_on_under_a_new_name() -> None:
    folded, trades = fold(buy("10", "70"), buy("5", "20", instrument="Y"))
    folded.rename("s", "X", "Z", NS)
    folded.rename("s", "none", "Z", NS)
    folded.apply(sell("10", "71", instrument="Z"), ONE)
    (trade,) = trades
    assert (trade.instrument_id, trade.pnl, trade.quantity) == ("Z", Decimal(10), Decimal(10))


def test_trades_that_come_under_one_name_are_one() -> None:
    folded, trades = fold(buy("10", "10"), buy("10", "12", instrument="Y"))
    folded.rename("s", "X", "Y", NS)
    folded.apply(sell("20", "13", instrument="Y"), ONE)
    (trade,) = trades
    assert (trade.pnl, trade.entry_price) == (Decimal(40), Decimal(11))


@pytest.mark.parametrize(("old", "new"), [("X", "Y"), ("Y", "X")])
def test_opposite_trades_that_come_under_one_name_close_each_other_at_cost(
    old: str, new: str
) -> None:
    # 10 long at 10 and 4 short at 12: 6 long at 10 are left.
    folded, trades = fold(buy("10", "10"), sell("4", "12", instrument="Y"))
    folded.rename("s", old, new, NS)
    folded.apply(sell("6", "13", instrument=new), ONE)
    (trade,) = trades
    assert (trade.pnl, trade.side, trade.quantity) == (Decimal(18), Side.BUY, Decimal(6))


@pytest.mark.parametrize(("old", "new"), [("X", "Y"), ("Y", "X")])
@pytest.mark.parametrize("exit_price", ["11", "13"])
@pytest.mark.parametrize("is_long", [True, False])
def test_what_the_smaller_of_opposite_trades_had_gained_is_not_lost(
    is_long: bool, exit_price: str, old: str, new: str
) -> None:
    # 10 at 10 on one side; 6 at 12 on the other, of which 2 left a point better or worse (2 or -2),
    # and 4 close at cost. The 6 that are left gain 3 each: 18 of them, times 5, less 4 of fees.
    enter, leave = (buy, sell) if is_long else (sell, buy)
    folded, trades = fold(
        enter("10", "10", fee="1"),
        leave("6", "12", instrument="Y", fee="1"),
        enter("2", exit_price, instrument="Y", fee="1"),
        multiplier=Decimal(5),
    )
    folded.rename("s", old, new, NS)
    assert trades == []
    last = "13" if is_long else "7"
    folded.apply(leave("6", last, instrument=new, fee="1"), Decimal(5))
    (trade,) = trades
    gained = 2 if (exit_price == "11") == is_long else -2
    assert trade.pnl == 5 * (18 + gained) - 4
    assert (trade.side, trade.quantity) == (Side.BUY if is_long else Side.SELL, Decimal(6))
    assert (trade.entry_price, trade.exit_price) == (Decimal(10), Decimal(last))


@pytest.mark.parametrize(("old", "new"), [("X", "Y"), ("Y", "X")])
def test_equal_opposite_trades_end_with_what_their_fills_had_closed(old: str, new: str) -> None:
    # 3 of 7 long at 10 left at 13 (9), 1 of 5 short at 12 at 11 (1); 4 and 4 close at cost.
    folded, trades = fold(
        buy("7", "10", fee="1"),
        sell("3", "13"),
        sell("5", "12", instrument="Y", fee="1"),
        buy("1", "11", instrument="Y"),
    )
    folded.rename("s", old, new, 60 * NS)
    (trade,) = trades
    assert (trade.pnl, trade.side, trade.quantity) == (Decimal(8), Side.BUY, Decimal(3))
    assert (trade.entry_price, trade.exit_price) == (Decimal(10), Decimal(13))
    assert (trade.instrument_id, trade.exit_ns) == (new, 60 * NS)
    assert (folded.count, folded.wins, folded.won) == (1, 1, Decimal(8))


def test_equal_opposite_trades_without_an_exit_are_no_closed_trade() -> None:
    folded, trades = fold(buy("4", "10"), sell("4", "12", instrument="Y"))
    folded.rename("s", "X", "Y", NS)
    folded.apply(buy("1", "30", instrument="Y"), ONE)
    folded.apply(sell("1", "31", instrument="Y"), ONE)
    assert [t.pnl for t in trades] == [Decimal(1)]


def test_gain_is_carried_through_a_second_name() -> None:
    # 1 of 3 short at 12 left at 11 (1), and 2 close against 2 of 6 long at 10. The 4 that are left
    # meet 4 short at 15.
    folded, trades = fold(
        buy("6", "10"),
        sell("3", "12", instrument="Y"),
        buy("1", "11", instrument="Y"),
        sell("4", "15", instrument="Z"),
    )
    folded.rename("s", "X", "Y", NS)
    folded.rename("s", "Y", "Z", 2 * NS)
    (trade,) = trades
    assert (trade.pnl, trade.quantity) == (Decimal(1), Decimal(4))
    assert (trade.entry_price, trade.exit_price) == (Decimal(10), Decimal(10))


def test_position_that_a_split_pays_out_is_no_closed_trade() -> None:
    folded, trades = fold(buy("3", "2"))
    folded.rescale("s", "X", Decimal(0))
    folded.rescale("s", "Y", Decimal(5))  # nothing is open there
    folded.apply(buy("1", "30"), ONE)
    folded.apply(sell("1", "31"), ONE)
    assert [t.pnl for t in trades] == [Decimal(1)]


# ---- against an independent calculation, and for every cut

LEVELS = st.lists(
    st.floats(50.0, 200.0).map(lambda x: round(x, 2)), min_size=3, max_size=40
).filter(lambda levels: np.std(np.diff(levels) / levels[:-1]) > 1e-6)


@given(LEVELS)
def test_ratios_agree_with_numpy(levels: list[float]) -> None:
    metrics = of(daily(levels[0], *levels[1:]))
    equity = np.array(levels)
    r = equity[1:] / equity[:-1] - 1
    assert metrics.volatility_pct == pytest.approx(100 * np.std(r, ddof=1) * np.sqrt(252))
    expected = np.mean(r) / np.std(r, ddof=1) * np.sqrt(252)
    assert metrics.sharpe_ratio == pytest.approx(expected, abs=1e-9)
    downside = np.sqrt(np.mean(np.minimum(r, 0.0) ** 2))
    if downside:
        expected = np.mean(r) / downside * np.sqrt(252)
        assert metrics.sortino_ratio == pytest.approx(expected, abs=1e-9)
    falls = equity / np.maximum.accumulate(equity) - 1
    assert metrics.max_drawdown_pct == pytest.approx(100 * falls.min())


@given(
    st.lists(st.tuples(st.integers(1, DAY_NS), st.floats(1.0, 9.0)), min_size=1, max_size=30),
    st.sets(st.integers(0, 30)),
)
def test_metrics_are_the_same_for_every_cut_of_the_marks(
    steps: list[tuple[int, float]], cuts: set[int]
) -> None:
    ts = np.cumsum([step for step, _ in steps]).tolist()
    marks = [(at, level, level % 2) for at, (_, level) in zip(ts, steps, strict=True)]
    whole = EquityFold(5.0, 0, utc_day)
    whole.apply(table(marks))
    parts = EquityFold(5.0, 0, utc_day)
    for first, last in pairwise(sorted({0, len(marks), *(c for c in cuts if c < len(marks))})):
        parts.apply(table(marks[first:last]))
    parts.apply(EquityColumns.empty())
    assert msgspec.structs.asdict(of(whole)) == msgspec.structs.asdict(of(parts))
