"""Quotes the edges of a price channel, in the event form with explicit orders."""

from decimal import Decimal

from millrace import Bar, Fill, OrderType, Strategy, parameter


class ChannelMaker(Strategy):
    """Buys at the channel's low and sells at its high; leaves at the middle or at a stop."""

    window: int = parameter(20, minimum=2, maximum=500, description="bars of the channel")
    size: int = parameter(10, minimum=1, description="units of an entry")
    stop: float = parameter(0.02, minimum=0.001, maximum=0.5, description="loss to leave at")

    def on_start(self) -> None:
        self.lows: dict[str, list[float]] = {}
        self.highs: dict[str, list[float]] = {}
        self.entries: dict[str, float] = {}

    def on_bar(self, bar: Bar) -> None:
        name = bar.instrument_id
        self.lows[name] = [*self.lows.get(name, []), bar.low][-self.window :]
        self.highs[name] = [*self.highs.get(name, []), bar.high][-self.window :]
        for order_id in self.open_orders(name):
            self.cancel(order_id)
        if len(self.lows[name]) < self.window:
            return
        low, high = min(self.lows[name]), max(self.highs[name])
        if self.position(name):
            self.leave(name, (low + high) / 2)
        elif low < high:
            self.buy(name, self.size, order_type=OrderType.LIMIT, limit_price=low)
            self.sell(name, self.size, order_type=OrderType.LIMIT, limit_price=high)

    def on_fill(self, fill: Fill) -> None:
        name = fill.instrument_id
        if not self.position(name):
            return
        # In: the entry on the other side is no longer wanted, a stop is.
        for order_id in self.open_orders(name):
            self.cancel(order_id)
        self.entries[name] = float(fill.price)
        self.leave(name, None)

    def leave(self, name: str, price: float | None) -> None:
        """Place the exits of a position: a stop, and a limit at ``price`` if there is one."""
        held = self.position(name)
        grid = self.instrument(name).price_grid()
        away = 1 - self.stop if held > 0 else 1 + self.stop
        exits: list[tuple[OrderType, Decimal]] = [
            (OrderType.STOP, grid.nearest(self.entries[name] * away))
        ]
        if price is not None:
            exits.append((OrderType.LIMIT, grid.nearest(price)))
        for kind, at in exits:
            terms = {"stop_price" if kind is OrderType.STOP else "limit_price": at}
            order = self.sell if held > 0 else self.buy
            order(name, abs(held), order_type=kind, is_reduce_only=True, **terms)
