"""A run for the tests of the web app: a log in memory, an app over it, a stage that answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.commands import CancelOrder, SubmitOrder
from schemas.control import (
    ApiWrite,
    BacktestRequest,
    BacktestResult,
    StrategySignal,
    StrategyStateChanged,
)
from schemas.enums import (
    BreakerState,
    LiquiditySide,
    OrderStatus,
    ReceiptOutcome,
    RunStatus,
    Scope,
    Side,
    StrategyStatus,
)
from schemas.envelope import Header
from schemas.instruments import Instrument
from schemas.market_data import Bar, Quote, Trade
from schemas.order_events import Fill, OrderAccepted, OrderCanceled, OrderFilled, OrderSubmitted
from schemas.portfolio import AccountSnapshot, EquityMark, PositionChanged
from schemas.risk import BreakerChanged, LimitSet, RiskDecision, SetBreaker, SetLimits
from streams.log import Published
from streams.memory_log import MemoryLog
from tests.unit.web_stage import ANSWERS, receipt
from web.app import WebSettings, create_app
from web.operations import Operations
from web.runs import RunStore
from web.security.gatekeeper import Gatekeeper

START_NS = 1_381_152_600_000_000_000
"""9:30 in New York on 7 October 2013."""

_COMMANDS = frozenset({t.ACCOUNT_INPUTS, t.STRATEGY_INPUTS})
_FAST = WebSettings(receipt_timeout_s=0.05, backtest_timeout_s=0.05)


class Run:
    """An app over a log in memory; without ``stage`` commands are left waiting."""

    def __init__(
        self,
        settings: WebSettings = _FAST,
        *,
        has_stage: bool = True,
        log: MemoryLog | None = None,
        runs: RunStore | None = None,
        operations: Operations | None = None,
        gate: Gatekeeper | None = None,
    ) -> None:
        self.audit: list[ApiWrite] = []
        self._ticks = count()
        numbers = count(1)
        self.log = log or MemoryLog("run-1", lambda: START_NS)
        self.app = create_app(
            self.log,
            settings,
            lambda: f"id-{next(numbers)}",
            runs=runs,
            operations=operations,
            gate=gate,
            audit=self.audit.append,
        )
        self.context = self.app.state.context
        if has_stage:
            self.log.listen(FakeStage(self.log))

    @contextmanager
    def client(self) -> Iterator[TestClient]:
        """Give a client of the running app."""
        url = "http://localhost"
        with TestClient(self.app, url, raise_server_exceptions=False) as client:
            yield client

    def on_loop(self, client: TestClient, work: Callable[[], object]) -> None:
        """Do ``work`` in the thread of the app's event loop, as an engine beside it would."""
        assert client.portal is not None
        client.portal.call(work)

    def append(self, client: TestClient, records: Sequence[tuple[str, Header]]) -> None:
        """Publish records while the app runs."""
        self.on_loop(client, lambda: self.log.append(records))

    def in_one_turn(self, client: TestClient, *groups: Sequence[tuple[str, Header]]) -> None:
        """Publish groups and hand each over at once, quicker than any client can be written to."""

        def work() -> None:
            for records in groups:
                self.log.append(records)
                self.context.hub.flush()

        self.on_loop(client, work)


class FakeStage:
    """Answers commands as the stages would, with one order id in use: ``taken``.

    Orders of strategies, which want no receipt, are left to the test.
    """

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def __call__(self, published: Sequence[Published]) -> None:
        """Answer every command among ``published``."""
        for item in published:
            record = item.record
            if isinstance(record, SubmitOrder) and record.wants_receipt:
                self._log.append(self._on_submit(record))
            elif isinstance(record, CancelOrder):
                self._log.append(self._on_cancel(record))
            elif isinstance(record, SetBreaker):
                self._log.append(
                    [
                        (
                            t.RISK_BREAKER,
                            breaker(record.state, cause=record.event_id, reason=record.reason),
                        )
                    ]
                )
            elif isinstance(record, BacktestRequest):
                self._log.append([(t.BACKTEST_RESULTS, backtest_result(record))])
            elif type(record) in ANSWERS and item.topic in _COMMANDS:
                self._log.append(ANSWERS[type(record)](self._log, record))

    def _on_submit(self, record: SubmitOrder) -> list[tuple[str, Header]]:
        if record.client_order_id == "taken":
            return [(t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.CONFLICT, "ORDER_ID_USED"))]
        if record.account_id == "nobody":
            return [(t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.REFUSED, "ACCOUNT_UNKNOWN"))]
        return [
            (t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.ACCEPTED)),
            (t.ORDER_EVENTS, submitted(record)),
        ]

    def _on_cancel(self, record: CancelOrder) -> list[tuple[str, Header]]:
        if record.client_order_id == "filled":
            return [(t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.REFUSED, "NOT_CANCELABLE"))]
        event = OrderCanceled(
            "c-1",
            START_NS,
            record.client_order_id,
            record.event_id,
            record.account_id,
            record.strategy_id,
            record.client_order_id,
            "SPY.ARCX",
            OrderStatus.CANCELED,
            "asked",
        )
        return [
            (t.ORDER_RECEIPTS, receipt(record, ReceiptOutcome.ACCEPTED)),
            (t.ORDER_EVENTS, event),
        ]


def submit(
    order_id: str, *, strategy_id: str = "momentum", account_id: str = "paper", at: int = 0
) -> SubmitOrder:
    """Return a strategy's order for 10 SPY."""
    return SubmitOrder(
        f"s-{account_id}-{order_id}",
        START_NS + at,
        order_id,
        "",
        account_id,
        strategy_id,
        order_id,
        "SPY.ARCX",
        Side.BUY,
        Decimal(10),
    )


def about(
    order: SubmitOrder, prefix: str, late_ns: int
) -> tuple[str, int, str, str, str, str, str, str]:
    """Return the fields that every event of an order begins with."""
    order_id = order.client_order_id
    return (
        f"{prefix}-{order.event_id}",
        order.ts_event_ns + late_ns,
        order_id,
        order.event_id,
        order.account_id,
        order.strategy_id,
        order_id,
        order.instrument_id,
    )


def submitted(order: SubmitOrder) -> OrderSubmitted:
    """Return the event that the order is on its way."""
    return OrderSubmitted(
        *about(order, "e", 0),
        OrderStatus.SUBMITTED,
        order.side,
        order.quantity,
        order.order_type,
        order.limit_price,
        order.stop_price,
        order.time_in_force,
    )


def accepted(order: SubmitOrder) -> OrderAccepted:
    """Return the event that the venue works the order."""
    return OrderAccepted(
        *about(order, "a", 1),
        OrderStatus.ACCEPTED,
        "v-1",
    )


def filled(order: SubmitOrder, price: str = "165.10") -> OrderFilled:
    """Return the event that the order was filled whole."""
    return OrderFilled(
        *about(order, "f", 2),
        OrderStatus.FILLED,
        "t-1",
        order.quantity,
        Decimal(price),
        order.quantity,
        Decimal(0),
        Decimal(price),
    )


def fill(order_id: str, *, strategy_id: str = "momentum", price: str = "165.10") -> Fill:
    """Return an execution of 10 SPY."""
    return Fill(
        f"x-{order_id}",
        START_NS + 2,
        order_id,
        "c",
        "paper",
        strategy_id,
        order_id,
        "SPY.ARCX",
        "v-1",
        f"trade-{order_id}",
        Side.BUY,
        Decimal(10),
        Decimal(price),
        Decimal("0.05"),
        "USD",
        LiquiditySide.TAKER,
        Decimal(price),
        Decimal(0),
    )


def instrument(symbol: str = "SPY", venue: str = "ARCX") -> Instrument:
    """Return an instrument."""
    return Instrument(
        ts_event_ns=START_NS, instrument_id=f"{symbol}.{venue}", symbol=symbol, venue=venue
    )


def trade(price: float, *, instrument_id: str = "SPY.ARCX", at: int = 0) -> Trade:
    """Return a print."""
    return Trade(
        event_id=f"t-{at}",
        ts_event_ns=START_NS + at,
        instrument_id=instrument_id,
        price=price,
        size=100.0,
    )


def quote(bid: float, ask: float, *, instrument_id: str = "SPY.ARCX", at: int = 0) -> Quote:
    """Return a quote."""
    return Quote(
        event_id=f"q-{at}",
        ts_event_ns=START_NS + at,
        instrument_id=instrument_id,
        bid_price=bid,
        ask_price=ask,
        bid_size=300.0,
        ask_size=400.0,
    )


def bar(close: float, *, at: int = 0) -> Bar:
    """Return a minute bar."""
    return Bar(
        event_id=f"b-{at}",
        ts_event_ns=START_NS + at,
        instrument_id="SPY.ARCX",
        interval="1m",
        open=close,
        high=close,
        low=close,
        close=close,
        volume=1.0,
        vwap=close,
        trade_count=1,
    )


def position(quantity: str = "10", *, strategy_id: str = "momentum") -> PositionChanged:
    """Return a position in SPY."""
    return PositionChanged(
        "p-1",
        START_NS,
        "c",
        "c",
        "paper",
        strategy_id,
        "SPY.ARCX",
        Decimal(quantity),
        Decimal("165.10"),
        Decimal("1.20"),
        Decimal("1.20"),
        Decimal("0.05"),
        "USD",
    )


def snapshot(equity: str = "10000.10", *, strategy_id: str = "") -> AccountSnapshot:
    """Return an account's snapshot."""
    return AccountSnapshot(
        "n-1",
        START_NS,
        "c",
        "c",
        "paper",
        strategy_id,
        "USD",
        {"USD": Decimal("8349.00")},
        Decimal(equity),
        Decimal("1.20"),
        Decimal("3.00"),
        Decimal("0.05"),
        Decimal("1651.10"),
        Decimal("1651.10"),
        Decimal(5000),
        Decimal(10010),
        -0.001,
        Decimal("4.20"),
    )


def mark(equity: float, *, at: int = 60) -> EquityMark:
    """Return a point of the equity curve."""
    return EquityMark(
        f"m-{at}", START_NS + at, "c", "c", "paper", "", equity, 8349.0, 1651.0, 1651.0, -0.002
    )


def breaker(
    state: BreakerState, *, cause: str = "c", reason: str = "test", epoch: int = 1
) -> BreakerChanged:
    """Return a change of the global breaker."""
    return BreakerChanged(
        f"k-{epoch}-{cause}", START_NS, cause, cause, Scope.GLOBAL, "", state, epoch, "ada", reason
    )


def decision(order_id: str, code: str = "") -> RiskDecision:
    """Return the gate's word on an order: approved without a code."""
    return RiskDecision(
        f"d-{order_id}",
        START_NS,
        order_id,
        "c",
        "paper",
        "momentum",
        order_id,
        "SPY.ARCX",
        not code,
        0,
        code,
        "12" if code else "",
        "10" if code else "",
        "account paper" if code else "",
    )


def limits() -> SetLimits:
    """Return limits of the account."""
    bounds = LimitSet(max_position=Decimal("10.50"), is_long_only=True)
    return SetLimits("l-1", START_NS, "c", "c", Scope.ACCOUNT, "paper", bounds, "ada")


def strategy_state() -> StrategyStateChanged:
    """Return that a strategy of ``paper`` runs."""
    return StrategyStateChanged(
        "st-1",
        START_NS,
        "c",
        "c",
        "momentum",
        "momentum_crossover",
        "paper",
        StrategyStatus.RUNNING,
        {"fast": 50, "slow": 200},
        ["SPY.ARCX"],
    )


def strategy_records() -> list[tuple[str, Header]]:
    """Return a strategy that runs and has signaled."""
    signal = StrategySignal("sg-1", START_NS + 5, "c", "c", "momentum", "SPY.ARCX", 10.0, 165.1)
    return [(t.STRATEGY_STATES, strategy_state()), (t.STRATEGY_SIGNALS, signal)]


METRICS: dict[str, float | int | str | None] = {
    "sharpe_ratio": 1.23,
    "max_drawdown_pct": -8.5,
    "total_return_pct": 42.0,
    "total_trades": 12,
    "win_rate": 58.3,
    "cagr_pct": None,
}


def backtest_result(request: BacktestRequest) -> BacktestResult:
    """Return what the agent answers: the strategy's name chooses the outcome."""
    failures = {
        "nope": ("not_found", "strategy nope not found; choose one of momentum_crossover"),
        "empty": ("no_data", "no data in the range; there is 1998-01-02 to 2021-03-31"),
        "busy": ("busy", "too many backtests are waiting"),
        "broken": ("", "killed"),
        "given_up": ("canceled", "wrong dates"),
    }
    code, detail = failures.get(request.strategy_name, ("", ""))
    is_failed = request.strategy_name in failures
    metrics: dict[str, float | int | str | None] = {"code": code} if is_failed else METRICS
    return BacktestResult(
        f"b-{request.task_id}",
        START_NS,
        request.task_id,
        request.event_id,
        request.task_id,
        request.strategy_name,
        RunStatus.FAILED if is_failed else RunStatus.COMPLETED,
        metrics,
        "hash",
        detail,
    )


def filled_run() -> list[tuple[str, Header]]:
    """Return the records of a little session: market data, three orders, a position, risk."""
    orders = [submit("o-1"), submit("o-2", at=10), submit("o-3", strategy_id="manual", at=20)]
    records: list[tuple[str, Header]] = [
        (t.REFERENCE_INSTRUMENTS, instrument()),
        (t.REFERENCE_INSTRUMENTS, instrument("IBM", "XNYS")),
        (t.MARKET_EVENTS, trade(165.1)),
        (t.MARKET_EVENTS, quote(165.09, 165.11)),
        *[(t.ACCOUNT_INPUTS, order) for order in orders],
        *[(t.ORDER_EVENTS, submitted(order)) for order in orders],
        (t.ORDER_EVENTS, accepted(orders[0])),
        (t.ORDER_EVENTS, filled(orders[0])),
        (t.ORDER_FILLS, fill("o-1")),
        (t.ORDER_FILLS, fill("o-0", strategy_id="manual")),
        (t.PORTFOLIO_POSITIONS, position()),
        (t.PORTFOLIO_POSITIONS, position("-4", strategy_id="manual")),
        (t.PORTFOLIO_ACCOUNTS, snapshot()),
        (t.PORTFOLIO_ACCOUNTS, snapshot("1651.00", strategy_id="momentum")),
        (t.PORTFOLIO_EQUITY, mark(10000.5)),
        (t.RISK_DECISIONS, decision("o-1")),
        (t.RISK_DECISIONS, decision("o-9", "MAX_POSITION")),
        (t.RISK_LIMITS, limits()),
        *strategy_records(),
    ]
    return records


def body(**fields: Any) -> dict[str, Any]:
    """Return a valid order request with ``fields`` changed; a field of ``...`` is left out."""
    order = {"symbol": "SPY", "side": "BUY", "quantity": 10, **fields}
    return {name: value for name, value in order.items() if value is not ...}


def fast(**changes: Any) -> WebSettings:
    """Return the settings of the tests with ``changes``."""
    return msgspec.structs.replace(_FAST, **changes)


def problem(response: Any, status: int) -> dict[str, Any]:
    """Return the problem of a response, which must be one with ``status``."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = response.json()
    assert content["status"] == status
    assert content["detail"]
    assert content["code"]
    return content


def exact(response: Any) -> Any:
    """Return JSON with every number as the text that stands there."""
    assert response.status_code == 200, response.text
    return json.loads(response.text, parse_float=str, parse_int=str)
