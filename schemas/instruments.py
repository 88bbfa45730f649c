"""Instruments, corporate actions and exchange rates: what can be traded, and what happens to it.

Every consumer of a price or quantity takes grid, multiplier, currency and calendar from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from schemas.enums import CorporateActionKind, InstrumentKind
from schemas.envelope import Incoming
from schemas.errors import ConfigError
from schemas.values import Grid


class Instrument(Incoming, gc=False, omit_defaults=True, tag="instrument", kw_only=True):
    """Define one tradable thing at one venue; ``instrument_id`` is SYMBOL.VENUE, venue as its MIC.

    ``price_increment`` and ``quantity_increment`` are the grids; ``calendar`` is a session
    calendar's name (empty: trades around the clock). ``max_*`` of None mean no bound by the venue,
    and so does a ``min_quantity`` of 0: the least is one increment then.
    """

    instrument_id: str
    symbol: str
    venue: str
    kind: InstrumentKind = InstrumentKind.EQUITY
    currency: str = "USD"
    price_increment: Decimal = Decimal("0.01")
    quantity_increment: Decimal = Decimal(1)
    multiplier: Decimal = Decimal(1)
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal | None = None
    min_notional: Decimal | None = None
    max_notional: Decimal | None = None
    calendar: str = ""
    time_zone: str = "UTC"
    is_tradable: bool = True
    is_shortable: bool = True
    description: str = ""

    def price_grid(self) -> Grid:
        """Return the grid of prices."""
        return Grid(self.price_increment)

    def least_quantity(self) -> Decimal:
        """Return the smallest quantity that an order may have."""
        return max(self.min_quantity, self.quantity_increment)

    def quantity_grid(self) -> Grid:
        """Return the grid of quantities."""
        return Grid(self.quantity_increment)


OTHER_THING = "has another multiplier or currency, or lots that cannot hold what was held"
"""Why a position cannot go on under a new symbol."""


class CorporateAction(Incoming, gc=False, omit_defaults=True, tag="corporate_action", kw_only=True):
    """Announce what takes effect at ``ts_event_ns``, before that instant's data.

    SPLIT: ``ratio`` new shares for one old share (2 for 2:1). DIVIDEND: ``amount`` in ``currency``
    a share held. SYMBOL_CHANGE: ``new_symbol``.
    """

    instrument_id: str
    kind: CorporateActionKind
    ratio: Decimal = Decimal(1)
    amount: Decimal = Decimal(0)
    currency: str = "USD"
    new_symbol: str = ""


class ExchangeRate(Incoming, gc=False, omit_defaults=True, tag="exchange_rate", kw_only=True):
    """State that a unit of ``base_currency`` is worth ``rate`` ``quote_currency`` from now on."""

    base_currency: str
    quote_currency: str
    rate: Decimal


_FIXED = (
    "price_increment",
    "quantity_increment",
    "multiplier",
    "currency",
    "calendar",
    "time_zone",
)


class Universe:
    """The instruments and sources of a run, each with a small stable index for the columns.

    Append only; indexes are private to a process and never reach a record.
    """

    __slots__ = (
        "_index_by_id",
        "_index_by_source",
        "instruments",
        "price_grids",
        "quantity_grids",
        "sources",
    )

    def __init__(self, instruments: list[Instrument] | None = None) -> None:
        self.instruments: list[Instrument] = []
        self.price_grids: list[Grid] = []
        self.quantity_grids: list[Grid] = []
        self.sources: list[str] = []
        self._index_by_id: dict[str, int] = {}
        self._index_by_source: dict[str, int] = {}
        for instrument in instruments or []:
            self.add(instrument)

    def __len__(self) -> int:
        return len(self.instruments)

    def add(self, instrument: Instrument) -> int:
        """Add or update an instrument and return its index.

        What bars, prices and cash are computed with may not change: grids, multiplier, currency,
        calendar and time zone. Raises ConfigError if it does, or for an increment that is none;
        nothing is added then.
        """
        index = self._index_by_id.get(instrument.instrument_id)
        if index is not None:
            known = self.instruments[index]
            for field in _FIXED:
                if getattr(known, field) != getattr(instrument, field):
                    raise ConfigError(
                        f"{field} of a known instrument cannot change within a run",
                        field=field,
                        value=str(getattr(instrument, field)),
                        remedy="start a new session for it",
                    )
            self.instruments[index] = instrument
            return index
        grids = instrument.price_grid(), instrument.quantity_grid()
        index = len(self.instruments)
        self.instruments.append(instrument)
        self.price_grids.append(grids[0])
        self.quantity_grids.append(grids[1])
        self._index_by_id[instrument.instrument_id] = index
        return index

    def index(self, instrument_id: str) -> int | None:
        """Return the index of an instrument, or None if it is not known."""
        return self._index_by_id.get(instrument_id)

    def new_id(self, action: CorporateAction) -> str | None:
        """Return the id that an instrument has after a symbol change.

        ``new_symbol`` names the instrument by its id, or by its symbol at the same venue. None if
        nobody knows it, or if it is another thing: of another multiplier or currency, or with lots
        that cannot hold what was held in those of the old one.
        """
        index = self.index(action.instrument_id)
        if index is None:
            return None
        old = self.instruments[index]
        for name in (action.new_symbol, f"{action.new_symbol}.{old.venue}"):
            found = self.index(name)
            if found is None:
                continue
            new = self.instruments[found]
            is_same = (old.multiplier, old.currency) == (new.multiplier, new.currency)
            return name if is_same and not old.quantity_increment % new.quantity_increment else None
        return None

    def source_index(self, source: str) -> int:
        """Return the index of a source's name, adding it if it is new."""
        index = self._index_by_source.get(source)
        if index is None:
            index = self._index_by_source[source] = len(self.sources)
            self.sources.append(source)
        return index


def meant_by(symbol: str, instruments: Mapping[str, Instrument]) -> list[str]:
    """Return the ids of the instruments, given by id, that ``symbol`` may mean.

    The rule: an instrument id stands for itself; else every tradable instrument of that symbol, and
    if none is tradable every one of it.
    """
    if symbol in instruments:
        return [symbol]
    same = [i for i in instruments.values() if i.symbol == symbol]
    found = [i for i in same if i.is_tradable] or same
    return sorted(instrument.instrument_id for instrument in found)


__all__ = ["CorporateAction", "ExchangeRate", "Instrument", "Universe", "meant_by"]
