"""Quotes the edges of a price channel, in the event form with explicit orders."""

from decimal import Decimal

from millrace import Bar, Fill, OrderType, Side, Strategy, parameter


class ChannelMaker(Strategy):
    """Buys at the channel's low and sells at its high; leaves at the middle or at a stop."""

    window: int = parameter(20, minimum=2, maximum=500, description="bars of the channel")
    size: int = parameter(10, minimum=1, description="units of an entry")
    stop: float = parameter(0.02, minimum=0.001, maximum=0.5, description="loss to leave at")

    def on_start(self) -> None:
        # Lists and dicts of plain numbers survive a restart.
        self.lows: dict[str, list[float]] = {name: [] for name in self.instrument_ids}
        self.highs: dict[str, list[float]] = {name: [] for name in self.instrument_ids}
        self.entries: dict[str, float] = {}

    def on_bar(self, bar: Bar) -> None:
        name = bar.instrument_id
        self.lows[name] = [*self.lows[name], bar.low][-self.window :]
        self.highs[name] = [*self.highs[name], bar.high][-self.window :]
        self.cancel_all(name)
        if len(self.lows[name]) < self.window:
            return
        low, high = min(self.lows[name]), max(self.highs[name])
        if self.position(name):
            self.leave(name, (low + high) / 2)
        elif low < high:
            self.buy(name, self.size, order_type=OrderType.LIMIT, limit_price=low)
            self.sell(name, self.size, order_type=OrderType.LIMIT, limit_price=high)

    def on_fill(self, fill: Fill) -> None:
        name, held = fill.instrument_id, self.position(fill.instrument_id)
        if held and (held > 0) != (fill.side is Side.BUY):
            return  # part of an exit: what protects the rest stands
        # In: the entry on the other side is no longer wanted. Out: the other exit is not.
        self.cancel_all(name)
        if held:
            self.entries[name] = float(fill.price)
            self.leave(name, None)

    def on_split(self, instrument_id: str, ratio: Decimal) -> None:
        # The engine scales positions and orders; prices that are kept here are ours to scale.
        for prices in (self.lows, self.highs):
            prices[instrument_id] = [price / float(ratio) for price in prices[instrument_id]]
        if instrument_id in self.entries:
            self.entries[instrument_id] /= float(ratio)

    def cancel_all(self, name: str) -> None:
        """Take all working orders of an instrument out."""
        for order_id in self.open_orders(name):
            self.cancel(order_id)

    def leave(self, name: str, price: float | None) -> None:
        """Place the exits of a position: a stop, and a limit at ``price`` if there is one."""
        held = self.position(name)
        order = self.sell if held > 0 else self.buy
        grid = self.instrument(name).price_grid()
        away = 1 - self.stop if held > 0 else 1 + self.stop
        level = grid.nearest(self.entries[name] * away)
        order(name, abs(held), order_type=OrderType.STOP, stop_price=level, is_reduce_only=True)
        if price is not None:
            level = grid.nearest(price)
            order(
                name, abs(held), order_type=OrderType.LIMIT, limit_price=level, is_reduce_only=True
            )
