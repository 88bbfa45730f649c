"""The answers of ``streams.history`` from a database; each question is one method here."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.commands import CommandReceipt, SubmitOrder
from schemas.control import StrategySignal, StrategyStateChanged
from schemas.enums import OrderStatus
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument
from schemas.market_data import Quote, Trade
from schemas.order_events import Fill, OrderEvent
from schemas.portfolio import AccountSnapshot, PositionChanged
from schemas.risk import BreakerChanged, RiskDecision
from streams.database import queries_market as market
from streams.database import queries_orders as of_orders
from streams.database import queries_records as records
from streams.database import queries_results as results
from streams.database import queries_state as states
from streams.database.connecting import Database
from streams.history import (
    ALL,
    NOW,
    BarSeries,
    EquitySeries,
    Filters,
    Moment,
    Page,
    PnlRow,
    PositionStep,
    StoredBacktest,
    StoredOrder,
    StoredRun,
    Window,
)
from streams.log import Published


class StoredHistory:
    """A ``History`` over one database; the docstrings stand there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def trades(self, window: Window, instrument_id: str) -> Page[Trade]:
        """Return trades of an instrument."""
        return await market.trades(self._database, window, instrument_id)

    async def quotes(self, window: Window, instrument_id: str) -> Page[Quote]:
        """Return quotes of an instrument."""
        return await market.quotes(self._database, window, instrument_id)

    async def bars(self, window: Window, instrument_id: str, interval: str) -> BarSeries:
        """Return bars of an instrument by their end, corrections applied."""
        return await market.bars(self._database, window, instrument_id, interval)

    async def instruments(self, run_id: str) -> list[Instrument]:
        """Return the newest definition of each instrument, by id."""
        return await records.latest(self._database, "instruments", run_id, ("instrument_id",))

    async def corporate_actions(
        self, window: Window, instrument_id: str = ""
    ) -> Page[CorporateAction]:
        """Return corporate actions of one instrument or of all."""
        filters = Filters(instrument_id=instrument_id)
        return await records.page(self._database, "corporate_actions", window, filters)

    async def orders(
        self,
        window: Window,
        filters: Filters = ALL,
        statuses: Sequence[OrderStatus] = (),
        as_of: Moment = NOW,
    ) -> Page[StoredOrder]:
        """Return orders asked for within the window as they stood at ``as_of``."""
        return await of_orders.orders(self._database, window, filters, statuses, as_of)

    async def order(
        self, run_id: str, client_order_id: str, account_id: str = "", as_of: Moment = NOW
    ) -> StoredOrder | None:
        """Return one order as it stood; without an account the newest of that id."""
        return await of_orders.order(self._database, run_id, client_order_id, account_id, as_of)

    async def order_events(
        self, run_id: str, client_order_id: str, account_id: str = "", as_of: Moment = NOW
    ) -> list[OrderEvent]:
        """Return what happened to an order, the oldest first."""
        return await of_orders.of_order(
            self._database, "order_events", run_id, client_order_id, account_id, as_of
        )

    async def order_causes(
        self, run_id: str, client_order_id: str, account_id: str = ""
    ) -> list[Published]:
        """Return every stored record that belongs to an order, in order of time."""
        return await of_orders.order_causes(self._database, run_id, client_order_id, account_id)

    async def receipts(
        self, run_id: str, client_order_id: str, account_id: str = ""
    ) -> list[CommandReceipt]:
        """Return the answers to commands about an order, the oldest first."""
        return await of_orders.of_order(
            self._database, "order_receipts", run_id, client_order_id, account_id
        )

    async def submits(self, run_id: str, client_order_id: str) -> list[SubmitOrder]:
        """Return the commands that asked for orders of that id, the oldest first."""
        return await of_orders.of_order(self._database, "orders", run_id, client_order_id, "")

    async def fills(self, window: Window, filters: Filters = ALL) -> Page[Fill]:
        """Return executions."""
        return await records.page(self._database, "fills", window, filters)

    async def positions(
        self, run_id: str, filters: Filters = ALL, as_of: Moment = NOW
    ) -> list[PositionChanged]:
        """Return the last change of each position up to ``as_of``, closed positions too."""
        keys = ("account_id", "strategy_id", "instrument_id")
        return await records.latest(self._database, "positions", run_id, keys, filters, as_of)

    async def position_history(
        self, window: Window, filters: Filters = ALL
    ) -> Page[PositionChanged]:
        """Return changes of positions."""
        return await records.page(self._database, "positions", window, filters)

    async def position_steps(
        self, window: Window, account_id: str, strategy_id: str
    ) -> Page[PositionStep]:
        """Return how the positions of a strategy in an account became what they are."""
        return await results.position_steps(self._database, window, account_id, strategy_id)

    async def account(
        self, run_id: str, account_id: str, strategy_id: str = "", as_of: Moment = NOW
    ) -> AccountSnapshot | None:
        """Return the last snapshot of an account, or of a strategy's share, up to ``as_of``."""
        found: list[AccountSnapshot] = await records.latest(
            self._database,
            "account_snapshots",
            run_id,
            ("account_id", "strategy_id"),
            moment=as_of,
            account_id=account_id,
            strategy_id=strategy_id,
        )
        return found[0] if found else None

    async def equity(
        self, window: Window, account_id: str, strategy_id: str = "", interval: str = ""
    ) -> EquitySeries:
        """Return equity marks; with an interval the last of each."""
        return await market.equity(self._database, window, account_id, strategy_id, interval)

    async def pnl(self, window: Window, group_by: str, filters: Filters = ALL) -> Page[PnlRow]:
        """Return realized results grouped by strategy, instrument or day."""
        return await results.pnl(self._database, window, group_by, filters)

    async def risk_decisions(
        self, window: Window, filters: Filters = ALL, is_approved: bool | None = None
    ) -> Page[RiskDecision]:
        """Return decisions of the risk gate."""
        return await records.page(
            self._database, "risk_decisions", window, filters, is_approved=is_approved
        )

    async def decision_counts(
        self, run_id: str, as_of: Moment = NOW, account_id: str = ""
    ) -> dict[str, int]:
        """Return how many decisions there were by code; those that approved have none."""
        return await results.decision_counts(self._database, run_id, as_of, account_id)

    async def breaker_changes(
        self, window: Window, scope: str = "", scope_id: str = ""
    ) -> Page[BreakerChanged]:
        """Return changes of the circuit breaker."""
        return await records.page(
            self._database, "breaker_changes", window, scope=scope, scope_id=scope_id
        )

    async def strategy_states(
        self, window: Window, strategy_id: str = ""
    ) -> Page[StrategyStateChanged]:
        """Return changes of strategies' states."""
        filters = Filters(strategy_id=strategy_id)
        return await records.page(self._database, "strategy_states", window, filters)

    async def signals(self, window: Window, filters: Filters = ALL) -> Page[StrategySignal]:
        """Return targets of strategies as they changed."""
        return await records.page(self._database, "strategy_signals", window, filters)

    async def backtests(
        self, strategy_name: str = "", limit: int = 10, cursor: str = "", run_id: str = ""
    ) -> Page[StoredBacktest]:
        """Return finished backtests, the newest first."""
        return await records.backtests(self._database, strategy_name, limit, cursor, run_id)

    async def backtest(self, task_id: str) -> StoredBacktest | None:
        """Return one finished backtest."""
        return await records.backtest(self._database, task_id)

    async def audit(self, window: Window, operator: str = "") -> Page[Header]:
        """Return what people and programs did."""
        return await records.page(self._database, "audit", window, operator=operator)

    async def runs(self, limit: int = 100, cursor: str = "", run_id: str = "") -> Page[StoredRun]:
        """Return the runs that are stored, the last begun first; ``run_id`` chooses one."""
        return await records.runs(self._database, limit, cursor, run_id)

    async def state(self, run_id: str, as_of: Moment = NOW) -> list[Published]:
        """Return the records that tell how a run stood, by topic and offset."""
        return await states.state(self._database, run_id, as_of)
