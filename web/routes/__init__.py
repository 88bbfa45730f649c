"""The handlers, by subject; ``TABLE`` is the whole API."""

from __future__ import annotations

from web.route_table import Route
from web.routes import (
    approvals,
    backtest_results,
    backtests,
    calendar,
    config,
    dead_letters,
    jobs,
    killing,
    market,
    order_entry,
    orders,
    portfolio,
    positions,
    risk,
    session,
    strategies,
    system,
    trades,
)

TABLE: tuple[Route, ...] = (
    *portfolio.ROUTES,
    *positions.ROUTES,
    *orders.ROUTES,
    *order_entry.ROUTES,
    *approvals.ROUTES,
    *trades.ROUTES,
    *market.ROUTES,
    *calendar.ROUTES,
    *strategies.ROUTES,
    *risk.ROUTES,
    *killing.ROUTES,
    *backtests.ROUTES,
    *backtest_results.ROUTES,
    *session.ROUTES,
    *system.ROUTES,
    *dead_letters.ROUTES,
    *jobs.ROUTES,
    *config.ROUTES,
)
"""Every route with a typed answer."""
