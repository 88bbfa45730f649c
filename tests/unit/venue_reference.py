"""A paper venue written event by event in plain Python, to hold the real one to.

It follows the rule tables of ``agents.venue`` and shares none of its code: every event is shown to
every order, every task is looked at before every event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from agents.venue.config import (
    BasisPointFee,
    BasisPointSlippage,
    MakerTakerFee,
    PerShareFee,
    SpreadSlippage,
    TickSlippage,
    VenueConfig,
)
from schemas.commands import VenueCancel, VenueReplace, VenueSubmit
from schemas.enums import InstrumentState
from schemas.instruments import Universe
from schemas.order_events import (
    Fill,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueReport,
    VenueTriggered,
)
from tests.unit.venue_script import (
    CLOSES,
    HOUR,
    A,
    Bar,
    Command,
    Event,
    Quote,
    Status,
    Trade,
    event_id,
)

Line = tuple[Any, ...]


@dataclass
class Order:
    """One working order, in prices and quantities."""

    command: VenueSubmit
    rank: int
    eligible: int
    buy: bool
    quantity: Decimal
    limit: Decimal | None
    stop: Decimal | None
    rested: bool
    filled: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    triggered: bool = False

    def better(self, price: Decimal, than: Decimal) -> bool:
        """Return whether ``price`` is strictly better for the order."""
        return price < than if self.buy else price > than


@dataclass
class Found:
    """A fill that an event offers."""

    order: Order
    price: Decimal
    ts: int
    maker: bool
    trigger: bool = False


@dataclass
class NaiveVenue:
    """The venue, one step at a time; ``lines`` collects what it says."""

    config: VenueConfig
    universe: Universe
    lines: list[Line] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    tasks: list[tuple[int, int, int, str, Any]] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    last: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    positions: dict[str, Decimal] = field(default_factory=dict)
    clock: int = 0
    count: int = 0
    events: int = 0

    # ---- time --------------------------------------------------------------------------------

    def later(self, due: int, name: str, order_id: str, what: Any) -> None:
        """Remember a task."""
        self.count += 1
        seen = due + 1 if self.config.tier(name) == "bar" else due
        self.tasks.append((seen, self.count, due, order_id, what))

    def pass_time(self) -> None:
        """Do the tasks that are due, one after another."""
        while due := [
            task for task in sorted(self.tasks, key=lambda t: t[:2]) if task[0] <= self.clock
        ]:
            task = due[0]
            self.tasks.remove(task)
            _, _, instant, order_id, what = task
            order = self.orders.get(order_id)
            if isinstance(what, VenueCancel | VenueReplace):
                self.effect(what, instant)
            elif order is not None and what == "expire":
                self.end(order, "expired", instant)
            elif order is not None and self.would_trade(order, order.limit):
                self.end(order, "canceled", instant, "POST_ONLY")

    # ---- commands ----------------------------------------------------------------------------

    def command(self, command: Command) -> None:
        """Take a command at the present clock."""
        now, order_id = self.clock, command.client_order_id
        latency = self.config.latency
        if isinstance(command, VenueSubmit):
            self.submit(command)
            return
        delay = latency.cancel_ns if isinstance(command, VenueCancel) else latency.replace_ns
        order = self.orders.get(order_id)
        if order is not None and isinstance(command, VenueReplace):
            code = self.refusal(order, command)
            if code:
                self.lines.append(("rejected", order_id, now, "replace", code))
                return
        if order is not None and delay:
            self.later(now + delay, order.command.instrument_id, order_id, command)
        else:
            self.effect(command, now)

    def submit(self, command: VenueSubmit) -> None:
        """Take a new order."""
        now, order_id, name = self.clock, command.client_order_id, command.instrument_id
        code = ""
        if order_id in self.known:
            code = "DUPLICATE_ORDER_ID"
        elif command.is_post_only and (
            command.order_type != "LIMIT" or command.time_in_force in ("IOC", "FOK")
        ):
            code = "POST_ONLY"
        elif self.off_grid(name, command.quantity, command.limit_price, command.stop_price):
            code = "OFF_GRID"
        if code:
            self.lines.append(("rejected", order_id, now, "submit", code))
            return
        self.count += 1
        order = Order(
            command,
            self.count,
            now + self.config.latency.submit_ns,
            command.side == "BUY",
            command.quantity,
            command.limit_price,
            command.stop_price,
            rested=command.is_post_only,
        )
        on_its_way = bool(self.config.latency.submit_ns)
        if command.is_post_only and not on_its_way and self.would_trade(order, order.limit):
            self.lines.append(("rejected", order_id, now, "submit", "POST_ONLY"))
            return
        self.known.add(order_id)
        self.orders[order_id] = order
        self.lines.append(("accepted", order_id, now))
        if command.is_post_only and on_its_way:
            self.later(order.eligible, name, order_id, "arrive")
        if command.time_in_force == "DAY":
            close = (now // (24 * HOUR) + 1) * 24 * HOUR
            if name == A:
                close = next((c for c in CLOSES if c > now), close)
            self.later(close, name, order_id, "expire")

    def off_grid(self, name: str, quantity: Decimal, *prices: Decimal | None) -> bool:
        """Return whether a value does not lie on its grid."""
        index = self.universe.index(name) or 0
        instrument = self.universe.instruments[index]
        return bool(quantity % instrument.quantity_increment) or any(
            price is not None and price % instrument.price_increment for price in prices
        )

    def refusal(self, order: Order, command: VenueReplace) -> str:
        """Return why a replace cannot be."""
        name = order.command.instrument_id
        if self.off_grid(name, command.quantity, command.limit_price, command.stop_price):
            return "OFF_GRID"
        return "FILLED_MEANWHILE" if command.quantity <= order.filled else ""

    def effect(self, command: VenueCancel | VenueReplace, ts: int) -> None:
        """Let a cancel or replace take effect."""
        order_id = command.client_order_id
        order = self.orders.get(order_id)
        kind = "cancel" if isinstance(command, VenueCancel) else "replace"
        if order is None:
            self.lines.append(("rejected", order_id, ts, kind, "UNKNOWN_ORDER"))
            return
        if isinstance(command, VenueCancel):
            self.end(order, "canceled", ts, "REQUESTED")
            return
        limit = order.limit if command.limit_price is None else command.limit_price
        stop = order.stop if command.stop_price is None else command.stop_price
        code = self.refusal(order, command)
        if not code and order.command.is_post_only and limit != order.limit:
            code = "POST_ONLY" if self.would_trade(order, limit) else ""
        if code:
            self.lines.append(("rejected", order_id, ts, kind, code))
            return
        repriced = limit != order.limit or (stop != order.stop and not order.triggered)
        if repriced or command.quantity > order.quantity:
            self.count += 1
            order.rank = self.count
        if repriced:
            order.rested = order.command.is_post_only
            order.eligible = max(order.eligible, ts)
        order.quantity, order.limit, order.stop = command.quantity, limit, stop
        self.lines.append(("replaced", order_id, ts, command.quantity, limit, stop))

    def would_trade(self, order: Order, limit: Decimal | None) -> bool:
        """Return whether a limit would trade at the last known price."""
        sides = self.last.get(order.command.instrument_id)
        if sides is None or limit is None:
            return False
        price = sides[1] if order.buy else sides[0]
        return price > 0 and not order.better(limit, price)

    def end(self, order: Order, how: str, ts: int, *why: str) -> None:
        """Take an order out."""
        del self.orders[order.command.client_order_id]
        self.lines.append((how, order.command.client_order_id, ts, *why))

    # ---- events ------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """See one event of the market."""
        number, self.events = self.events, self.events + 1
        self.clock = max(self.clock, event.ts)
        self.pass_time()
        if isinstance(event, Status):
            if event.state is InstrumentState.OPEN:
                self.closed.discard(event.name)
            else:
                self.closed.add(event.name)
        if not isinstance(event, Trade | Quote | Bar):
            return
        tier = self.config.tier(event.name)
        prices = self.prices(event)
        if prices is None or (isinstance(event, Bar) and event.revision):
            return
        is_own = tier == type(event).__name__.lower()
        if event.name not in self.closed and (
            is_own or (tier == "quote" and isinstance(event, Trade))
        ):
            self.match(event, prices, is_own, event_id(event, number))
        if is_own:
            bid, ask = prices["bid"], prices["ask"]
            if isinstance(event, Bar):
                bid = ask = prices["close"]
            self.last[event.name] = (bid, ask)

    def prices(self, event: Trade | Quote | Bar) -> dict[str, Decimal] | None:
        """Return the event's prices and sizes on the grid, None if it cannot be used."""
        index = self.universe.index(event.name) or 0
        instrument = self.universe.instruments[index]
        raw = {
            name: getattr(event, name)
            for name in type(event).__dataclass_fields__
            if name not in ("ts", "start", "name", "revision", "interval")
        }
        if any(value != value or value < 0 for value in raw.values()):
            return None
        out = {
            name: Decimal(int(value))
            * (
                instrument.quantity_increment
                if "size" in name or name == "volume"
                else instrument.price_increment
            )
            for name, value in raw.items()
        }
        if isinstance(event, Trade):
            out["bid"] = out["ask"] = out["low"] = out["high"] = out["price"]
        elif isinstance(event, Bar):
            out["bid"] = out["ask"] = out["open"]
        else:
            return out
        return None if out["low"] == 0 else out

    def match(
        self, event: Trade | Quote | Bar, prices: dict[str, Decimal], is_own: bool, market_id: str
    ) -> None:
        """Show the event to every order that may see it."""
        offers: list[Found | Order] = []
        for order in self.orders.values():
            begins = event.start if isinstance(event, Bar) else self.clock
            if (
                order.command.instrument_id != event.name
                or self.clock < order.eligible
                or begins < order.eligible
            ):
                continue
            found = self.offer(order, event, prices, is_own)
            if found is not None:
                offers.append(found)
            elif is_own and not (order.stop is not None and not order.triggered):
                offers.append(order)
        offers.sort(key=lambda offer: self.place(offer, event, prices))
        pools = self.pools(event, prices)
        for offer in offers:
            order = offer.order if isinstance(offer, Found) else offer
            found = offer if isinstance(offer, Found) else None
            if found is not None:
                self.take(found, event, prices, pools, market_id)
            if order.command.client_order_id in self.orders:
                order.rested = order.limit is not None
                tif = order.command.time_in_force
                if tif in ("IOC", "FOK"):
                    ts = event.start if isinstance(event, Bar) else self.clock
                    self.end(order, "canceled", found.ts if found else ts, tif.value)

    def offer(
        self, order: Order, event: Event, prices: dict[str, Decimal], is_own: bool
    ) -> Found | None:
        """Return what an event offers to an order."""
        price = prices["ask"] if order.buy else prices["bid"]
        bar = event if isinstance(event, Bar) else None
        at = bar.start if bar else self.clock
        if order.stop is not None and not order.triggered:
            if not is_own or not price:
                return None
            if not order.better(price, order.stop):
                return Found(order, price, at, False, True)
            extreme = prices["high" if order.buy else "low"] if bar else price
            if bar and not order.better(extreme, order.stop):
                return Found(order, order.stop, bar.ts, False, True)
            return None
        if order.limit is None:
            return Found(order, price, at, False) if is_own and price else None
        if not is_own:
            beyond = order.rested and order.better(price, order.limit)
            return Found(order, order.limit, at, True) if beyond else None
        touches = self.config.limit_fill == "touch" or (
            isinstance(event, Quote) and not order.rested
        )
        if price and (order.better(price, order.limit) or (touches and price == order.limit)):
            own = order.rested and not bar
            return Found(order, order.limit if own else price, at, order.rested)
        if bar and order.command.time_in_force not in ("IOC", "FOK"):
            extreme = prices["low" if order.buy else "high"]
            if order.better(extreme, order.limit) or (touches and extreme == order.limit):
                return Found(order, order.limit, bar.ts, True)
        return None

    def place(
        self, offer: Found | Order, event: Event, prices: dict[str, Decimal]
    ) -> tuple[Any, ...]:
        """Return the place of an order among those that meet one event."""
        order = offer.order if isinstance(offer, Found) else offer
        inside = isinstance(event, Bar) and not (
            isinstance(offer, Found) and offer.ts == event.start
        )
        passive = inside and isinstance(offer, Found) and offer.maker
        reference = prices["ask"] if order.buy else prices["bid"]
        depth = Decimal("Infinity")
        if order.limit is not None:
            depth = order.limit - reference if order.buy else reference - order.limit
        return inside, passive, -depth, order.rank

    def pools(self, event: Event, prices: dict[str, Decimal]) -> dict[bool, list[Decimal]] | None:
        """Return what buyers and sellers may take."""
        share = self.config.participation
        if share is None or not isinstance(event, Trade | Quote | Bar):
            return None
        index = self.universe.index(event.name) or 0
        lot = self.universe.instruments[index].quantity_increment

        def part(size: Decimal) -> list[Decimal]:
            return [(share * size / lot).to_integral_value(ROUND_FLOOR) * lot]

        if isinstance(event, Quote):
            return {True: part(prices["ask_size"]), False: part(prices["bid_size"])}
        both = part(prices["volume" if isinstance(event, Bar) else "size"])
        return {True: both, False: both}

    def take(
        self,
        found: Found,
        event: Event,
        prices: dict[str, Decimal],
        pools: dict[bool, list[Decimal]] | None,
        market_id: str,
    ) -> None:
        """Fill what may be filled."""
        order, command = found.order, found.order.command
        order_id = command.client_order_id
        if found.trigger:
            order.triggered = True
            self.lines.append(("triggered", order_id, found.ts))
            if order.limit is not None and order.better(order.limit, found.price):
                return
        key = command.instrument_id
        units = order.quantity - order.filled
        if command.is_reduce_only:
            units = min(units, self.reducible(order))
            if not units:
                self.end(order, "canceled", found.ts, "REDUCE_ONLY")
                return
        if pools is not None:
            units = min(units, pools[order.buy][0])
        if not units or (command.time_in_force == "FOK" and units < order.quantity):
            return
        if pools is not None:
            pools[order.buy][0] -= units
        price = self.slipped(found, prices)
        index = self.universe.index(key) or 0
        fee = self.fee(
            order, units, price, found.maker, self.universe.instruments[index].multiplier
        )
        order.fees += fee
        order.filled += units
        self.positions[key] = self.positions.get(key, Decimal(0)) + (units if order.buy else -units)
        self.lines.append(
            (
                "fill",
                order_id,
                found.ts,
                units,
                price,
                fee,
                found.maker,
                found.price,
                order.quantity - order.filled,
                market_id,
            )
        )
        if order.filled == order.quantity:
            del self.orders[order_id]
        elif command.is_reduce_only and not self.reducible(order):
            self.end(order, "canceled", found.ts, "REDUCE_ONLY")

    def reducible(self, order: Order) -> Decimal:
        """Return how much the order may fill without opening a position."""
        held = self.positions.get(order.command.instrument_id, Decimal(0))
        return max(-held if order.buy else held, Decimal(0))

    def slipped(self, found: Found, prices: dict[str, Decimal]) -> Decimal:
        """Return the price after slippage."""
        order, model = found.order, self.config.slippage
        index = self.universe.index(order.command.instrument_id) or 0
        tick = self.universe.instruments[index].price_increment
        ticks = Decimal(0)
        if isinstance(model, TickSlippage):
            ticks = Decimal(model.ticks)
        elif isinstance(model, BasisPointSlippage):
            ticks = found.price / tick * model.basis_points / 10_000
        elif isinstance(model, SpreadSlippage) and prices["bid"] and prices["ask"]:
            ticks = max(prices["ask"] - prices["bid"], Decimal(0)) / tick * model.share
        if found.maker:
            return found.price
        slip = ticks.to_integral_value(ROUND_CEILING) * tick
        price = found.price + slip if order.buy else max(found.price - slip, tick)
        if order.limit is not None and order.better(order.limit, price):
            return order.limit
        return price

    def fee(
        self, order: Order, units: Decimal, price: Decimal, maker: bool, multiplier: Decimal
    ) -> Decimal:
        """Return the fee of one fill."""
        model, value = self.config.fee, units * price * multiplier
        if isinstance(model, PerShareFee):
            return max(model.rate * (order.filled + units), model.minimum) - order.fees
        if isinstance(model, BasisPointFee):
            return value * model.basis_points / 10_000
        if isinstance(model, MakerTakerFee):
            rate = model.maker_basis_points if maker else model.taker_basis_points
            return value * rate / 10_000
        return Decimal(0)


def line(report: VenueReport) -> Line:
    """Return what a report of the real venue says, in the words of the naive one."""
    head = (report.client_order_id, report.ts_event_ns)
    if isinstance(report, Fill):
        return (
            "fill",
            *head,
            report.quantity,
            report.price,
            report.fee,
            report.liquidity_side == "MAKER",
            report.reference_price,
            report.leaves_quantity,
            report.market_event_id,
        )
    if isinstance(report, VenueRejected):
        return ("rejected", *head, report.command, report.code)
    if isinstance(report, VenueReplaced):
        return ("replaced", *head, report.quantity, report.limit_price, report.stop_price)
    if isinstance(report, VenueCanceled):
        return ("canceled", *head, report.reason)
    names: dict[type[VenueReport], str] = {
        VenueAccepted: "accepted",
        VenueTriggered: "triggered",
        VenueExpired: "expired",
    }
    return (names[type(report)], *head)
