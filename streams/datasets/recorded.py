"""The market history in the journal of a run, as a data set.

In the order in which the run consumed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from schemas.columns import Columns, MarketBatch
from schemas.control import InputRange
from schemas.errors import DataError
from schemas.instruments import CorporateAction, Instrument
from schemas.market_data import CLOSING_SOURCE, INTERVALS, Watermark
from schemas.topics import REFERENCE_ACTIONS
from streams.datasets.base import BATCH_EVENTS, bounds, empty_range, select_ids
from streams.datasets.hashing import ContentHasher
from streams.datasets.stored import Series, input_range, series_rank
from streams.datasets.topics_folder import TOPICS, TopicsFolder
from streams.journal import JournalReader
from streams.journal.batches import Piece, event_times, recut

_TOPICS = frozenset({REFERENCE_ACTIONS})
_IN_FRONT = (Instrument, Watermark)
"""What says nothing where it stands in front of all data."""


class RecordedDataSet:
    """Market events of a journal, or of a recording of Kafka topics.

    A ``DataSet``. Books, status and watermarks of the recording come as records, but for the one
    that closed a run over a recording: it is no data, and whoever plays them ends by itself. Raises
    DataError for a journal that ends in a torn entry, or holds no market data.
    """

    def __init__(self, name: str, folder: Path, *, symbols: Sequence[str] | None = None) -> None:
        self.name = name
        self._is_topics = (folder / TOPICS).is_dir()
        self._reader = TopicsFolder(folder) if self._is_topics else JournalReader(folder)
        tail = self._reader.torn_tail
        if tail is not None:
            raise DataError(
                f"the journal of the run {name} ends in a torn entry at byte {tail.at_byte}",
                field="file",
                value=str(tail.path),
                remedy="bring the file back from a copy, or continue the run, which cuts the tail",
            )
        whole = self._reader.universe()
        if not len(whole):
            raise _no_data(name)
        self._chosen = select_ids(whole, symbols)
        self.universe = whole
        kinds: set[str] = set()
        intervals: set[int] = set()
        times: list[int] = []
        for piece in self._pieces(*bounds(None, None), self._chosen):
            for table in piece.tables:
                kinds.add(table.KIND)
                times += [int(table.ts.min()), int(table.ts.max())]
                if table.KIND == "bar":
                    intervals.update(np.unique(table.interval).tolist())  # type: ignore[attr-defined]
        if not times:
            raise _no_data(name)
        self._range = (min(times), max(times))
        self.kinds = frozenset(kinds)
        self.intervals = frozenset(INTERVALS[index] for index in intervals)

    def range(self) -> tuple[int, int]:
        """Return the times of the first and the last row."""
        return self._range

    def total(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> int:
        """Return the number of events of ``batches``; see ``DataSet``."""
        low, high = bounds(start_ns, end_ns)
        events = rows = 0
        for piece in self._pieces(low, high, self._selected(symbols)):
            events += piece.size
            rows += sum(len(table) for table in piece.tables)
        if not rows:
            raise empty_range(self.name, *self._range, low, high)
        return events

    def batches(
        self,
        size: int = BATCH_EVENTS,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> Iterator[MarketBatch]:
        """Return the selected events in batches, in the order of the recording; see ``DataSet``."""
        self.total(start_ns, end_ns, symbols)
        pieces = self._pieces(*bounds(start_ns, end_ns), self._selected(symbols))
        return recut(self.universe, pieces, size)

    def inputs(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[InputRange]:
        """Return what is selected with its content hashes; see ``DataSet``."""
        self.total(start_ns, end_ns, symbols)
        hashers: dict[Series, ContentHasher] = {}
        for piece in self._pieces(*bounds(start_ns, end_ns), self._selected(symbols)):
            for table in piece.tables:
                for key, rows in self._by_series(table):
                    hashers.setdefault(key, ContentHasher()).update(rows, self.universe.sources)
        return [input_range(key, hashers[key]) for key in sorted(hashers, key=series_rank)]

    def actions(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[CorporateAction]:
        """Return the corporate actions in the range; see ``DataSet``."""
        pieces = self._pieces(*bounds(start_ns, end_ns), self._selected(symbols))
        records = (record for piece in pieces for _, _, record in piece.records)
        return [record for record in records if isinstance(record, CorporateAction)]

    def _selected(self, symbols: Sequence[str] | None) -> frozenset[str]:
        return select_ids(self.universe, symbols) & self._chosen

    def _pieces(self, low: int, high: int, chosen: frozenset[str]) -> Iterator[Piece]:
        """Yield the selected events, in pieces of a bounded size.

        Of topics they begin with data: a watermark in front only tells that there was none, a
        definition has no instant and is known, and a backtest would begin at another time than with
        the data set that was published.
        """
        pieces = self._all_pieces(low, high, chosen)
        return _from_data(pieces) if self._is_topics else pieces

    def _all_pieces(self, low: int, high: int, chosen: frozenset[str]) -> Iterator[Piece]:
        for batch in self._reader.market_batches(self.universe, with_topics=_TOPICS):
            tables: list[Columns] = [batch.trades, batch.quotes, batch.bars]
            times = event_times(len(batch), [t for t in tables if len(t)], batch.records)
            is_kept = (times >= low) & (times < high)
            is_chosen = np.array(
                [i.instrument_id in chosen for i in self.universe.instruments], np.bool_
            )
            for table in tables:
                is_kept[table.pos] &= is_chosen[table.instrument]
            for pos, _, record in batch.records:
                instrument_id = getattr(record, "instrument_id", None)
                is_kept[pos] &= instrument_id is None or instrument_id in chosen
                is_kept[pos] &= not (
                    isinstance(record, Watermark) and record.source == CLOSING_SOURCE
                )
            if is_kept.any():
                yield _kept(batch, tables, is_kept)

    def _by_series(self, table: Columns) -> Iterator[tuple[Series, Columns]]:
        """Yield the rows of each series of a table."""
        steps = getattr(table, "interval", np.full(len(table), -1))
        pairs = np.stack([table.instrument, steps], axis=1)
        for instrument, step in np.unique(pairs, axis=0).tolist():
            rows = table.take((table.instrument == instrument) & (steps == step))
            interval = INTERVALS[step] if step >= 0 else ""
            instrument_id = self.universe.instruments[instrument].instrument_id
            yield (table.KIND, instrument_id, interval), rows


def _no_data(name: str) -> DataError:
    return DataError(
        f"the run {name} holds no market data",
        field="data",
        value=name,
        remedy="choose a live run or a recording; a backtest does not keep the data that it read",
    )


def _from_data(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Yield pieces without the watermarks and definitions in front of everything else."""
    for piece in pieces:
        passed = {pos for pos, _, record in piece.records if isinstance(record, _IN_FRONT)}
        start = next((pos for pos in range(piece.size) if pos not in passed), piece.size)
        if start < piece.size:
            yield piece.cut(start, piece.size)
            break
    yield from pieces


def _kept(batch: MarketBatch, tables: list[Columns], is_kept: np.ndarray) -> Piece:
    """Return the chosen events of a batch."""
    place = np.cumsum(is_kept, dtype=np.int64) - 1
    kept = [rows for table in tables if len(rows := table.take(is_kept[table.pos]))]
    return Piece(
        int(is_kept.sum()),
        [rows.moved(place[rows.pos]) for rows in kept],
        [(int(place[pos]), topic, r) for pos, topic, r in batch.records if is_kept[pos]],
    )
