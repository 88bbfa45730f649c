"""The life of an order as one table.

    step            from                                              to
    approve         INITIALIZED PENDING_APPROVAL                      SUBMITTED
    hold            INITIALIZED                                       PENDING_APPROVAL
    deny            INITIALIZED PENDING_APPROVAL                      DENIED
    accept          SUBMITTED UNKNOWN                                 ACCEPTED
    reject          SUBMITTED UNKNOWN PENDING_CANCEL                  REJECTED
    trigger         ACCEPTED UNKNOWN                                  TRIGGERED
                    PARTIALLY_FILLED                                  the same state
    fill_part       working ones, UNKNOWN                             PARTIALLY_FILLED
    fill            all open ones                                     FILLED
    request_cancel  working ones                                      PENDING_CANCEL
    cancel          all open ones, PENDING_APPROVAL                   CANCELED
    expire          all open ones, PENDING_APPROVAL                   EXPIRED
    lose            all open ones                                     UNKNOWN
    replace         ACCEPTED TRIGGERED PARTIALLY_FILLED               the same state

Working are SUBMITTED, ACCEPTED, TRIGGERED and PARTIALLY_FILLED; open are these, PENDING_CANCEL and
UNKNOWN. While a cancel is pending, an accept, trigger, part fill or replace leaves PENDING_CANCEL
standing; a refused cancel goes back to what stood before. Whatever is not in the table is illegal:
it is dead-lettered and counted, and changes nothing.
"""

from __future__ import annotations

from enum import StrEnum

from schemas.enums import OrderStatus as S


class Step(StrEnum):
    """What may happen to an order."""

    APPROVE = "approve"
    HOLD = "hold"
    DENY = "deny"
    ACCEPT = "accept"
    REJECT = "reject"
    TRIGGER = "trigger"
    FILL_PART = "fill_part"
    FILL = "fill"
    REQUEST_CANCEL = "request_cancel"
    CANCEL = "cancel"
    EXPIRE = "expire"
    LOSE = "lose"
    REPLACE = "replace"


_WORKING = (S.SUBMITTED, S.ACCEPTED, S.TRIGGERED, S.PARTIALLY_FILLED)
OPEN: frozenset[S] = frozenset((*_WORKING, S.PENDING_CANCEL, S.UNKNOWN))
"""States in which the order may still trade, so it counts against the limits."""

CLOSED: frozenset[S] = frozenset((S.DENIED, S.REJECTED, S.FILLED, S.CANCELED, S.EXPIRED))
"""States that nothing leaves."""

TRANSITIONS: dict[Step, dict[S, S]] = {
    Step.APPROVE: {S.INITIALIZED: S.SUBMITTED, S.PENDING_APPROVAL: S.SUBMITTED},
    Step.HOLD: {S.INITIALIZED: S.PENDING_APPROVAL},
    Step.DENY: {S.INITIALIZED: S.DENIED, S.PENDING_APPROVAL: S.DENIED},
    Step.ACCEPT: {
        S.SUBMITTED: S.ACCEPTED,
        S.UNKNOWN: S.ACCEPTED,
        S.PENDING_CANCEL: S.PENDING_CANCEL,
    },
    Step.REJECT: dict.fromkeys((S.SUBMITTED, S.UNKNOWN, S.PENDING_CANCEL), S.REJECTED),
    Step.TRIGGER: {
        S.ACCEPTED: S.TRIGGERED,
        S.PARTIALLY_FILLED: S.PARTIALLY_FILLED,
        S.UNKNOWN: S.TRIGGERED,
        S.PENDING_CANCEL: S.PENDING_CANCEL,
    },
    Step.FILL_PART: {
        **dict.fromkeys((*_WORKING, S.UNKNOWN), S.PARTIALLY_FILLED),
        S.PENDING_CANCEL: S.PENDING_CANCEL,
    },
    Step.FILL: dict.fromkeys(OPEN, S.FILLED),
    Step.REQUEST_CANCEL: dict.fromkeys(_WORKING, S.PENDING_CANCEL),
    Step.CANCEL: dict.fromkeys((*OPEN, S.PENDING_APPROVAL), S.CANCELED),
    Step.EXPIRE: dict.fromkeys((*OPEN, S.PENDING_APPROVAL), S.EXPIRED),
    Step.LOSE: dict.fromkeys(OPEN, S.UNKNOWN),
    Step.REPLACE: {s: s for s in (S.ACCEPTED, S.TRIGGERED, S.PARTIALLY_FILLED, S.PENDING_CANCEL)},
}


def next_status(status: S, step: Step) -> S | None:
    """Return the state after ``step``, or None if the step is illegal in ``status``."""
    return TRANSITIONS[step].get(status)
