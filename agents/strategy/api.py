"""What an author of a strategy writes against.

A strategy is a class with declared parameters and one of two forms:

- *Array form*: ``signals(series)`` gets consecutive prices of one instrument and returns as many
  targets, float64: 1 is long, -1 short, 0 flat, NaN "no opinion yet". The engine trades when
  the target changes. Indicators keep their state between calls, so how history is cut never shows.
- *Event form*: ``on_bar``, ``on_bars``, ``on_trade``, ``on_quote``, ``on_timer`` are called in
  order and place orders through ``self.target``, ``self.buy``, ``self.sell``, ``self.cancel``.

Either form may have ``on_start`` and ``on_fill``. Positions, orders and cash are up to date before
a callback runs. A strategy may use nothing but what it is given: no clock, no randomness, no files.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from agents.strategy.parameters import Parameter, ParameterValue, collect, parameter
from schemas.columns import Floats, Ints
from schemas.enums import OrderType, Side, TimeInForce
from schemas.errors import ConfigError
from schemas.instruments import Instrument
from schemas.market_data import Bar, Quote, Trade
from schemas.order_events import Fill
from schemas.values import ZERO, Grid

Column = TypeVar("Column", bound=npt.NDArray[Any])


class Series:
    """Consecutive trades, quotes (at their mid) or closed bars of one instrument, as columns.

    ``ts`` int64 ns (of a bar: its close). ``price`` float64. ``ticks`` int64: prices in units of
    the price grid, for indicators; of a quote's mid in half units rounded to even. ``open``,
    ``high``, ``low`` in ticks, equal to ``ticks`` unless the series is of bars. ``volume`` int64 in
    units of the quantity grid (0 for quotes).
    """

    __slots__ = (
        "high",
        "instrument_id",
        "low",
        "open",
        "price",
        "tick_size",
        "ticks",
        "ts",
        "volume",
    )

    def __init__(
        self,
        instrument_id: str,
        grid: Grid,
        ts: Ints,
        price: Floats,
        volume: Ints,
        bars: tuple[Floats, Floats, Floats] | None = None,
    ) -> None:
        self.instrument_id = instrument_id
        self.tick_size = float(grid.increment)
        self.ticks = grid.to_units(price)
        # The engine's own columns: an author who changed them would change the market.
        self.ts, self.price, self.volume = (_sealed(column) for column in (ts, price, volume))
        if bars is None:
            self.open = self.high = self.low = self.ticks
        else:
            self.open, self.high, self.low = (grid.to_units(column) for column in bars)

    def __len__(self) -> int:
        return len(self.ts)


def _sealed(column: Column) -> Column:
    """Return a view of ``column`` that cannot be written to."""
    view = column.view()
    view.flags.writeable = False
    return view


class Wish(NamedTuple):
    """An order, cancel or timer that a callback asked for."""

    kind: str
    instrument_id: str = ""
    side: Side = Side.BUY
    quantity: Decimal = ZERO
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    is_post_only: bool = False
    is_reduce_only: bool = False
    client_order_id: str = ""
    due_ns: int = 0


class View:
    """What the engine keeps for a strategy.

    Its instruments, positions, working orders, capital and time.
    """

    def __init__(self, instruments: list[Instrument], capital: Decimal, prefix: str) -> None:
        self.prefix = prefix
        self.instruments = {i.instrument_id: i for i in instruments}
        self.positions = {i.instrument_id: ZERO for i in instruments}
        self.working = {i.instrument_id: ZERO for i in instruments}
        self.prices: dict[str, Decimal] = {}
        self.open_orders: dict[str, tuple[str, Decimal]] = {}
        self.capital = capital
        self.cash = capital
        self.now_ns = 0
        self.next_order = 0
        self.wishes: list[Wish] = []

    def equity(self) -> Decimal:
        """Return capital plus results so far, held positions at their last prices."""
        total = self.cash
        for instrument_id, quantity in self.positions.items():
            price = self.prices.get(instrument_id)
            if quantity and price is not None:
                total += quantity * price * self.instruments[instrument_id].multiplier
        return total


class Strategy:
    """Base of all strategies; see the module's text for the two forms.

    ``quantity`` above 0: a target of 1 is that many units. ``quantity`` 0: a target of 1 is
    ``weight`` of the strategy's equity at the price of the decision, rounded down to whole units.
    """

    quantity: float = parameter(
        0.0, minimum=0, description="units for a target of 1; 0 sizes by weight"
    )
    weight: float = parameter(
        1.0, minimum=0, maximum=10, description="fraction of equity for a target of 1"
    )

    reinvest: bool = False
    """Whether the array form sizes its position anew after a dividend."""

    parameters: ClassVar[dict[str, Parameter]] = {}
    name: ClassVar[str] = ""
    _view: View

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.parameters = collect(cls)
        if not vars(cls).get("name"):
            cls.name = cls.__name__

    def __init__(self, values: dict[str, ParameterValue]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    # ---- what authors override

    def on_start(self) -> None:
        """Set up indicators; parameters are set, no data has been seen."""

    def signals(self, series: Series) -> Floats:
        """Return the target after each element of ``series`` (float64, same length.

        NaN: no opinion yet).
        """
        return np.full(len(series), np.nan)

    def on_trade(self, trade: Trade) -> None:
        """A trade happened."""

    def on_quote(self, quote: Quote) -> None:
        """The best bid or ask changed."""

    def on_bar(self, bar: Bar) -> None:
        """A bar closed."""

    def on_bars(self, time_ns: int, bars: dict[str, Bar]) -> None:
        """All bars that end at ``time_ns`` have closed; ``bars`` by instrument id."""

    def on_fill(self, fill: Fill) -> None:
        """One of this strategy's orders was executed, whole or in part."""

    def on_timer(self, due_ns: int) -> None:
        """An instant asked for with ``set_timer`` has come."""

    def on_split(self, instrument_id: str, ratio: Decimal) -> None:
        """A share became ``ratio`` shares: by default every indicator attribute is rescaled."""
        for value in vars(self).values():
            rescale = getattr(value, "rescale", None)
            if callable(rescale):
                rescale(ratio)

    # ---- what authors call

    @property
    def now_ns(self) -> int:
        """Time of the event being handled, int64 ns UTC."""
        return self._view.now_ns

    @property
    def equity(self) -> Decimal:
        """Capital plus results so far, held positions at their last prices."""
        return self._view.equity()

    @property
    def instrument_ids(self) -> list[str]:
        """Ids of the instruments this strategy works on."""
        return list(self._view.instruments)

    def instrument(self, instrument_id: str) -> Instrument:
        """Return the definition of one of the strategy's instruments."""
        return self._view.instruments[instrument_id]

    def position(self, instrument_id: str) -> Decimal:
        """Return the strategy's signed position."""
        return self._view.positions[instrument_id]

    def price(self, instrument_id: str) -> Decimal | None:
        """Return the last price the strategy has seen."""
        return self._view.prices.get(instrument_id)

    def open_orders(self, instrument_id: str = "") -> list[str]:
        """Return the client order ids of working orders, of one instrument if it is named."""
        return [
            order_id
            for order_id, (theirs, _) in self._view.open_orders.items()
            if not instrument_id or theirs == instrument_id
        ]

    def target(self, instrument_id: str, quantity: Decimal | float) -> None:
        """Trade at market so that position and working orders become ``quantity`` (signed)."""
        self._view.wishes.append(
            Wish("target", self._known(instrument_id), quantity=_decimal("quantity", quantity))
        )

    def target_weight(self, instrument_id: str, weight: float) -> None:
        """Trade at market to ``weight`` of the strategy's equity, rounded down to whole units."""
        self._view.wishes.append(
            Wish("target_weight", self._known(instrument_id), quantity=_decimal("weight", weight))
        )

    def buy(self, instrument_id: str, quantity: Decimal | float, **terms: object) -> str:
        """Order to buy; ``terms`` as ``order``. Returns the client order id."""
        return self.order(instrument_id, Side.BUY, quantity, **terms)  # type: ignore[arg-type]

    def sell(self, instrument_id: str, quantity: Decimal | float, **terms: object) -> str:
        """Order to sell; ``terms`` as ``order``. Returns the client order id."""
        return self.order(instrument_id, Side.SELL, quantity, **terms)  # type: ignore[arg-type]

    def order(
        self,
        instrument_id: str,
        side: Side,
        quantity: Decimal | float,
        *,
        order_type: OrderType = OrderType.MARKET,
        limit_price: Decimal | float | None = None,
        stop_price: Decimal | float | None = None,
        time_in_force: TimeInForce = TimeInForce.GTC,
        is_post_only: bool = False,
        is_reduce_only: bool = False,
    ) -> str:
        """Place an order and return its client order id."""
        view = self._view
        self._known(instrument_id)
        view.next_order += 1
        order_id = f"{view.prefix}{view.next_order}"
        view.wishes.append(
            Wish(
                "order",
                instrument_id,
                side,
                _decimal("quantity", quantity),
                order_type,
                None if limit_price is None else _decimal("limit_price", limit_price),
                None if stop_price is None else _decimal("stop_price", stop_price),
                time_in_force,
                is_post_only,
                is_reduce_only,
                order_id,
            )
        )
        return order_id

    def cancel(self, client_order_id: str) -> None:
        """Ask to cancel a working order."""
        self._view.wishes.append(Wish("cancel", client_order_id=client_order_id))

    def set_timer(self, due_ns: int) -> None:
        """Ask for ``on_timer`` at the first instant the data passes ``due_ns``.

        Raises ConfigError for an instant that does not lie ahead.
        """
        if due_ns <= self.now_ns:
            raise ConfigError(
                f"strategy {self.name} asks for a timer that does not lie ahead",
                field="due_ns",
                value=due_ns,
                remedy=f"give an instant after now_ns, which is {self.now_ns}",
            )
        self._view.wishes.append(Wish("timer", due_ns=due_ns))

    def _known(self, instrument_id: str) -> str:
        if instrument_id not in self._view.instruments:
            raise ConfigError(
                f"strategy {self.name} does not work on this instrument",
                field="instrument_id",
                value=instrument_id,
                remedy=f"it works on {', '.join(self._view.instruments)}",
            )
        return instrument_id


def _decimal(name: str, value: Decimal | float) -> Decimal:
    """Return a number that an author gave as Decimal, by its shortest text."""
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not number.is_finite():
        raise ConfigError(
            "an order needs a finite number",
            field=name,
            value=str(value),
            remedy="check the strategy",
        )
    return number
