"""What is stored of a caller's own accounts: a database in which there are no others."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.control import StrategySignal
from schemas.enums import OrderStatus
from schemas.instruments import Instrument
from schemas.order_events import Fill, OrderEvent
from schemas.risk import RiskDecision
from streams.history import (
    ALL,
    NOW,
    EquitySeries,
    Filters,
    History,
    Moment,
    Page,
    PnlRow,
    PositionStep,
    StoredOrder,
    Window,
)
from streams.log import Published
from web.security.accounts import Accounts, is_own, not_own


class OwnHistory:
    """The questions of those routes that work on one's own accounts, each bound to them.

    Signals are asked for by the strategy, which the route has found among one's own.
    """

    def __init__(self, history: History, accounts: Accounts) -> None:
        self._history = history
        self._accounts = accounts

    def _own(self, filters: Filters) -> Filters:
        return filters._replace(account_ids=tuple(sorted(self._accounts)))

    def _check(self, account_id: str) -> None:
        if account_id not in self._accounts:
            raise not_own(self._accounts, "another account's history is not told")

    async def orders(
        self,
        window: Window,
        filters: Filters = ALL,
        statuses: Sequence[OrderStatus] = (),
        as_of: Moment = NOW,
    ) -> Page[StoredOrder]:
        """Return orders of the accounts."""
        return await self._history.orders(window, self._own(filters), statuses, as_of)

    async def order(
        self, run_id: str, client_order_id: str, account_id: str = "", as_of: Moment = NOW
    ) -> StoredOrder | None:
        """Return one order; without an account the newest of that id among the accounts."""
        names = self._accounts & {account_id} if account_id else self._accounts
        found = [
            await self._history.order(run_id, client_order_id, name, as_of)
            for name in sorted(names)
        ]
        known = [order for order in found if order is not None]
        return max(known, key=lambda order: order.created_ns, default=None)

    async def order_events(
        self, run_id: str, client_order_id: str, account_id: str = "", as_of: Moment = NOW
    ) -> list[OrderEvent]:
        """Return what happened to an order of the accounts."""
        self._check(account_id)
        return await self._history.order_events(run_id, client_order_id, account_id, as_of)

    async def order_causes(
        self, run_id: str, client_order_id: str, account_id: str = ""
    ) -> list[Published]:
        """Return every record that belongs to an order of the accounts."""
        self._check(account_id)
        found = await self._history.order_causes(run_id, client_order_id, account_id)
        # Commands to many accounts are nobody's own; an order's signal is of its own strategy.
        return [
            item
            for item in found
            if is_own(item.record, self._accounts) or isinstance(item.record, StrategySignal)
        ]

    async def fills(self, window: Window, filters: Filters = ALL) -> Page[Fill]:
        """Return executions of the accounts."""
        return await self._history.fills(window, self._own(filters))

    async def position_steps(
        self, window: Window, account_id: str, strategy_id: str
    ) -> Page[PositionStep]:
        """Return how positions of one of the accounts became what they are."""
        self._check(account_id)
        return await self._history.position_steps(window, account_id, strategy_id)

    async def equity(
        self, window: Window, account_id: str, strategy_id: str = "", interval: str = ""
    ) -> EquitySeries:
        """Return equity marks of one of the accounts."""
        self._check(account_id)
        return await self._history.equity(window, account_id, strategy_id, interval)

    async def pnl(self, window: Window, group_by: str, filters: Filters = ALL) -> Page[PnlRow]:
        """Return realized results of the accounts."""
        return await self._history.pnl(window, group_by, self._own(filters))

    async def risk_decisions(
        self, window: Window, filters: Filters = ALL, is_approved: bool | None = None
    ) -> Page[RiskDecision]:
        """Return decisions on orders of the accounts."""
        return await self._history.risk_decisions(window, self._own(filters), is_approved)

    async def signals(self, window: Window, filters: Filters = ALL) -> Page[StrategySignal]:
        """Return signals of a strategy of the accounts."""
        return await self._history.signals(window, filters)

    async def instruments(self, run_id: str) -> list[Instrument]:
        """Return the newest definition of each instrument."""
        return await self._history.instruments(run_id)
