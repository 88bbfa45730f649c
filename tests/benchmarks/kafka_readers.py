"""One reader of ``market.events`` in a process of its own, for each way of reading.

``python -m tests.benchmarks.kafka_readers WAY BOOTSTRAP COUNT`` reads COUNT trades from the
beginning, decodes each to its type, and prints messages a second from the first to the last.
FastStream is no dependency of Millrace: ``FRAMEWORKS`` names the folder that it was installed to.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import faust
import uvloop
from aiokafka import AIOKafkaConsumer

from agents.runners.kafka.app import FETCH_MAX_BYTES, POLL_RECORDS_MAX, new_app
from schemas.codec import decoder
from schemas.topics import MARKET_EVENTS
from streams.kafka.connection import Connection

FRAMEWORKS = "MILLRACE_BENCH_FRAMEWORKS"
_decode = decoder(MARKET_EVENTS).decode


class Count:
    """Counts what was decoded; ``rate`` once all is there."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.found = 0
        self._began_s = 0.0
        self._ended_s = 0.0
        self.is_over = asyncio.Event()

    def take(self, values: Sequence[bytes]) -> None:
        """Decode values."""
        if not self.found:
            self._began_s = time.perf_counter()
        self.found += len([_decode(value) for value in values])
        if self.found >= self.wanted:
            self._ended_s = self._ended_s or time.perf_counter()
            self.is_over.set()

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.found / (self._ended_s - self._began_s)


async def read_raw(bootstrap: str, count: Count) -> None:
    """Read with aiokafka's ``getmany``, with the fetch sizes of the workers."""
    consumer = AIOKafkaConsumer(
        MARKET_EVENTS,
        bootstrap_servers=bootstrap,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_MAX_BYTES,
    )
    await consumer.start()
    try:
        while not count.is_over.is_set():
            fetched = await consumer.getmany(timeout_ms=1000, max_records=POLL_RECORDS_MAX)
            for records in fetched.values():
                count.take([record.value for record in records])
    finally:
        await consumer.stop()


async def read_faust(bootstrap: str, count: Count) -> None:
    """Read with a plain agent on Faust's own transport."""
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            uuid.uuid4().hex,
            broker=f"kafka://{bootstrap}",
            datadir=folder,
            consumer_auto_offset_reset="earliest",
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            web_enabled=False,
            worker_redirect_stdouts=False,
            store="memory://",
        )
        source = app.topic(MARKET_EVENTS, value_serializer="raw", value_type=bytes)

        @app.agent(source)
        async def read(stream: Any) -> None:
            async for value in stream:
                count.take((value,))

        await _until_over(app, count)


async def read_faststream(bootstrap: str, count: Count) -> None:
    """Read with FastStream's batch subscriber."""
    sys.path.append(os.environ[FRAMEWORKS])
    from faststream.kafka import KafkaBroker  # type: ignore[import-not-found, unused-ignore]

    broker = KafkaBroker(bootstrap, logger=None)

    @broker.subscriber(  # type: ignore[untyped-decorator, unused-ignore]
        MARKET_EVENTS,
        batch=True,
        max_records=POLL_RECORDS_MAX,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_MAX_BYTES,
        decoder=lambda message: message.body,
    )
    async def read(values: list[bytes]) -> None:
        count.take(values)

    await broker.start()
    try:
        await count.is_over.wait()
    finally:
        await broker.stop()


async def read_batches(bootstrap: str, count: Count) -> None:
    """Read with an agent on the transport of the workers."""
    with tempfile.TemporaryDirectory() as folder:
        app = new_app(uuid.uuid4().hex, Connection(bootstrap=bootstrap), folder)
        source = app.topic(
            MARKET_EVENTS, key_serializer="raw", value_serializer="raw", value_type=bytes
        )

        @app.agent(source, concurrency=1)
        async def read(stream: Any) -> None:
            async for event in stream.noack().events():
                count.take([record.value for record in event.message.value.records])
                app.consumer.ack(event.message)

        await _until_over(app, count)


async def _until_over(app: faust.App, count: Count) -> None:
    await app.start()
    try:
        await count.is_over.wait()
    finally:
        await app.stop()


WAYS: dict[str, Callable[[str, Count], Awaitable[None]]] = {
    "raw": read_raw,
    "faust": read_faust,
    "faststream": read_faststream,
    "batches": read_batches,
}


async def main(way: str, bootstrap: str, wanted: int) -> None:
    """Read and print the rate."""
    count = Count(wanted)
    await WAYS[way](bootstrap, count)
    print(count.rate)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
