"""Partitions by time on plain PostgreSQL: made before rows come, dropped when they are old.

History of any age may come (a backtest of 2013), so a partition is made when its first row is
about to be written, and that of the present and the next one ahead of time. Trades and quotes have
a partition a month, bars and equity one a year, by UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from streams.database.tables import SCHEMA, SERIES

MONTHS = {"trades": 1, "quotes": 1, "bars": 12, "account_equity": 12}
"""Length of a partition in months; 12 begins with a year."""

_LOCK = 0x6D696C6C70617274
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Range(NamedTuple):
    """One partition: ``first_ns`` <= time < ``until_ns``."""

    name: str
    first_ns: int
    until_ns: int


def range_of(relation: str, ts_ns: int) -> Range:
    """Return the partition that an instant falls into."""
    at = _EPOCH + timedelta(microseconds=ts_ns // 1000)
    months = MONTHS[relation]
    month = (at.month - 1) // months * months + 1
    first = datetime(at.year, month, 1, tzinfo=UTC)
    following = month + months
    until = datetime(at.year + (following > 12), (following - 1) % 12 + 1, 1, tzinfo=UTC)
    suffix = f"y{at.year}" if months == 12 else f"y{at.year}m{month:02}"
    return Range(f"{relation}_{suffix}", _ns(first), _ns(until))


def ranges_between(relation: str, first_ns: int, last_ns: int) -> list[Range]:
    """Return the partitions for all instants from ``first_ns`` to ``last_ns``."""
    found = [range_of(relation, first_ns)]
    while found[-1].until_ns <= last_ns:
        found.append(range_of(relation, found[-1].until_ns))
    return found


def _ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


class Partitions:
    """Makes partitions, and remembers those that there are."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    async def ensure(self, connection: Any, wanted: list[Range], relation: str) -> None:
        """Make the partitions that are missing, each in a transaction of its own.

        Attaching a table waits for no reader, as making it in place would.
        """
        for item in wanted:
            if item.name in self._known:
                continue
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                if await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.{item.name}"):
                    self._known.add(item.name)
                    continue
                # The names are made of the table's own name and numbers; bounds are numbers.
                await connection.execute(
                    f"CREATE TABLE {SCHEMA}.{item.name} (LIKE {SCHEMA}.{relation}"
                    " INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
                )
                await connection.execute(
                    f"ALTER TABLE {SCHEMA}.{relation} ATTACH PARTITION {SCHEMA}.{item.name}"
                    f" FOR VALUES FROM ({item.first_ns}) TO ({item.until_ns})"
                )
            self._known.add(item.name)

    async def make_ahead(self, connection: Any, now_ns: int) -> None:
        """Make the partitions of the present and of the time behind it."""
        for series in SERIES:
            present = range_of(series.relation, now_ns)
            following = range_of(series.relation, present.until_ns)
            await self.ensure(connection, [present, following], series.relation)

    async def drop_before(self, connection: Any, relation: str, cutoff_ns: int) -> list[str]:
        """Drop the partitions that end at or before ``cutoff_ns``; return their names."""
        rows = await connection.fetch(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = to_regclass($1) ORDER BY 1",
            f"{SCHEMA}.{relation}",
        )
        dropped = []
        for row in rows:
            name = str(row["relname"])
            if _until_of(relation, name) > cutoff_ns:
                continue
            await connection.execute(f'DROP TABLE {SCHEMA}."{name}"')
            self._known.discard(name)
            dropped.append(name)
        return dropped


def _until_of(relation: str, name: str) -> int:
    """Return where a partition of ours ends, by its name; far away for one that is not ours."""
    suffix = name.removeprefix(f"{relation}_y")
    year, _, month = suffix.partition("m")
    if not year.isdecimal() or (month and not month.isdecimal()):
        return 2**63 - 1
    return range_of(relation, _ns(datetime(int(year), int(month or 1), 1, tzinfo=UTC))).until_ns
