"""Indicators over the bars, one state for each instrument.

An indicator is named by a specification ``name:numbers@interval``: "sma:20@1m",
"bollinger:20:2@5m", "vwap@1m". It is fed with every bar of its interval in the order in which bars
go out, corrections excepted (an indicator is not taken back). Prices enter as ticks and results
leave as prices (rsi and zscore as they are), from the first bar at which the indicator is ready. A
split in the stream rescales what an indicator holds. "vwap" begins anew with each session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np

from agents.domain import indicators
from agents.market.buckets import DAY, Buckets
from agents.market.grouping import GridTable
from schemas.columns import BarColumns, Floats, MarketBatch
from schemas.enums import CorporateActionKind
from schemas.errors import ConfigError
from schemas.identifiers import bar_row_id, derived_id
from schemas.instruments import CorporateAction, Universe
from schemas.market_data import INTERVALS, IndicatorValue

_CLOSE, _RANGE, _TRUE_RANGE, _SESSION = range(4)
_READ_COLUMNS = (("close",), ("high", "low"), ("high", "low", "close"))


class _Kind(NamedTuple):
    """An indicator to name: how it is made, what it reads, whether it gives prices."""

    make: Callable[..., Any]
    numbers: tuple[type[int] | type[float], ...]
    reads: int
    gives_prices: bool


_KINDS: dict[str, _Kind] = {
    "sma": _Kind(indicators.SMA, (int,), _CLOSE, True),
    "ema": _Kind(indicators.EMA, (int,), _CLOSE, True),
    "std": _Kind(indicators.RollingStd, (int,), _CLOSE, True),
    "zscore": _Kind(indicators.ZScore, (int,), _CLOSE, False),
    "rsi": _Kind(indicators.RSI, (int,), _CLOSE, False),
    "bollinger": _Kind(indicators.Bollinger, (int, float), _CLOSE, True),
    "min": _Kind(indicators.RollingMin, (int,), _CLOSE, True),
    "max": _Kind(indicators.RollingMax, (int,), _CLOSE, True),
    "median": _Kind(indicators.RollingMedian, (int,), _CLOSE, True),
    "donchian": _Kind(indicators.Donchian, (int,), _RANGE, True),
    "atr": _Kind(indicators.ATR, (int,), _TRUE_RANGE, True),
    "vwap": _Kind(indicators.VWAP, (), _SESSION, True),
}


class Spec(NamedTuple):
    """A specification taken apart; ``interval`` is an index into INTERVALS."""

    text: str
    kind: _Kind
    numbers: tuple[int | float, ...]
    interval: int


def parse(text: str) -> Spec:
    """Return the specification ``text`` taken apart; raises ConfigError if it is none."""
    head, _, interval = text.partition("@")
    name, *words = head.split(":")
    kind = _KINDS.get(name)
    remedy = "write NAME:NUMBERS@INTERVAL, such as sma:20@1m or bollinger:20:2@5m"
    if kind is None or interval not in INTERVALS or len(words) > len(kind.numbers):
        raise ConfigError("unknown indicator", field="indicators", value=text, remedy=remedy)
    try:
        numbers = tuple(to(word) for to, word in zip(kind.numbers, words, strict=False))
        kind.make(*numbers)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            "an indicator's numbers cannot be used", field="indicators", value=text, remedy=remedy
        ) from error
    return Spec(text, kind, numbers, INTERVALS.index(interval))


class _Held(NamedTuple):
    indicator: Any
    session: list[int]


class IndicatorFeed:
    """The indicators of all ``specs`` and instruments; raises ConfigError as ``parse`` does."""

    def __init__(self, universe: Universe, specs: Iterable[str], buckets: Buckets) -> None:
        self._universe = universe
        self._specs = [parse(text) for text in specs]
        self._buckets = buckets
        self._held: dict[tuple[str, str], _Held] = {}
        self._prices = GridTable(universe, "price")
        self._sizes = GridTable(universe, "quantity")

    def process(
        self, bars: BarColumns, batch: MarketBatch | None
    ) -> list[tuple[int, IndicatorValue]]:
        """Return the values after each of ``bars``.

        ``batch`` is where the bars come from, None at the end of a run.
        """
        if not self._specs:
            return []
        if len(self._universe) != len(self._prices.largest):
            self._prices = GridTable(self._universe, "price")
            self._sizes = GridTable(self._universe, "quantity")
        splits = _splits(self._universe, batch) if batch is not None else {}
        out: list[tuple[int, int, IndicatorValue]] = []
        for order, spec in enumerate(self._specs):
            rows = np.flatnonzero((bars.interval == spec.interval) & (bars.revision == 0))
            table = bars.take(rows)
            for instrument in sorted({*np.unique(table.instrument).tolist(), *splits}):
                own = np.flatnonzero(table.instrument == instrument)
                values = self._feed(spec, instrument, table.take(own), splits.get(instrument, []))
                out += [(int(rows[own[row]]), order, value) for row, value in values]
        out.sort(key=lambda item: item[:2])
        return [(int(bars.pos[row]), value) for row, _, value in out]

    def snapshot(self) -> bytes:
        """Return the state of all indicators as JSON."""
        held = [[*key, h.session, h.indicator.snapshot()] for key, h in sorted(self._held.items())]
        return msgspec.json.encode(held)

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave, as far as its indicators are configured."""
        self._held = {}
        specs = {spec.text: spec for spec in self._specs}
        for text, name, session, values in msgspec.json.decode(state):
            if text in specs:
                held = self._held[text, name] = _Held(_made(specs[text]), session)
                held.indicator.restore(values)

    def _feed(
        self, spec: Spec, instrument: int, bars: BarColumns, splits: list[tuple[int, Decimal]]
    ) -> list[tuple[int, IndicatorValue]]:
        """Return the values of one instrument as (row of ``bars``, value); rescale at splits."""
        name = self._universe.instruments[instrument].instrument_id
        held = self._held.get((spec.text, name))
        if held is None:
            if not len(bars):
                return []
            held = self._held[spec.text, name] = _Held(_made(spec), [])
        out: list[tuple[int, IndicatorValue]] = []
        start = 0
        for pos, ratio in splits:
            # A bar at the split's own position stands before it.
            stop = int(np.searchsorted(bars.pos, pos, "right"))
            out += self._update(spec, held, bars, start, stop)
            held.indicator.rescale(ratio)
            start = stop
        return out + self._update(spec, held, bars, start, len(bars))

    def _update(
        self, spec: Spec, held: _Held, bars: BarColumns, start: int, stop: int
    ) -> list[tuple[int, IndicatorValue]]:
        """Feed the rows from ``start`` to ``stop``."""
        if start == stop:
            return []
        part = bars.take(slice(start, stop))
        if spec.kind.reads == _SESSION:
            columns: tuple[Floats, ...] = (self._session_vwap(held, part),)
        else:
            names = _READ_COLUMNS[spec.kind.reads]
            ticks = [self._prices.to_units(part.instrument, getattr(part, n)) for n in names]
            result = held.indicator.update(*ticks)
            columns = result if isinstance(result, tuple) else (result,)
        if spec.kind.gives_prices:
            columns = tuple(self._prices.to_floats(part.instrument, c) for c in columns)
        ready = np.flatnonzero(np.all(np.isfinite(columns), axis=0)).tolist()
        return [
            (start + row, self._value(spec, part, row, [float(c[row]) for c in columns]))
            for row in ready
        ]

    def _session_vwap(self, held: _Held, bars: BarColumns) -> Floats:
        """Return the vwap in ticks since the session began, after each bar."""
        price = np.where(bars.vwap > 0, bars.vwap, bars.close)
        ticks = self._prices.to_units(bars.instrument, price)
        units = self._sizes.to_units(bars.instrument, bars.volume)
        session = self._buckets.starts(DAY, bars.ts - 1, bars.instrument)
        heads = [0, *(np.flatnonzero(np.diff(session)) + 1).tolist(), len(bars)]
        parts = []
        for head, end in pairwise(heads):
            if held.session != [int(session[head])]:
                held.indicator.reset()
                held.session[:] = [int(session[head])]
            parts.append(held.indicator.update(ticks[head:end], units[head:end]))
        return np.concatenate(parts)

    def _value(self, spec: Spec, bars: BarColumns, row: int, values: list[float]) -> IndicatorValue:
        name = self._universe.instruments[bars.instrument[row]].instrument_id
        cause = bar_row_id(
            self._universe.sources[bars.source[row]], name, INTERVALS[spec.interval],
            int(bars.seq[row]), int(bars.revision[row]),
        )  # fmt: skip
        event_id = derived_id(f"indicators:{spec.text}", cause, 0)
        return IndicatorValue(event_id, int(bars.ts[row]), cause, cause, name, spec.text, values)


def _made(spec: Spec) -> Any:
    return spec.kind.make(*spec.numbers)


def _splits(universe: Universe, batch: MarketBatch) -> dict[int, list[tuple[int, Decimal]]]:
    """Return position and ratio of the splits in ``batch``, by instrument."""
    out: dict[int, list[tuple[int, Decimal]]] = {}
    for pos, _, record in batch.records:
        if isinstance(record, CorporateAction) and record.kind is CorporateActionKind.SPLIT:
            instrument = universe.index(record.instrument_id)
            if instrument is not None:
                out.setdefault(instrument, []).append((pos, record.ratio))
    return out
