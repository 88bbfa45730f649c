"""Whether the name of a scope is known: a command for a mistyped one would do nothing at all.

The account stage takes every name, so what is halted for an account that does not exist looks like
one that was halted. Accounts are those of the run, so another one is refused. A strategy is a label
that any order may bear, now or later: one that nothing bears yet is taken, and the answer says so.
"""

from __future__ import annotations

from itertools import chain

from schemas.enums import Scope
from web.context import Context
from web.problems import FieldError, invalid
from web.views.configured import configured

_CANDIDATES_MAX = 10


def check_account(context: Context, account_id: str, pointer: str) -> None:
    """Raise ProblemError (422), with the candidates, for an account that the run does not have.

    A run that has told of no account yet lets every name pass: it must be possible to stop it. So
    does a key that is bound to accounts, whose commands are held to these.
    """
    if not context.is_bound:
        _check_is_among(_known_accounts(context), account_id, pointer)


def check_filter(context: Context, account_id: str | None) -> None:
    """Raise ProblemError (422), with the candidates, for a list of an account that a run has not.

    An empty list would say that nothing has happened in an account of that name. Where no account
    of the run is known every name passes, and so does one that an order of the run names. A key
    that is bound to accounts knows of these alone.
    """
    if not account_id:
        return
    known = _known_accounts(context) if context.accounts is None else set(context.accounts)
    if account_id in known:
        return
    if all(row.account_id != account_id for row in context.views.orders.newest_first()):
        _check_is_among(known, account_id, "/account_id")


def _known_accounts(context: Context) -> set[str]:
    views = context.views
    known = {account.account_id for account in configured(views.system.manifest).accounts.accounts}
    return known | set(views.portfolio.account_ids())


def _check_is_among(known: set[str], account_id: str, pointer: str) -> None:
    if not known or account_id in known:
        return
    names = sorted(known)[:_CANDIDATES_MAX]
    remedy = f"choose one of {', '.join(names)}"
    error = FieldError(pointer, "is no account of this run", remedy, account_id)
    raise invalid([error], code="account_unknown", candidates=names)


def doubt(context: Context, scope: Scope, scope_id: str) -> str:
    """Return what is doubtful about the name of a scope, empty if nothing is."""
    views = context.views
    if scope is not Scope.STRATEGY or scope_id in views.strategies.names():
        return ""
    if configured(views.system.manifest).strategy(scope_id) is not None:
        return ""
    positions, orders = views.portfolio.positions.values(), views.orders.newest_first()
    names = chain((p.strategy_id for p in positions), (row.strategy_id for row in orders))
    if scope_id in names:
        return ""
    return (
        f"no strategy, order or position of this run is called {scope_id!r}; it holds for those"
        " that will be, check the name if you mean others"
    )
