"""Answers about market data."""

from __future__ import annotations

from decimal import Decimal

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


class Level(msgspec.Struct):
    """One price level of a book."""

    price: float
    size: float


class OrderBook(msgspec.Struct):
    """The book of one instrument, best levels first.

    ``depth`` is ``full`` where the source gives whole books, ``top`` where it gives quotes, and
    ``none`` where it gives neither.
    """

    instrument_id: str
    symbol: str
    depth: str
    bids: list[Level]
    asks: list[Level]
    last_price: float | None
    state: str | None
    time: str | None
    time_ns: int | None


class Quotes(msgspec.Struct):
    """Quotes as columns, the oldest first; ``next_cursor`` asks for older ones.

    ``is_complete`` is false where there were older ones, but memory let go of them and no database
    tells of them.
    """

    instrument_id: str
    symbol: str
    time: list[str]
    time_ns: list[int]
    bid_price: list[float]
    bid_size: list[float]
    ask_price: list[float]
    ask_size: list[float]
    source: str
    next_cursor: str | None
    is_complete: bool = True


class Ticks(msgspec.Struct):
    """Public trades as columns, the oldest first; ``next_cursor`` asks for older ones.

    ``is_complete`` is that of quotes.
    """

    instrument_id: str
    symbol: str
    time: list[str]
    time_ns: list[int]
    price: list[float]
    size: list[float]
    source: str
    next_cursor: str | None
    is_complete: bool = True


class Bars(msgspec.Struct):
    """Bars as columns, the oldest first, stamped at their close; corrections are applied.

    ``is_complete`` is that of quotes.
    """

    instrument_id: str
    symbol: str
    interval: str
    time: list[str]
    time_ns: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    vwap: list[float]
    trade_count: list[int]
    source: str
    next_cursor: str | None
    is_complete: bool = True


class Instrument(msgspec.Struct):
    """One instrument as it is defined, and its last price."""

    instrument_id: str
    symbol: str
    venue: str
    kind: str
    currency: str
    price_increment: Decimal
    quantity_increment: Decimal
    multiplier: Decimal
    min_quantity: Decimal
    max_quantity: Decimal | None
    calendar: str
    time_zone: str
    is_tradable: bool
    is_shortable: bool
    description: str
    state: str | None
    last_price: float | None


class Instruments(msgspec.Struct):
    """Instruments, by id."""

    instruments: list[Instrument]
    count: int


class Clock(msgspec.Struct):
    """The time of the run, and whether its session is open; null without a calendar."""

    time: str
    time_ns: int
    calendar: str | None
    is_open: bool | None
    next_open: str | None
    next_open_ns: int | None
    next_close: str | None
    next_close_ns: int | None


class Session(msgspec.Struct):
    """One trading day with its regular hours."""

    day: str
    open: str
    open_ns: int
    close: str
    close_ns: int


class Calendar(msgspec.Struct):
    """The sessions of a calendar."""

    calendar: str
    sessions: list[Session]
