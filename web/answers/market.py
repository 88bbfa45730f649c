"""Answers about market data."""

from __future__ import annotations

import msgspec

from web.answers.orders import Fill


class BookTop(msgspec.Struct):
    """Best bid and ask of one instrument and its last price; null where there is none."""

    instrument_id: str
    symbol: str
    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None
    last_price: float | None
    time: str | None
    time_ns: int | None


class TradePage(msgspec.Struct):
    """Fills, the newest first, and the top of each instrument's order book."""

    trades: list[Fill]
    count: int
    next_cursor: str | None
    order_book: dict[str, BookTop]
