"""Records that could not be used: listed, and written again."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.codec import decode
from schemas.control import DeadLetter
from schemas.errors import ConflictError, InputError, RecordError, StorageError
from streams.log import Published
from web.answers import system as answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid, not_found, unavailable
from web.route_table import Call, NoQuery, Route
from web.routes.pages import offset_cursor, older_than, page
from web.scopes import ADMIN, READ
from web.times import format_time

_VALUE_SHOWN = 4_000
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
        [letter_answer(item) for item in letters], system.dead_letter_count, cursor
    )


async def retry_letter(context: Context, call: Call[NoQuery, RetryRequest]) -> answers.Retried:
    """Write the record of a letter to its topic again, if it can be used by now.

    One that would be refused again is 422 `record_unusable` with the reason. It stands behind all
    that has come since, and without the number that its producer gave it.
    """
    context.check_is_present()
    event_id = call.body.event_id
    letters = (item.record for item in reversed(context.views.system.dead_letters))
    letter = next((r for r in letters if getattr(r, "event_id", "") == event_id), None)
    if not isinstance(letter, DeadLetter):
        remedy = "GET /api/system/deadletters lists those that are kept"
        raise not_found("dead letter", event_id, remedy)
    await (_write if context.operations.resend is None else _resend)(context, letter)
    return answers.Retried(event_id, letter.topic, "written")


async def _write(context: Context, letter: DeadLetter) -> None:
    """Write the record that a letter holds to the log."""
    if not letter.value:
        detail = "the letter does not hold its record; ask the record's source for it again"
        raise ProblemError(409, "record_not_kept", detail)
    try:
        record = decode(letter.topic, letter.value)
        if context.operations.check_again is not None:
            context.operations.check_again(letter.topic, record)
    except RecordError as error:
        reason = error.message
        if error.field:
            reason = f"{reason} ({error.field}={error.value!r})"
        field = FieldError("/event_id", reason, error.remedy)
        raise invalid([field], code="record_unusable") from error
    if record.producer:
        # Its number has passed: under it the record would count as known.
        record = msgspec.structs.replace(record, producer="", producer_seq=0)
    await context.publish(letter.topic, record, _REMEDY)


async def _resend(context: Context, letter: DeadLetter) -> None:
    """Have the record that a letter is about written again by who can look at where it stood."""
    resend = context.operations.resend
    assert resend is not None  # else the letter's own record is written
    try:
        reason = await resend(letter)
    except ConflictError as error:
        raise ProblemError(409, "record_not_kept", f"{error.message}; {error.remedy}") from error
    except StorageError as error:
        detail = f"the record may not have been written: {error.message}; {_REMEDY}"
        raise unavailable(detail, code="outcome_unknown") from error
    except InputError as error:
        reason = str(error)
    if reason:
        field = FieldError("/event_id", reason)
        raise invalid([field], code="record_unusable")


def letter_answer(item: Published) -> answers.DeadLetter:
    """Return a dead letter as an answer."""
    letter = item.record
    assert isinstance(letter, DeadLetter)
    return answers.DeadLetter(
        letter.event_id,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.reason,
        letter.value[:_VALUE_SHOWN].decode(errors="replace"),
        format_time(letter.ts_event_ns),
        letter.ts_event_ns,
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
