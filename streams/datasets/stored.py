"""The data set over a folder of parts: what every file format becomes in the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from weakref import finalize

from schemas.columns import Columns, MarketBatch
from schemas.control import InputRange
from schemas.errors import DataError
from schemas.instruments import CorporateAction, Universe
from schemas.market_data import INTERVALS
from streams.datasets.base import (
    BATCH_EVENTS,
    KINDS,
    bounds,
    empty_range,
    select_ids,
)
from streams.datasets.hashing import ContentHasher
from streams.datasets.merging import merged_pieces
from streams.datasets.quality import QualityReport
from streams.datasets.store import Part, read_index, read_part
from streams.journal.batches import recut

Series = tuple[str, str, str]


class StoredDataSet:
    """Market history in ``folder``; a ``DataSet``.

    ``interval`` leaves only the bars of that interval. A folder that ``is_temporary`` goes with the
    data set. ``quality`` is the report of reading its files, None for what was imported before.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        symbols: Sequence[str] | None = None,
        interval: str | None = None,
        is_temporary: bool = False,
        quality: QualityReport | None = None,
    ) -> None:
        if is_temporary:
            finalize(self, shutil.rmtree, folder, ignore_errors=True)
        index = read_index(folder)
        chosen = select_ids(Universe(index.instruments), symbols)
        self.name = name
        self._folder = folder
        self.quality = quality
        self.universe = Universe([i for i in index.instruments if i.instrument_id in chosen])
        self._series: dict[Series, list[Part]] = {}
        for part in sorted(index.parts, key=_rank):
            if part.instrument_id in chosen and interval in {None, part.interval, ""}:
                key = (part.kind, part.instrument_id, part.interval)
                self._series.setdefault(key, []).append(part)
        parts = [part for series in self._series.values() for part in series]
        if not parts:
            have = ", ".join(sorted({p.interval for p in index.parts if p.interval})) or "no bars"
            raise DataError(
                f"{name} has no rows of this selection",
                field="interval",
                value=interval,
                remedy=f"it has {have}",
            )
        for source in sorted({source for part in parts for source in part.sources}):
            self.universe.source_index(source)
        self.kinds = frozenset(part.kind for part in parts)
        self.intervals = frozenset(part.interval for part in parts if part.interval)
        self._range = (min(p.first_ts_ns for p in parts), max(p.last_ts_ns for p in parts))
        # A factor file may reach far beyond the rows; what lies outside of them is no part of the
        # set.
        self._actions = sorted(
            (
                action
                for action in index.actions
                if action.instrument_id in chosen
                and self._range[0] <= action.ts_event_ns <= self._range[1]
            ),
            key=lambda action: (action.ts_event_ns, action.instrument_id, action.kind),
        )
        self._inputs: dict[object, list[InputRange]] = {}

    def range(self) -> tuple[int, int]:
        """Return the times of the first and the last row."""
        return self._range

    def parts(self) -> list[Part]:
        """Return the parts of all series, in the order of their ranks."""
        return [part for series in self._series.values() for part in series]

    def total(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> int:
        """Return the number of events of ``batches``; see ``DataSet``."""
        low, high = bounds(start_ns, end_ns)
        rows = 0
        for key in self._keys(symbols):
            for part in self._series[key]:
                if low <= part.first_ts_ns and part.last_ts_ns < high:
                    rows += part.count
                else:
                    rows += sum(len(table) for table in self._rows(part, low, high))
        if not rows:
            raise empty_range(self.name, *self._range, low, high)
        return rows + len(self.actions(start_ns, end_ns, symbols))

    def batches(
        self,
        size: int = BATCH_EVENTS,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> Iterator[MarketBatch]:
        """Return the selected events in batches; see ``DataSet``."""
        self.total(start_ns, end_ns, symbols)
        low, high = bounds(start_ns, end_ns)
        series = [self._chunks(key, low, high) for key in self._keys(symbols)]
        actions = self.actions(start_ns, end_ns, symbols)
        return recut(self.universe, merged_pieces(series, actions), size)

    def inputs(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[InputRange]:
        """Return what is selected with its content hashes; see ``DataSet``."""
        low, high = bounds(start_ns, end_ns)
        asked = (low, high, None if symbols is None else tuple(symbols))
        if asked not in self._inputs:
            self.total(start_ns, end_ns, symbols)
            found = (self._input(key, low, high) for key in self._keys(symbols))
            self._inputs[asked] = [item for item in found if item.count]
        return list(self._inputs[asked])

    def actions(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[CorporateAction]:
        """Return the corporate actions in the range; see ``DataSet``."""
        low, high = bounds(start_ns, end_ns)
        chosen = select_ids(self.universe, symbols)
        return [
            action
            for action in self._actions
            if action.instrument_id in chosen and low <= action.ts_event_ns < high
        ]

    def _keys(self, symbols: Sequence[str] | None) -> list[Series]:
        """Return the selected series in the order of their rank."""
        chosen = select_ids(self.universe, symbols)
        return [key for key in self._series if key[1] in chosen]

    def _chunks(self, key: Series, low: int, high: int) -> Iterator[Columns]:
        for part in self._series[key]:
            if part.last_ts_ns >= low and part.first_ts_ns < high:
                yield from self._rows(part, low, high)

    def _rows(self, part: Part, low: int, high: int) -> Iterator[Columns]:
        """Yield the rows of ``part`` with low <= ts < high."""
        if part.last_ts_ns < low or part.first_ts_ns >= high:
            return
        is_whole = low <= part.first_ts_ns and part.last_ts_ns < high
        for table in read_part(self._folder, part, self.universe):
            yield table if is_whole else table.take((table.ts >= low) & (table.ts < high))

    def _input(self, key: Series, low: int, high: int) -> InputRange:
        hasher = ContentHasher()
        for table in self._chunks(key, low, high):
            hasher.update(table, self.universe.sources)
        return input_range(key, hasher)


def input_range(key: Series, hasher: ContentHasher) -> InputRange:
    """Return the entry of a manifest for one series.

    Bars name their interval in ``kind`` as "bar/1d".
    """
    kind, instrument_id, interval = key
    return InputRange(
        source=hasher.source_names(),
        kind=f"{kind}/{interval}" if interval else kind,
        instrument_id=instrument_id,
        count=hasher.count,
        first_ts_ns=hasher.first_ts_ns,
        last_ts_ns=hasher.last_ts_ns,
        content_hash=hasher.hexdigest(),
    )


def series_rank(key: Series) -> tuple[int, str, int]:
    """Return the rank of a series at equal times.

    Its kind, then the instrument, then the interval.
    """
    kind, instrument_id, interval = key
    return KINDS.index(kind), instrument_id, INTERVALS.index(interval) if interval else -1


def _rank(part: Part) -> tuple[tuple[int, str, int], int]:
    return series_rank((part.kind, part.instrument_id, part.interval)), part.first_day
