"""What the venue keeps in mind: its working orders, and everything else that a snapshot holds.

Orders are in integers of their instrument's grids.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from agents.venue.agenda import Agenda, Task
from agents.venue.tape import Sides
from schemas.enums import InstrumentState, OrderType, TimeInForce
from schemas.errors import RecordError
from schemas.instruments import Universe
from schemas.values import ZERO

PROCESSOR_VERSION = "venue-3"
_DONE_KEPT = 4096


class Resting(msgspec.Struct):
    """One working order.

    ``sign`` 1 buys, -1 sells; ``limit`` and ``stop`` are in ticks, ``quantity`` and ``filled`` in
    units. ``priority`` counts up with time: the lower goes first at one price. The order sees
    events after position ``after`` of the loaded batch whose clock is at or past ``eligible_ns``.
    ``has_rested``: it stands in the book as a limit order, so it makes liquidity.

    ``at`` is the next position at which an event meets it; ``row`` and ``print_row`` are the rows
    of the market's tapes up to which that was looked for (-1: not begun). These, ``after`` and
    ``index`` (the universe's) belong to this process and the loaded batch.
    """

    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    order_type: OrderType
    time_in_force: TimeInForce
    sign: int
    quantity: int
    limit: int | None
    stop: int | None
    is_post_only: bool
    is_reduce_only: bool
    priority: int
    eligible_ns: int
    filled: int = 0
    fees: Decimal = ZERO
    is_triggered: bool = False
    has_rested: bool = False
    index: int = -1
    after: int = -1
    at: int = -1
    row: int = -1
    print_row: int = -1

    def is_stop(self) -> bool:
        """Return whether the order still waits for its trigger."""
        return self.stop is not None and not self.is_triggered

    def takes_any(self) -> bool:
        """Return whether the next event meets the order whatever its price: it has not rested."""
        return not self.has_rested and (self.stop is None or self.is_triggered)

    def is_immediate(self) -> bool:
        """Return whether the first event decides the order's fate."""
        return self.time_in_force is TimeInForce.IOC or self.time_in_force is TimeInForce.FOK

    def key(self) -> str:
        """Return what the venue tells the order by."""
        return order_key(self.account_id, self.client_order_id)

    def venue_order_id(self) -> str:
        """Return the venue's name of the order."""
        return f"paper-{self.key()}"

    def position_key(self) -> str:
        """Return the key of the position that the order's fills change."""
        return position_key(self.account_id, self.strategy_id, self.instrument_id)

    def look_anew(self, after: int) -> None:
        """Forget what was looked for: the order sees the events after position ``after``."""
        self.after = after
        self.at = self.row = self.print_row = -1

    def kept(self) -> Resting:
        """Return the order as a snapshot keeps it."""
        return msgspec.structs.replace(self, index=-1, after=-1, at=-1, row=-1, print_row=-1)


def order_key(account_id: str, client_order_id: str) -> str:
    """Return the key of an order: each account chooses the ids of its own.

    The id of no account has a "|", those of orders may.
    """
    return f"{account_id}|{client_order_id}"


def position_key(account_id: str, strategy_id: str, instrument_id: str) -> str:
    """Return the key of a position; the instrument stands last."""
    return f"{account_id}|{strategy_id}|{instrument_id}"


class _State(msgspec.Struct):
    version: str
    orders: list[Resting]
    tasks: list[Task]
    positions: dict[str, int]
    states: dict[str, InstrumentState]
    last: dict[str, Sides]
    done: list[str]
    counter: int


class _Version(msgspec.Struct):
    version: str


# Dictionaries are written in the order of their keys, so that equal states give equal bytes.
_ENCODER = msgspec.json.Encoder(order="deterministic", decimal_format="string")


class Book:
    """The state of the venue.

    ``orders`` by ``order_key``, in the order in which they came; ``positions`` in units by account,
    strategy and instrument, made of the venue's own fills; ``states`` and ``last`` (known prices)
    by instrument, as they were before the loaded batch.
    """

    __slots__ = ("_counter", "_done", "agenda", "last", "orders", "positions", "states")

    def __init__(self) -> None:
        self.orders: dict[str, Resting] = {}
        self.agenda = Agenda([])
        self.positions: dict[str, int] = {}
        self.states: dict[str, InstrumentState] = {}
        self.last: dict[str, Sides] = {}
        # Keys of orders that are over: the newest 4096 at least, 8192 at most.
        self._done: dict[str, None] = {}
        self._counter = 0

    def count(self) -> int:
        """Return the next number of the venue: of an order's place, of a task."""
        self._counter += 1
        return self._counter

    def knows(self, key: str) -> bool:
        """Return whether the venue has or lately had an order of this key."""
        return key in self.orders or key in self._done

    def drop(self, order: Resting) -> None:
        """Take out an order that is over."""
        key = order.key()
        del self.orders[key]
        self.agenda.forget(key)
        self._done[key] = None
        if len(self._done) > 2 * _DONE_KEPT:
            for old in list(self._done)[:_DONE_KEPT]:
                del self._done[old]

    def encode(self) -> bytes:
        """Return the state as JSON; equal states give equal bytes."""
        orders = [order.kept() for order in self.orders.values()]
        return _ENCODER.encode(
            _State(
                PROCESSOR_VERSION,
                orders,
                self.agenda.tasks(),
                self.positions,
                self.states,
                self.last,
                list(self._done),
                self._counter,
            )
        )

    @classmethod
    def decode(cls, state: bytes, universe: Universe) -> Book:
        """Return the book that ``encode`` wrote.

        Raises RecordError for another processor version, or an order whose instrument ``universe``
        does not have.
        """
        version = msgspec.json.decode(state, type=_Version).version
        if version != PROCESSOR_VERSION:
            raise RecordError(
                "a snapshot of the paper venue is of another version",
                field="version",
                value=version,
                remedy="rebuild the state from the journal",
            )
        known = msgspec.json.decode(state, type=_State)
        book = cls()
        for order in known.orders:
            index = universe.index(order.instrument_id)
            if index is None:
                raise RecordError(
                    "a working order's instrument is not in the universe",
                    field="instrument_id",
                    value=order.instrument_id,
                    remedy="start the run with the instruments that it had",
                )
            order.index = index
            book.orders[order.key()] = order
        book.agenda = Agenda(known.tasks)
        book.positions, book.states, book.last = known.positions, known.states, known.last
        book._done = dict.fromkeys(known.done)
        book._counter = known.counter
        return book
