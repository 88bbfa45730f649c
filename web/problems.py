"""Errors as RFC 9457 problems: status, stable ``code``, ``detail`` for people, fields meant.

Handlers raise ``ProblemError``; everything that leaves the app as an error passes through
``problem_response``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from schemas.errors import MillraceError

MEDIA_TYPE = "application/problem+json"


class FieldError(msgspec.Struct, omit_defaults=True):
    """One wrong field: JSON pointer (RFC 6901), or ``/name`` of a parameter, and the remedy."""

    pointer: str
    detail: str
    remedy: str = ""
    value: Any = None


class Problem(msgspec.Struct, omit_defaults=True):
    """An RFC 9457 problem; ``code`` is stable, texts are not."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str = ""
    errors: list[FieldError] = []
    candidates: list[str] = []


class ProblemError(MillraceError):
    """A request that cannot be answered as asked."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        candidates: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.candidates = list(candidates)
        self.headers = dict(headers or {})


def invalid(
    errors: Sequence[FieldError],
    *,
    code: str = "invalid_request",
    candidates: Sequence[str] = (),
) -> ProblemError:
    """Return the 422 problem for fields that are well-formed but wrong.

    ``candidates`` are what an ambiguous name may mean.
    """
    first = errors[0]
    name = first.pointer.lstrip("/") or "the request"
    detail = f"{name}: {first.detail}" + (f"; {first.remedy}" if first.remedy else "")
    return ProblemError(422, code, detail, errors=errors, candidates=candidates)


def not_found(what: str, name: str, remedy: str) -> ProblemError:
    """Return the 404 problem for a name that does not exist."""
    return ProblemError(404, "not_found", f"{what} {name} not found; {remedy}")


def unavailable(detail: str, *, code: str = "log_unavailable") -> ProblemError:
    """Return the 503 problem for a log that does not take or answer a record now."""
    return ProblemError(503, code, detail, headers={"Retry-After": "1"})


def journal_needed(run_id: str, reason: str) -> ProblemError:
    """Return the 404 problem for what the database does not hold of a run."""
    detail = f"run {run_id} is known to the database alone, and {reason}"
    return ProblemError(
        404, "journal_needed", f"{detail}; bring the run's folder back to ask for it"
    )


def history_needed(run_id: str, topic: str) -> ProblemError:
    """Return the 404 problem for an instant of which the log no longer has all records."""
    detail = f"{topic} no longer holds all that run {run_id} was at that place"
    return ProblemError(
        404, "history_needed", f"{detail}; ask for a time while a database stores the run"
    )


def problem_response(error: ProblemError, instance: str) -> Response:
    """Return the HTTP response of a problem; ``instance`` is the path of the request."""
    problem = Problem(
        type=f"/docs#problem-{error.code}",
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail,
        code=error.code,
        instance=instance,
        errors=error.errors,
        candidates=error.candidates,
    )
    return Response(
        msgspec.json.encode(problem), error.status, headers=error.headers, media_type=MEDIA_TYPE
    )
