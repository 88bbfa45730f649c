"""The journal's own numbering of instruments and sources.

Index columns of a universe are private to a process. A journal keeps its own list of names, append
only, and its tables hold indexes into that list; so they can be read into any universe, and where
both number alike nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.columns import Codes, Columns
from schemas.errors import DataError
from schemas.instruments import Universe


class Names:
    """Instrument ids and source names by code, with mappings to and from a universe."""

    __slots__ = ("_from", "_index", "_source_index", "_to", "instruments", "sources")

    def __init__(self, instruments: list[str], sources: list[str]) -> None:
        self.instruments = list(instruments)
        self.sources = list(sources)
        self._index = {name: code for code, name in enumerate(self.instruments)}
        self._source_index = {name: code for code, name in enumerate(self.sources)}
        self._from: _Mapping | None = None
        self._to: _Mapping | None = None

    def extend(self, instruments: list[str], sources: list[str]) -> None:
        """Append names."""
        for name in instruments:
            self._index[name] = len(self.instruments)
            self.instruments.append(name)
        for name in sources:
            self._source_index[name] = len(self.sources)
            self.sources.append(name)

    def missing(self, universe: Universe) -> tuple[list[str], list[str]]:
        """Return the instrument ids and sources of ``universe`` that have no code yet."""
        known = self._from
        if known is not None and known.fits(universe, universe.instruments, universe.sources):
            return [], []
        instruments = [i.instrument_id for i in universe.instruments]
        return (
            [name for name in instruments if name not in self._index],
            [name for name in universe.sources if name not in self._source_index],
        )

    def from_universe(self, universe: Universe, table: Columns) -> Columns:
        """Return ``table`` with the journal's codes; every name of the universe must have one."""
        known = self._from
        if known is None or not known.fits(universe, universe.instruments, universe.sources):
            known = self._from = _Mapping(
                universe,
                [self._index[i.instrument_id] for i in universe.instruments],
                [self._source_index[name] for name in universe.sources],
            )
        return known.apply(table)

    def to_universe(self, universe: Universe, table: Columns) -> Columns:
        """Return ``table`` with the codes of ``universe``; sources are added to it as needed.

        Raises DataError if a row's instrument is not in the universe.
        """
        known = self._to
        if (
            known is None
            or not known.fits(universe, self.instruments, self.sources)
            or (known.is_partial and known.universe_size != len(universe))
        ):
            indexes = [universe.index(name) for name in self.instruments]
            known = self._to = _Mapping(
                universe,
                [-1 if index is None else index for index in indexes],
                [universe.source_index(name) for name in self.sources],
            )
        out = known.apply(table)
        if known.is_partial and len(out) and out.instrument.min() < 0:
            row = int(out.instrument.argmin())
            raise DataError(
                "the journal holds an instrument that is not in the universe",
                field="instrument_id",
                value=self.instruments[table.instrument[row]],
                remedy="add its definition to the universe before reading",
            )
        return out


class _Mapping:
    """Lookup arrays from one numbering to another; None where both are the same."""

    __slots__ = ("_instruments", "_sizes", "_sources", "_universe", "is_partial", "universe_size")

    def __init__(self, universe: Universe, instruments: list[int], sources: list[int]) -> None:
        self._universe = universe
        self._sizes = (len(instruments), len(sources))
        self._instruments = _lookup(instruments)
        self._sources = _lookup(sources)
        self.is_partial = -1 in instruments
        self.universe_size = len(universe)

    def fits(self, universe: Universe, instruments: Sequence[object], sources: list[str]) -> bool:
        """Return whether this mapping is about ``universe`` and covers lists of these lengths."""
        return self._universe is universe and self._sizes == (len(instruments), len(sources))

    def apply(self, table: Columns) -> Columns:
        """Return ``table`` with mapped index columns; the other columns are shared."""
        if self._instruments is None and self._sources is None:
            return table
        out = table.take(slice(None))
        if self._instruments is not None:
            out.instrument = self._instruments[table.instrument]
        if self._sources is not None:
            out.source = self._sources[table.source]
        return out


def _lookup(codes: list[int]) -> Codes | None:
    if codes == list(range(len(codes))):
        return None
    return np.array(codes, np.int32)
