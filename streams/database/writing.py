"""One batch and the places behind it, in one transaction.

Series are COPYed into their tables, flows go through a staging table and ON CONFLICT, and the
places of the sink move from where it read them to behind the batch. If they are not where it read
them, another sink has stored this batch: everything is rolled back. So rows are neither lost nor
doubled, whenever a sink dies and however many there are.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from schemas.errors import MillraceError
from streams.database import rollups
from streams.database.batches import Batch, FlowRow, Place, Reject
from streams.database.copying import HEADER, TRAILER, Block, Text, encode
from streams.database.migrating import server_of
from streams.database.partitions import Partitions, ranges_between
from streams.database.tables import BARS, FLOW_BY_NAME, SCHEMA, SERIES_BY_NAME, Flow
from streams.database.tiers import Server

_PIECE_BYTES = 1 << 23


class Stored(NamedTuple):
    """Where a sink stands in one partition: the next offset, and what it keeps beside it."""

    next_offset: int
    state: dict[str, int]


Moves = Mapping[Place, tuple[int, int, dict[str, int] | None]]
"""For each place the present offset, the following one, and what goes along if that changed."""


Span = tuple[str, str, int, int, int]
"""Run, relation, first and last time, rows."""

_MOVE = """
WITH moved AS (
    UPDATE sink_positions AS p
    SET next_offset = n.following, state = coalesce(n.state, p.state), updated_at = now()
    FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::jsonb[])
        AS n(topic, partition, present, following, state)
    WHERE p.sink = $1 AND p.topic = n.topic AND p.partition = n.partition
        AND p.next_offset = n.present
    RETURNING 1
), widened AS (
    INSERT INTO spans AS s (run_id, relation, first_ns, last_ns, rows)
    SELECT * FROM unnest($7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[])
    ON CONFLICT (run_id, relation) DO UPDATE SET
        first_ns = least(s.first_ns, excluded.first_ns),
        last_ns = greatest(s.last_ns, excluded.last_ns),
        rows = s.rows + excluded.rows
)
SELECT count(*) FROM moved
"""


class PlaceMovedError(MillraceError):
    """Another sink of the same name has moved the places; what we had read is stored."""


class Writer:
    """Writes the batches of one sink over a connection that is handed in with each call."""

    def __init__(self, sink: str) -> None:
        self.sink = sink
        self.rejected = 0
        self._server: Server | None = None
        self._partitions = Partitions()
        self._staged: tuple[object, set[str]] = (None, set())

    async def prepare(self, connection: Any, now_ns: int) -> Server:
        """Learn what the server is, and make partitions ahead of time where it needs them."""
        self._server = await server_of(connection)
        if not self._server.tier.has_hypertables:
            await self._partitions.make_ahead(connection, now_ns)
        return self._server

    # ---- places

    async def positions(self, connection: Any) -> dict[Place, Stored]:
        """Return where the sink stands, as the database knows it."""
        rows = await connection.fetch(
            "SELECT topic, partition, next_offset, state FROM sink_positions WHERE sink = $1",
            self.sink,
        )
        return {
            (row["topic"], row["partition"]): Stored(row["next_offset"], json.loads(row["state"]))
            for row in rows
        }

    async def begin(self, connection: Any, places: Mapping[Place, int]) -> None:
        """Put the sink at ``places`` in partitions where it has no place yet."""
        await connection.executemany(
            "INSERT INTO sink_positions (sink, topic, partition, next_offset)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            [(self.sink, topic, partition, at) for (topic, partition), at in places.items()],
        )

    async def pass_over(self, connection: Any, place: Place, first: int, until: int) -> None:
        """Note that the records between two offsets are gone, and go on behind them."""
        async with connection.transaction():
            await self._move(connection, {place: (first, until, None)})
            await connection.execute(
                "INSERT INTO sink_gaps (sink, topic, partition, first_offset, next_offset)"
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                self.sink,
                *place,
                first,
                until,
            )

    # ---- batches

    async def write(
        self, connection: Any, batch: Batch, known: Mapping[Place, Stored]
    ) -> dict[Place, Stored]:
        """Store a batch that was read from ``known`` on; return the places behind it.

        Raises PlaceMovedError if the sink is not at ``known`` any more. Records that a table
        refuses are kept in ``sink_rejects`` with the reason.
        """
        moves: Moves = {
            place: (known[place].next_offset, at, batch.states.get(place))
            for place, at in batch.places.items()
        }
        await self._make_partitions(connection, batch.blocks)
        try:
            await self._store(connection, batch, moves, self._add_flow)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            # A partition was dropped meanwhile, or one row is to blame for all: find it.
            self._partitions = Partitions()
            await self._make_partitions(connection, batch.blocks)
            await self._store(connection, batch, moves, self._add_flow_by_row)
        return {
            place: Stored(at, state if state is not None else known[place].state)
            for place, (_, at, state) in moves.items()
        }

    async def _store(
        self,
        connection: Any,
        batch: Batch,
        moves: Moves,
        add_flow: Any,
    ) -> None:
        rejects = list(batch.rejects)
        async with connection.transaction():
            await self._move(connection, moves, _spans(batch))
            for relation, blocks in _by_relation(batch.blocks).items():
                await _copy(connection, relation, blocks)
            for relation in sorted(batch.flows):
                rows = batch.flows[relation]
                rejects += await add_flow(connection, FLOW_BY_NAME[relation], rows)
            await _add_rejects(connection, self.sink, rejects)
            server = self._server
            if server is not None and not server.tier.has_aggregates:
                for item in rollups.touched(batch.blocks):
                    await rollups.refresh(connection, item)
        self.rejected += len(rejects)

    async def _lock(self, connection: Any) -> None:
        """Let sinks of one name write one after another: neither meets the other's locks.

        With one place its row is lock enough.
        """
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"millrace sink {self.sink}"
        )

    async def _move(self, connection: Any, moves: Moves, spans: Sequence[Span] = ()) -> None:
        """Move the places by compare and set, and widen the spans of runs; in one statement."""
        if len(moves) > 1:
            await self._lock(connection)
        items = list(moves.items())
        done = await connection.fetchval(
            _MOVE,
            self.sink,
            [topic for (topic, _), _ in items],
            [partition for (_, partition), _ in items],
            [present for _, (present, _, _) in items],
            [following for _, (_, following, _) in items],
            [None if state is None else json.dumps(state) for _, (_, _, state) in items],
            *(list(column) for column in zip(*spans, strict=True)),
            *([] for _ in range(0 if spans else 5)),
        )
        if done != len(items):
            raise PlaceMovedError(
                "another sink of this name stores the same records",
                field="sink",
                value=self.sink,
                remedy="one is enough; the other waits until it is needed",
            )

    async def _make_partitions(self, connection: Any, blocks: Iterable[Block]) -> None:
        if self._server is None or self._server.tier.has_hypertables:
            return
        for relation, found in _by_relation(blocks).items():
            for block in found:
                ts = block.columns[1]
                assert isinstance(ts, np.ndarray)
                wanted = ranges_between(relation, int(ts.min()), int(ts.max()))
                await self._partitions.ensure(connection, wanted, relation)

    # ---- flows

    async def _add_flow(self, connection: Any, flow: Flow, rows: Sequence[FlowRow]) -> list[Reject]:
        """Add rows through the staging table of this connection."""
        stage = f"stage_{flow.relation}"
        owner, staged = self._staged
        if owner != connection.get_server_pid():
            staged = set()
            self._staged = (connection.get_server_pid(), staged)
        if stage not in staged:
            await connection.execute(
                f"CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {flow.relation})"
                " ON COMMIT DELETE ROWS"
            )
            staged.add(stage)
        await connection.copy_records_to_table(
            stage, records=[row.values for row in rows], columns=flow.names
        )
        names = _quoted(flow)
        await connection.execute(
            f"INSERT INTO {flow.relation} ({names}) SELECT {names} FROM {stage}"  # noqa: S608 - names of ours
            " ON CONFLICT (run_id, ts_ns, event_id) DO NOTHING"
        )
        return []

    async def _add_flow_by_row(
        self, connection: Any, flow: Flow, rows: Sequence[FlowRow]
    ) -> list[Reject]:
        """Add rows one by one; return those that the table does not take."""
        marks = ", ".join(f"${number}" for number in range(1, len(flow.names) + 1))
        insert = (
            f"INSERT INTO {flow.relation} ({_quoted(flow)}) VALUES ({marks})"  # noqa: S608 - names of ours
            " ON CONFLICT (run_id, ts_ns, event_id) DO NOTHING"
        )
        rejects = []
        for topic, values in rows:
            try:
                async with connection.transaction():
                    await connection.execute(insert, *values)
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                rejects.append(
                    Reject(topic, values[3], values[4], str(error), str(values[-1]).encode())
                )
        return rejects


def _quoted(flow: Flow) -> str:
    return ", ".join(f'"{name}"' for name in flow.names)


def _by_relation(blocks: Iterable[Block]) -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = {}
    for block in blocks:
        if block.rows:
            found.setdefault(block.series.relation, []).append(block)
    return found


async def _copy(connection: Any, relation: str, blocks: Sequence[Block]) -> None:
    """COPY blocks of one series into its table."""

    async def pieces() -> AsyncIterator[bytes]:
        yield HEADER
        for block in blocks:
            for piece in encode(block):
                for start in range(0, len(piece), _PIECE_BYTES):
                    # A piece that is small enough is not copied by this.
                    yield piece[start : start + _PIECE_BYTES]
        yield TRAILER

    await connection.copy_to_table(
        relation,
        source=pieces(),
        columns=SERIES_BY_NAME[relation].names,
        schema_name=SCHEMA,
        format="binary",
    )


async def _add_rejects(connection: Any, sink: str, rejects: Sequence[Reject]) -> None:
    if rejects:
        await connection.executemany(
            "INSERT INTO sink_rejects (sink, topic, partition, log_offset, reason, body)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            [(sink, *reject) for reject in rejects],
        )


def _spans(batch: Batch) -> list[Span]:
    """Return the spans of the runs and tables that the batch has rows of."""
    spans: dict[tuple[str, str], tuple[int, int, int]] = {}

    def widen(run_id: str, relation: str, first: int, last: int, rows: int) -> None:
        low, high, count = spans.get((run_id, relation), (first, last, 0))
        spans[run_id, relation] = (min(low, first), max(high, last), count + rows)

    for block in batch.blocks:
        runs, ts = block.columns[:2]
        assert isinstance(runs, Text)
        assert isinstance(ts, np.ndarray)
        for relation, rows in _parts(block):
            for code, run_id in enumerate(runs.names):
                times = ts[rows & (runs.codes == code)]
                if len(times):
                    widen(run_id, relation, int(times.min()), int(times.max()), len(times))
    for relation, flow_rows in batch.flows.items():
        for row in flow_rows:
            widen(row.values[0], relation, row.values[1], row.values[1], 1)
    return [
        (run_id.replace("\x00", "\ufffd"), relation, *span)
        for (run_id, relation), span in sorted(spans.items())
    ]


def _parts(block: Block) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return under which names rows count: bars by their interval."""
    relation = block.series.relation
    if block.series is not BARS:
        return [(relation, np.ones(block.rows, np.bool_))]
    kinds = block.columns[BARS.names.index("interval")]
    assert isinstance(kinds, Text)
    return [(f"{relation}/{name}", kinds.codes == code) for code, name in enumerate(kinds.names)]
