"""The handlers, by subject; ``TABLE`` is the whole API."""

from __future__ import annotations

from web.route_table import Route
from web.routes import (
    approvals,
    backtest_results,
    backtests,
    killing,
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
    *strategies.ROUTES,
    *risk.ROUTES,
    *killing.ROUTES,
    *backtests.ROUTES,
    *backtest_results.ROUTES,
    *session.ROUTES,
    *system.ROUTES,
)
"""Every route with a typed answer."""
