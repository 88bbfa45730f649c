"""Content hash of market-data columns.

Equal rows give equal hashes, whatever file or batch they came in.
"""

from __future__ import annotations

import numpy as np
import xxhash

from schemas.columns import Columns

# Codes differ between processes, and position and instrument are no content of a row.
_LEFT_OUT = frozenset({"pos", "instrument", "source"})


class ContentHasher:
    """Hash rows of one series as they come by.

    ``count``, ``first_ts_ns`` and ``last_ts_ns`` are known on the way.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first_ts_ns = 0
        self.last_ts_ns = 0
        self._columns: dict[str, xxhash.xxh3_128] = {}
        self._codes: dict[str, int] = {}

    def update(self, table: Columns, sources: list[str]) -> None:
        """Take in the rows of ``table``; ``sources`` are the names of its source codes."""
        if not len(table):
            return
        first_ns, last_ns = int(table.ts.min()), int(table.ts.max())
        self.first_ts_ns = min(self.first_ts_ns, first_ns) if self.count else first_ns
        self.last_ts_ns = max(self.last_ts_ns, last_ns) if self.count else last_ns
        self.count += len(table)
        for name in table.names():
            if name not in _LEFT_OUT:
                self._add(name, np.ascontiguousarray(getattr(table, name)))
        self._add("source", self._by_appearance(table.source, sources))

    def hexdigest(self) -> str:
        """Return 32 hexadecimal digits (xxh3-128) over the hashes of all columns, by name."""
        whole = xxhash.xxh3_128()
        for name in sorted(self._columns):
            whole.update(f"{name}:{self._columns[name].hexdigest()};".encode())
        whole.update(",".join(self._codes).encode())
        return whole.hexdigest()

    def source_names(self) -> str:
        """Return the names of the sources in the order of their first rows, joined by commas."""
        return ",".join(self._codes)

    def _add(self, name: str, values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> None:
        hasher = self._columns.get(name)
        if hasher is None:
            hasher = self._columns[name] = xxhash.xxh3_128()
        hasher.update(values.tobytes())

    def _by_appearance(
        self, codes: np.ndarray[tuple[int], np.dtype[np.int32]], sources: list[str]
    ) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Return source codes renumbered in the order in which their names first appeared."""
        present, first = np.unique(codes, return_index=True)
        lookup = np.zeros(len(sources), np.int32)
        for code in present[np.argsort(first)]:
            lookup[code] = self._codes.setdefault(sources[code], len(self._codes))
        return lookup[codes]
