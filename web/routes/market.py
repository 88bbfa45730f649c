"""Market data: books, quotes, public trades and bars as columns for charts, instruments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from schemas.market_data import Bar, Quote, Trade
from streams.history import History, Window
from web.answers import market as answers
from web.context import Context
from web.history import stored
from web.route_table import Call, NoQuery, Route
from web.routes.pages import bad_cursor, instant
from web.routes.resolving import known_instrument, resolve_symbol
from web.routes.trades import book_top
from web.scopes import READ
from web.times import format_time
from web.views.configured import configured
from web.views.market import QUOTES, TRADES
from web.views.models import Views

Interval = Literal["1s", "5s", "1m", "5m", "15m", "1h", "1d"]
Symbol = Annotated[str, Meta(min_length=1, max_length=64)]
_Timed = TypeVar("_Timed", Bar, Quote, Trade)


class BookQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How many levels of each side."""

    depth: Annotated[int, Meta(ge=1, le=100)] = 10


class SeriesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which instrument, over which time; the newest ``limit`` of it, or those before ``cursor``."""

    symbol: Symbol
    after: str | None = None
    until: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 500
    cursor: str | None = None


class BarsQuery(SeriesQuery, forbid_unknown_fields=True):
    """As of a series, and the interval of the bars."""

    interval: Interval = "1m"


class InstrumentsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list."""

    symbol: str | None = None
    venue: str | None = None


async def get_order_book(context: Context, call: Call[BookQuery, None]) -> answers.OrderBook:
    """Return the book of one instrument: whole where its source gives it, else the best quote."""
    market = context.views.market
    instrument_id = known_instrument(context.views, call.path["symbol"])
    top, book = book_top(market, instrument_id), market.books.get(instrument_id)
    depth, seen_ns = "none", top.time_ns
    bids: list[tuple[float, float]] = []
    asks: list[tuple[float, float]] = []
    if book is not None:
        bids, asks = book.levels(call.query.depth)
        depth, seen_ns = "full", book.ts_ns
    elif instrument_id in market.quotes:
        depth = "top"
        if top.bid_price is not None and top.bid_size is not None:
            bids = [(top.bid_price, top.bid_size)]
        if top.ask_price is not None and top.ask_size is not None:
            asks = [(top.ask_price, top.ask_size)]
    return answers.OrderBook(
        instrument_id,
        top.symbol,
        depth,
        [answers.Level(*level) for level in bids],
        [answers.Level(*level) for level in asks],
        top.last_price,
        market.states.get(instrument_id),
        format_time(seen_ns) if seen_ns else None,
        seen_ns,
    )


async def get_quotes(context: Context, call: Call[SeriesQuery, None]) -> answers.Quotes:
    """Return quotes of one instrument as columns."""
    query = call.query
    instrument_id, window = _asked(context, query)
    rows = context.views.market.last_quotes.get(instrument_id, ())
    history, is_whole = await _source(context, window, instrument_id, QUOTES, rows)
    if history is not None:
        page = await stored(history.quotes(window, instrument_id))
        found, cursor, source = page.items[::-1], page.cursor or None, "database"
    else:
        found, cursor = _newest(rows, window, query)
        source = "memory"
    return answers.Quotes(
        instrument_id,
        context.views.market.symbol_of(instrument_id),
        [format_time(q.ts_event_ns) for q in found],
        [q.ts_event_ns for q in found],
        [q.bid_price for q in found],
        [q.bid_size for q in found],
        [q.ask_price for q in found],
        [q.ask_size for q in found],
        source,
        cursor,
        is_whole or cursor is not None,
    )


async def get_ticks(context: Context, call: Call[SeriesQuery, None]) -> answers.Ticks:
    """Return public trades of one instrument as columns."""
    query = call.query
    instrument_id, window = _asked(context, query)
    rows = context.views.market.last_trades.get(instrument_id, ())
    history, is_whole = await _source(context, window, instrument_id, TRADES, rows)
    if history is not None:
        page = await stored(history.trades(window, instrument_id))
        found, cursor, source = page.items[::-1], page.cursor or None, "database"
    else:
        found, cursor = _newest(rows, window, query)
        source = "memory"
    return answers.Ticks(
        instrument_id,
        context.views.market.symbol_of(instrument_id),
        [format_time(t.ts_event_ns) for t in found],
        [t.ts_event_ns for t in found],
        [t.price for t in found],
        [t.size for t in found],
        source,
        cursor,
        is_whole or cursor is not None,
    )


async def get_bars(context: Context, call: Call[BarsQuery, None]) -> answers.Bars:
    """Return bars of one instrument as columns, for charts; of the present run closed ones alone.

    Intervals that the run does not build are made of its minutes where there is a database, else
    `is_complete` is false; their days are days of UTC.
    """
    query = call.query
    instrument_id, window = _asked(context, query)
    symbol = context.views.market.symbol_of(instrument_id)
    series = context.views.market.series.get((instrument_id, query.interval))
    bars = sorted(series.values(), key=lambda b: b.ts_event_ns) if series is not None else []
    built = configured(context.views.system.manifest).market.intervals
    history, is_whole = await _source(
        context,
        window,
        instrument_id,
        query.interval,
        bars,
        is_built=bool(bars) or query.interval in built,
    )
    if history is not None:
        if not context.place:
            # A bar of wider intervals ends behind its last minute: in the present run it goes on.
            behind_ns = context.log.now_ns() + 1
            until_ns = behind_ns if window.until_ns is None else min(window.until_ns, behind_ns)
            window = window._replace(until_ns=until_ns)
        s = await stored(history.bars(window, instrument_id, query.interval))
        times = s.ts[::-1].tolist()
        return answers.Bars(
            instrument_id,
            symbol,
            query.interval,
            [format_time(ts) for ts in times],
            times,
            s.open[::-1].tolist(),
            s.high[::-1].tolist(),
            s.low[::-1].tolist(),
            s.close[::-1].tolist(),
            s.volume[::-1].tolist(),
            s.vwap[::-1].tolist(),
            s.trade_count[::-1].tolist(),
            "database",
            s.cursor or None,
        )
    found, cursor = _newest(bars, window, query)
    return answers.Bars(
        instrument_id,
        symbol,
        query.interval,
        [format_time(b.ts_event_ns) for b in found],
        [b.ts_event_ns for b in found],
        [b.open for b in found],
        [b.high for b in found],
        [b.low for b in found],
        [b.close for b in found],
        [b.volume for b in found],
        [b.vwap for b in found],
        [b.trade_count for b in found],
        "memory",
        cursor,
        is_whole or cursor is not None,
    )


async def _source(
    context: Context,
    window: Window,
    instrument_id: str,
    series: str,
    rows: Sequence[_Timed] | Any,
    *,
    is_built: bool = True,
) -> tuple[History | None, bool]:
    """Return the database where a series is read there, and whether what is answered is whole.

    Of a series that the run does not build memory has nothing.
    """
    floor_ns = context.views.market.floor_of(instrument_id, series)
    first_ns = window.first_ns
    is_whole = is_built and (floor_ns is None or (first_ns is not None and first_ns > floor_ns))
    last = context.views.market.last_price(instrument_id)
    newest_ns = rows[-1].ts_event_ns if rows else last[1] if last is not None else 0
    history = await context.series(newest_ns, is_whole=is_whole)
    return history, is_whole or history is not None


def _asked(context: Context, query: SeriesQuery) -> tuple[str, Window]:
    first_ns = instant("after", query.after)
    until_ns = instant("until", query.until, is_end=True)
    ends = [None if until_ns is None else until_ns + 1, context.until_ns]
    window = Window(
        context.run_id,
        first_ns,
        min((ns for ns in ends if ns is not None), default=None),
        query.limit,
        query.cursor or "",
    )
    return resolve_symbol(context.views, query.symbol), window


def _newest(
    rows: Sequence[_Timed] | Any, window: Window, query: SeriesQuery
) -> tuple[list[_Timed], str | None]:
    """Return the newest rows of a window, the oldest first, and the cursor of older ones.

    Rows of one instant are never torn apart, so there may be a few more than asked for.
    """
    until_ns = window.until_ns
    if query.cursor is not None:
        if not (query.cursor.isascii() and query.cursor.isdigit() and len(query.cursor) < 20):
            raise bad_cursor(query.cursor)
        before_ns = int(query.cursor)
        until_ns = before_ns if until_ns is None else min(before_ns, until_ns)
    found = [
        row
        for row in rows
        if (window.first_ns is None or row.ts_event_ns >= window.first_ns)
        and (until_ns is None or row.ts_event_ns < until_ns)
    ]
    if len(found) <= query.limit:
        return found, None
    first = len(found) - query.limit
    while first and found[first - 1].ts_event_ns == found[first].ts_event_ns:
        first -= 1
    cursor = str(found[first].ts_event_ns) if first else None
    return found[first:], cursor


async def list_instruments(
    context: Context, call: Call[InstrumentsQuery, None]
) -> answers.Instruments:
    """List the instruments of the run, by id; ``symbol`` may stand for several here."""
    views, query = context.views, call.query
    found = [
        _instrument(views, name)
        for name, item in sorted(views.market.instruments.items())
        if query.symbol in (None, "", name, item.symbol) and query.venue in (None, item.venue)
    ]
    return answers.Instruments(found, len(found))


async def get_instrument(context: Context, call: Call[NoQuery, None]) -> answers.Instrument:
    """Return one instrument as it is defined."""
    return _instrument(context.views, known_instrument(context.views, call.path["symbol"]))


def _instrument(views: Views, instrument_id: str) -> answers.Instrument:
    i = views.market.instruments[instrument_id]
    last = views.market.last_price(instrument_id)
    return answers.Instrument(
        i.instrument_id,
        i.symbol,
        i.venue,
        i.kind,
        i.currency,
        i.price_increment,
        i.quantity_increment,
        i.multiplier,
        i.least_quantity(),
        i.max_quantity,
        i.calendar,
        i.time_zone,
        i.is_tradable,
        i.is_shortable,
        i.description,
        views.market.states.get(instrument_id),
        last[0] if last is not None else None,
    )


def _read(
    path: str,
    handler: Any,
    answer: Any,
    summary: str,
    query: Any,
    example: str,
    *,
    is_stored: bool = True,
) -> Route:
    return Route(
        "GET",
        path,
        handler,
        answer,
        READ,
        summary,
        "market data",
        query=query,
        errors=(404, 503),
        is_of_run=True,
        is_stored=is_stored,
        example=example,
    )


ROUTES = (
    _read(
        "/api/orderbook/{symbol}",
        get_order_book,
        answers.OrderBook,
        "Order book",
        BookQuery,
        "/api/orderbook/SPY?depth=5",
        is_stored=False,
    ),
    _read(
        "/api/quotes",
        get_quotes,
        answers.Quotes,
        "Quotes",
        SeriesQuery,
        "/api/quotes?symbol=SPY&limit=100",
    ),
    _read(
        "/api/ticks",
        get_ticks,
        answers.Ticks,
        "Public trades",
        SeriesQuery,
        "/api/ticks?symbol=SPY&limit=100",
    ),
    _read(
        "/api/bars",
        get_bars,
        answers.Bars,
        "Bars for charts",
        BarsQuery,
        "/api/bars?symbol=SPY&interval=1m&limit=200",
    ),
    _read(
        "/api/instruments",
        list_instruments,
        answers.Instruments,
        "Instruments",
        InstrumentsQuery,
        "/api/instruments",
    ),
    _read(
        "/api/instruments/{symbol}",
        get_instrument,
        answers.Instrument,
        "One instrument",
        NoQuery,
        "/api/instruments/SPY",
    ),
)
