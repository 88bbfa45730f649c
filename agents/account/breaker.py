"""The circuit breaker: a latching state for each scope, and an epoch that counts the changes.

ACTIVE lets orders pass, REDUCING only those that reduce a position, HALTED none (cancels always
pass). The strictest of all scopes that concern an order holds. A breaker never resets itself.
"""

from __future__ import annotations

import msgspec

from schemas.enums import BreakerState, Scope

_STRICTNESS = {BreakerState.ACTIVE: 0, BreakerState.REDUCING: 1, BreakerState.HALTED: 2}


class Breakers(msgspec.Struct, gc=True):
    """Breaker states by ``SCOPE|id``; a scope that is not there is ACTIVE."""

    states: dict[str, BreakerState] = {}
    reasons: dict[str, str] = {}
    epoch: int = 0

    def change(self, scope: Scope, scope_id: str, state: BreakerState, reason: str) -> bool:
        """Put one scope into ``state``; return whether anything changed."""
        key = f"{scope}|{scope_id}"
        if self.of(scope, scope_id) == state:
            return False
        if state is BreakerState.ACTIVE:
            self.states.pop(key, None)
            self.reasons.pop(key, None)
        else:
            self.states[key] = state
            self.reasons[key] = reason
        self.epoch += 1
        return True

    def of(self, scope: Scope, scope_id: str) -> BreakerState:
        """Return what stands for one scope, whatever others say."""
        return self.states.get(f"{scope}|{scope_id}", BreakerState.ACTIVE)

    def is_stricter(self, scope: Scope, scope_id: str, state: BreakerState) -> bool:
        """Return whether ``state`` is stricter than what stands for the scope."""
        return _STRICTNESS[state] > _STRICTNESS[self.of(scope, scope_id)]

    def effective(
        self, account_id: str, strategy_id: str, instrument_id: str
    ) -> tuple[BreakerState, str]:
        """Return the strictest state that concerns an order, and the scope that holds it."""
        if not self.states:
            return BreakerState.ACTIVE, ""
        worst, scope_text = BreakerState.ACTIVE, ""
        for key in (
            f"{Scope.GLOBAL}|",
            f"{Scope.ACCOUNT}|{account_id}",
            f"{Scope.STRATEGY}|{strategy_id}",
            f"{Scope.INSTRUMENT}|{instrument_id}",
        ):
            state = self.states.get(key)
            if state is not None and _STRICTNESS[state] > _STRICTNESS[worst]:
                scope, _, scope_id = key.partition("|")
                worst, scope_text = state, f"{scope.lower()} {scope_id}".strip()
        return worst, scope_text
