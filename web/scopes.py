"""Scopes: what a key may be allowed. Each route names one; ``PUBLIC`` asks for no key at all."""

from __future__ import annotations

PUBLIC = "public"
READ = "read"
TRADE = "trade"
RISK_WRITE = "risk:write"
BREAKER_TRIP = "breaker:trip"
BREAKER_RESET = "breaker:reset"
CONFIG_WRITE = "config:write"
BACKTEST = "backtest"
ADMIN = "admin"

SCOPES = (
    READ,
    TRADE,
    RISK_WRITE,
    BREAKER_TRIP,
    BREAKER_RESET,
    CONFIG_WRITE,
    BACKTEST,
    ADMIN,
)
"""The scopes that a key can have; none contains another."""
