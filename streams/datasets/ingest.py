"""From parsed rows to parts on disk: judge each row, number it, sort it into its series, write.

Every file format ends here, so that the same rows get the same ids, times and values whatever file
they came in. Rows are put in order by trading day; within a day they stay in file order. Memory is
bounded: when too many rows wait, they are written out as pieces, and joined at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from schemas.columns import Columns, Floats, Ints
from schemas.errors import DataError
from schemas.identifiers import source_sequence
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.market_data import INTERVAL_NS, INTERVALS
from schemas.rows import TABLE_BY_KIND
from streams.calendars import local_days
from streams.datasets.checks import SeriesChecks, faults_of
from streams.datasets.hashing import ContentHasher
from streams.datasets.known import instrument_of, with_increment
from streams.datasets.quality import QualityReport, Reject, RejectFile
from streams.datasets.store import Index, Part, disk_errors, read_part, write_index, write_part

WAITING_ROWS = 2_000_000
_INTERVAL_FACTOR = 10**9
Series = tuple[str, str, str]
Progress = Callable[[str, int], None]
"""Called with the name of a file and the number of its rows read so far."""


@dataclass(slots=True, kw_only=True)
class Rows:
    """Consecutive rows of one file and kind, parsed and not yet judged.

    All arrays have the same length.

    ``code`` is the index into ``symbols``; ``ts`` int64 ns UTC (bars: the close); ``values``
    float64 by column name, NaN where a field was no number; ``reasons`` says by row why it could
    not be parsed; rows of ``unplaced`` have no symbol or time. ``line`` counts from 1. ``text``
    gives the words of a row. ``source`` and ``seq`` are there if the file has them, ``start`` the
    open instants of bars if they are not the close less the interval.
    """

    kind: str
    interval: str = ""
    symbols: list[str]
    code: npt.NDArray[np.int32]
    ts: Ints
    values: dict[str, Floats]
    line: Ints
    text: Callable[[int], str]
    reasons: dict[int, str] = field(default_factory=dict)
    unplaced: frozenset[int] = frozenset()
    source: npt.NDArray[np.object_] | None = None
    seq: Ints | None = None
    start: Ints | None = None


class Ingest:
    """Writes the rows of one or more files as a new data-set folder.

    ``add`` the rows, then ``finish``. At most ``waiting_rows_max`` rows and one block wait in
    memory. ``calendar`` names the sessions of symbols that are not known.
    """

    def __init__(
        self,
        folder: Path,
        rejects: RejectFile,
        on_progress: Progress | None = None,
        waiting_rows_max: int = WAITING_ROWS,
        calendar: str = "",
    ) -> None:
        self.quality = QualityReport()
        self._folder = folder
        self._rejects = rejects
        self._on_progress = on_progress
        self._calendar = calendar
        self._universe = Universe()
        self._instruments: dict[str, Instrument] = {}
        self._next: dict[tuple[Series, int], int] = {}
        self._checks: dict[Series, SeriesChecks] = {}
        self._waiting: dict[tuple[Series, int], list[Columns]] = {}
        self._waiting_rows = 0
        self._waiting_rows_max = waiting_rows_max
        self._pieces: dict[tuple[Series, int], list[Part]] = {}
        self._piece_count = 0
        self._file_rows = 0
        self._file = ""
        self.actions: list[CorporateAction] = []

    def begin_file(self, file: str) -> None:
        """Say which file the next rows are of."""
        self._file = file
        self._file_rows = 0

    def add_actions(self, actions: list[CorporateAction]) -> None:
        """Add corporate actions; splits explain jumps of the prices that come after."""
        self.actions.extend(actions)

    def instrument(self, symbol: str, *, is_us_equity: bool = False) -> Instrument:
        """Return the definition under which rows of ``symbol`` are written."""
        found = self._instruments.get(symbol)
        if found is None:
            found = instrument_of(symbol, "XNYS" if is_us_equity else self._calendar)
            self._instruments[symbol] = found
            self._universe.add(found)
        return found

    def reject_line(self, line: int, reason: str, text: str) -> None:
        """Reject a line that could not be split into fields."""
        self.quality.rows_read += 1
        self._reject([Reject(self._file, line, reason, text)])

    def add(self, rows: Rows) -> None:
        """Judge ``rows``, number them, keep the good ones and report the others."""
        count = len(rows.ts)
        self.quality.rows_read += count
        reasons = faults_of(rows.kind, rows.values, rows.reasons)
        placed = np.ones(count, np.bool_)
        placed[list(rows.unplaced)] = False
        order = np.argsort(rows.code, kind="stable")
        codes, starts = np.unique(rows.code[order], return_index=True)
        for code, group in zip(codes, np.split(order, starts[1:]), strict=True):
            chosen = group[placed[group]]
            if len(chosen):
                self._add_series(rows, rows.symbols[code], chosen, reasons)
        rejects = [
            Reject(self._file, int(rows.line[row]), reasons[row], rows.text(row))
            for row in sorted(reasons)
        ]
        self._reject(rejects)
        self._file_rows += count
        if self._on_progress is not None:
            self._on_progress(self._file, self._file_rows)
        if self._waiting_rows >= self._waiting_rows_max:
            self._write_waiting()

    def finish(self) -> Index:
        """Write all parts and the index; raises DataError if there was no usable row."""
        keys = sorted(self._waiting.keys() | self._pieces.keys())
        if not keys:
            raise DataError(
                "the data holds no usable row",
                field="file",
                value=self._file,
                remedy=f"{self.quality.rows_rejected} of {self.quality.rows_read} rows were bad"
                + (f" ({first})" if (first := self.quality.first_reject) else "")
                + "; check the columns and units, or name another file",
            )
        parts = [self._write(key) for key in keys]
        for checks in self._checks.values():
            checks.add_to(self.quality)
        index = Index(
            instruments=self._defined(),
            actions=self.actions,
            parts=parts,
        )
        write_index(self._folder, index)
        return index

    def _defined(self) -> list[Instrument]:
        """Return the instruments that have rows, unknown ones with their prices' increment."""
        is_on_cents: dict[str, bool] = {}
        for (_, instrument_id, _), checks in self._checks.items():
            is_on_cents[instrument_id] = is_on_cents.get(instrument_id, True) and checks.is_on_cents
        return [
            with_increment(instrument, is_on_cents=is_on_cents[instrument.instrument_id])
            for instrument in sorted(self._universe.instruments, key=lambda i: i.instrument_id)
            if instrument.instrument_id in is_on_cents
        ]

    def _reject(self, rejects: list[Reject]) -> None:
        self.quality.rows_rejected += len(rejects)
        if rejects and not self.quality.first_reject:
            first = rejects[0]
            self.quality.first_reject = f"{first.file}, line {first.line}: {first.reason}"
        self._rejects.add(rejects)

    def _add_series(self, rows: Rows, symbol: str, chosen: Ints, reasons: dict[int, str]) -> None:
        """Take in the rows ``chosen`` of one symbol.

        Adds to ``reasons`` what only the series can tell.
        """
        instrument = self.instrument(symbol)
        series = (rows.kind, instrument.instrument_id, rows.interval)
        ts = rows.ts[chosen]
        # A bar that closes at midnight belongs to the day before, like every instant that it
        # covers.
        days = local_days(ts - 1 if rows.kind == "bar" else ts, instrument.time_zone)
        seq = self._numbered(series, days) if rows.seq is None else rows.seq[chosen]
        is_good = np.array([row not in reasons for row in chosen.tolist()]) if reasons else None
        if is_good is not None:
            chosen, ts, days, seq = chosen[is_good], ts[is_good], days[is_good], seq[is_good]
        table = self._table(rows, instrument, chosen, ts, seq)
        checks = self._checks.get(series)
        if checks is None:
            checks = self._checks[series] = SeriesChecks(
                self._file, rows.kind, rows.interval, instrument, self.actions
            )
        keep = checks.look(table, days, rows.line[chosen])
        if not keep.all():
            reasons.update((int(row), "a second bar of one instant") for row in chosen[~keep])
            table, days = table.take(keep), days[keep]
        self.quality.rows_kept += len(table)
        self._put(series, table, days)

    def _numbered(self, series: Series, days: Ints) -> Ints:
        """Return sequence numbers: day and ordinal within it, going on where the last rows ended.

        The ordinals of bars begin at the index of their interval times 10**9, so that bars of two
        intervals never share an id.
        """
        seq = np.empty(len(days), np.int64)
        first = INTERVALS.index(series[2]) * _INTERVAL_FACTOR if series[2] else 0
        for day, rows in _groups(days):
            ordinal = self._next.get((series, day), first)
            base = source_sequence(day, ordinal)
            seq[rows] = np.arange(base, base + len(rows))
            self._next[series, day] = ordinal + len(rows)
        return seq

    def _table(
        self, rows: Rows, instrument: Instrument, chosen: Ints, ts: Ints, seq: Ints
    ) -> Columns:
        size = len(chosen)
        index = self._universe.index(instrument.instrument_id)
        if rows.source is None:
            source = np.full(size, self._universe.source_index(f"{rows.kind}s"), np.int32)
        else:
            names, inverse = np.unique(rows.source[chosen].astype(str), return_inverse=True)
            codes = [self._universe.source_index(str(name)) for name in names]
            source = np.array(codes, np.int32)[inverse] if size else np.empty(0, np.int32)
        columns: dict[str, Any] = {
            "pos": np.arange(size, dtype=np.int64),
            "ts": ts,
            "instrument": np.full(size, index, np.int32),
            "source": source,
            "seq": seq,
        }
        columns |= {name: values[chosen] for name, values in rows.values.items()}
        if rows.kind == "bar":
            columns |= _bar_defaults(rows, chosen, ts, columns)
        return TABLE_BY_KIND[rows.kind](**columns)

    def _put(self, series: Series, table: Columns, days: Ints) -> None:
        """Let the rows wait by series and partition.

        The day for ticks, the year for bars, all for daily bars.
        """
        if not len(table):
            return
        kind, _, interval = series
        part = (
            days if kind != "bar" else np.zeros_like(days) if interval == "1d" else days // 10_000
        )
        for number, rows in _groups(part):
            whole = len(rows) == len(table)
            taken = table if whole else table.take(rows)
            self._waiting.setdefault((series, number), []).append(taken)
        self._waiting_rows += len(table)

    def _write_waiting(self) -> None:
        """Write the rows that wait as pieces."""
        for key, tables in self._waiting.items():
            self._piece_count += 1
            file = f"piece-{self._piece_count}.parquet"
            self._pieces.setdefault(key, []).append(self._write_file(key[0], file, tables))
        self._waiting = {}
        self._waiting_rows = 0

    def _write(self, key: tuple[Series, int]) -> Part:
        """Write one partition whole, and remove the pieces it was made of."""
        (kind, instrument_id, interval), number = key
        series = "-".join(filter(None, (f"{kind}s", interval, str(number) if number else "")))
        file = f"{quote(instrument_id, safe='')}/{series}.parquet"
        pieces = self._pieces.get(key, [])
        part = self._write_file(key[0], file, self._tables(key))
        for piece in pieces:
            with disk_errors("cannot be removed", self._folder / piece.file):
                (self._folder / piece.file).unlink()
        return part

    def _tables(self, key: tuple[Series, int]) -> Iterator[Columns]:
        for piece in self._pieces.get(key, []):
            yield from read_part(self._folder, piece, self._universe)
        yield from self._waiting.get(key, [])

    def _write_file(self, series: Series, file: str, tables: Iterable[Columns]) -> Part:
        return write_series(self._folder, file, series, tables, self._universe)


def write_series(
    folder: Path, file: str, series: Series, tables: Iterable[Columns], universe: Universe
) -> Part:
    """Write rows of one series to ``file`` of ``folder`` and return its entry for the index."""
    kind, instrument_id, interval = series
    instrument = universe.instruments[universe.index(instrument_id) or 0]
    hasher = ContentHasher()
    days: list[int] = []

    def counted() -> Iterator[Columns]:
        for table in tables:
            hasher.update(table, universe.sources)
            ends = np.array([table.ts.min(), table.ts.max()]) - (1 if kind == "bar" else 0)
            days.extend(local_days(ends, instrument.time_zone).tolist())
            yield table

    write_part(folder / file, counted(), universe.sources)
    return Part(
        file=file,
        instrument_id=instrument_id,
        kind=kind,
        interval=interval,
        count=hasher.count,
        first_ts_ns=hasher.first_ts_ns,
        last_ts_ns=hasher.last_ts_ns,
        first_day=min(days),
        last_day=max(days),
        sources=hasher.source_names().split(","),
        content_hash=hasher.hexdigest(),
    )


def _groups(numbers: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each of ``numbers`` with the rows at which it stands, in their order."""
    if not len(numbers):
        return
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, starts[1:]), strict=True)


def _bar_defaults(rows: Rows, chosen: Ints, ts: Ints, columns: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of bars that files need not have.

    A bar without vwap gets its typical price (H + L + C) / 3.
    """
    size = len(chosen)
    interval = INTERVALS.index(rows.interval)
    start = ts - INTERVAL_NS[interval] if rows.start is None else rows.start[chosen]
    typical = (columns["high"] + columns["low"] + columns["close"]) / 3.0
    count = columns.get("count", np.zeros(size))
    return {
        "start": start,
        "interval": np.full(size, interval, np.int32),
        "vwap": columns.get("vwap", typical),
        "count": count.astype(np.int64),
        "partial": columns.get("partial", np.zeros(size)).astype(np.bool_),
        "revision": columns.get("revision", np.zeros(size)).astype(np.int32),
    }
