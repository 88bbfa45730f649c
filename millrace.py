"""The one name that authors of strategies and notebooks import.

    from millrace import Strategy, parameter, indicators, backtest

See the README for a whole strategy file.
"""

from __future__ import annotations

from agents.domain import indicators
from agents.domain.metrics import Metrics
from agents.strategy.api import Series, Strategy
from agents.strategy.parameters import parameter
from infra.backtests import Backtest
from infra.notebook import backtest
from schemas.enums import OrderType, Side, TimeInForce
from schemas.errors import MillraceError
from schemas.instruments import Instrument
from schemas.market_data import Bar, Quote, Trade
from schemas.order_events import Fill
from streams.feeds import Emit, FeedAdapter
from streams.watching import Gap, Snapshot, Stream, Update, watch

__all__ = [
    "Backtest",
    "Bar",
    "Emit",
    "FeedAdapter",
    "Fill",
    "Gap",
    "Instrument",
    "Metrics",
    "MillraceError",
    "OrderType",
    "Quote",
    "Series",
    "Side",
    "Snapshot",
    "Strategy",
    "Stream",
    "TimeInForce",
    "Trade",
    "Update",
    "backtest",
    "indicators",
    "parameter",
    "watch",
]
