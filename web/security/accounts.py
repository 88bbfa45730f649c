"""What a key that is bound to accounts may see and do: the one place that decides.

A route is ``SHARED`` (it tells of no account), of one's ``OWN`` accounts (its handler is given read
models and a database in which there are no others), or for keys of ``ALL`` accounts alone. What is
in neither list is of the last kind, so a new route is closed until somebody has thought about it.
The same holds for topics, and for the commands that a handler writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas import topics as t
from schemas.commands import ApproveOrder, CancelOrder, CheckOrder, ReplaceOrder, SubmitOrder
from schemas.control import StrategyCommand
from schemas.enums import Scope
from schemas.envelope import Header
from schemas.risk import Kill
from web.problems import ProblemError

Accounts = frozenset[str]
"""The accounts that a key is bound to."""

_SHARED_TAGS = frozenset({"market data", "session"})
_SHARED_PATHS = frozenset(
    {"/healthz", "/readyz", "/api/system/version", "/api/system/topics", "/api/system/lag"}
)
_OWN_TAGS = frozenset({"portfolio", "positions", "orders", "trades", "strategies"})
_OWN_PATHS = frozenset({"/api/risk/check", "/api/risk/decisions"})

_SHARED_TOPICS = frozenset(
    {
        t.MARKET_EVENTS,
        t.MARKET_BARS,
        t.MARKET_INDICATORS,
        t.MARKET_QUALITY,
        t.REFERENCE_INSTRUMENTS,
        t.REFERENCE_ACTIONS,
        t.REFERENCE_RATES,
    }
)
_OWN_TOPICS = frozenset(
    {
        t.ACCOUNT_INPUTS,
        t.STRATEGY_INPUTS,
        t.STRATEGY_STATES,
        t.VENUE_COMMANDS,
        t.ORDER_EVENTS,
        t.ORDER_FILLS,
        t.ORDER_RECEIPTS,
        t.RISK_DECISIONS,
        t.PORTFOLIO_POSITIONS,
        t.PORTFOLIO_ACCOUNTS,
        t.PORTFOLIO_EQUITY,
    }
)
_OF_AN_ACCOUNT = (SubmitOrder, ReplaceOrder, CancelOrder, ApproveOrder, CheckOrder)


def is_shared(path: str, tag: str) -> bool:
    """Return whether a route tells of no account."""
    return tag in _SHARED_TAGS or path in _SHARED_PATHS


def is_of_own(path: str, tag: str) -> bool:
    """Return whether a route works on the caller's own accounts alone."""
    return tag in _OWN_TAGS or path in _OWN_PATHS


def is_shared_topic(topic: str) -> bool:
    """Return whether the records of a topic are of no account."""
    return topic in _SHARED_TOPICS


def may_read(topic: str) -> bool:
    """Return whether a bound key may ask for a topic; of an account's it gets its own records."""
    return topic in _SHARED_TOPICS or topic in _OWN_TOPICS


def is_own(record: Header, accounts: Accounts) -> bool:
    """Return whether a record says that it is of one of the accounts."""
    return getattr(record, "account_id", "") in accounts


def check_command(
    command: Header, accounts: Accounts, account_of: Callable[[str], str | None]
) -> None:
    """Raise ProblemError (403) for a command that reaches beyond the accounts.

    ``account_of`` gives the account of a strategy, of all that there are; None for a label that is
    no strategy's.
    """
    found: Any = command
    if isinstance(command, _OF_AN_ACCOUNT):
        reached: str | None = found.account_id
        if isinstance(command, CheckOrder) and command.order.account_id != reached:
            reached = None
    elif isinstance(command, StrategyCommand):
        reached = account_of(command.strategy_id)
    elif isinstance(command, Kill) and command.scope is Scope.ACCOUNT:
        reached = command.scope_id
    elif isinstance(command, Kill) and command.scope is Scope.STRATEGY:
        # The name is a label on orders, which those of any account may bear.
        raise not_own(
            accounts,
            "orders of other accounts may bear the name of this strategy too; give account_id"
            " instead of strategy_id, or cancel order by order",
        )
    else:
        reached = None
    if reached not in accounts:
        raise not_own(accounts, "what you ask for is not of these accounts alone; name one of them")
    order = command.order if isinstance(command, CheckOrder) else command
    if isinstance(order, SubmitOrder):
        # Fills go to the strategy that an order names, whichever account it is in.
        owner = account_of(order.strategy_id)
        if owner is not None and owner not in accounts:
            raise not_own(
                accounts,
                f"strategy {order.strategy_id!r} is of another account; name one of your own"
                " or leave strategy_id out",
            )


def not_own(accounts: Accounts, detail: str) -> ProblemError:
    """Return the problem (403) of a key that reaches beyond its accounts."""
    names = ", ".join(sorted(accounts))
    return ProblemError(403, "account_not_allowed", f"this key is for {names}: {detail}")
