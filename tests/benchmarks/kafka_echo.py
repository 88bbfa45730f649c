"""The way of an order through bare aiokafka: the limit that Kafka itself sets to its latency.

``python -m tests.benchmarks.kafka_echo BOOTSTRAP STAGES`` reads ticks and passes every N-th on over
as many hops as an order takes from tick to acceptance (strategy, account, venue, account), with the
same acknowledged writes: a note of every batch where a stage has several inputs, then the outputs.
It does the hops of the stages that it is given (names with commas), so that a chain may be one
process or several.
Like the stages, three readers read all ticks and decode them; unlike them, nothing is decided.
Prints ``ready`` and works until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, NamedTuple

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from agents.runners.kafka.app import POLL_RECORDS_MAX
from schemas.codec import decoder
from schemas.topics import MARKET_EVENTS
from streams.kafka.connection import FETCH_WAIT_MS
from tests.benchmarks.kafka_case import EVERY, PARTITIONS

LOG = "echo.log"
TOPICS = ("echo.submits", "echo.commands", "echo.reports", "echo.accepted")
"""What follows a tick, in order; the last is what an observer waits for."""

NOTE = b"n" * 220
_RECORDS = (2, 4, 1, 3)
"""How many records a stage writes for an order: so many go out beside the one passed on."""

_decode = decoder(MARKET_EVENTS).decode


class Hop(NamedTuple):
    """One stage: what it reads, what it passes on and where to, whether it notes its batches."""

    topics: tuple[str, ...]
    routes: dict[str, tuple[str, int]]
    is_noted: bool


HOPS = {
    "market": Hop((MARKET_EVENTS,), {}, False),
    "strategy": Hop((MARKET_EVENTS,), {MARKET_EVENTS: (TOPICS[0], _RECORDS[0])}, True),
    "venue": Hop((MARKET_EVENTS, TOPICS[1]), {TOPICS[1]: (TOPICS[2], _RECORDS[2])}, True),
    "account": Hop(
        (TOPICS[0], TOPICS[2]),
        {TOPICS[0]: (TOPICS[1], _RECORDS[1]), TOPICS[2]: (TOPICS[3], _RECORDS[3])},
        False,
    ),
}


async def run_hop(hop: Hop, bootstrap: str, on_ready: Callable[[], None]) -> None:
    """Read, note, pass on, for ever."""
    async with AsyncExitStack() as stack:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, acks="all"
        )
        consumer = AIOKafkaConsumer(
            *hop.topics,
            bootstrap_servers=bootstrap,
            group_id=uuid.uuid4().hex,
            auto_offset_reset="latest",
            enable_auto_commit=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        for client in (producer, consumer):
            await client.start()
            stack.push_async_callback(client.stop)
        for place in consumer.assignment():
            await consumer.position(place)
        on_ready()
        while True:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=POLL_RECORDS_MAX)
            for place, records in fetched.items():
                await _pass_on(hop, place, records, producer)


async def _pass_on(
    hop: Hop, place: Any, records: Sequence[Any], producer: AIOKafkaProducer
) -> None:
    if hop.is_noted:
        await producer.send_and_wait(LOG, NOTE, partition=place.partition)
    values = [record.value for record in records]
    if place.topic == MARKET_EVENTS:
        decoded = [_decode(value) for value in values]
        values = [
            value
            for value, trade in zip(values, decoded, strict=True)
            if trade.source_seq // PARTITIONS % EVERY == EVERY - 1
        ]
    if place.topic not in hop.routes or not values:
        return
    target, count = hop.routes[place.topic]
    sent = []
    for value in values:
        sent += [
            await producer.send(LOG, NOTE, partition=place.partition) for _ in range(count - 1)
        ]
        sent.append(await producer.send(target, value, partition=place.partition))
    await asyncio.gather(*sent)


async def main(bootstrap: str, stages: Sequence[str]) -> None:
    """Run the hops of these stages until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    waiting = [asyncio.Event() for _ in stages]
    running = [
        asyncio.create_task(run_hop(HOPS[stage], bootstrap, ready.set))
        for stage, ready in zip(stages, waiting, strict=True)
    ]
    for ready in waiting:
        await ready.wait()
    print("ready", flush=True)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2].split(",")))
