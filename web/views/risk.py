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
        self._counts: dict[str, dict[str, int]] = {}

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
        counts = self._counts.setdefault(decision.account_id, {})
        code = "" if decision.is_approved else decision.code
        counts[code] = counts.get(code, 0) + 1

    def counts(self, account_id: str = "") -> dict[str, int]:
        """Return the decisions by code; those that approved have none. Without account, of all."""
        if account_id:
            return dict(self._counts.get(account_id, {}))
        total: dict[str, int] = {}
        for counts in self._counts.values():
            for code, count in counts.items():
                total[code] = total.get(code, 0) + count
        return total

    def denied_by_code(self) -> dict[str, int]:
        """Return the denials of all accounts by code."""
        counts = self.counts()
        counts.pop("", None)
        return counts

    def strictest(self) -> BreakerState:
        """Return the strictest state of all scopes."""
        states = [change.state for change in self.breakers.values()]
        return max(states, key=_STRICTNESS.index, default=BreakerState.ACTIVE)
