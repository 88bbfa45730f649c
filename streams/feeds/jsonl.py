"""The feed ``jsonl``: one record a line, as JSON, from any program that listens on a TCP port.

A line is what ``market.events`` carries: ``{"type": "trade", "ts_event_ns": 1700000000000000000,
"instrument_id": "IBM.XNYS", "price": 150.25, "size": 100}``. A line that cannot be read becomes a
dead letter and the next one is read; only a record of a newer schema version ends the feed, because
then every further one would be lost as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from schemas.codec import decode
from schemas.enums import InstrumentKind
from schemas.errors import ConfigError, RecordError
from schemas.instruments import Instrument
from schemas.topics import MARKET_EVENTS
from streams.datasets.known import instrument_of
from streams.feeds.backoff import Backoff
from streams.feeds.base import Emit, FeedAdapter
from streams.feeds.lines import Line, LineSplitter

_CHUNK_BYTES = 65_536
_CONNECT_TIMEOUT_S = 10.0
_PORT_MAX = 65_535
_LINE_BYTES_MIN = 256


class InstrumentOption(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Definition of an instrument in the settings; the fields are those of ``Instrument``."""

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

    def instrument(self) -> Instrument:
        """Return the definition as a record."""
        return Instrument(
            ts_event_ns=0,
            instrument_id=f"{self.symbol}.{self.venue}",
            **msgspec.structs.asdict(self),
        )


class JsonLinesFeed(FeedAdapter):
    """Reads records, one a line, from the TCP server at ``host`` and ``port``.

    ``instruments`` are symbols (IBM, or BTC.XXXX of your own) or tables with symbol, venue and
    whatever else differs from an American share. A lost connection is made again after
    ``retry_first_s``, then after twice as long, up to ``retry_most_s``; ``attempts_max`` failures
    in a row end the feed, 0 never. If nothing is heard for ``idle_timeout_s``, the connection
    counts as lost; 0 waits for ever. A line may have ``line_bytes_max`` bytes.
    """

    def __init__(
        self,
        *,
        port: int,
        instruments: list[str | InstrumentOption],
        host: str = "127.0.0.1",
        kinds: tuple[str, ...] = ("trade", "quote"),
        line_bytes_max: int = 65_536,
        retry_first_s: float = 0.5,
        retry_most_s: float = 30.0,
        attempts_max: int = 0,
        idle_timeout_s: float = 0.0,
    ) -> None:
        _check("port", port, 1 <= port <= _PORT_MAX, f"give one from 1 to {_PORT_MAX}")
        _check("instruments", instruments, bool(instruments), "name at least one")
        _check("line_bytes_max", line_bytes_max, line_bytes_max >= _LINE_BYTES_MIN,
               f"allow at least {_LINE_BYTES_MIN} bytes")  # fmt: skip
        _check("attempts_max", attempts_max, attempts_max >= 0, "give 0 or more")
        _check("idle_timeout_s", idle_timeout_s, idle_timeout_s >= 0, "give 0 or more")
        self.kinds = kinds
        self._host = host
        self._port = port
        self._instruments = [
            instrument_of(item) if isinstance(item, str) else item.instrument()
            for item in instruments
        ]
        self._line_bytes_max = line_bytes_max
        self._backoff = Backoff(retry_first_s, retry_most_s)
        self._attempts_max = attempts_max
        self._idle_timeout_s = idle_timeout_s or None

    def instruments(self) -> Sequence[Instrument]:
        """Return the instruments of the options."""
        return self._instruments

    async def run(self, emit: Emit) -> None:
        """Read the server's lines; raises ConfigError after ``attempts_max`` failures in a row."""
        while True:
            reason = await self._session(emit)
            wait_s = self._backoff.next_s()
            if self._backoff.failures == self._attempts_max:
                raise ConfigError(
                    f"the feed failed {self._attempts_max} times in a row: {reason}",
                    field="host, port",
                    value=f"{self._host}:{self._port}",
                    remedy="start the program that serves it, or raise attempts_max",
                )
            if self._backoff.failures == 1:
                emit.note(f"{reason}; trying again until it is there")
            await asyncio.sleep(wait_s)

    async def _session(self, emit: Emit) -> str:
        """Read one connection to its end; return why it ended."""
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
        except TimeoutError:
            return f"no answer from {where} within {_CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            return f"no connection to {where}: {error.strerror or error}"
        emit.note(f"connected to {where}")
        try:
            # The system finds out about a peer that is gone without a word.
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return await self._read(reader, emit)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader, emit: Emit) -> str:
        lines = LineSplitter(self._line_bytes_max)
        while True:
            try:
                async with asyncio.timeout(self._idle_timeout_s):
                    chunk = await reader.read(_CHUNK_BYTES)
            except OSError as error:
                # The time-out above has no error number, unlike one that the system reports.
                lost = error.strerror or f"nothing was heard for {self._idle_timeout_s} s"
                chunk, reason = b"", f"the connection was lost: {lost}"
            else:
                reason = "the connection was closed"
            for line in lines.feed(chunk) if chunk else lines.end():
                await self._take(line, emit)
            if not chunk:
                return reason

    async def _take(self, line: Line, emit: Emit) -> None:
        where = f"line {line.number} of the connection"
        if line.is_too_long:
            await emit.refuse(
                line.value,
                f"{where} has more than {self._line_bytes_max} bytes; send one record a line, or"
                " raise line_bytes_max",
            )
            return
        try:
            record = decode(MARKET_EVENTS, line.value)
        except RecordError as error:
            if error.field == "schema_version":
                raise
            await emit.refuse(line.value, f"{where}: {error}")
            return
        self._backoff.reset()
        await emit(record)


def _check(field: str, value: object, is_good: bool, remedy: str) -> None:
    if not is_good:
        raise ConfigError(
            "an option of the feed jsonl cannot be used", field=field, value=value, remedy=remedy
        )
