"""Questions about orders: as they stood at a moment, what happened to them, and why.

An order is one command and the events behind it, up to the moment that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.enums import OrderStatus
from streams.cursors import read_cursor, write_cursor
from streams.database.connecting import Database
from streams.database.paging import ORDER, Where, limit_of, ordered, storable
from streams.database.queries_records import places_of, published_of, record_of
from streams.database.tables import FLOW_BY_NAME
from streams.history import LIMIT_MAX, NOW, Filters, Moment, Page, StoredOrder, Window
from streams.log import Published
from streams.stored_orders import folded

_KEY = (int, int, int, str)
_OWN = ("run_id", *ORDER, "account_id", "client_order_id", "body")
_CHAIN = (
    "audit",
    "orders",
    "order_receipts",
    "risk_decisions",
    "order_events",
    "fills",
    "positions",
)
"""Tables whose rows belong to an order, in the order of cause and effect at one instant."""

_CAUSES = ("strategy_signals", "audit")

OrderKey = tuple[str, str]


async def orders(
    database: Database,
    window: Window,
    filters: Filters,
    statuses: Sequence[OrderStatus],
    as_of: Moment,
) -> Page[StoredOrder]:
    """Return orders asked for within the window as they stood."""
    limit = limit_of(window.limit)
    key = read_cursor("orders", window.cursor, *_KEY)
    async with (
        database.reading() as connection,
        connection.transaction(isolation="repeatable_read"),
    ):
        rows = await _submits(connection, window, filters, statuses, as_of, key, limit + 1)
        items = await _stand(connection, window.run_id, rows[:limit], as_of)
    cursor = ""
    if len(rows) > limit:
        cursor = write_cursor("orders", [rows[limit - 1][name] for name in ORDER])
    return Page(items, cursor, places_of(rows[:limit]))


async def _submits(
    connection: Any,
    window: Window,
    filters: Filters,
    statuses: Sequence[OrderStatus],
    as_of: Moment,
    key: tuple[Any, ...] | None,
    count: int,
) -> list[Any]:
    """Return the first command of each order that is asked for."""
    newest = window.is_newest_first
    where = Where(window.run_id, prefix="o.")
    own = filters._replace(instrument_id="", instrument_ids=())
    where.filters(own, FLOW_BY_NAME["orders"].fields)
    where.span(window.first_ns, window.until_ns)
    where.behind(key, ORDER, newest=newest)
    if as_of.ts_ns is not None:
        where.moment(Moment(as_of.ts_ns), "o.")
    # An id that comes again within its account is the same order: its first command counts.
    where.add(
        "NOT EXISTS (SELECT FROM orders f WHERE f.run_id = o.run_id"
        " AND f.account_id = o.account_id AND f.client_order_id = o.client_order_id"
        " AND (f.ts_ns, f.log_partition, f.log_offset, f.event_id)"
        " < (o.ts_ns, o.log_partition, o.log_offset, o.event_id))"
    )
    last = Where()
    last.values = where.values
    last.moment(as_of, "e.")
    if as_of.offset is not None:
        # A place in the log of events: what has none up to there was not an order yet.
        where.add("last.status IS NOT NULL")
    named = [*filters.instrument_ids, *filter(None, [filters.instrument_id])]
    if named:
        # After a symbol change an order is one of the new instrument: its events say so. Looked up
        # for every order of a run that would take seconds; few began under one of these names.
        began = await _names_before(connection, window.run_id, named)
        where.add("o.instrument_id = ANY({})", began)
        where.add("coalesce(last.instrument_id, o.instrument_id) = ANY({})", named)
    if statuses:
        where.add(
            "coalesce(last.status, refused.status, 'INITIALIZED') = ANY({})",
            [status.value for status in statuses],
        )
    receipt = Where()
    receipt.values = where.values
    if as_of.ts_ns is not None:
        receipt.moment(Moment(as_of.ts_ns), "r.")
    columns = ", ".join(f"o.{name}" for name in _OWN)
    rows: list[Any] = await connection.fetch(
        f"""
        SELECT {columns} FROM orders o
        LEFT JOIN LATERAL (
            SELECT e.status, e.instrument_id FROM order_events e
            WHERE e.run_id = o.run_id AND e.account_id = o.account_id
                AND e.client_order_id = o.client_order_id AND {last}
            ORDER BY {ordered(ORDER, newest=True, prefix="e.")} LIMIT 1
        ) last ON true
        LEFT JOIN LATERAL (
            SELECT 'DENIED' AS status FROM order_receipts r
            WHERE r.run_id = o.run_id AND r.account_id = o.account_id
                AND r.client_order_id = o.client_order_id AND r.causation_id = o.event_id
                AND r.outcome = 'REFUSED' AND {receipt}
            LIMIT 1
        ) refused ON true
        WHERE {where} ORDER BY {ordered(ORDER, newest=newest, prefix="o.")}
        LIMIT {where.mark(count)}
        """,  # noqa: S608 - names of ours; values are parameters
        *where.values,
    )
    return rows


async def _names_before(connection: Any, run_id: str, named: Sequence[str]) -> list[str]:
    """Return ids with those that became them by symbol changes within the run."""
    changes = await connection.fetch(
        "SELECT DISTINCT instrument_id, new_symbol FROM corporate_actions"
        " WHERE run_id = $1 AND kind = 'SYMBOL_CHANGE'",
        storable(run_id),
    )
    found = set(named)
    for _ in changes:  # a name may have changed as often as that
        for old, new in changes:
            # The new symbol is an id, or a symbol at the venue of the old one.
            if found & {new, f"{new}.{old.rpartition('.')[2]}"}:
                found.add(old)
    return sorted(found)


async def _stand(
    connection: Any, run_id: str, rows: Sequence[Any], as_of: Moment
) -> list[StoredOrder]:
    """Return the orders of these commands as they stood."""
    keys = [(row["account_id"], row["client_order_id"]) for row in rows]
    events = await _of_orders(connection, "order_events", run_id, keys, as_of)
    told = await _of_orders(connection, "order_receipts", run_id, keys, Moment(as_of.ts_ns))
    return [
        folded(record_of("orders", row), events.get(key, []), told.get(key, []))
        for key, row in zip(keys, rows, strict=True)
    ]


async def _of_orders(
    connection: Any, relation: str, run_id: str, keys: Sequence[OrderKey], as_of: Moment
) -> dict[OrderKey, list[Any]]:
    """Return the records of some orders by order, the oldest first."""
    where = Where(run_id)
    where.add(
        "(account_id, client_order_id) IN (SELECT * FROM unnest({}::text[], {}::text[]))",
        [account for account, _ in keys],
        [client for _, client in keys],
    )
    where.moment(as_of)
    rows = await connection.fetch(
        f"SELECT run_id, account_id, client_order_id, event_id, body FROM {relation}"  # noqa: S608 - names of ours
        f" WHERE {where} ORDER BY {ordered(ORDER, newest=False)}",
        *where.values,
    )
    found: dict[OrderKey, list[Any]] = {}
    for row in rows:
        key = (row["account_id"], row["client_order_id"])
        found.setdefault(key, []).append(record_of(relation, row))
    return found


async def order(
    database: Database, run_id: str, client_order_id: str, account_id: str, as_of: Moment
) -> StoredOrder | None:
    """Return one order; without an account the newest of that id."""
    filters = Filters(account_id=account_id, client_order_id=client_order_id)
    page = await orders(database, Window(run_id, limit=1), filters, (), as_of)
    return page.items[0] if page.items else None


async def of_order(
    database: Database,
    relation: str,
    run_id: str,
    client_order_id: str,
    account_id: str,
    as_of: Moment = NOW,
) -> list[Any]:
    """Return the records of one table about orders of an id, the oldest first."""
    where = Where(run_id)
    where.filters(
        Filters(account_id=account_id, client_order_id=client_order_id),
        FLOW_BY_NAME[relation].fields,
    )
    where.moment(as_of)
    async with database.reading() as connection:
        if not account_id:
            where.add(
                "account_id IN (SELECT account_id FROM orders WHERE run_id = $1"
                " AND client_order_id = $2)"
            )
        rows = await connection.fetch(
            f"SELECT run_id, event_id, body FROM {relation} WHERE {where}"  # noqa: S608 - names of ours
            f" ORDER BY {ordered(ORDER, newest=False)} LIMIT {where.mark(LIMIT_MAX)}",
            *where.values,
        )
    return [record_of(relation, row) for row in rows]


async def order_causes(
    database: Database, run_id: str, client_order_id: str, account_id: str
) -> list[Published]:
    """Return every stored record that belongs to an order, and the causes behind them."""
    commands = await of_order(database, "orders", run_id, client_order_id, account_id)
    correlations = sorted({c.correlation_id for c in commands if c.correlation_id})
    accounts = sorted({c.account_id for c in commands})
    found: dict[str, tuple[tuple[int, int, int], Published]] = {}
    async with database.reading() as connection:
        for rank, relation in enumerate(_CHAIN):
            where = Where(run_id)
            where.add("correlation_id = ANY({})", correlations)
            # Another account may have an order of the same id, and so of the same correlation; a
            # command to many has no account.
            where.add("coalesce(account_id, '') = ANY({})", ["", *accounts])
            await _take(connection, relation, where, rank + 1, found)
        # A signal and the order that follows from it stand side by side: of one cause, at one time.
        where = Where(run_id)
        where.add("ts_ns = ANY({})", sorted({c.ts_event_ns for c in commands}))
        where.add("causation_id = ANY({})", sorted({c.causation_id for c in commands} - {""}))
        where.add("strategy_id = ANY({})", sorted({c.strategy_id for c in commands}))
        await _take(connection, "strategy_signals", where, 0, found)
        missing = {getattr(item.record, "causation_id", "") for _, item in found.values()}
        for relation in _CAUSES:
            where = Where(run_id)
            where.add("event_id = ANY({})", sorted(missing - found.keys() - {""}))
            await _take(connection, relation, where, 0, found)
    return [item for _, item in sorted(found.values(), key=lambda pair: pair[0])]


async def _take(
    connection: Any,
    relation: str,
    where: Where,
    rank: int,
    found: dict[str, tuple[tuple[int, int, int], Published]],
) -> None:
    rows = await connection.fetch(
        f"SELECT run_id, ts_ns, log_partition, log_offset, event_id, body FROM {relation}"  # noqa: S608 - names of ours
        f" WHERE {where} ORDER BY {ordered(ORDER, newest=False)} LIMIT {where.mark(LIMIT_MAX)}",
        *where.values,
    )
    for row in rows:
        place = (row["ts_ns"], rank, row["log_offset"])
        found.setdefault(row["event_id"], (place, published_of(relation, row)))
