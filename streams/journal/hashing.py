"""The hash of a run's outputs: equal runs give equal digests, however their records were cut.

A stream of bytes is hashed in blocks of fixed size, each chained to the one before, so that the
state is a few bytes and a remainder: xxhash itself cannot be stored and taken up again. Instruments
and sources are hashed by name, and ``pos`` is left out, since it depends on the cut. So a run over
some instruments of a large set gives the digest of a run over a set of these alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from schemas.columns import Columns, EquityColumns, Ints
from schemas.instruments import Universe
from streams.journal.encoding import EncodedGroup

BLOCK_BYTES = 1 << 16
_START = bytes(16)
_digest = xxhash.xxh3_128_digest


class ChainHash:
    """Hash of a stream of bytes: ``chain`` becomes xxh3_128(chain + next 64 KiB)."""

    __slots__ = ("chain", "rest", "size")

    def __init__(self, chain: bytes = _START, rest: bytes = b"", size: int = 0) -> None:
        self.chain = chain
        self.rest = bytearray(rest)
        self.size = size

    def update(self, data: bytes | memoryview) -> None:
        """Take in more bytes."""
        rest = self.rest
        rest += data
        self.size += len(data)
        if len(rest) >= BLOCK_BYTES:
            chain = self.chain
            whole = len(rest) - len(rest) % BLOCK_BYTES
            with memoryview(rest) as view:
                for start in range(0, whole, BLOCK_BYTES):
                    state = xxhash.xxh3_128(chain)
                    state.update(view[start : start + BLOCK_BYTES])
                    chain = state.digest()
            self.chain = chain
            del rest[:whole]

    def digest(self) -> bytes:
        """Return the hash of everything so far (16 bytes)."""
        return _digest(self.chain + self.rest + self.size.to_bytes(8, "little"))


class _Stream(msgspec.Struct):
    chain: bytes
    rest: bytes
    size: int


class _State(msgspec.Struct):
    streams: dict[str, dict[str, _Stream]]
    counts: dict[str, int]


class OutputHasher:
    """Hashes what a run writes, topic by topic; ``counts`` has the number of records of each topic.

    A topic has one stream for its records (JSON lines as they were written) and one for each column
    of each kind of table. A record's bytes hold its run id if it has one; records of a run leave it
    to the journal's header.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._streams: dict[str, dict[str, ChainHash]] = {}
        self._universe: Universe | None = None
        self._instruments: Ints = np.empty(0, np.int64)
        self._sources: Ints = np.empty(0, np.int64)

    def update_group(self, group: EncodedGroup) -> None:
        """Take in records in the form in which the journal writes them."""
        for topic, count, lines in zip(group.topics, group.counts, group.lines, strict=True):
            self._count(topic, count)
            self._stream(topic, "records").update(lines)

    def update_table(self, topic: str, universe: Universe, table: Columns) -> None:
        """Take in the rows of a table."""
        if not len(table):
            return
        self._count(topic, len(table))
        self._learn(universe)
        for name in table.names():
            if name == "pos" or (name == "instrument" and isinstance(table, EquityColumns)):
                continue  # Equity is of no instrument; the column names whichever comes first.
            values: npt.NDArray[Any] = np.ascontiguousarray(getattr(table, name))
            if name == "instrument":
                values = self._instruments[values]
            elif name == "source":
                values = self._sources[values]
            self._stream(topic, f"{table.KIND}.{name}").update(values.view(np.uint8).data)

    def topic_digests(self) -> dict[str, str]:
        """Return the digest of each topic, by name (32 hexadecimal digits)."""
        digests = {}
        for topic in sorted(self._streams):
            streams = self._streams[topic]
            parts = [name.encode() + b"\0" + streams[name].digest() for name in sorted(streams)]
            digests[topic] = _digest(b"".join(parts)).hex()
        return digests

    def hexdigest(self) -> str:
        """Return the digest of everything (32 hexadecimal digits)."""
        text = "".join(f"{topic} {digest}\n" for topic, digest in self.topic_digests().items())
        return _digest(text.encode()).hex()

    def snapshot(self) -> bytes:
        """Return the whole state as bytes; equal states give equal bytes."""
        streams = {
            topic: {
                name: _Stream(hash_.chain, bytes(hash_.rest), hash_.size)
                for name, hash_ in sorted(self._streams[topic].items())
            }
            for topic in sorted(self._streams)
        }
        return msgspec.json.encode(_State(streams, dict(sorted(self.counts.items()))))

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave."""
        saved = msgspec.json.decode(state, type=_State)
        self.counts = saved.counts
        self._streams = {
            topic: {name: ChainHash(s.chain, s.rest, s.size) for name, s in streams.items()}
            for topic, streams in saved.streams.items()
        }

    def _count(self, topic: str, count: int) -> None:
        self.counts[topic] = self.counts.get(topic, 0) + count

    def _stream(self, topic: str, name: str) -> ChainHash:
        try:
            return self._streams[topic][name]
        except KeyError:
            return self._streams.setdefault(topic, {}).setdefault(name, ChainHash())

    def _learn(self, universe: Universe) -> None:
        """Keep a hash of each name of ``universe``, by its index there."""
        sizes = (len(self._instruments), len(self._sources))
        if self._universe is universe and sizes == (len(universe), len(universe.sources)):
            return
        self._universe = universe
        self._instruments = _hashes([i.instrument_id for i in universe.instruments])
        self._sources = _hashes(universe.sources)


def _hashes(names: list[str]) -> Ints:
    return np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64).view(
        np.int64
    )
