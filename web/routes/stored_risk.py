"""Risk of runs that only the database knows: whether their limits are stored, decisions counted."""

from __future__ import annotations

from schemas.enums import Scope
from schemas.risk import RiskDecision
from streams.history import LIMIT_MAX, Filters, Window
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
    context: Context, account_id: str, limit: int
) -> tuple[list[RiskDecision], dict[str, int]]:
    """Return the newest decisions of a stored run, and how many there were by code.

    Those that approved have no code; without ``account_id`` they are of all accounts.
    Raises ProblemError (503) while the database is away.
    """
    history = context.history
    assert history is not None  # a stored run has one
    found: list[RiskDecision] = []
    if limit:
        window = Window(context.run_id, None, context.until_ns, min(limit, LIMIT_MAX))
        found = (await stored(history.risk_decisions(window, Filters(account_id)))).items
    return found, await stored(history.decision_counts(context.run_id, context.moment, account_id))
