"""Indicators: what they are by hand and by definition, and that no cut or restart shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.domain import indicators
from agents.domain.indicators import (
    ATR,
    EMA,
    RSI,
    SMA,
    VWAP,
    Bollinger,
    Donchian,
    Indicator,
    NotRescalableError,
    RollingMax,
    RollingMedian,
    RollingMin,
    RollingStd,
    ZScore,
)
from schemas.columns import Floats, Ints
from schemas.errors import ConfigError, DataError
from tests.unit import indicator_reference as reference
from tests.unit.indicator_reference import Outcome, over_windows

some = settings(max_examples=40, derandomize=True, database=None)


class Bars(NamedTuple):
    """Consecutive bars as int64 columns."""

    high: Ints
    low: Ints
    close: Ints
    volume: Ints

    def part(self, start: int, stop: int) -> Bars:
        """Return the bars from ``start`` to ``stop``."""
        return Bars(*(column[start:stop] for column in self))


class Case(NamedTuple):
    """An indicator: how it is made, which columns it reads, and what it should say."""

    make: Callable[[], Any]
    reads: tuple[str, ...]
    expected: Callable[[dict[str, list[int]]], list[Outcome]]

    def feed(self, indicator: Any, bars: Bars) -> list[Floats]:
        """Return the outputs of ``indicator`` after each of ``bars``."""
        outputs = indicator.update(*(getattr(bars, name) for name in self.reads))
        return list(outputs) if isinstance(outputs, tuple) else [outputs]


CLOSE = ("close",)
CASES: dict[str, Case] = {
    "sma": Case(lambda: SMA(4), CLOSE, lambda t: [over_windows(t["close"], 4, reference.mean)]),
    "sma of 1": Case(lambda: SMA(1), CLOSE, lambda t: [over_windows(t["close"], 1, max)]),
    "ema": Case(lambda: EMA(4), CLOSE, lambda t: [reference.ema(t["close"], 4)]),
    "ema of 1": Case(lambda: EMA(1), CLOSE, lambda t: [over_windows(t["close"], 1, max)]),
    "std": Case(
        lambda: RollingStd(5), CLOSE, lambda t: [over_windows(t["close"], 5, reference.deviation)]
    ),
    "std of a sample": Case(
        lambda: RollingStd(3, ddof=1),
        CLOSE,
        lambda t: [over_windows(t["close"], 3, lambda window: reference.deviation(window, 1))],
    ),
    "zscore": Case(
        lambda: ZScore(5), CLOSE, lambda t: [over_windows(t["close"], 5, reference.zscore)]
    ),
    "zscore of a sample": Case(
        lambda: ZScore(3, ddof=1),
        CLOSE,
        lambda t: [over_windows(t["close"], 3, lambda window: reference.zscore(window, 1))],
    ),
    "rsi": Case(lambda: RSI(4), CLOSE, lambda t: [reference.rsi(t["close"], 4)]),
    "rsi of 1": Case(lambda: RSI(1), CLOSE, lambda t: [reference.rsi(t["close"], 1)]),
    "atr": Case(
        lambda: ATR(4),
        ("high", "low", "close"),
        lambda t: [reference.atr(t["high"], t["low"], t["close"], 4)],
    ),
    "bollinger": Case(
        lambda: Bollinger(4, 2.5), CLOSE, lambda t: reference.bollinger(t["close"], 4, 2.5)
    ),
    "donchian": Case(
        lambda: Donchian(3),
        ("high", "low"),
        lambda t: reference.donchian(t["high"], t["low"], 3, True),
    ),
    "donchian before the present bar": Case(
        lambda: Donchian(3, include_current=False),
        ("high", "low"),
        lambda t: reference.donchian(t["high"], t["low"], 3, False),
    ),
    "vwap": Case(VWAP, ("close", "volume"), lambda t: [reference.vwap(t["close"], t["volume"])]),
    "min": Case(lambda: RollingMin(4), CLOSE, lambda t: [over_windows(t["close"], 4, min)]),
    "max": Case(lambda: RollingMax(4), CLOSE, lambda t: [over_windows(t["close"], 4, max)]),
    "median": Case(lambda: RollingMedian(5), CLOSE, lambda t: [reference.median(t["close"], 5)]),
    "median of an even number": Case(
        lambda: RollingMedian(4), CLOSE, lambda t: [reference.median(t["close"], 4)]
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def ints(*values: int) -> Ints:
    """Return an int64 column."""
    return np.array(values, np.int64)


@st.composite
def series(draw: st.DrawFn) -> Bars:
    """Return bars whose closes are small, as large as prices are, or too far apart for int64."""
    level = draw(st.sampled_from((0, 10_000, 10_000_000, -500)))
    spread = draw(st.sampled_from((1, 30, 10**6, 2**34)))
    close = draw(st.lists(st.integers(level - spread, level + spread), max_size=40))
    size = len(close)
    wicks = st.lists(st.integers(0, spread), min_size=size, max_size=size)
    most = draw(st.sampled_from((0, 3, 10**6, 10**12)))
    volumes = st.lists(st.integers(0, most), min_size=size, max_size=size)
    closes = ints(*close)
    return Bars(
        closes + ints(*draw(wicks)), closes - ints(*draw(wicks)), closes, ints(*draw(volumes))
    )


cuts = st.lists(st.integers(0, 40), max_size=8)


def pieces(bars: Bars, cut_at: Sequence[int]) -> list[Bars]:
    """Return ``bars`` cut at the given places, empty pieces among them."""
    edges = [0, *sorted(min(at, len(bars.close)) for at in cut_at), len(bars.close)]
    return [bars.part(start, stop) for start, stop in pairwise(edges)]


def joined(parts: Sequence[list[Floats]]) -> list[bytes]:
    """Return the bits of each output, its parts one after another."""
    return [np.concatenate(output).tobytes() for output in zip(*parts, strict=True)]


def restarted(case: Case, indicator: Any) -> Any:
    """Return a new indicator with the state of ``indicator``, as it comes back from a disk."""
    state = msgspec.json.decode(msgspec.json.encode(indicator.snapshot()))
    successor = case.make()
    successor.restore(state)
    return successor


# ---- by hand


def test_sma_is_the_mean_of_the_window() -> None:
    found = SMA(3).update(ints(1, 2, 6, 7))

    np.testing.assert_array_equal(found, [np.nan, np.nan, (1 + 2 + 6) / 3, (2 + 6 + 7) / 3])


def test_ema_starts_at_the_mean_and_moves_by_alpha() -> None:
    found = EMA(3).update(ints(2, 4, 6, 8, 2))

    seed = (2 + 4 + 6) / 3
    second = seed + 2 / (3 + 1) * (8 - seed)
    third = second + 2 / (3 + 1) * (2 - second)
    np.testing.assert_array_equal(found, [np.nan, np.nan, seed, second, third])
    assert (seed, second, third) == (4, 6, 4)


def test_std_is_the_root_of_the_mean_squared_distance() -> None:
    population = RollingStd(4).update(ints(2, 4, 4, 6))[-1]
    sample = RollingStd(4, ddof=1).update(ints(2, 4, 4, 6))[-1]

    squares = (2 - 4) ** 2 + 0 + 0 + (6 - 4) ** 2
    assert population == math.sqrt(squares / 4)
    assert sample == math.sqrt(squares / 3)


def test_zscore_is_the_distance_from_the_mean_in_deviations() -> None:
    found = ZScore(4).update(ints(2, 4, 4, 6, 4))

    mean, deviation = 4, math.sqrt(8 / 4)
    assert found[3] == (6 - mean) / deviation
    assert found[4] == (4 - 4.5) / math.sqrt(3 * 0.5**2 / 4 + 1.5**2 / 4)


def test_rsi_compares_smoothed_gains_with_smoothed_losses() -> None:
    found = RSI(2).update(ints(10, 13, 12, 12, 16))

    # Changes +3, -1, 0, +4.
    gain, loss = (3 + 0) / 2, (0 + 1) / 2
    assert found[2] == 100 - 100 / (1 + gain / loss) == 75
    gain, loss = (gain * 1 + 0) / 2, (loss * 1 + 0) / 2
    assert found[3] == 100 - 100 / (1 + gain / loss) == 75
    gain, loss = (gain * 1 + 4) / 2, (loss * 1 + 0) / 2
    assert found[4] == 100 - 100 / (1 + gain / loss) == 95
    assert np.isnan(found[:2]).all()


def test_rsi_is_100_without_losses_and_0_without_gains() -> None:
    assert RSI(2).update(ints(1, 2, 3, 4))[-1] == 100
    assert RSI(2).update(ints(4, 3, 2, 1))[-1] == 0


def test_atr_takes_gaps_from_the_last_close_into_the_range() -> None:
    high, low, close = ints(12, 20, 19), ints(10, 18, 11), ints(11, 19, 12)

    found = ATR(2).update(high, low, close)

    first, second, third = 12 - 10, 20 - 11, 19 - 11
    assert found[1] == (first + second) / 2
    assert found[2] == ((first + second) / 2 * 1 + third) / 2
    assert np.isnan(found[0])


def test_bollinger_bands_lie_k_deviations_from_the_mean() -> None:
    middle, upper, lower = (band[-1] for band in Bollinger(4, 1.5).update(ints(2, 4, 4, 6)))

    assert middle == 4
    assert upper == 4 + 1.5 * math.sqrt(2)
    assert lower == 4 - 1.5 * math.sqrt(2)


def test_donchian_channel_is_highest_high_and_lowest_low() -> None:
    high, low = ints(5, 9, 7, 6), ints(3, 4, 2, 5)

    upper, lower = Donchian(2).update(high, low)
    before_upper, before_lower = Donchian(2, include_current=False).update(high, low)

    np.testing.assert_array_equal(upper, [np.nan, 9, 9, 7])
    np.testing.assert_array_equal(lower, [np.nan, 3, 2, 2])
    np.testing.assert_array_equal(before_upper, [np.nan, np.nan, 9, 9])
    np.testing.assert_array_equal(before_lower, [np.nan, np.nan, 3, 2])


def test_vwap_weighs_prices_by_volume_until_it_is_reset() -> None:
    indicator = VWAP()

    found = indicator.update(ints(10, 20, 30), ints(0, 1, 3))
    indicator.reset()

    np.testing.assert_array_equal(found, [np.nan, 20, (20 * 1 + 30 * 3) / (1 + 3)])
    assert indicator.update(ints(7), ints(5)).tolist() == [7]


def test_min_max_and_median_are_picked_from_the_window() -> None:
    values = ints(5, 1, 4, 2)

    np.testing.assert_array_equal(RollingMin(3).update(values), [np.nan, np.nan, 1, 1])
    np.testing.assert_array_equal(RollingMax(3).update(values), [np.nan, np.nan, 5, 4])
    np.testing.assert_array_equal(RollingMedian(3).update(values), [np.nan, np.nan, 4, 2])
    assert RollingMedian(4).update(values)[-1] == (2 + 4) / 2


# ---- by definition, and for every cut


def test_every_indicator_has_a_case() -> None:
    public = {getattr(indicators, name) for name in indicators.__all__}

    assert {type(case.make()) for case in CASES.values()} == public - {
        Indicator,
        NotRescalableError,
    }


@each_case
@some
@given(bars=series())
def test_outputs_agree_with_the_definition(case: Case, bars: Bars) -> None:
    table = {name: column.tolist() for name, column in bars._asdict().items()}

    found = case.feed(case.make(), bars)

    expected = [np.array(column, np.float64) for column in case.expected(table)]
    assert len(found) == len(expected)
    # An average of large values that cancel is as exact as the values are.
    scale = float(max(np.abs(bars.high).max(initial=0), np.abs(bars.low).max(initial=0)))
    for output, wanted in zip(found, expected, strict=True):
        assert output.dtype == np.float64
        np.testing.assert_array_equal(np.isnan(output), np.isnan(wanted))
        np.testing.assert_allclose(output, wanted, rtol=1e-9, atol=1e-14 * scale + 1e-12)


@each_case
@some
@given(bars=series(), cut_at=cuts)
def test_cut_never_shows(case: Case, bars: Bars, cut_at: list[int]) -> None:
    indicator = case.make()

    parts = [case.feed(indicator, piece) for piece in pieces(bars, cut_at)]

    assert joined(parts) == joined([case.feed(case.make(), bars)])


@each_case
@some
@given(bars=series(), cut_at=cuts)
def test_restart_never_shows(case: Case, bars: Bars, cut_at: list[int]) -> None:
    indicator, parts = case.make(), []
    for piece in pieces(bars, cut_at):
        indicator = restarted(case, indicator)
        parts.append(case.feed(indicator, piece))

    assert joined(parts) == joined([case.feed(case.make(), bars)])
    assert restarted(case, indicator).snapshot() == indicator.snapshot()


@each_case
@some
@given(bars=series(), cut_at=st.integers(0, 40))
def test_split_shows_in_nothing_but_the_scale(case: Case, bars: Bars, cut_at: int) -> None:
    """Two for one: even prices, halved from the split on, are as if they had been halved before."""
    after = bars._replace(volume=2 * bars.volume)
    before = Bars(2 * bars.high, 2 * bars.low, 2 * bars.close, bars.volume)
    indicator = case.make()

    case.feed(indicator, before.part(0, cut_at))
    indicator.rescale(Decimal(2))
    found = case.feed(indicator, after.part(cut_at, len(bars.close)))

    whole = case.feed(case.make(), after)
    assert joined([found]) == joined([[output[cut_at:] for output in whole]])


def test_one_for_two_doubles_what_is_held() -> None:
    average, window = EMA(2), SMA(2)
    average.update(ints(10, 20))
    window.update(ints(10, 20))

    average.rescale(Decimal("0.5"))
    window.rescale(Decimal("0.5"))

    assert average.update(ints(30)).tolist() == [30]
    assert window.update(ints(60)).tolist() == [(40 + 60) / 2]


@each_case
@pytest.mark.parametrize("size", [1, 1000, 65_536])
def test_large_batches_say_what_small_ones_say(case: Case, size: int) -> None:
    bars = walk(2000 if size == 1 else 200_000)
    indicator = case.make()

    parts = [
        case.feed(indicator, bars.part(start, start + size))
        for start in range(0, len(bars.close), size)
    ]

    assert joined(parts) == joined([case.feed(case.make(), bars)])


# ---- long runs, constant input


def walk(count: int) -> Bars:
    """Return a random walk around 100,000 on a grid of 0.01, in ticks."""
    rng = np.random.default_rng(20131007)
    close = 10_000_000 + np.cumsum(rng.integers(-20, 21, count))
    reach = rng.integers(0, 15, (2, count))
    return Bars(close + reach[0], close - reach[1], close, rng.integers(0, 500, count))


@pytest.mark.parametrize("n", [2, 20, 500])
def test_std_of_a_million_prices_does_not_drift(n: int) -> None:
    close = walk(1_000_000).close
    close[-2 * n :] = close[-2 * n]
    indicator = RollingStd(n)

    found = np.concatenate(
        [indicator.update(close[at : at + 65_536]) for at in range(0, len(close), 65_536)]
    )

    assert np.isnan(found[: n - 1]).all()
    assert (found[n - 1 :] >= 0).all()
    assert (found[-n:] == 0).all()
    for end in range(n, len(close), 31_337):
        window = close[end - n : end].tolist()
        assert found[end - 1] == pytest.approx(reference.deviation(window), rel=1e-13, abs=0)


def test_averages_of_a_million_prices_do_not_drift() -> None:
    close = walk(1_000_000).close

    simple, exponential = SMA(50).update(close), EMA(9).update(close)

    for end in range(50, len(close), 31_337):
        assert simple[end - 1] == sum(close[end - 50 : end].tolist()) / 50
        # What lies 300 values back weighs less than float64 can show.
        recent = reference.ema(close[max(end - 300, 0) : end].tolist(), 9)[-1]
        assert exponential[end - 1] == pytest.approx(recent, rel=1e-14)


@pytest.mark.parametrize("level", [0, 1, 10_000_000, -7])
def test_constant_input_gives_defined_values(level: int) -> None:
    flat = np.full(1000, level, np.int64)

    for indicator in (SMA(7), EMA(7), RollingMin(7), RollingMax(7), RollingMedian(6)):
        assert set(indicator.update(flat)[6:].tolist()) == {level}
    assert set(RollingStd(7).update(flat)[6:].tolist()) == {0}
    assert set(RollingStd(7, ddof=1).update(flat)[6:].tolist()) == {0}
    assert set(ZScore(7).update(flat)[6:].tolist()) == {0}
    assert set(ATR(7).update(flat, flat, flat)[6:].tolist()) == {0}
    assert set(RSI(7).update(flat)[7:].tolist()) == {100}
    assert {tuple(band[6:].tolist()) for band in Bollinger(7).update(flat)} == {(level,) * 994}
    assert set(VWAP().update(flat, np.ones(1000, np.int64)).tolist()) == {level}


def test_vwap_stays_exact_beyond_int64() -> None:
    price, volume = np.full(500, 10**9 + 1), np.full(500, 10**12)

    found = VWAP().update(price, volume)

    assert set(found.tolist()) == {10**9 + 1}


# ---- form


@each_case
def test_no_values_change_nothing(case: Case) -> None:
    bars = walk(30)
    indicator = case.make()
    case.feed(indicator, bars)
    before = indicator.snapshot()

    outputs = case.feed(indicator, bars.part(0, 0))

    assert [output.tolist() for output in outputs] == [[]] * len(outputs)
    assert indicator.snapshot() == before


@each_case
def test_outputs_are_the_callers_own(case: Case) -> None:
    bars = walk(60)
    indicator = case.make()

    for output in case.feed(indicator, bars.part(0, 30)):
        output[:] = -1

    found = case.feed(indicator, bars.part(30, 60))
    whole = case.feed(case.make(), bars)
    assert joined([found]) == joined([[output[30:] for output in whole]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SMA(0),
        lambda: EMA(0),
        lambda: RSI(0),
        lambda: ATR(-1),
        lambda: Donchian(0),
        lambda: Bollinger(0),
        lambda: RollingMedian(0),
        lambda: RollingStd(1, ddof=1),
        lambda: ZScore(2, ddof=2),
    ],
)
def test_length_that_gives_no_value_is_refused(make: Callable[[], Indicator]) -> None:
    with pytest.raises(ConfigError, match=r"\(n=-?\d\); give \d or more"):
        make()


@pytest.mark.parametrize("make", [SMA, RollingStd, ZScore, Bollinger])
@pytest.mark.parametrize("value", [2**62, -(2**62)])
def test_value_too_large_for_exact_sums_is_refused_and_not_kept(
    make: Callable[[int], Any], value: int
) -> None:
    indicator = make(4)
    indicator.update(ints(1, 2, 3))
    before = indicator.snapshot()

    with pytest.raises(DataError, match=f"value={2**62}"):
        indicator.update(ints(1, value))

    assert indicator.snapshot() == before


def test_window_is_ready_when_the_next_value_has_a_result() -> None:
    indicator = SMA(3)
    ready = []
    for value in range(4):
        ready.append(indicator.is_ready)
        indicator.update(ints(value))

    assert ready == [False, False, True, True]


def test_indicator_that_cannot_follow_a_split_says_so() -> None:
    class Count(Indicator):
        """An indicator of somebody's own, without ``rescale``."""

    with pytest.raises(NotRescalableError, match="Count"):
        Count().rescale(Decimal(2))
