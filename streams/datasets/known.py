"""Instruments that data files name by symbol alone: what is known about them, and what holds for the others.

The price increment of the known ones is 0.0001: quotes stand on whole cents, but consolidated prints may lie between
(43 highs and lows of the bundled daily bars do), and a column must convert to the grid and back unchanged.
"""

from __future__ import annotations

from decimal import Decimal

from schemas.enums import InstrumentKind
from schemas.instruments import Instrument

CENT = Decimal("0.01")
FINE = Decimal("0.0001")
UNKNOWN_VENUE = "XXXX"

_KNOWN = {
    "SPY": ("ARCX", InstrumentKind.ETF, "SPDR S&P 500 ETF Trust"),
    "IBM": ("XNYS", InstrumentKind.EQUITY, "International Business Machines Corporation"),
}


def instrument_of(symbol: str, *, is_on_cents: bool = False) -> Instrument:
    """Return the definition of ``symbol`` (upper case), or of a full instrument id such as ``IBM.XNYS``.

    An unknown symbol becomes ``SYMBOL.XXXX`` without a calendar (it trades around the clock, days are UTC); its
    increment is 0.01 if ``is_on_cents`` (every price of its files lies on whole cents), else 0.0001.
    """
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
        price_increment=CENT if is_on_cents else FINE,
    )
