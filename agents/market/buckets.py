"""Which interval an instant belongs to.

- 1s, 5s, 1m, 5m and 15m are counted from the UTC epoch.
- 1h is counted from midnight in the instrument's time zone; the last hour of a day ends at the next
  midnight at the latest. In zones that differ from UTC by whole hours these are the hours of UTC,
  whatever daylight saving time does.
- 1d is the regular session of the instrument's calendar, open instant included, close instant
  excluded, like every other interval: what prints at or after the close (the closing auction among
  it) is in no daily bar. Without a calendar it is the UTC day.

Every interval holds its start and does not hold its end.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agents.market.grouping import Order, interval_heads
from schemas.columns import Codes, Ints
from schemas.errors import ConfigError, DataError
from schemas.instruments import Universe
from schemas.market_data import INTERVAL_NS, INTERVALS
from schemas.sessions import SessionTable

HOUR = INTERVALS.index("1h")
DAY = INTERVALS.index("1d")
_HOUR_NS = INTERVAL_NS[HOUR]
_DAY_NS = INTERVAL_NS[DAY]
_SLACK_NS = 14 * _DAY_NS
NO_BUCKET = -(2**62)
"""Start of the interval of an instant that lies in none."""


class Buckets:
    """Intervals of the instruments of one universe.

    ``sessions`` holds by name the session table of each calendar, which is asked for "1d", and the
    local days of each time zone but UTC, from midnight to midnight, which are asked for "1h".
    """

    __slots__ = ("_groups", "_names", "_sessions", "_universe")

    def __init__(self, universe: Universe, sessions: Mapping[str, SessionTable]) -> None:
        self._universe = universe
        self._sessions = sessions
        self._groups: dict[int, Codes] = {}
        self._names: dict[int, list[str]] = {}

    def starts(self, interval: int, time: Ints, instrument: Codes) -> Ints:
        """Return the start of the interval that each instant ``time`` (ns UTC) lies in.

        ``interval`` is an index into INTERVALS. NO_BUCKET stands for instants outside the sessions.
        Raises ConfigError if a calendar or time zone has no table, DataError for instants far
        outside of it.
        """
        if not len(time):
            return time
        if interval < HOUR:
            length = INTERVAL_NS[interval]
            return time // length * length
        groups, names = self._grouping(interval)
        if len(names) == 1:
            return self._group_starts(interval, names[0], time)
        group = groups[instrument]
        present = np.unique(group).tolist()
        if len(present) == 1:
            return self._group_starts(interval, names[present[0]], time)
        out = np.empty(len(time), np.int64)
        for i in present:
            rows = group == i
            out[rows] = self._group_starts(interval, names[i], time[rows])
        return out

    def runs(self, interval: int, time: Ints, instrument: Codes) -> tuple[Order, Ints]:
        """Return the first row of each run of one instrument and interval, and the starts.

        ``time`` never falls within an instrument, rows of one instrument stand together; there is
        at least one row.
        """
        if instrument[0] == instrument[-1]:
            if interval < HOUR:
                heads = interval_heads(time, INTERVAL_NS[interval])
                return heads, self.starts(interval, time[heads], instrument[heads])
            ends = np.array([0, len(time) - 1])
            first, last = self.starts(interval, time[ends], instrument[ends])
            if first == last != NO_BUCKET:
                return ends[:1], np.array([first])
        starts = self.starts(interval, time, instrument)
        changes = starts[1:] != starts[:-1]
        if instrument[0] != instrument[-1]:
            changes |= instrument[1:] != instrument[:-1]
        heads = np.concatenate(([0], np.flatnonzero(changes) + 1))
        return heads, starts[heads]

    def ends(self, interval: int, starts: Ints, instrument: Codes) -> Ints:
        """Return the ends of the intervals that begin at ``starts`` (values of ``starts``)."""
        if interval < HOUR or not len(starts):
            return starts + INTERVAL_NS[interval]
        groups, names = self._grouping(interval)
        if len(names) == 1:
            return self._group_ends(interval, names[0], starts)
        group = groups[instrument]
        out = np.empty(len(starts), np.int64)
        for i in np.unique(group).tolist():
            rows = group == i
            out[rows] = self._group_ends(interval, names[i], starts[rows])
        return out

    def _grouping(self, interval: int) -> tuple[Codes, list[str]]:
        """Return each instrument's group and the groups' names: calendars or time zones."""
        groups = self._groups.get(interval)
        instruments = self._universe.instruments
        if groups is None or len(groups) != len(instruments):
            keys = [i.calendar if interval == DAY else i.time_zone for i in instruments]
            self._names[interval] = names = sorted(set(keys))
            place = {name: i for i, name in enumerate(names)}
            self._groups[interval] = groups = np.array([place[key] for key in keys], np.int32)
        return groups, self._names[interval]

    def _group_starts(self, interval: int, name: str, time: Ints) -> Ints:
        if interval == DAY:
            if not name:
                return time // _DAY_NS * _DAY_NS
            table = self._table(name, time)
            session = np.searchsorted(table.open_ns, time, "right") - 1
            inside = (session >= 0) & (time < table.close_ns[session])
            return np.where(inside, table.open_ns[session], NO_BUCKET)
        if name == "UTC":
            return time // _HOUR_NS * _HOUR_NS
        midnights = self._table(name, time).open_ns
        midnight = midnights[np.searchsorted(midnights, time, "right") - 1]
        return midnight + (time - midnight) // _HOUR_NS * _HOUR_NS

    def _group_ends(self, interval: int, name: str, starts: Ints) -> Ints:
        known = starts > NO_BUCKET
        if interval == DAY:
            if not name:
                return starts + _DAY_NS
            table = self._sessions[name]
            session = np.searchsorted(table.open_ns, starts, "right") - 1
            return np.where(known, table.close_ns[session], NO_BUCKET)
        if name == "UTC":
            return starts + _HOUR_NS
        table = self._sessions[name]
        day = np.searchsorted(table.open_ns, starts, "right") - 1
        return np.minimum(starts + _HOUR_NS, table.close_ns[day])

    def _table(self, name: str, time: Ints) -> SessionTable:
        """Return the sessions of calendar ``name``, which must reach as far as ``time``."""
        table = self._sessions.get(name)
        if table is None or not len(table.open_ns):
            raise ConfigError(
                "there is no session table for a calendar, or none of a time zone's days",
                field="calendar",
                value=name,
                remedy="hand the market stage what streams.calendars.session_tables returns",
            )
        low, high = int(time.min()), int(time.max())
        if low < int(table.open_ns[0]) - _SLACK_NS or high > int(table.close_ns[-1]) + _SLACK_NS:
            bad = low if low < int(table.open_ns[0]) - _SLACK_NS else high
            raise DataError(
                f"an event lies outside the sessions known of {name}",
                field="ts",
                value=bad,
                remedy="check the event's time, or hand in a session table that reaches further",
            )
        return table
