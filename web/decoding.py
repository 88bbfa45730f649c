"""Bodies and query strings to typed structs, or to a problem with field, value and remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import QueryParams

from web.choices import bounds, choices, instead_of
from web.problems import FieldError, ProblemError, invalid

T = TypeVar("T")
_CHARACTERS = (
    "has a character that is not taken here",
    "use letters, digits and signs of ASCII, without blanks and /",
)

_DIGITS_MAX, _PLACES_MAX = 38, 18
_INT64 = 2**63
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$?(?P<path>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"^Object (?P<kind>missing required|contains unknown) field `(?P<name>[^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def decode_body(data: bytes, kind: type[T]) -> T:
    """Return a JSON body as ``kind``, none at all as an empty object.

    Raises ProblemError (400 no JSON, 422 wrong fields).
    """
    data = data or b"{}"
    try:
        found = msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise invalid([field_error(str(error), _plain(data), kind, "body")]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
    _check_numbers(found)
    return found


def decode_query(query: QueryParams, kind: type[T]) -> T:
    """Return a query string as ``kind``; raises ProblemError (422) for what does not fit."""
    pairs = query.multi_items()
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise invalid([FieldError(f"/{twice}", "is given more than once", "give it once")])
    try:
        found = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid([field_error(str(error), values, kind, "query")]) from error
    _check_numbers(found)
    return found


def _check_numbers(found: Any) -> None:
    """Raise ProblemError (422) for numbers of more digits than any amount has.

    Written out as they are everywhere, the few bytes of 1E-999999999 would be a gigabyte; and no
    record can hold a whole number beyond 64 bits.
    """
    remedy = (
        f"give at most {_DIGITS_MAX} digits, {_PLACES_MAX} of them behind the point; a whole number"
        " fits in 64 bits"
    )
    errors = [
        FieldError(_pointer(steps), "has too many digits", remedy, _digits(value)[:40])
        for steps, value in _numbers(found, [])
        if not _is_short(value)
    ]
    if errors:
        raise invalid(errors)


def _numbers(value: Any, steps: list[str]) -> Iterator[tuple[list[str], Decimal | int]]:
    """Yield every decimal and whole number in what was decoded, with the steps that lead to it."""
    if isinstance(value, (Decimal, int)):
        yield steps, value
    elif isinstance(value, msgspec.Struct):
        for name, inner in msgspec.structs.asdict(value).items():
            yield from _numbers(inner, [*steps, name])
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, [*steps, str(name)])
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _numbers(inner, [*steps, str(number)])


def _is_short(value: Decimal | int) -> bool:
    if isinstance(value, int):
        return -_INT64 <= value < _INT64
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return True  # NaN and infinities are refused with what they stand for
    return len(digits) <= _DIGITS_MAX and -_PLACES_MAX <= exponent <= _DIGITS_MAX


def _digits(value: Decimal | int) -> str:
    return hex(value) if isinstance(value, int) else str(value)


def _plain(data: bytes) -> Any:
    """Return the values of a body; that it is no JSON at all is said before wrong fields."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error


def _malformed(error: Exception) -> ProblemError:
    return ProblemError(
        400, "malformed_json", f"the body is not JSON: {error}; send one JSON object"
    )


def field_error(
    message: str, document: Any, kind: Any, place: str, described: str = "/openapi.json"
) -> FieldError:
    """Return what msgspec says about one field, as a pointer with the value that stands there.

    ``described`` is the document that says what may stand there, where a line cannot.
    """
    match = _AT.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    steps = [name or index for name, index in _STEP.findall(path)]
    named = _NAMED.match(what)
    if named is not None:
        name = named["name"]
        pointer = _pointer([*steps, name])
        if named["kind"] == "missing required":
            return FieldError(pointer, "is missing", f"give {name} in the {place}")
        return FieldError(pointer, "is not known here", instead_of(name, kind, steps))
    if "matching regex" in what:
        return FieldError(_pointer(steps), *_CHARACTERS, _value_at(document, steps))
    return FieldError(
        _pointer(steps),
        what[0].lower() + what[1:],
        _remedy(kind, steps, described),
        _value_at(document, steps),
    )


def _remedy(kind: Any, steps: list[str], described: str) -> str:
    """Return what the value at ``steps`` may be, as far as that can be said in a line."""
    if names := choices(kind, steps):
        return f"give one of {', '.join(names)}"
    if number := bounds(kind, steps):
        return f"give {number}"
    return f"see {described} for what it may be"


def _pointer(steps: list[str]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def _value_at(document: Any, steps: list[str]) -> Any:
    """Return the value at ``steps`` if it is a short scalar, else None."""
    for step in steps:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    if isinstance(document, str):
        return document[:100]
    return document if isinstance(document, (int, float)) else None
