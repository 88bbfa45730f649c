"""Where bars that are stamped by their start end: with the session that they belong to.

A nominal length reaches over the close: the hour from 15:30 in New York has half an hour of trades,
and a day from the open ends with its session. Whoever waits longer for such a bar than the market
did gets it late, and one that ends earlier than its last trade tells the future. So an end moves to
a close only where trading stops there.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt

from schemas.columns import Ints
from schemas.instruments import Instrument
from schemas.sessions import SessionTable
from streams.calendars import day_of_ns, sessions

_DAY_NS = 86_400_000_000_000
_NEVER = np.iinfo(np.int64).max
_PADDING = timedelta(days=2)


def ends_of_bars(instrument: Instrument, start: Ints, length_ns: int) -> Ints:
    """Return the ends of intraday bars that begin at ``start`` (ns UTC), at most a length later.

    A bar that begins in a session and reaches beyond it ends at its close. Bars that begin outside
    of sessions keep their length, and so do those that reach into the next session, which may open
    at that very close.
    """
    ends = start + length_ns
    table = _sessions_around(instrument, start)
    if table is None:
        return ends
    index = table.session_of(start)
    close, next_open = table.close_ns[index], np.append(table.open_ns, _NEVER)[index + 1]
    is_beyond = (index >= 0) & (ends > close) & (ends <= next_open)
    return np.where(is_beyond, close, ends)


def ends_of_days(instrument: Instrument, start: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the ends of daily bars that begin at ``start`` (ns UTC), and which have a session.

    A bar belongs to the session under way at its start, else to the next one, if that opens within
    a day. It ends at the close; where the next session opens at once, and without a calendar, it
    lasts a whole day.
    """
    ends, is_session = start + _DAY_NS, np.ones(len(start), np.bool_)
    if not instrument.calendar:
        return ends, is_session
    table = _sessions_around(instrument, start)
    if table is None:
        return ends, ~is_session
    index = np.searchsorted(table.close_ns, start, "right")
    opens = np.append(table.open_ns, [_NEVER, _NEVER])
    close = np.append(table.close_ns, _NEVER)[index]
    is_session = opens[index] < ends
    does_stop = opens[index + 1] > close
    return np.where(is_session & does_stop, close, ends), is_session


def _sessions_around(instrument: Instrument, start: Ints) -> SessionTable | None:
    """Return the sessions from before the first start until after the last, None without any."""
    if not instrument.calendar or not len(start):
        return None
    first, last = day_of_ns(int(start.min())), day_of_ns(int(start.max()))
    table = sessions(instrument.calendar, first - _PADDING, last + _PADDING)
    return table if len(table.day) else None
