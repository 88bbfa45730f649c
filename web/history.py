"""What is stored of runs, as the routes ask for it: 503 with a moment to wait when it is away."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from schemas.errors import ConfigError, StorageError
from web.problems import FieldError, ProblemError, invalid

T = TypeVar("T")

RETRY_AFTER_S = 5


async def stored(question: Awaitable[T]) -> T:
    """Return the answer of a history; raises ProblemError (503 away, 422 a bad question)."""
    try:
        return await question
    except StorageError as error:
        raise ProblemError(
            503,
            "history_unavailable",
            f"the database does not answer: {error.message}; trading goes on, try again later",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ) from error
    except ConfigError as error:
        pointer = f"/{error.field}" if error.field else ""
        raise invalid([FieldError(pointer, error.message, error.remedy, error.value)]) from error
