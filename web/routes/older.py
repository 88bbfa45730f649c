"""Lists that begin in memory and go on in the database, for what memory has let go of.

Both hold the same records at the same places, so a page may be made of both, and a cursor of the
one goes on in the other. The database is only asked where memory does not know all: a page of what
is new needs none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

from schemas.errors import ConfigError
from streams.cursors import RecordPlace, bounded, read_place, write_cursor
from streams.history import History, Page, Window
from web.context import Context
from web.history import stored
from web.routes.pages import bad_cursor, instant
from web.views.kept import Kept

T = TypeVar("T")


class PageQuery(Protocol):
    """What the query of every such list has."""

    @property
    def limit(self) -> int:
        """The most rows of a page."""
        ...

    @property
    def cursor(self) -> str | None:
        """The cursor of the page before."""
        ...

    @property
    def after(self) -> str | None:
        """The time behind which rows are wanted."""
        ...

    @property
    def until(self) -> str | None:
        """The last time of which rows are wanted."""
        ...


class Asked(NamedTuple):
    """A page that is asked for; ``question`` names the list, so that no other list's cursor fits.

    ``first_ns`` and ``until_ns`` are a half open span.
    """

    question: str
    limit: int
    before: RecordPlace | None
    first_ns: int | None
    until_ns: int | None

    def has(self, ns: int) -> bool:
        """Return whether an instant lies in the span."""
        is_late = self.until_ns is not None and ns >= self.until_ns
        return not is_late and (self.first_ns is None or ns >= self.first_ns)

    def window(self, context: Context, floor: RecordPlace) -> Window:
        """Return the window of what memory may lack."""
        ends = [floor.ts_ns + 1]
        ends += [end for end in (self.until_ns, context.until_ns) if end is not None]
        cursor = "" if self.before is None else write_cursor(self.question, self.before)
        until_ns = bounded(min(ends))
        return Window(context.run_id, self.first_ns, until_ns, self.limit + 1, cursor)


def asked(question: str, query: PageQuery) -> Asked:
    """Return the page that a query asks for, behind its ``after`` and not behind its ``until``.

    Raises ProblemError (422) for a time or a cursor that is none.
    """
    after_ns, until_ns = instant("after", query.after), instant("until", query.until, is_end=True)
    cursor = query.cursor
    try:
        before = read_place(question, cursor or "")
    except ConfigError as error:
        raise bad_cursor(cursor or "") from error
    if cursor == "":
        raise bad_cursor(cursor)
    return Asked(
        question,
        query.limit,
        before,
        None if after_ns is None else after_ns + 1,
        None if until_ns is None else until_ns + 1,
    )


async def records(
    context: Context,
    kept: Kept,
    question: str,
    query: PageQuery,
    is_wanted: Callable[[Any], bool],
    ask: Callable[[History, Window], Awaitable[Page[Any]]],
) -> tuple[list[Any], str | None]:
    """Return the page of records that a query asks for, the newest first, and the next cursor.

    ``question`` names the list; ``ask`` puts to the database what ``is_wanted`` says of a record.
    Raises ProblemError (503) if the database is needed and away, (422) if there is none and the
    cursor is older than memory.
    """
    page = asked(question, query)

    def found(before: RecordPlace | None) -> Iterable[tuple[RecordPlace, Any]]:
        return (
            (place, item.record)
            for place, item in kept.placed(before)
            if page.has(place.ts_ns) and is_wanted(item.record)
        )

    return await merged(context, page, kept.floor, found, ask)


async def merged(
    context: Context,
    page: Asked,
    floor: RecordPlace | None,
    found: Callable[[RecordPlace | None], Iterable[tuple[RecordPlace, T]]],
    ask: Callable[[History, Window], Awaitable[Page[T]]],
) -> tuple[list[T], str | None]:
    """Return a page out of memory and, below ``floor``, out of the database.

    ``found`` gives what memory has below a place, the newest first. At one place memory's word
    counts: it is never behind.
    """
    rows = list(islice(found(page.before), page.limit + 1))
    is_more = False
    if floor is not None and (len(rows) <= page.limit or rows[page.limit][0] <= floor):
        if context.history is not None:
            older = await stored(ask(context.history, page.window(context, floor)))
            rows = _joined(zip(older.places, older.items, strict=True), rows)
            is_more = bool(older.cursor)
        elif not rows and page.before is not None and page.before <= floor:
            # An empty page would look like the end. Of orders, the open ones are kept below.
            raise bad_cursor(write_cursor(page.question, page.before))
    shown = rows[: page.limit]
    is_more = is_more or len(rows) > page.limit
    cursor = write_cursor(page.question, shown[-1][0]) if shown and is_more else None
    return [item for _, item in shown], cursor


def _joined(
    older: Iterable[tuple[RecordPlace, T]], newer: Iterable[tuple[RecordPlace, T]]
) -> list[tuple[RecordPlace, T]]:
    """Return the rows of both, the newest first, one for each time and id.

    Of a record that a producer wrote twice memory may know the second copy alone, behind what
    retention took: its place is that of the first, which the database has.
    """
    known = {(place.ts_ns, place.event_id): (place, item) for place, item in older}
    for place, item in newer:
        name = (place.ts_ns, place.event_id)
        known[name] = (known[name][0] if name in known else place, item)
    return sorted(known.values(), key=lambda row: row[0], reverse=True)
