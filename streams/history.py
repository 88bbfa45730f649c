"""The port to what is stored: the questions that HTTP asks, and the shape of the answers.

A database stands behind it (``streams.database``). Every question names a run, since two runs of
the same data share event ids; a backtest is asked as a live run is. Answers are the records
themselves, or tuples and numpy columns where an answer is made of many records. Times are int64 ns
UTC, spans are half open: ``first_ns`` <= time < ``until_ns``.

Every method raises StorageError while the database is away or does not answer in time, and
ConfigError for a cursor, interval or group that cannot be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Generic, NamedTuple, Protocol, TypeVar

from schemas.columns import Floats, Ints
from schemas.commands import CommandReceipt, SubmitOrder
from schemas.control import (
    BacktestRequest,
    BacktestResult,
    RunManifest,
    StrategySignal,
    StrategyStateChanged,
)
from schemas.enums import OrderStatus, OrderType, Side, TimeInForce
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument
from schemas.market_data import Quote, Trade
from schemas.order_events import Fill, OrderEvent
from schemas.portfolio import AccountSnapshot, PositionChanged
from schemas.risk import BreakerChanged, RiskDecision
from streams.cursors import RecordPlace
from streams.log import Published

LIMIT_MAX = 10_000
"""The most rows of one page; a larger limit is cut to it."""

PNL_GROUPS = ("strategy", "instrument", "day")

T = TypeVar("T")


class Window(NamedTuple):
    """The part of a run's history that is asked for, and the page of it.

    ``cursor`` is that of the page before, empty for the first page; it holds only with the same
    question. ``first_ns`` and ``until_ns`` of None are open ends.
    """

    run_id: str
    first_ns: int | None = None
    until_ns: int | None = None
    limit: int = 100
    cursor: str = ""
    is_newest_first: bool = True


class Moment(NamedTuple):
    """An instant of a run: all records with a time up to ``ts_ns``, or a place in the log.

    ``offset`` is that of the last record which counts, on ``partition`` of the topic that the
    answer is made of: ``orders.events`` for orders, ``portfolio.positions`` for positions. With
    neither, the newest state.
    """

    ts_ns: int | None = None
    offset: int | None = None
    partition: int = 0


NOW = Moment()


class Filters(NamedTuple):
    """Exact values that rows must have; an empty one lets all pass.

    ``instrument_ids`` and ``account_ids`` let those pass that they name. ``side`` and
    ``order_type`` are of orders alone, ``code`` of what was denied.
    """

    account_id: str = ""
    strategy_id: str = ""
    instrument_id: str = ""
    client_order_id: str = ""
    instrument_ids: Sequence[str] = ()
    side: str = ""
    order_type: str = ""
    code: str = ""
    account_ids: Sequence[str] = ()


ALL = Filters()


class Page(NamedTuple, Generic[T]):
    """Rows in the order asked for, and the cursor of the next page; empty if none follows.

    ``places`` are those of the rows, where they are records or orders; an order's is that of the
    command which asked for it.
    """

    items: list[T]
    cursor: str
    places: Sequence[RecordPlace] = ()


class StoredOrder(NamedTuple):
    """One order as it stood at a moment; what no record had told by then is None or empty.

    ``submit_id`` is the event id of the command that asked for it.
    """

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    side: Side | None
    quantity: Decimal | None
    order_type: OrderType | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce | None
    is_post_only: bool
    is_reduce_only: bool
    status: OrderStatus
    filled_quantity: Decimal
    average_price: Decimal | None
    venue_order_id: str
    code: str
    detail: str
    submit_id: str
    created_ns: int
    updated_ns: int


class BarSeries(NamedTuple):
    """Bars of one instrument as columns, in the order asked for; ``ts`` closes, ``start`` opens.

    ``relation`` says what served them: ``bars`` (built by the engine or given by the data) or one
    of the rollups, whose days are days of UTC.
    """

    interval: str
    relation: str
    ts: Ints
    start: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats
    trade_count: Ints
    cursor: str


class EquitySeries(NamedTuple):
    """Equity of an account or of a strategy's share, the last mark of each interval.

    Amounts are float64 in the account's base currency, ``drawdown`` is 0 or negative.
    """

    ts: Ints
    equity: Floats
    cash: Floats
    gross_exposure: Floats
    net_exposure: Floats
    drawdown: Floats
    cursor: str


class PositionStep(NamedTuple):
    """A change of a position, and the fill behind it.

    ``fill`` is None behind a corporate action, and where the fill is not stored any more.
    """

    change: PositionChanged
    fill: Fill | None


class PnlRow(NamedTuple):
    """What one group gained in a span.

    ``key`` is a strategy, an instrument or a day (``yyyy-mm-dd``, UTC). Amounts are in
    ``currency``; ``realized_pnl`` is by average cost before ``fees``, ``notional`` is price times
    quantity of all fills.
    """

    key: str
    currency: str
    realized_pnl: Decimal
    fees: Decimal
    fills: int
    notional: Decimal


class StoredBacktest(NamedTuple):
    """A finished backtest, with the request if that is stored too."""

    result: BacktestResult
    request: BacktestRequest | None


class StoredRun(NamedTuple):
    """A run that has rows: its manifest if it is stored, and the times of its records."""

    run_id: str
    manifest: RunManifest | None
    first_ns: int | None
    last_ns: int | None


class History(Protocol):
    """What is stored of all runs, by question."""

    # ---- market data

    async def trades(self, window: Window, instrument_id: str) -> Page[Trade]:
        """Return trades of an instrument."""
        ...

    async def quotes(self, window: Window, instrument_id: str) -> Page[Quote]:
        """Return quotes of an instrument."""
        ...

    async def bars(self, window: Window, instrument_id: str, interval: str) -> BarSeries:
        """Return bars of an instrument by their end, corrections applied.

        The run's own bars of that interval, else those of the widest rollup that it is made of.
        """
        ...

    async def instruments(self, run_id: str) -> list[Instrument]:
        """Return the newest definition of each instrument, by id."""
        ...

    async def corporate_actions(
        self, window: Window, instrument_id: str = ""
    ) -> Page[CorporateAction]:
        """Return corporate actions of one instrument or of all."""
        ...

    # ---- orders

    async def orders(
        self,
        window: Window,
        filters: Filters = ALL,
        statuses: Sequence[OrderStatus] = (),
        as_of: Moment = NOW,
    ) -> Page[StoredOrder]:
        """Return orders asked for within the window as they stood at ``as_of``.

        ``statuses``: only orders that stood in one of them then.
        """
        ...

    async def order(
        self, run_id: str, client_order_id: str, account_id: str = "", as_of: Moment = NOW
    ) -> StoredOrder | None:
        """Return one order as it stood; without an account the newest of that id."""
        ...

    async def order_events(
        self, run_id: str, client_order_id: str, account_id: str = "", as_of: Moment = NOW
    ) -> list[OrderEvent]:
        """Return what happened to an order, the oldest first, LIMIT_MAX at most."""
        ...

    async def order_causes(
        self, run_id: str, client_order_id: str, account_id: str = ""
    ) -> list[Published]:
        """Return every stored record that belongs to an order, in order of time.

        The command, the risk decisions on it, its receipts, events, fills and positions; and behind
        each causation id that is stored, the record that it names.
        """
        ...

    async def receipts(
        self, run_id: str, client_order_id: str, account_id: str = ""
    ) -> list[CommandReceipt]:
        """Return the answers to commands about an order, the oldest first."""
        ...

    async def submits(self, run_id: str, client_order_id: str) -> list[SubmitOrder]:
        """Return the commands that asked for orders of that id, the oldest first."""
        ...

    async def fills(self, window: Window, filters: Filters = ALL) -> Page[Fill]:
        """Return executions."""
        ...

    # ---- portfolio

    async def positions(
        self, run_id: str, filters: Filters = ALL, as_of: Moment = NOW
    ) -> list[PositionChanged]:
        """Return the last change of each position up to ``as_of``, closed positions too."""
        ...

    async def position_history(
        self, window: Window, filters: Filters = ALL
    ) -> Page[PositionChanged]:
        """Return changes of positions."""
        ...

    async def position_steps(
        self, window: Window, account_id: str, strategy_id: str
    ) -> Page[PositionStep]:
        """Return how the positions of a strategy in an account became what they are.

        Steps stand in the order of the account stage, which no two topics side by side tell.
        """
        ...

    async def account(
        self, run_id: str, account_id: str, strategy_id: str = "", as_of: Moment = NOW
    ) -> AccountSnapshot | None:
        """Return the last snapshot of an account, or of a strategy's share, up to ``as_of``."""
        ...

    async def equity(
        self, window: Window, account_id: str, strategy_id: str = "", interval: str = ""
    ) -> EquitySeries:
        """Return equity marks; with an interval (one of INTERVALS) the last of each.

        A mark at the end of an interval belongs to it.
        """
        ...

    async def pnl(self, window: Window, group_by: str, filters: Filters = ALL) -> Page[PnlRow]:
        """Return realized results grouped by one of PNL_GROUPS; days in the window's order."""
        ...

    # ---- risk, strategies, backtests, operators

    async def risk_decisions(
        self, window: Window, filters: Filters = ALL, is_approved: bool | None = None
    ) -> Page[RiskDecision]:
        """Return decisions of the risk gate; ``is_approved`` chooses one kind."""
        ...

    async def decision_counts(
        self, run_id: str, as_of: Moment = NOW, account_id: str = ""
    ) -> dict[str, int]:
        """Return how many decisions there were by code; those that approved have none."""
        ...

    async def breaker_changes(
        self, window: Window, scope: str = "", scope_id: str = ""
    ) -> Page[BreakerChanged]:
        """Return changes of the circuit breaker."""
        ...

    async def strategy_states(
        self, window: Window, strategy_id: str = ""
    ) -> Page[StrategyStateChanged]:
        """Return changes of strategies' states."""
        ...

    async def signals(self, window: Window, filters: Filters = ALL) -> Page[StrategySignal]:
        """Return targets of strategies as they changed."""
        ...

    async def backtests(
        self, strategy_name: str = "", limit: int = 10, cursor: str = "", run_id: str = ""
    ) -> Page[StoredBacktest]:
        """Return finished backtests, the newest first; without ``run_id`` those of all runs."""
        ...

    async def backtest(self, task_id: str) -> StoredBacktest | None:
        """Return one finished backtest."""
        ...

    async def audit(self, window: Window, operator: str = "") -> Page[Header]:
        """Return what people and programs did: commands to engine, limits, breaker, settings."""
        ...

    async def runs(self, limit: int = 100, cursor: str = "", run_id: str = "") -> Page[StoredRun]:
        """Return the runs that are stored, the last begun first; ``run_id`` chooses one."""
        ...

    async def state(self, run_id: str, as_of: Moment = NOW) -> list[Published]:
        """Return the records that tell how a run stood, by topic and offset.

        Definitions and manifest; of positions, accounts and shares, equity, limits, breakers,
        exchange rates, strategies and their targets the newest each; all corporate actions, and the
        changes of positions by them; and the newest trade, quote and bar of each instrument.
        """
        ...


class StorageState(NamedTuple):
    """How the storage stands, for readiness and for people.

    ``status`` is starting, storing, standby, away, stopped or failed; for a program that stores
    nothing itself reading, or empty while nobody stores its run. ``tier`` is plain,
    timescale-apache or timescale-community, empty until the database answered once. ``lag`` counts
    what is not stored yet, ``last_error`` explains.
    """

    status: str
    tier: str
    postgres: str
    timescaledb: str
    address: str
    lag: int
    rows: int
    rejected: int
    gaps: int
    stored_ns: int
    failures: int
    last_error: str

    @property
    def is_ready(self) -> bool:
        """Whether the database answers and rows reach it."""
        return self.status in {"storing", "standby", "reading", "empty"}


class Storage(Protocol):
    """What the web app is given of the storage."""

    @property
    def history(self) -> History:
        """The questions; they raise StorageError while the database is away."""
        ...

    @property
    def holds_run(self) -> bool:
        """Whether the running run is stored, as far as is known."""
        ...

    def state(self) -> StorageState:
        """Return how the storage stands, without asking the database."""
        ...
