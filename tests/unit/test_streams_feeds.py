"""Feed adapters: lines of any length, any garbage, lost connections, options with clear errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.errors import ConfigError, RecordError
from schemas.instruments import Instrument
from schemas.market_data import Trade
from streams.feeds import Backoff, Emit, FeedAdapter, JsonLinesFeed, make_adapter
from streams.feeds.lines import Line, LineSplitter
from tests.unit.feed_samples import Collected, quote, trade

TIMEOUT_S = 20.0

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# ---- lines


@given(
    st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b)),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_lines_do_not_depend_on_how_the_stream_is_cut(lines: list[bytes], steps: list[int]) -> None:
    stream = b"\n".join(lines)
    expected = [
        Line(number, value[:1024] if len(value) > 20 else value.strip(), len(value) > 20)
        for number, value in enumerate(lines, 1)
        if value.strip() or len(value) > 20
    ]
    splitter = LineSplitter(20)
    found: list[Line] = []
    at = turn = 0
    while at < len(stream):
        step = steps[turn % len(steps)]
        found += splitter.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
    assert found + splitter.end() == expected


def test_line_without_end_is_cut_and_the_next_one_is_whole() -> None:
    splitter = LineSplitter(2000)
    for _ in range(1000):
        assert splitter.feed(b"x" * 5000) == []
    assert splitter.feed(b"y\n{}\n") == [Line(1, b"x" * 1024, True), Line(2, b"{}", False)]


# ---- waiting


def test_waiting_doubles_up_to_its_bound_and_begins_anew() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next_s() == 0.5
    backoff.failures = 10_000
    assert backoff.next_s() == 3.0


@pytest.mark.parametrize(
    ("first_s", "most_s"), [(0.0, 1.0), (2.0, 1.0), (1.0, float("inf")), (float("nan"), 1.0)]
)
def test_waiting_times_that_make_no_sense_are_refused(first_s: float, most_s: float) -> None:
    with pytest.raises(ConfigError, match="retry_first_s <= retry_most_s"):
        Backoff(first_s, most_s)


# ---- jsonl


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """Run a TCP server and yield its port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def sender(*sessions: bytes) -> Handler:
    """Return a handler that sends one of ``sessions`` a connection and closes it."""
    left = list(sessions)

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            if left:
                writer.write(left.pop(0))
                await writer.drain()
        writer.close()

    return handle


def feed_at(port: int, **options: Any) -> JsonLinesFeed:
    """Return a feed that gives up after three failures in a row."""
    known: dict[str, Any] = {"retry_first_s": 0.001, "retry_most_s": 0.002, "attempts_max": 3}
    return JsonLinesFeed(port=port, instruments=["GEN"], **(known | options))


async def collected(feed: FeedAdapter) -> tuple[Collected, str]:
    """Run ``feed`` until it gives up; return what it emitted and its last words."""
    emit = Collected()
    with pytest.raises(ConfigError) as caught:
        async with asyncio.timeout(TIMEOUT_S):
            await feed.run(emit)
    return emit, str(caught.value)


async def test_records_of_all_connections_are_emitted_in_order() -> None:
    records = [trade(), quote(), trade(price=7.0)]
    lines = [encode(record) for record in records]
    async with served(sender(lines[0] + b"\r\n\n" + lines[1] + b"\n", lines[2])) as port:
        emit, last = await collected(feed_at(port))
    assert emit.records == records
    assert emit.refused == []
    assert emit.notes[:2] == [
        f"connected to 127.0.0.1:{port}",
        "the connection was closed; trying again until it is there",
    ]
    assert (
        f"failed 3 times in a row: the connection was closed (host, port='127.0.0.1:{port}')"
        in last
    )


async def test_what_cannot_be_read_is_refused_with_its_line_and_reading_goes_on() -> None:
    good = encode(trade())
    bad = [b"garbage", b'{"type":"trade"}', b"\xff\xfe", b"[1]", b"x" * 500, good[:-4]]
    async with served(sender(b"\n".join([good, *bad, good]) + b"\n")) as port:
        emit, _ = await collected(feed_at(port, line_bytes_max=256))
    assert emit.records == [trade(), trade()]
    assert [value for value, _ in emit.refused] == bad
    for number, (_, reason) in enumerate(emit.refused, 2):
        assert reason.startswith(f"line {number} of the connection")
        assert "; " in reason  # the remedy
    assert "more than 256 bytes" in emit.refused[4][1]


async def test_torn_last_line_is_refused_and_a_whole_one_taken() -> None:
    good = encode(trade())
    async with served(sender(good + b"\n" + good[:20], good)) as port:
        emit, _ = await collected(feed_at(port))
    assert emit.records == [trade(), trade()]
    assert [value for value, _ in emit.refused] == [good[:20]]


async def test_feed_without_a_server_gives_up_after_its_attempts_with_one_note() -> None:
    async with served(sender()) as port:
        pass
    emit, last = await collected(feed_at(port, attempts_max=5))
    assert len(emit.notes) == 1
    assert f"no connection to 127.0.0.1:{port}" in emit.notes[0]
    assert "failed 5 times in a row: no connection" in last
    assert "\n" not in last


async def test_silent_connection_counts_as_lost() -> None:
    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with served(stay) as port:
        _, last = await collected(feed_at(port, idle_timeout_s=0.01, attempts_max=1))
    assert "nothing was heard for 0.01 s" in last


async def test_record_of_a_newer_schema_version_ends_the_feed() -> None:
    async with served(sender(encode(trade(schema_version=99)) + b"\n")) as port:
        with pytest.raises(RecordError, match="upgrade Millrace"):
            async with asyncio.timeout(TIMEOUT_S):
                await feed_at(port).run(Collected())


async def test_feed_that_waits_for_its_server_can_be_cancelled() -> None:
    async with served(sender()) as port:
        pass
    feed = feed_at(port, retry_first_s=100.0, retry_most_s=100.0, attempts_max=0)
    emit = Collected()
    running = asyncio.create_task(feed.run(emit))
    async with asyncio.timeout(TIMEOUT_S):
        await emit.noted.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def test_instruments_are_known_ones_or_defined_in_the_options() -> None:
    options = {
        "port": 1,
        "instruments": ["ibm", {"symbol": "X", "venue": "ABCD", "price_increment": "0.5"}],
        "kinds": ["trade", "bar/1m"],
    }
    feed = make_adapter(JsonLinesFeed, options)
    ibm, other = feed.instruments()
    assert (ibm.instrument_id, ibm.calendar) == ("IBM.XNYS", "XNYS")
    assert (other.instrument_id, other.price_increment) == ("X.ABCD", Decimal("0.5"))
    assert feed.kinds == ("trade", "bar/1m")


# ---- options


class Typed(FeedAdapter):
    """An adapter with options of several types."""

    def __init__(self, *, key: str, ratio: float = 1.0, levels: list[int] | None = None) -> None:
        self.given = (key, ratio, levels)
        if key == "broken":
            raise OSError("no such\ndevice")

    def instruments(self) -> Sequence[Instrument]:
        """Return nothing."""
        return []

    async def run(self, emit: Emit) -> None:
        """Emit one record."""
        await emit(Trade(ts_event_ns=0, instrument_id="", price=0.0, size=0.0))


class Plain(Typed):
    """An adapter without options."""

    def __init__(self) -> None:
        super().__init__(key="")


def test_options_arrive_as_keyword_arguments_of_their_type() -> None:
    feed = make_adapter(Typed, {"key": "a", "ratio": 2, "levels": [1, 2]})
    assert feed.given == ("a", 2.0, [1, 2])
    assert isinstance(feed.given[1], float)
    assert make_adapter(Plain, {}).given == ("", 1.0, None)


@pytest.mark.parametrize(
    ("cls", "options", "field", "words"),
    [
        (Typed, {}, "source.options.key", "needs an option"),
        (Typed, {"key": 1}, "source.options.key", "Expected `str`, got `int`"),
        (Typed, {"key": "a", "ratoi": 1}, "source.options.ratoi", "did you mean ratio?"),
        (Typed, {"key": "a", "levels": ["x"]}, "source.options.levels", "Expected `int`"),
        (Typed, {"key": "broken"}, "source.feed", "OSError: no such device"),
        (Plain, {"a": 1}, "source.options.a", "known are none"),
        (JsonLinesFeed, {"port": 0, "instruments": ["A"]}, "port", "from 1 to 65535"),
        (JsonLinesFeed, {"port": 1, "instruments": []}, "instruments", "name at least one"),
        (JsonLinesFeed, {"port": 1, "instruments": [{"symbol": "A"}]},
         "source.options.instruments", "missing required field `venue`"),
        (JsonLinesFeed, {"port": 1, "instruments": [{"symbol": "A", "venue": "B", "tick": 1}]},
         "source.options.instruments", "unknown field `tick`"),
        (JsonLinesFeed, {"port": 1, "instruments": ["A"], "retry_first_s": 0},
         "retry_first_s, retry_most_s", "0 < retry_first_s"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(
    cls: type[FeedAdapter], options: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_adapter(cls, options)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
