"""From a tick to its accepted order: ticks at a steady rate, and the time until the order is seen.

``python -m tests.benchmarks.kafka_latency echo|worker BOOTSTRAP RATE SECONDS`` publishes ticks that
carry the wall time, watches the topic of accepted orders, and prints how many came and p50 and p99
in ms. The first seconds do not count.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.codec import decoder
from schemas.commands import SubmitOrder
from schemas.order_events import OrderAccepted
from schemas.topics import ACCOUNT_INPUTS, MARKET_EVENTS, ORDER_EVENTS
from streams.kafka.connection import FETCH_WAIT_MS
from tests.benchmarks.kafka_case import outgoing_trade
from tests.benchmarks.kafka_echo import TOPICS

_WARM_UP_S = 3.0
_DRAIN_S = 2.0
_MS_OF_NS = 1e-6


class Orders:
    """Pairs accepted orders with the tick they were decided on."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self._ticks: dict[str, int] = {}
        self._accepted: dict[str, int] = {}

    def see(self, topic: str, value: bytes, now_ns: int) -> None:
        """Take a record of one of the watched topics."""
        record = decoder(topic).decode(value)
        if isinstance(record, SubmitOrder):
            self._ticks[record.client_order_id] = record.ts_event_ns
        elif isinstance(record, OrderAccepted):
            self._accepted[record.client_order_id] = now_ns

    @property
    def count(self) -> int:
        """How many orders were accepted."""
        return len(self._accepted)

    def finish(self, since_ns: int) -> None:
        """Work out the latencies of orders on ticks at ``since_ns`` or later."""
        self.latencies_ms = [
            (self._accepted[order] - tick) * _MS_OF_NS
            for order, tick in self._ticks.items()
            if order in self._accepted and tick >= since_ns
        ]


class Echoes:
    """Reads the tick's time from the tick itself, which came over all hops."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self._seen: list[tuple[int, int]] = []

    def see(self, topic: str, value: bytes, now_ns: int) -> None:
        """Take a record of the last hop."""
        self._seen.append((decoder(MARKET_EVENTS).decode(value).ts_event_ns, now_ns))

    @property
    def count(self) -> int:
        """How many ticks came over all hops."""
        return len(self._seen)

    def finish(self, since_ns: int) -> None:
        """Work out the latencies of ticks at ``since_ns`` or later."""
        self.latencies_ms = [
            (now - tick) * _MS_OF_NS for tick, now in self._seen if tick >= since_ns
        ]


WATCHED: dict[str, tuple[tuple[str, ...], Callable[[], Orders | Echoes]]] = {
    "worker": ((ACCOUNT_INPUTS, ORDER_EVENTS), Orders),
    "echo": ((TOPICS[-1],), Echoes),
}


async def watch(consumer: Any, seen: Orders | Echoes) -> None:
    """Hand every record with the time of its arrival on, for ever."""
    while True:
        fetched = await consumer.getmany(timeout_ms=1000)
        now_ns = time.time_ns()
        for place, records in fetched.items():
            for record in records:
                seen.see(place.topic, record.value, now_ns)


async def publish(producer: Any, rate: float, seconds: float) -> None:
    """Send ticks at a steady rate, each with the wall time of its sending."""
    loop = asyncio.get_running_loop()
    began_s, sent = loop.time(), 0
    while (now_s := loop.time() - began_s) < seconds:
        while sent < now_s * rate:
            tick = outgoing_trade(sent, time.time_ns())
            await producer.send(tick.topic, tick.value, key=tick.key, partition=tick.partition)
            sent += 1
        await asyncio.sleep(max(sent / rate - (loop.time() - began_s), 0))


async def quiet(seen: Orders | Echoes) -> None:
    """Wait until no more orders come."""
    last_s, count = time.monotonic(), -1
    while time.monotonic() - last_s < _DRAIN_S:
        await asyncio.sleep(_DRAIN_S / 20)
        if seen.count != count:
            last_s, count = time.monotonic(), seen.count


async def main(kind: str, bootstrap: str, rate: float, seconds: float) -> None:
    """Publish, watch, print."""
    topics, make = WATCHED[kind]
    seen = make()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="latest",
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    await producer.start()
    await consumer.start()
    for place in consumer.assignment():
        await consumer.position(place)
    watching = asyncio.create_task(watch(consumer, seen))
    since_ns = time.time_ns() + round(_WARM_UP_S * 1e9)
    await publish(producer, rate, _WARM_UP_S + seconds)
    await quiet(seen)
    watching.cancel()
    await producer.stop()
    await consumer.stop()
    seen.finish(since_ns)
    found = np.array(seen.latencies_ms or [np.nan])
    print(len(seen.latencies_ms), *np.percentile(found, (50, 99)))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
