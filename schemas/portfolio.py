"""Portfolio: positions and account snapshots."""

from __future__ import annotations

from decimal import Decimal

from schemas.envelope import Record


class PositionChanged(Record, gc=False, omit_defaults=True, tag="position_changed"):
    """The position of one account, strategy and instrument after a fill or corporate action.

    ``quantity`` is signed. ``realized_pnl`` is by average cost, ``realized_pnl_fifo`` by
    first-in-first-out lots; both before fees, in the instrument's currency. ``reason``: fill,
    split, dividend or symbol_change. A symbol change is told by two records of one cause: the old
    instrument's, with nothing left in it, and the new one's, which has taken over position and
    results.
    """

    account_id: str
    strategy_id: str
    instrument_id: str
    quantity: Decimal
    average_price: Decimal
    realized_pnl: Decimal
    realized_pnl_fifo: Decimal
    fees: Decimal
    currency: str
    reason: str = "fill"


class AccountSnapshot(Record, gc=False, omit_defaults=True, tag="account_snapshot"):
    """The account at an instant, marked at reference prices, amounts in ``base_currency``.

    ``strategy_id`` empty: the whole account; otherwise that strategy's share of it.
    ``missing_prices`` lists held instruments that have no price yet; they are marked at average
    cost, and this list says so.
    """

    account_id: str
    strategy_id: str
    base_currency: str
    cash: dict[str, Decimal]
    equity: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    fees: Decimal
    gross_exposure: Decimal
    net_exposure: Decimal
    buying_power: Decimal
    peak_equity: Decimal
    drawdown: float
    daily_pnl: Decimal
    missing_prices: list[str] = []


class EquityMark(Record, gc=False, omit_defaults=True, tag="equity_mark"):
    """One point of an equity curve; amounts are float64 in the base currency, for series and plots.

    ``strategy_id`` empty: the whole account, and ``drawdown`` is the fraction below its peak (0 or
    negative). A strategy's results begin at 0, so its ``drawdown`` is the amount below their peak.
    """

    account_id: str
    strategy_id: str
    equity: float
    cash: float
    gross_exposure: float
    net_exposure: float
    drawdown: float
