"""Instruments that data files name by symbol alone.

What is known about them, and what holds for the others.

The price increment of the known ones is 0.0001: quotes stand on whole cents, but consolidated
prints may lie between (43 highs and lows of the bundled daily bars do), and a column must convert
to the grid and back unchanged.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.enums import InstrumentKind
from schemas.instruments import Instrument
from streams.calendars import zone_of

CENT = Decimal("0.01")
FINE = Decimal("0.0001")
UNKNOWN_VENUE = "XXXX"

_KNOWN = {
    "SPY": ("ARCX", InstrumentKind.ETF, "SPDR S&P 500 ETF Trust"),
    "IBM": ("XNYS", InstrumentKind.EQUITY, "International Business Machines Corporation"),
}


def instrument_of(symbol: str, calendar: str = "") -> Instrument:
    """Return the definition of ``symbol``, or of a full instrument id such as ``IBM.XNYS``.

    Case does not matter.

    An unknown symbol becomes ``SYMBOL.XXXX`` with increment 0.0001, and trades in the sessions of
    ``calendar``, in whose time zone its days are. Without one it trades around the clock and its
    days are those of UTC.
    """
    symbol = symbol.upper()
    name, _, venue = symbol.rpartition(".")
    if not name:
        name, venue = symbol, ""
    if name in _KNOWN and venue in {"", _KNOWN[name][0]}:
        venue, kind, description = _KNOWN[name]
        return Instrument(
            ts_event_ns=0,
            instrument_id=f"{name}.{venue}",
            symbol=name,
            venue=venue,
            kind=kind,
            price_increment=FINE,
            calendar="XNYS",
            time_zone="America/New_York",
            description=description,
        )
    if len(venue) != 4:
        # A MIC has four characters; what follows the dot of BRK.B is part of the symbol.
        name, venue = symbol, UNKNOWN_VENUE
    return Instrument(
        ts_event_ns=0,
        instrument_id=f"{name}.{venue}",
        symbol=name,
        venue=venue,
        price_increment=FINE,
        calendar=calendar,
        time_zone=zone_of(calendar) if calendar else "UTC",
    )


def is_known(instrument: Instrument) -> bool:
    """Return whether the table above has the instrument."""
    return instrument.symbol in _KNOWN and instrument.venue == _KNOWN[instrument.symbol][0]


def with_increment(instrument: Instrument, *, is_on_cents: bool) -> Instrument:
    """Return an unknown instrument with increment 0.01 if all its prices are whole cents."""
    if not is_on_cents or is_known(instrument):
        return instrument
    return msgspec.structs.replace(instrument, price_increment=CENT)
