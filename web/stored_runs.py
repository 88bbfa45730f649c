"""Runs that only the database knows: their state as read models, their lists asked page by page.

Where a run's journal is at hand its records are folded (``web.runs``). Where it is not, the newest
record of everything that has a state is taken from the database into the same read models, so that
the same handlers answer; lists are marked as incomplete, and are read from the database.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from streams.history import History, Moment, StoredRun
from web.history import stored
from web.problems import FieldError, invalid
from web.runs import Place
from web.views.models import Views

_KEPT = 8
_FRESH_S = 2.0


class StoredRuns:
    """Reads the state of stored runs and keeps the last few for a moment."""

    def __init__(self, make_views: Callable[[], Views]) -> None:
        self._make_views = make_views
        self._kept: OrderedDict[tuple[str, Place], tuple[float, Views]] = OrderedDict()

    async def views(
        self, history: History, run_id: str, place: Place, *, is_running: bool = False
    ) -> Views | None:
        """Return the read models of a run at a place, None for a run that is not stored.

        None also for one that ``is_running`` and is not stored up to that place yet. Raises
        ProblemError: 422 for a place that is an offset, 503 while the database is away.
        """
        key = (run_id, place)
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < _FRESH_S:
            return kept[1]
        found = await stored(history.runs(1, "", run_id))
        if not found.items or (is_running and _ends_before(found.items[0], place)):
            return None
        if place.topic:
            remedy = "give a time: the run's journal is not at hand, and only that has all offsets"
            raise invalid([FieldError("/as_of", "is an offset", remedy, place.topic)])
        views = self._make_views()
        views.apply(await stored(history.state(run_id, Moment(place.ts_ns))))
        views.forget()
        self._kept[key] = (time.monotonic(), views)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return views


def _ends_before(run: StoredRun, place: Place) -> bool:
    return run.last_ns is None or (place.ts_ns is not None and run.last_ns <= place.ts_ns)
