"""Records that could not be used: listed, and written again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.codec import decode
from schemas.control import DeadLetter
from schemas.envelope import Header
from schemas.errors import ConflictError, InputError, RecordError, StorageError
from schemas.retries import written_again
from schemas.topics import MARKET_EVENTS
from streams.log import Published
from web.answers import system as answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid, not_found, unavailable
from web.route_table import Call, NoQuery, Route
from web.routes.letter_checks import scopes_of, why_unusable
from web.routes.pages import offset_cursor, older_than, page
from web.scopes import ADMIN, READ
from web.security.gatekeeper import check_scope
from web.times import format_time

_VALUE_SHOWN = 4_000
_UNKNOWN = "outcome_unknown"
_REMEDY = "GET /api/system/deadletters shows what failed"


class LettersQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; ``cursor`` is that of the page before."""

    topic: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


class RetryRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The letter whose record is to be written again."""

    event_id: Annotated[str, Meta(min_length=1, max_length=200)]


async def list_letters(context: Context, call: Call[LettersQuery, None]) -> answers.DeadLetters:
    """List records that could not be used, the newest first, with the reasons."""
    query, system = call.query, context.views.system
    found = (
        item
        for item in older_than(reversed(system.dead_letters), query.cursor)
        if isinstance(item.record, DeadLetter) and query.topic in (None, item.record.topic)
    )
    letters, cursor = page(found, query.limit, offset_cursor)
    return answers.DeadLetters(
        [letter_answer(context, item) for item in letters], system.dead_letter_count, cursor
    )


async def retry_letter(context: Context, call: Call[NoQuery, RetryRequest]) -> answers.Retried:
    """Write the record of a letter to its topic again, if it can be used by now.

    A letter is written once: a second request is 409 `already_retried`. A record that would be
    refused again is 422 `record_unusable` with the reason, and may be tried again later. A command
    takes the scope of its own route besides: `trade` for those about orders.

    It stands behind all that has come since, and is named and numbered after its letter, not as its
    producer did. `millrace run` hands a market event to its feed, which checks and numbers it like
    all others; beside a recording that is 409 `no_live_market`.
    """
    context.check_is_present()
    letter = _letter_of(context, call.body.event_id)
    record = _record_of(letter)
    for scope in scopes_of(letter.topic, record):
        check_scope(call.caller.client, scope)
    is_known = letter.event_id in context.views.system.retried
    # Nothing is awaited from here to the answer of `take`, or two might write.
    if is_known or not context.retries.take(letter.event_id):
        detail = "the record was written again, or may have been; a newer letter tells if it failed"
        raise ProblemError(409, "already_retried", detail)
    try:
        await _write_again(context, letter, record)
    except BaseException as error:
        is_refused = isinstance(error, ProblemError) and error.code != _UNKNOWN
        # Readers of a cluster know a second one by its number.
        if is_refused or context.operations.resend is not None:
            context.retries.release(letter.event_id)
        raise
    return answers.Retried(letter.event_id, letter.topic, "written")


def _letter_of(context: Context, event_id: str) -> DeadLetter:
    letters = (item.record for item in reversed(context.views.system.dead_letters))
    letter = next((r for r in letters if getattr(r, "event_id", "") == event_id), None)
    if not isinstance(letter, DeadLetter):
        remedy = "GET /api/system/deadletters lists those that are kept"
        raise not_found("dead letter", event_id, remedy)
    return letter


def _record_of(letter: DeadLetter) -> Header | None:
    """Return the record that a letter holds, None if it cannot be read, or was cut."""
    try:
        return decode(letter.topic, letter.value)
    except RecordError:
        return None


async def _write_again(context: Context, letter: DeadLetter, record: Header | None) -> None:
    if reason := why_unusable(context.views, letter.topic, record):
        raise _unusable(reason)
    resend = context.operations.resend
    await (_write(context, letter) if resend is None else _resend(resend, letter))


async def _write(context: Context, letter: DeadLetter) -> None:
    """Write the record that a letter holds to the log."""
    if not letter.value:
        detail = "the letter does not hold its record; ask the record's source for it again"
        raise ProblemError(409, "record_not_kept", detail)
    feed_again = context.operations.feed_again
    try:
        record = decode(letter.topic, letter.value)
        if letter.topic == MARKET_EVENTS and feed_again is not None:
            await context.confirmed(feed_again(record), _REMEDY)
            return
    except RecordError as error:
        reason = error.message
        if error.field:
            reason = f"{reason} ({error.field}={error.value!r})"
        raise _unusable(reason, error.remedy) from error
    except ConflictError as error:
        raise ProblemError(409, "no_live_market", f"{error.message}; {error.remedy}") from error
    await context.publish(letter.topic, written_again(letter.event_id, record), _REMEDY)


async def _resend(resend: Callable[[DeadLetter], Awaitable[str]], letter: DeadLetter) -> None:
    """Have the record that a letter is about written again by who can look at where it stood."""
    try:
        reason = await resend(letter)
    except ConflictError as error:
        raise ProblemError(409, "record_not_kept", f"{error.message}; {error.remedy}") from error
    except StorageError as error:
        detail = f"the record may not have been written: {error.message}; {_REMEDY}"
        raise unavailable(detail, code=_UNKNOWN) from error
    except InputError as error:
        reason = str(error)
    if reason:
        raise _unusable(reason)


def _unusable(reason: str, remedy: str = "") -> ProblemError:
    return invalid([FieldError("/event_id", reason, remedy)], code="record_unusable")


def letter_answer(context: Context, item: Published) -> answers.DeadLetter:
    """Return a dead letter as an answer."""
    letter = item.record
    assert isinstance(letter, DeadLetter)
    # What this process remembers is of the running run.
    is_own = context.run_id == context.log.run_id and letter.event_id in context.retries
    return answers.DeadLetter(
        letter.event_id,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.reason,
        letter.value[:_VALUE_SHOWN].decode(errors="replace"),
        format_time(letter.ts_event_ns),
        letter.ts_event_ns,
        is_own or letter.event_id in context.views.system.retried,
    )


ROUTES = (
    Route(
        "GET",
        "/api/system/deadletters",
        list_letters,
        answers.DeadLetters,
        READ,
        "Records that could not be used",
        "system",
        query=LettersQuery,
        is_of_run=True,
        example="/api/system/deadletters?limit=20",
    ),
    Route(
        "POST",
        "/api/system/deadletters/retry",
        retry_letter,
        answers.Retried,
        ADMIN,
        "Write one again",
        "system",
        body=RetryRequest,
        errors=(400, 404, 409, 413, 503),
        example_body={"event_id": "letter-1"},
    ),
)
