"""Risk as the gate sees it: breaker and limits by scope, last decisions, refusals counted."""

from __future__ import annotations

from schemas.enums import AutonomyMode, BreakerState
from schemas.risk import BreakerChanged, RiskDecision, SetAutonomy, SetLimits
from streams.log import Published
from web.views.kept import Kept

ScopeKey = tuple[str, str]
_STRICTNESS = list(BreakerState)


class Risk:
    """Newest breaker and limits by scope; lists bounded, counts for the whole run."""

    def __init__(
        self, autonomy_mode: AutonomyMode, approval_timeout_s: float, decisions_max: int
    ) -> None:
        self.autonomy_mode = autonomy_mode
        self.approval_timeout_s = approval_timeout_s
        self._is_told = False
        self.breakers: dict[ScopeKey, BreakerChanged] = {}
        self.limits: dict[ScopeKey, SetLimits] = {}
        self.decisions = Kept(decisions_max)
        self.changes = Kept(decisions_max, is_gapless=False)
        self.approved = 0
        self.denied_by_code: dict[str, int] = {}

    def on_breaker(self, item: Published) -> None:
        """Take in a change of the breaker."""
        change = item.record
        if not isinstance(change, BreakerChanged):
            return
        self.changes.add(item)
        self.breakers[change.scope, change.scope_id] = change

    def on_limits(self, limits: SetLimits) -> None:
        """Take in limits as applied."""
        self.limits[limits.scope, limits.scope_id] = limits

    def on_autonomy(self, command: SetAutonomy) -> None:
        """Take in another mode."""
        self.autonomy_mode = command.mode
        self.approval_timeout_s = command.approval_timeout_s
        self._is_told = True

    def on_configured(self, mode: AutonomyMode, approval_timeout_s: float) -> None:
        """Take in the mode that a run began with; what an operator said since then holds."""
        if not self._is_told:
            self.autonomy_mode = mode
            self.approval_timeout_s = approval_timeout_s

    def on_decision(self, published: Published) -> None:
        """Take in a decision of the gate."""
        decision = published.record
        if not isinstance(decision, RiskDecision):
            return
        self.decisions.add(published)
        if decision.is_approved:
            self.approved += 1
        else:
            self.denied_by_code[decision.code] = self.denied_by_code.get(decision.code, 0) + 1

    def strictest(self) -> BreakerState:
        """Return the strictest state of all scopes."""
        states = [change.state for change in self.breakers.values()]
        return max(states, key=_STRICTNESS.index, default=BreakerState.ACTIVE)
