"""Our executions, and the top of the order book by instrument."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.order_events import Fill
from streams.history import Filters
from web.answers import market as answers
from web.answers import orders as order_answers
from web.context import Context
from web.route_table import Call, Route
from web.routes.older import records
from web.routes.resolving import instruments_of, is_among
from web.routes.scope_names import check_filter
from web.scopes import READ
from web.times import format_time
from web.views.market import Market
from web.views.models import Views


class TradesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; ``cursor`` is that of the page before."""

    account_id: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    client_order_id: str | None = None
    after: str | None = None
    until: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


async def list_trades(context: Context, call: Call[TradesQuery, None]) -> answers.TradePage:
    """List executions, the newest first, with the top of the order book by instrument id."""
    views, query = context.views, call.query
    trades, cursor = await _page(context, query)
    chosen = instruments_of(views, query.symbol)
    books = {
        name: book_top(views.market, name)
        for name in sorted(views.market.instruments)
        if is_among(chosen, name)
    }
    return answers.TradePage(trades, len(trades), cursor, books)


async def list_fills(context: Context, call: Call[TradesQuery, None]) -> order_answers.FillPage:
    """List executions alone, the newest first."""
    fills, cursor = await _page(context, call.query)
    return order_answers.FillPage(fills, len(fills), cursor)


async def _page(
    context: Context, query: TradesQuery
) -> tuple[list[order_answers.Fill], str | None]:
    """Return a page of executions; those that memory let go of come from the database."""
    views = context.views
    check_filter(context, query.account_id)
    chosen = instruments_of(views, query.symbol)
    filters = Filters(
        query.account_id or "",
        query.strategy_id or "",
        client_order_id=query.client_order_id or "",
        instrument_ids=chosen,
    )

    def is_wanted(fill: Fill) -> bool:
        return (
            query.account_id in (None, "", fill.account_id)
            and query.strategy_id in (None, "", fill.strategy_id)
            and query.client_order_id in (None, "", fill.client_order_id)
            and is_among(chosen, fill.instrument_id)
        )

    found, cursor = await records(
        context,
        views.orders.fills,
        "fills",
        query,
        is_wanted,
        lambda history, window: history.fills(window, filters),
    )
    return [fill_answer(views, fill) for fill in found], cursor


def fill_answer(views: Views, fill: Fill) -> order_answers.Fill:
    """Return an execution as an answer."""
    return order_answers.Fill(
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


def book_top(market: Market, instrument_id: str) -> answers.BookTop:
    """Return best bid and ask and the last price of one instrument."""
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
        READ,
        "Executions and order book",
        "trades",
        query=TradesQuery,
        errors=(503,),
        is_of_run=True,
        is_stored=True,
        example="/api/trades?limit=10",
    ),
    Route(
        "GET",
        "/api/fills",
        list_fills,
        order_answers.FillPage,
        READ,
        "Executions",
        "trades",
        query=TradesQuery,
        errors=(503,),
        is_of_run=True,
        is_stored=True,
        example="/api/fills?symbol=SPY",
    ),
)
