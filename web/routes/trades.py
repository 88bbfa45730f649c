"""Our executions, and the top of the order book by instrument."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.order_events import Fill
from streams.log import Published
from web import answers
from web.context import Context
from web.route_table import Call, Route
from web.routes.pages import bad_cursor, page
from web.times import format_time
from web.views.market import Market
from web.views.models import Views


class TradesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; the page ends before offset ``cursor`` of ``orders.fills``."""

    account_id: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


async def list_trades(context: Context, call: Call[TradesQuery, None]) -> answers.TradePage:
    """List executions, the newest first, with the top of the order book by instrument id."""
    views, query = context.views, call.query
    found, cursor = page(_selected(views, query), query.limit, lambda item: str(item.offset))
    books = {
        name: _book(views.market, name)
        for name in sorted(views.market.instruments)
        if query.symbol in (None, name, views.market.symbol_of(name))
    }
    trades = [_fill(views, item.record) for item in found if isinstance(item.record, Fill)]
    return answers.TradePage(trades, len(trades), cursor, books)


def _selected(views: Views, query: TradesQuery) -> Iterator[Published]:
    if query.cursor is not None and not (query.cursor.isascii() and query.cursor.isdigit()):
        raise bad_cursor(query.cursor)
    before = int(query.cursor) if query.cursor is not None else None
    for item in reversed(views.orders.fills):
        fill = item.record
        assert isinstance(fill, Fill)
        if before is not None and item.offset >= before:
            continue
        if query.account_id not in (None, fill.account_id):
            continue
        if query.strategy_id not in (None, fill.strategy_id):
            continue
        if query.symbol not in (
            None,
            fill.instrument_id,
            views.market.symbol_of(fill.instrument_id),
        ):
            continue
        yield item


def _fill(views: Views, fill: Fill) -> answers.Fill:
    return answers.Fill(
        fill.trade_id,
        fill.client_order_id,
        fill.account_id,
        fill.strategy_id,
        fill.instrument_id,
        views.market.symbol_of(fill.instrument_id),
        fill.side,
        fill.quantity,
        fill.price,
        fill.fee,
        fill.currency,
        fill.liquidity_side,
        format_time(fill.ts_event_ns),
        fill.ts_event_ns,
    )


def _book(market: Market, instrument_id: str) -> answers.BookTop:
    quote = market.quotes.get(instrument_id)
    last = market.last_price(instrument_id)
    seen_ns = max(quote.ts_event_ns if quote else 0, last[1] if last else 0)
    has_bid = quote is not None and quote.bid_price > 0
    has_ask = quote is not None and quote.ask_price > 0
    return answers.BookTop(
        instrument_id,
        market.symbol_of(instrument_id),
        quote.bid_price if quote and has_bid else None,
        quote.bid_size if quote and has_bid else None,
        quote.ask_price if quote and has_ask else None,
        quote.ask_size if quote and has_ask else None,
        last[0] if last else None,
        format_time(seen_ns) if seen_ns else None,
        seen_ns or None,
    )


ROUTES = (
    Route(
        "GET",
        "/api/trades",
        list_trades,
        answers.TradePage,
        "read",
        "Executions and order book",
        "trades",
        query=TradesQuery,
    ),
)
