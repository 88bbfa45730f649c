"""Reads a sealed segment: mapped Arrow files, verified once; tables are views of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from schemas.columns import Columns, Ints
from schemas.rows import TABLE_BY_KIND
from streams.journal.encoding import Content, Kind
from streams.journal.names import Names
from streams.journal.sealing import ROW_FILES, read_seal
from streams.journal.segment import damaged, storage_error


class SealedSegment:
    """One sealed segment; its files are mapped and verified when they are first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        seal = read_seal(path)
        self.header = seal.header
        self.end = seal.end
        self.names = Names(seal.end.instruments, seal.end.sources)
        self._files = seal.files
        self._topics = seal.topics
        self._is_open = False

    def __len__(self) -> int:
        return self.end.first_entry - self.header.first_entry

    def kinds(self) -> list[Kind]:
        """Return the kind of each entry."""
        self._open()
        return self._kinds

    def spans(self) -> dict[str, tuple[Ints, Ints, Ints]]:
        """Return by topic: entry numbers, first offsets and counts."""
        self._open()
        return self._spans

    def first_record(self, index: int) -> tuple[str, int]:
        """Return topic and offset of the first record of entry ``index`` of this segment."""
        self._open()
        return self._first[index]

    def content(self, index: int, topics: frozenset[str] | None = None) -> Content:
        """Return what entry ``index`` of this segment holds; ``topics`` filters single records."""
        self._open()
        kind = self._kinds[index]
        rows = {name: (starts[index], starts[index + 1]) for name, starts in self._starts.items()}
        if kind is Kind.MARK:
            row = rows["marks"][0]
            name = self._marks.column("name")[row].as_py()
            return Content(name=name, payload=self._marks.column("payload")[row].as_py())
        tables = []
        for table_kind, whole in self._tables.items():
            start, stop = rows[table_kind]
            if start < stop:
                tables.append(whole.take(slice(start, stop)))
        start, stop = rows["records"]
        values: list[tuple[str, bytes]] = []
        places: list[int] = []
        if start < stop:
            values = self._values(start, stop, topics if kind is Kind.RECORDS else None)
            places = self._places[start:stop].tolist() if kind is Kind.BATCH else []
        return Content(
            topic=self._topics[self._topic_codes[index]],
            tables=tuple(tables),
            values=values,
            places=places,
            clock_ns=self._clocks[index],
            stream_offset=self._stream_offsets[index],
        )

    def _values(
        self, start: int, stop: int, topics: frozenset[str] | None
    ) -> list[tuple[str, bytes]]:
        names = self._topics
        ends = self._value_ends[start : stop + 1].tolist()
        data = self._value_bytes
        pairs = []
        for row, code in enumerate(self._value_topics[start:stop].tolist()):
            if topics is None or names[code] in topics:
                pairs.append((names[code], bytes(data[ends[row] : ends[row + 1]])))
        return pairs

    def _open(self) -> None:
        if self._is_open:
            return
        batches = {name: self._map(name) for name in self._files}
        entries = batches["entries"]
        self._kinds = [Kind(code) for code in entries.column("kind").to_pylist()]
        self._topic_codes = entries.column("topic").to_pylist()
        self._clocks = entries.column("clock").to_pylist()
        self._stream_offsets = entries.column("stream_offset").to_pylist()
        self._starts = {}
        for name in ROW_FILES:
            rows = batches[name].num_rows if name in batches else 0
            self._starts[name] = [*entries.column(name).to_pylist(), rows]
        self._tables = {
            kind: _mapped_table(TABLE_BY_KIND[kind], batches[kind])
            for kind in TABLE_BY_KIND
            if kind in batches
        }
        if "records" in batches:
            self._take_records(batches["records"])
        if "marks" in batches:
            self._marks = batches["marks"]
        self._take_spans(batches["spans"])
        self._is_open = True

    def _take_records(self, batch: Any) -> None:
        self._places = _numpy(batch.column("pos"))
        self._value_topics = _numpy(batch.column("topic").indices)
        _, ends, data = batch.column("value").buffers()
        self._value_ends = np.frombuffer(ends, np.int64)
        self._value_bytes = memoryview(data)

    def _take_spans(self, batch: Any) -> None:
        entry, topic, offset, count = (_numpy(batch.column(i)) for i in range(4))
        self._spans: dict[str, tuple[Ints, Ints, Ints]] = {}
        for code, name in enumerate(self._topics):
            rows = np.flatnonzero(topic == code)
            self._spans[name] = (entry[rows], offset[rows], count[rows])
        self._first: list[tuple[str, int]] = [("", 0)] * len(self)
        # Backwards, so that the first span of an entry is the one that stays.
        first = self.header.first_entry
        for number, code, start in zip(
            entry[::-1].tolist(), topic[::-1].tolist(), offset[::-1].tolist(), strict=True
        ):
            self._first[number - first] = (self._topics[code], start)

    def _map(self, name: str) -> Any:
        """Map one file and verify it; raises JournalError if it is not what was sealed."""
        path = self.path / f"{name}.arrow"
        known = self._files[name]
        try:
            size = path.stat().st_size
            if size != known.size:
                raise damaged(path, min(size, known.size), f"it should have {known.size} bytes")
            data = pa.memory_map(str(path)).read_buffer()
        except OSError as error:
            raise storage_error("cannot be read", path, error) from error
        if xxhash.xxh3_128_hexdigest(data) != known.xxh3:
            raise damaged(path, 0, "its checksum does not fit")
        return pa.ipc.open_file(pa.BufferReader(data)).get_batch(0)


def _numpy(column: Any) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=True)
    return values


def _mapped_table(table_type: type[Columns], batch: Any) -> Columns:
    columns = {name: _numpy(batch.column(name)) for name in table_type.names()}
    for name, dtype in table_type.VALUES:
        if dtype == "|b1":
            columns[name] = columns[name].view(np.bool_)
    return table_type(**columns)
