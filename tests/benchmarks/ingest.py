"""Ingest of market data beside its limit: binary COPY of the same rows into the same table.

``python -m tests.benchmarks.ingest``. The limit is what a program could do that knew nothing but
these rows: one numpy structure, one COPY of 10,000 rows, nothing else. The sink does what it always
does: columns to rows, the place of the sink moved in the same transaction, spans. Rounds alternate,
medians count; the server is the embedded one with its own settings, durable commits included. At
the end stands the share of the limit that must be reached.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from schemas.columns import QuoteColumns, TradeColumns
from streams.database.batches import Batch, Place
from streams.database.connecting import Database
from streams.database.embedded import EmbeddedServer, has_timescale
from streams.database.migrating import migrate
from streams.database.preparing import make_database
from streams.database.writing import Stored, Writer
from tests.benchmarks.targets import Target, show_verdict
from tests.generated import START_NS, universe

PLACE: Place = ("bench", 0)
SYMBOLS = tuple(f"S{number:02}" for number in range(20))
_RATIO_MIN = 0.8


class Counts(NamedTuple):
    """How much is measured: rows of a batch, batches of a round, rounds."""

    rows: int = 10_000
    batches: int = 20
    rounds: int = 7


_COUNTS = Counts()


class Figures(NamedTuple):
    """Rows per second of one table on one tier, medians of the rounds."""

    tier: str
    relation: str
    sink: float
    limit: float

    @property
    def ratio(self) -> float:
        """The sink's share of the limit."""
        return self.sink / self.limit


def tables(relation: str, counts: Counts) -> list[Any]:
    """Return batches of generated rows of 20 instruments in merged order."""
    rows = counts.rows
    rng = np.random.default_rng(1)
    found: list[Any] = []
    for number in range(counts.batches):
        keys: dict[str, Any] = {
            "pos": np.arange(rows),
            "ts": START_NS + np.arange(number * rows, (number + 1) * rows) * 1_000_000,
            "instrument": rng.integers(0, len(SYMBOLS), rows).astype(np.int32),
            "source": np.zeros(rows, np.int32),
            "seq": np.arange(number * rows, (number + 1) * rows),
        }
        price = np.round(100 + rng.standard_normal(rows), 2)
        size = rng.integers(1, 500, rows).astype(np.float64)
        if relation == "trades":
            found.append(TradeColumns(**keys, price=price, size=size))
        else:
            quoted = {"bid": price, "ask": price + 0.01, "bid_size": size, "ask_size": size}
            found.append(QuoteColumns(**keys, **quoted))
    return found


async def limit_round(database: Database, relation: str, batches: list[Any], run: str) -> float:
    """Return the rows per second of bare COPYs of prebuilt structures' bytes, built in time."""
    rows = len(batches[0].ts)
    names = np.array([f"{symbol}.XXXX" for symbol in SYMBOLS], "S8")
    run_id = run.encode()
    values = ("price", "size") if relation == "trades" else ("bid", "ask", "bid_size", "ask_size")
    forms = [("run", f"S{len(run_id)}"), ("ts", ">i8"), ("instrument", "S8")]
    forms += [(name, ">f8") for name in values]
    forms += [("source", "S6"), ("seq", ">i8"), ("partition", ">i4"), ("offset", ">i8")]
    fields: list[tuple[str, str]] = [("n", ">i2")]
    for name, form in forms:
        fields += [(f"l_{name}", ">i4"), (name, form)]
    layout = np.dtype(fields)
    head, tail = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
    async with database.writing() as connection:
        begun = time.perf_counter()
        for number, table in enumerate(batches):
            out = np.empty(rows, layout)
            out["n"] = len(forms)
            for name, _ in forms:
                field = layout.fields
                assert field is not None
                out[f"l_{name}"] = field[name][0].itemsize
            out["run"], out["source"], out["partition"] = run_id, b"source", 0
            out["ts"], out["seq"] = table.ts, table.seq
            out["instrument"] = names[table.instrument]
            out["offset"] = np.arange(number * rows, (number + 1) * rows)
            for name in values:
                out[name] = getattr(table, name)

            async def pieces(body: bytes = out.tobytes()) -> AsyncIterator[bytes]:
                yield head
                yield body
                yield tail

            await connection.copy_to_table(
                relation, source=pieces(), schema_name="millrace", format="binary"
            )
        return len(batches) * rows / (time.perf_counter() - begun)


async def sink_round(database: Database, batches: list[Any], run: str) -> float:
    """Return the rows per second of the sink's own way."""
    rows = len(batches[0].ts)
    instruments = universe(SYMBOLS)
    instruments.source_index("source")
    writer = Writer(f"bench:{run}")
    async with database.writing() as connection:
        await writer.prepare(connection, time.time_ns())
        await writer.begin(connection, {PLACE: 0})
        begun = time.perf_counter()
        for number, table in enumerate(batches):
            batch = Batch(run)
            offsets = np.arange(number * rows, (number + 1) * rows, dtype=np.int64)
            batch.add_table(instruments, table, offsets)
            batch.places[PLACE] = number + 1
            await writer.write(connection, batch, {PLACE: Stored(number, {})})
        return len(batches) * rows / (time.perf_counter() - begun)


async def measure(
    options: dict[str, Any], tier: str, relation: str, counts: Counts = _COUNTS
) -> Figures:
    """Return the medians of interleaved rounds into one table."""
    database = Database(options)
    batches = tables(relation, counts)
    sink, limit = [], []
    try:
        for number in range(-1, counts.rounds):
            async with database.writing() as connection:
                await connection.execute(f"TRUNCATE {relation}")
            first = await sink_round(database, batches, f"{relation}{number}")
            async with database.writing() as connection:
                await connection.execute(f"TRUNCATE {relation}")
            second = await limit_round(database, relation, batches, f"{relation}{number}")
            if number >= 0:  # the first round only warms up
                sink.append(first)
                limit.append(second)
    finally:
        await database.close()
    return Figures(tier, relation, statistics.median(sink), statistics.median(limit))


async def prepared(server: EmbeddedServer, tier: str) -> dict[str, Any]:
    """Make a database of a tier and return how to connect to it."""
    address = server.running()
    assert address is not None
    await make_database(address.options(), tier, with_timescale=tier != "plain")
    options = {**address.options(), "database": tier}
    database = Database(options)
    await migrate(database)
    await database.close()
    return options


def run() -> list[Figures]:
    """Measure trades and quotes on every tier that is here, print a table and return it."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    figures = []
    try:
        for tier in ("plain", "timescale")[: 1 + has_timescale()]:
            server = EmbeddedServer(folder / tier, with_timescale=tier != "plain")
            with server:
                options = asyncio.run(prepared(server, tier))
                figures += [
                    asyncio.run(measure(options, tier, relation))
                    for relation in ("trades", "quotes")
                ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(figures, _COUNTS)
    return figures


def show(figures: list[Figures], counts: Counts) -> None:
    """Print the table and what must be reached."""
    print(f"ingest, {counts.rows:,} rows a batch, medians of {counts.rounds} rounds, rows/s")
    print(f"  {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"  {'tier':10} {'table':8} {'sink':>12} {'binary COPY':>12} {'ratio':>6}")
    for item in figures:
        print(
            f"  {item.tier:10} {item.relation:8} {item.sink:12,.0f} {item.limit:12,.0f}"
            f" {item.ratio:6.2f}"
        )
    show_verdict(
        [
            Target(f"{item.relation} ({item.tier}) by COPY's", item.ratio, _RATIO_MIN)
            for item in figures
        ]
    )


if __name__ == "__main__":
    run()
