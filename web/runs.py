"""Other runs, and other instants of a run: read models folded on demand, a few of them kept.

A backtest is queried as the live run is: its records are folded into the same read models, up to
the place that is asked for. Folding is work for a thread, one at a time, with a deadline. The
running run without a journal at hand is folded from its log, if that still has all of it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import NamedTuple, Protocol

import msgspec

from schemas.errors import MillraceError, NotFoundError, StorageError
from schemas.topics import CATALOGUE, TOPIC_BY_NAME, Topic
from streams.log import Log, Published
from streams.merging import in_order_of_time, time_of
from web.problems import (
    FieldError,
    ProblemError,
    history_needed,
    invalid,
    not_found,
    unavailable,
)
from web.result_files import ResultRows
from web.times import parse_time
from web.views.models import INTERNAL, Views

_KEPT = 8
_CHUNK = 500
_PAGE = 1_000
_WAITING_MAX = 16
_TIMEOUT_S = 60.0
_DISORDER_NS = 60_000_000_000
"""How far behind the time of one topic another may be."""

_OFFSET = re.compile(
    r"(?P<topic>[a-z.-]+\.v\d+)(?:/(?P<partition>\d{1,6}))?:(?P<offset>\d{1,18})", re.ASCII
)


class RunInfo(msgspec.Struct):
    """One run of the store: its id, and what its manifest says of it."""

    run_id: str
    mode: str
    began_ns: int
    output_hash: str


class RunStore(Protocol):
    """The runs whose records are at hand. All methods may block: they are called in threads."""

    def runs(self) -> list[RunInfo]:
        """Return all runs, sorted by id."""
        ...

    def version(self, run_id: str) -> str:
        """Return a text that changes when the run gets longer; raises NotFoundError."""
        ...

    def records(self, run_id: str) -> Iterable[list[Published]]:
        """Yield the records of a run in the order of its journal; raises NotFoundError."""
        ...

    def result(self, run_id: str, name: str) -> bytes:
        """Return the result file ``name`` of a finished run; raises NotFoundError."""
        ...

    def result_rows(self, run_id: str, name: str, offset: int, limit: int) -> ResultRows:
        """Return rows of a finished run's table from a byte on, 0 for the first.

        Raises NotFoundError, ConfigError for a byte at which no row begins.
        """
        ...


class NoRuns:
    """A store without any run, where no folder is at hand."""

    def runs(self) -> list[RunInfo]:
        """Return none."""
        return []

    def version(self, run_id: str) -> str:
        """Raise NotFoundError."""
        raise NotFoundError("there are no recorded runs here", field="run_id", value=run_id)

    def records(self, run_id: str) -> Iterator[list[Published]]:
        """Raise NotFoundError."""
        raise NotFoundError("there are no recorded runs here", field="run_id", value=run_id)

    def result(self, run_id: str, name: str) -> bytes:
        """Raise NotFoundError."""
        raise NotFoundError("there are no recorded runs here", field="run_id", value=run_id)

    def result_rows(self, run_id: str, name: str, offset: int, limit: int) -> ResultRows:
        """Raise NotFoundError."""
        raise NotFoundError("there are no recorded runs here", field="run_id", value=run_id)


class Place(NamedTuple):
    """How far to fold: records up to an instant (ns), or up to one offset of a topic, included."""

    ts_ns: int | None = None
    topic: str = ""
    offset: int = 0
    partition: int = 0


END = Place()


def parse_place(text: str) -> Place:
    """Return the place that ``as_of`` names; raises ProblemError (422) for none."""
    if not text:
        return END
    match = _OFFSET.fullmatch(text)
    if match is not None and match["topic"] in TOPIC_BY_NAME:
        place = Place(None, match["topic"], int(match["offset"]), int(match["partition"] or 0))
        partitions = TOPIC_BY_NAME[place.topic].partitions
        if place.partition >= partitions:
            remedy = f"{place.topic} has {partitions}, numbered from 0"
            raise invalid([FieldError("/as_of", "names no partition", remedy, text[:80])])
        return place
    ts_ns = parse_time(text, is_end=True)
    if ts_ns is None:
        remedy = "write 2013-10-07T14:00:00Z, or a topic and offset such as orders.events.v1:41"
        raise invalid([FieldError("/as_of", "is no time and no offset", remedy, text[:80])])
    return Place(ts_ns)


class _Folded(NamedTuple):
    views: Views
    version: str
    is_settled: bool

    def is_current(self, version: str) -> bool:
        """Return whether nothing has come since that could change it."""
        return self.is_settled or self.version == version


class FoldedRuns:
    """Folds runs of a store into read models and keeps the last few."""

    def __init__(
        self,
        store: RunStore,
        make_views: Callable[[], Views],
        log: Log,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self.store = store
        self._log = log
        self._make_views = make_views
        self._timeout_s = timeout_s
        self._kept: OrderedDict[tuple[str, Place], _Folded] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def views(self, run_id: str, place: Place) -> Views:
        """Return the read models of a run at a place.

        Raises ProblemError: 404 for an unknown run, and where the log does not have all of the
        running one any more; 503 while too much is being folded, or when that takes too long.
        """
        if self._waiting >= _WAITING_MAX:
            raise unavailable("too many runs are being read; try again", code="busy")
        self._waiting += 1
        end_s = time.monotonic() + self._timeout_s
        try:
            await self._my_turn()
            try:
                return await self._views(run_id, place, end_s)
            finally:
                self._turn.release()
        finally:
            self._waiting -= 1

    async def _my_turn(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turn.acquire()
        except TimeoutError as error:
            detail = "other runs were being read for as long as the deadline allows; try again"
            raise unavailable(detail, code="timeout") from error

    async def _views(self, run_id: str, place: Place, end_s: float) -> Views:
        key = (run_id, place)
        try:
            kept = self._kept[key] = await self._folded(run_id, place, end_s)
        except NotFoundError as error:
            raise not_found("run", run_id, "GET /api/system/runs lists them") from error
        except TimeoutError as error:
            raise unavailable(
                "the run is too long to be read within the deadline", code="timeout"
            ) from error
        except ProblemError:
            raise
        except MillraceError as error:
            raise ProblemError(500, "run_unreadable", f"the run cannot be read: {error}") from error
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return kept.views

    async def _folded(self, run_id: str, place: Place, end_s: float) -> _Folded:
        """Return a fold that is kept, or a new one where the run got longer in the meantime."""
        kept = self._kept.get((run_id, place))
        try:
            version = await asyncio.to_thread(self.store.version, run_id)
        except NotFoundError:
            if run_id != self._log.run_id:
                raise
            version = _version_of(self._log)
            if kept is None or not kept.is_current(version):
                kept = await self._fold_log(place, version, end_s)
            return kept
        if kept is None or not kept.is_current(version):
            kept = await asyncio.to_thread(self._fold, run_id, place, version, end_s)
        return kept

    async def _fold_log(self, place: Place, version: str, end_s: float) -> _Folded:
        """Fold the log of the running run, where no journal of it is at hand.

        It belongs to the event loop, so this is done there, a little at a time.
        """
        log, views = self._log, self._make_views()
        parts = [
            _pages(log, topic, partition, is_needed=views.folds(topic.name))
            for topic in CATALOGUE
            if topic.name not in INTERNAL
            for partition in range(log.partitions(topic.name))
        ]
        try:
            async with (
                asyncio.timeout(max(end_s - time.monotonic(), 0.0)),
                aclosing(in_order_of_time(parts)) as groups,
            ):
                async for group in groups:
                    for start in range(0, len(group), _CHUNK):
                        chunk = group[start : start + _CHUNK]
                        wanted, is_end = _upto(chunk, place)
                        views.apply(wanted)
                        if is_end or _is_behind(log, chunk[-1], place):
                            return _Folded(views, version, is_settled=True)
                        await asyncio.sleep(0)
        except StorageError as error:
            raise unavailable(f"the log cannot be read: {error.message}; try again") from error
        return _Folded(views, version, is_settled=False)

    def _fold(self, run_id: str, place: Place, version: str, deadline_s: float) -> _Folded:
        views = self._make_views()
        is_settled = False
        for group in self.store.records(run_id):
            if time.monotonic() > deadline_s:
                raise TimeoutError
            wanted, is_end = _upto(group, place)
            views.apply(wanted)
            is_settled = is_settled or len(wanted) < len(group)
            if is_end:
                is_settled = True
                break
        return _Folded(views, version, is_settled)


def _upto(group: list[Published], place: Place) -> tuple[list[Published], bool]:
    """Return the records of ``group`` that are wanted, and whether none may follow."""
    ts_ns = place.ts_ns
    if ts_ns is not None:
        return [item for item in group if time_of(item) <= ts_ns], False
    if place.topic:
        for number, item in enumerate(group):
            is_of_place = (item.topic, item.partition) == (place.topic, place.partition)
            if is_of_place and item.offset >= place.offset:
                return group[: number + 1], True
    return group, False


def _version_of(log: Log) -> str:
    """Return a text that changes when the log gets longer."""
    return "|".join(
        str(log.end_offset(topic.name, partition))
        for topic in CATALOGUE
        for partition in range(log.partitions(topic.name))
    )


def _is_behind(log: Log, item: Published, place: Place) -> bool:
    """Return whether nothing that counts at a time can follow in a stream merged by time.

    Behind a time that the run has not reached, which no stage takes, there may be much.
    """
    if place.ts_ns is None:
        return False
    return place.ts_ns + _DISORDER_NS < time_of(item) <= log.now_ns()


async def _pages(
    log: Log, topic: Topic, partition: int, *, is_needed: bool
) -> AsyncIterator[list[Published]]:
    """Yield all that a partition had, from wherever the log keeps it.

    Raises ProblemError (404) where something of a topic that is needed is no longer kept.
    """
    at, end = 0, log.end_offset(topic.name, partition)
    while at < end:
        page = await log.fetch(topic.name, partition, at, _PAGE)
        records = [item for item in page.records if item.offset < end]
        # Of a compacted topic any record may have been replaced by a newer one of its key.
        is_cut = page.start > at or (
            topic.is_compacted and len(records) < min(page.next_offset, end) - at
        )
        if is_cut and is_needed:
            raise history_needed(log.run_id, topic.name)
        yield records
        if page.next_offset <= at:
            return
        at = page.next_offset
