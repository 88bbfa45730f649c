"""How a run stood: the newest record of everything that has a state, as its topics had it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from schemas.identifiers import BAR_SOURCE, source_id
from schemas.market_data import Bar, Quote, Trade
from schemas.portfolio import EquityMark
from schemas.topics import (
    MARKET_BARS,
    MARKET_EVENTS,
    PORTFOLIO_EQUITY,
    REFERENCE_ACTIONS,
    REFERENCE_INSTRUMENTS,
    REFERENCE_RATES,
    SYSTEM_RUNS,
)
from streams.database import queries_records as records
from streams.database.connecting import Database
from streams.database.paging import Where, storable, stretches
from streams.history import Moment
from streams.log import Published

_STATES = (
    ("positions", ("account_id", "strategy_id", "instrument_id")),
    ("account_snapshots", ("account_id", "strategy_id")),
    ("risk_limits", ("scope", "scope_id")),
    ("breaker_changes", ("scope", "scope_id")),
    ("strategy_states", ("strategy_id",)),
    ("strategy_signals", ("strategy_id", "instrument_id")),
)
_DAY_NS = 86_400_000_000_000
_SEARCHED_NS = 31 * _DAY_NS
"""How far back a price is looked for: what was silent longer is not valued."""

_PRICES = ("price", "size")
_QUOTE = ("bid_price", "ask_price", "bid_size", "ask_size")
_BAR = ("interval", "open", "high", "low", "close", "volume", "vwap", "trade_count")
_AMOUNTS = ("equity", "cash", "gross_exposure", "net_exposure", "drawdown")

_SOUND = {
    "trades": "price > 0 AND price < 'Infinity' AND size >= 0",
    "bars": "close > 0 AND close < 'Infinity'",
}
"""What a position is valued by; nothing is by a price that the market stage leaves out."""

_ORIGIN = ("source", "source_seq", "instrument_id")

Key = tuple[str, ...]


async def state(database: Database, run_id: str, as_of: Moment) -> list[Published]:
    """Return the records that tell how a run stood, by topic and offset.

    The manifest counts from the run's beginning. Beside the newest of everything stand all
    corporate actions, and all changes of positions by them: what a position was paid is a sum over
    them.
    """
    runs = await records.runs(database, 1, "", run_id)
    manifests = [r.manifest for r in runs.items if r.manifest]
    defined = await records.newest(
        database, "instruments", run_id, ("instrument_id",), moment=as_of
    )
    began_with = [
        instrument
        for manifest in manifests
        for instrument in manifest.instruments
        if as_of.ts_ns is None or instrument.ts_event_ns <= as_of.ts_ns
    ]
    found = _counted(REFERENCE_INSTRUMENTS, began_with + [item.record for item in defined])
    found += [Published(SYSTEM_RUNS, 0, 0, manifest) for manifest in manifests]
    actions = await records.every(database, "corporate_actions", run_id, as_of)
    found += _counted(REFERENCE_ACTIONS, [item.record for item in actions])
    pair = ("base_currency", "quote_currency")
    rates = await records.newest(database, "exchange_rates", run_id, pair, moment=as_of)
    found += _counted(REFERENCE_RATES, [item.record for item in rates])
    modes = await records.every(database, "audit", run_id, as_of, "record_type = 'set_autonomy'")
    found += modes[-1:]
    changes = await records.every(database, "positions", run_id, as_of, "reason <> 'fill'")
    shares: set[Key] = set()
    for relation, keys in _STATES:
        newest = await records.newest(database, relation, run_id, keys, moment=as_of)
        if relation == "account_snapshots":
            shares = {tuple(getattr(item.record, key) for key in keys) for item in newest}
        elif relation == "positions":
            known = {(item.partition, item.offset) for item in newest}
            newest += [item for item in changes if (item.partition, item.offset) not in known]
        found += newest
    names = {(i.record.instrument_id,) for i in found if i.topic == REFERENCE_INSTRUMENTS}  # type: ignore[attr-defined]
    series: tuple[tuple[str, Key, Key, Collection[Key], Callable[[Any, str], Published]], ...] = (
        ("trades", ("instrument_id",), (*_ORIGIN, *_PRICES), names, _trade),
        ("quotes", ("instrument_id",), (*_ORIGIN, *_QUOTE), names, _quote),
        ("bars", ("instrument_id",), (*_ORIGIN, *_BAR), names, _bar),
        ("account_equity", ("account_id", "strategy_id"), _AMOUNTS, shares, _mark),
    )
    for relation, key, columns, wanted, make in series:
        rows = await _newest(database, relation, run_id, as_of, key, columns, wanted)
        found += [make(row, run_id) for row in rows]
    return sorted(found, key=_order)


def _counted(topic: str, items: list[Any]) -> list[Published]:
    """Return records in their order at offsets of ours: they come from more than one topic."""
    return [Published(topic, 0, number, record) for number, record in enumerate(items)]


def _order(item: Published) -> tuple[bool, str, int, int]:
    return item.topic != REFERENCE_INSTRUMENTS, item.topic, item.partition, item.offset


async def _newest(
    database: Database,
    relation: str,
    run_id: str,
    as_of: Moment,
    keys: Key,
    columns: Key,
    wanted: Collection[Key],
) -> list[Any]:
    """Return the newest row of each key, searched backwards until all that are wanted are found."""
    async with database.reading() as connection:
        span = await connection.fetchrow(
            "SELECT min(first_ns) AS first_ns, max(last_ns) AS last_ns FROM spans"
            " WHERE run_id = $1 AND (relation = $2 OR starts_with(relation, $2 || '/'))",
            storable(run_id),
            relation,
        )
        if span["last_ns"] is None:
            return []
        until_ns = span["last_ns"] + 1
        if as_of.ts_ns is not None:
            until_ns = min(until_ns, as_of.ts_ns + 1)
        first_ns = max(span["first_ns"], until_ns - _SEARCHED_NS)
        found: dict[Key, Any] = {}
        names = ", ".join(f'"{name}"' for name in dict.fromkeys((*keys, *columns)))
        revision = "revision DESC, " if relation == "bars" else ""
        async for low, high in stretches(first_ns, until_ns, newest=True):
            where = Where(run_id)
            where.span(low, high)
            if relation in _SOUND:
                where.add(_SOUND[relation])
            rows = await connection.fetch(
                f"SELECT DISTINCT ON ({', '.join(keys)})"  # noqa: S608 - names of ours
                f" {names}, ts_ns, log_partition, log_offset"
                f" FROM {relation} WHERE {where}"
                f" ORDER BY {', '.join(keys)}, ts_ns DESC, {revision}"
                "log_partition DESC, log_offset DESC",
                *where.values,
            )
            for row in rows:
                found.setdefault(tuple(row[key] for key in keys), row)
            if found.keys() >= set(wanted):
                break
    return list(found.values())


def _head(row: Any, run_id: str) -> dict[str, Any]:
    return {
        "event_id": source_id(row["source"], row["instrument_id"], row["source_seq"]),
        "ts_event_ns": row["ts_ns"],
        "run_id": run_id,
        "source": row["source"],
        "source_seq": row["source_seq"],
        "instrument_id": row["instrument_id"],
    }


def _at(topic: str, row: Any, record: Any) -> Published:
    return Published(topic, row["log_partition"], row["log_offset"], record)


def _trade(row: Any, run_id: str) -> Published:
    record = Trade(**_head(row, run_id), **{name: row[name] for name in _PRICES})
    return _at(MARKET_EVENTS, row, record)


def _quote(row: Any, run_id: str) -> Published:
    record = Quote(**_head(row, run_id), **{name: row[name] for name in _QUOTE})
    return _at(MARKET_EVENTS, row, record)


def _bar(row: Any, run_id: str) -> Published:
    record = Bar(**_head(row, run_id), **{name: row[name] for name in _BAR})
    return _at(MARKET_BARS if row["source"] == BAR_SOURCE else MARKET_EVENTS, row, record)


def _mark(row: Any, run_id: str) -> Published:
    amounts = [row[name] for name in _AMOUNTS]
    place = (row["log_partition"], row["log_offset"])
    record = EquityMark(
        f"{PORTFOLIO_EQUITY}/{place[0]}/{place[1]}",
        row["ts_ns"],
        "",
        "",
        row["account_id"],
        row["strategy_id"],
        *amounts,
    )
    record.run_id = run_id
    return Published(PORTFOLIO_EQUITY, *place, record)
