"""What a feed adapter is: the one class that stands between a source of live data and Millrace.

An adapter names the instruments it serves and hands over records as they come. Everything else is
done behind ``emit``: checks, numbering, time, the journal. So an adapter holds nothing but its
source's protocol, and a wrong record cannot get past it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from schemas.envelope import Header
from schemas.errors import ConfigError
from schemas.instruments import Instrument
from schemas.market_data import INTERVALS

KINDS = ("trade", "quote", *(f"bar/{name}" for name in INTERVALS))
"""What market data may be."""


def check_kinds(field: str, kinds: Sequence[str]) -> None:
    """Raise ConfigError if there are no kinds of market data, or one that does not exist."""
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong or not kinds:
        raise ConfigError(
            "there is no such kind of market data" if wrong else "no kind of market data is named",
            field=field,
            value=list(kinds),
            remedy=f"choose from {', '.join(KINDS)}",
        )


class Emit(Protocol):
    """Where an adapter puts what it has read."""

    async def __call__(self, record: Header) -> None:
        """Hand over a Trade, Quote, Bar, InstrumentStatus or Watermark.

        Waits while the engine is behind: what is not taken stays with the source. A record that
        cannot be used becomes a dead letter, and the adapter goes on.
        """
        ...

    async def refuse(self, value: bytes, reason: str) -> None:
        """Put what could not be read into the dead letters; ``reason`` says what, where, remedy."""
        ...

    def note(self, text: str) -> None:
        """Tell the operator of a change, such as a connection that was lost."""
        ...


class FeedAdapter(ABC):
    """Base of all feed adapters; its constructor takes the ``[source.options]`` by keyword.

    ``name`` stands in the records as their source; empty, it is the name that the settings give.
    ``kinds`` says what comes: any of "trade", "quote" and "bar/1m" (or another interval). What
    fills orders and drives strategies is chosen by it, so it must not name what never comes.
    """

    name: str = ""
    kinds: tuple[str, ...] = ("trade", "quote")

    @abstractmethod
    def instruments(self) -> Sequence[Instrument]:
        """Return the definitions of everything that this feed serves, without connecting."""

    @abstractmethod
    async def run(self, emit: Emit) -> None:
        """Connect, read and emit, again and again after a loss; never block the event loop.

        Cancelled when the run stops. To return means that nothing will come any more. To raise
        means that the feed has failed for good, which ends the run; a ``MillraceError`` is best,
        since its one line is what the operator reads.
        """
