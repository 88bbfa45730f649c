"""Risk of runs that only the database knows: whether their limits are stored, decisions counted."""

from __future__ import annotations

from schemas.enums import Scope
from schemas.risk import RiskDecision
from streams.history import LIMIT_MAX, Window
from web.context import Context
from web.history import stored
from web.problems import journal_needed


async def check_limits(context: Context) -> None:
    """Raise ProblemError (404) for a stored run whose limits are not stored.

    Every run begins with limits of the global scope. A run that was stored before there was a
    table for them has none, and no answer may say so.
    """
    everything = (Scope.GLOBAL, "")
    if not context.is_stored or everything in context.views.risk.limits:
        return
    # It may be asked about an instant before its beginning.
    end = await context.at(context.run_id, "")
    if everything not in end.views.risk.limits:
        raise journal_needed(context.run_id, "its limits are not stored")


async def last_decisions(
    context: Context, limit: int
) -> tuple[list[RiskDecision], int, dict[str, int]]:
    """Return the newest decisions of a stored run, how many approved, and how many denied by code.

    Raises ProblemError (503) while the database is away.
    """
    history = context.history
    assert history is not None  # a stored run has one
    found: list[RiskDecision] = []
    if limit:
        window = Window(context.run_id, None, context.until_ns, min(limit, LIMIT_MAX))
        found = (await stored(history.risk_decisions(window))).items
    counts = await stored(history.decision_counts(context.run_id, context.moment))
    return found, counts.pop("", 0), counts
