"""What the account stage knows: orders, positions with their working quantities, accounts.

Everything that must survive a restart is a field of a msgspec struct and goes into the snapshot;
what is derived from it (slots, compiled checks) is built anew.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from agents.account.config import AccountConfig
from agents.domain.position import Position
from schemas.commands import SubmitOrder
from schemas.enums import OrderStatus
from schemas.values import ZERO


class Order(msgspec.Struct, gc=True):
    """One order as the order manager knows it.

    ``command`` is the submit as it was asked for; ``quantity`` and prices are what holds now.
    ``is_replacing``: an approved replace is on its way to the venue, and ``pending_increase`` is
    what it would add.
    """

    command: SubmitOrder
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    status: OrderStatus = OrderStatus.INITIALIZED
    status_before_cancel: OrderStatus = OrderStatus.INITIALIZED
    filled: Decimal = ZERO
    notional: Decimal = ZERO
    venue_order_id: str = ""
    breaker_epoch: int = 0
    sent_ns: int = 0
    closed_ns: int = 0
    expires_ns: int = 0
    pending_increase: Decimal = ZERO
    is_replacing: bool = False
    trade_ids: list[str] = []

    def leaves(self) -> Decimal:
        """Return what may still trade."""
        return self.quantity - self.filled

    def average_price(self) -> Decimal | None:
        """Return the mean price of what was filled; None before the first fill."""
        return self.notional / self.filled if self.filled else None


class Holding(msgspec.Struct, gc=True):
    """An account's net position in one instrument with what works on it.

    ``decided`` is what its last order was decided on before there was a reference price.
    """

    quantity: Decimal = ZERO
    working_buy: Decimal = ZERO
    working_sell: Decimal = ZERO
    decided: Decimal = ZERO


class Account(msgspec.Struct, gc=True):
    """One account.

    ``positions`` is keyed by strategy and instrument (``strategy|instrument``), ``holdings`` by
    instrument: their sums agree at all times. ``day_start_equity`` belongs to trading day ``day``,
    ``marked_equity`` is that of the last mark; ``sent`` are the instants of recent orders (ns), for
    the order rate.
    """

    config: AccountConfig
    cash: dict[str, Decimal]
    positions: dict[str, Position] = {}
    holdings: dict[str, Holding] = {}
    orders: dict[str, Order] = {}
    open_orders: dict[str, None] = {}
    pending_approval: dict[str, None] = {}
    closed: list[tuple[int, str]] = []
    closed_head: int = 0
    sent: list[int] = []
    recent_intents: dict[str, int] = {}
    peak_equity: float = 0.0
    day: int = 0
    day_start_equity: float = 0.0
    marked_equity: float = 0.0
    strategy_peaks: dict[str, float] = {}
    strategies: dict[str, None] = {}
    denials: int = 0


def new_account(config: AccountConfig) -> Account:
    """Return an account that holds nothing but its cash."""
    cash = float(config.cash)
    return Account(
        config,
        {config.base_currency: config.cash},
        peak_equity=cash,
        day_start_equity=cash,
        marked_equity=cash,
    )
