"""The message of the fan-out benchmark: a trade of 200 bytes, stamped when it is published."""

from __future__ import annotations

from schemas.market_data import Trade
from schemas.topics import MARKET_EVENTS
from streams.log import Published
from web.frames import Frame, FrameMaker

MARK = b'"op":"data"'
STAMP = b'"ts_event_ns":'
EPOCH = "20131007"
_MAKER = FrameMaker()


def trade(stamp_ns: int) -> Trade:
    """Return a trade with ``stamp_ns`` as its time."""
    return Trade(
        event_id="SPY-20131007-00001",
        ts_event_ns=stamp_ns,
        instrument_id="SPY.ARCX",
        price=165.11,
        size=100.0,
    )


def frame(stamp_ns: int, number: int) -> Frame:
    """Return the frame of a trade, as the app makes it."""
    return _MAKER.frame(Published(MARKET_EVENTS, 0, number, trade(stamp_ns)), EPOCH)
