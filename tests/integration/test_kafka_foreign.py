"""Programs that know nothing of Millrace but its schemas write trades and orders, and read both.

Where kcat is not installed, confluent-kafka alone writes; both stand on librdkafka.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, Producer
from jsonschema import Draft202012Validator

from streams.kafka.publisher import partition_of
from tests.integration.command_line import BOUND_S, Background, millrace

WRITERS = ("confluent-kafka", *(["kcat"] if shutil.which("kcat") else []))
MINUTE_NS = 60_000_000_000
OPENING_NS = 1_700_000_040_000_000_000
"""A whole minute."""

EVENTS, BARS = "market.events.v1", "market.bars.v1"
INPUTS, ORDERS = "account.inputs.v1", "orders.events.v1"
INSTRUMENTS, LETTERS = "reference.instruments.v1", "system.dead-letters.v1"
CODECS = {"gzip": "GZIP.XXXX", "snappy": "SNAP.XXXX", "lz4": "LZFO.XXXX", "zstd": "ZSTD.XXXX"}
NAMES = ("KCAT.XXXX", "CONF.XXXX", *CODECS.values(), *(f"CRC{i}.XXXX" for i in range(8)))
YEAR_2000_MS = 946_684_800_000


class Message(NamedTuple):
    """A key and a value on their way, or with the partition that they came from."""

    topic: str
    value: dict[str, Any]
    partition: int = -1


class Strangers:
    """Clients on librdkafka, with the schemas as all they know."""

    def __init__(self, bootstrap: str, schemas: Path) -> None:
        self.bootstrap = bootstrap
        self.schemas = {
            path.name.removesuffix(".schema.json"): json.loads(path.read_text())
            for path in schemas.glob("*.schema.json")
        }
        self._validators = {
            name: Draft202012Validator(schema) for name, schema in self.schemas.items()
        }

    def message(self, topic: str, value: dict[str, Any], partition: int = -1) -> Message:
        """Return a message that the schema of its topic allows."""
        self._validators[topic].validate(value)
        return Message(topic, value, partition)

    def key(self, message: Message) -> str:
        """Return the key that the schema names."""
        return str(message.value.get(self.schemas[message.topic]["x-kafka"]["key"], ""))

    def partitions(self, topic: str) -> int:
        """Return how many partitions the schema says that a topic has."""
        return int(self.schemas[topic]["x-kafka"]["partitions"])

    def write(self, writer: str, messages: Sequence[Message]) -> None:
        """Write with the partitioner that the schema names."""
        assert self.schemas[EVENTS]["x-kafka"]["partitioner"] == "murmur2"
        if writer == "kcat":
            self._kcat(messages)
        else:
            self.confluent(messages, partitioner="murmur2_random")

    def confluent(
        self, messages: Sequence[Message], *, stamp_ms: int = 0, **settings: str
    ) -> list[int]:
        """Write with confluent-kafka, stamped by the writer's clock; return the partition of each.

        Underscores in names of settings stand for dots.
        """
        named = {key.replace("_", "."): value for key, value in settings.items()}
        producer = Producer({"bootstrap.servers": self.bootstrap, **named})
        placed: dict[int, int] = {}

        def delivered(index: int, error: object, message: Any) -> None:
            assert error is None
            placed[index] = message.partition()

        for index, item in enumerate(messages):
            producer.produce(
                item.topic, json.dumps(item.value).encode(), self.key(item), item.partition,
                on_delivery=partial(delivered, index), timestamp=stamp_ms,
            )  # fmt: skip
        assert producer.flush(BOUND_S) == 0
        return [placed[index] for index in range(len(messages))]

    def _kcat(self, messages: Sequence[Message]) -> None:
        groups: dict[tuple[str, int], list[str]] = {}
        for item in messages:
            line = f"{self.key(item)}\t{json.dumps(item.value)}"
            groups.setdefault((item.topic, item.partition), []).append(line)
        for (topic, partition), lines in groups.items():
            where = ["-p", str(partition)] if partition >= 0 else []
            subprocess.run(
                ["kcat", "-P", "-b", self.bootstrap, "-t", topic, "-K", "\t", *where,
                 "-X", "partitioner=murmur2_random"],
                input="\n".join(lines), text=True, check=True, timeout=BOUND_S,
            )  # fmt: skip

    def read(self, topic: str, is_enough: Any) -> list[dict[str, Any]]:
        """Read a topic from its beginning until it holds enough; all must fit the schema."""
        reader = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"stranger-{time.monotonic_ns()}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        reader.subscribe([topic])
        found: list[dict[str, Any]] = []
        deadline_s = time.monotonic() + BOUND_S
        try:
            while not is_enough(found):
                assert time.monotonic() < deadline_s, found[-3:]
                message = reader.poll(0.5)
                if message is None:
                    continue
                assert message.error() is None
                found.append(json.loads(message.value() or b""))
                self._validators[topic].validate(found[-1])
        finally:
            reader.close()
        return found


@pytest.fixture(scope="module")
def strangers(own_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strangers]:
    """Give strangers to a cluster on which all stages work."""
    folder = tmp_path_factory.mktemp("strangers")
    assert millrace("schema", "export", folder).returncode == 0
    assert millrace("topics", "apply", "--bootstrap", own_bootstrap).returncode == 0
    found = Strangers(own_bootstrap, folder)
    definitions = [
        found.message(
            INSTRUMENTS,
            {
                "type": "instrument", "ts_event_ns": OPENING_NS, "instrument_id": name,
                "symbol": name.split(".")[0], "venue": "XXXX",
            },
        )
        for name in NAMES
    ]  # fmt: skip
    found.write("confluent-kafka", definitions)
    settings = folder / "millrace.toml"
    settings.write_text('[kafka]\nkinds = ["trade"]\n')
    words = ("worker", "--config", settings, "--bootstrap", own_bootstrap)
    with Background(folder / "worker.log", *words) as worker:
        worker.until("ready")
        yield found
        assert worker.stop() == 0


def trades(strangers: Strangers, names: Sequence[str], start_ns: int) -> list[Message]:
    """Return six trades of each name in one minute."""
    return [
        strangers.message(
            EVENTS,
            {
                "type": "trade", "ts_event_ns": start_ns + i * 1_000_000_000,
                "instrument_id": name, "price": 100 + (i * 7 % 5) / 100, "size": 10 + i,
            },
        )
        for i in range(6)
        for name in names
    ]  # fmt: skip


def time_goes_on(strangers: Strangers, ts_ns: int) -> list[Message]:
    """Return watermarks for every partition."""
    mark = {"type": "watermark", "ts_event_ns": ts_ns, "source": "clock", "source_seq": ts_ns}
    return [strangers.message(EVENTS, mark, p) for p in range(strangers.partitions(EVENTS))]


def bar_of(messages: Sequence[Message], name: str, start_ns: int) -> dict[str, Any]:
    """Return what a bar of these trades has to say."""
    mine = [item.value for item in messages if item.value["instrument_id"] == name]
    prices = [value["price"] for value in mine]
    return {
        "instrument_id": name, "interval": "1m", "ts_event_ns": start_ns + MINUTE_NS,
        "open": prices[0], "high": max(prices), "low": min(prices), "close": prices[-1],
        "volume": sum(value["size"] for value in mine), "trade_count": len(mine),
    }  # fmt: skip


def bars_read(strangers: Strangers, names: Sequence[str], ts_ns: int) -> list[dict[str, Any]]:
    """Wait for the bars of these names that end at ``ts_ns``."""

    def ours(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            bar for bar in found if bar["instrument_id"] in names and bar["ts_event_ns"] == ts_ns
        ]

    return ours(strangers.read(BARS, lambda found: len(ours(found)) >= len(names)))


@pytest.mark.parametrize("writer", WRITERS)
def test_trades_of_strangers_become_bars_and_their_orders_are_filled(
    strangers: Strangers, writer: str
) -> None:
    name = "KCAT.XXXX" if writer == "kcat" else "CONF.XXXX"
    start_ns = OPENING_NS + 10 * MINUTE_NS * (1 + WRITERS.index(writer))
    made = trades(strangers, [name], start_ns)
    strangers.write(writer, made + time_goes_on(strangers, start_ns + 2 * MINUTE_NS))
    (bar,) = bars_read(strangers, [name], start_ns + MINUTE_NS)
    expected = bar_of(made, name, start_ns)
    assert {field: bar[field] for field in expected} == expected

    order = {
        "type": "submit_order", "event_id": f"{writer}-1", "ts_event_ns": start_ns + MINUTE_NS,
        "correlation_id": f"{writer}-1", "causation_id": "", "account_id": "paper",
        "strategy_id": "", "client_order_id": f"{writer}-1", "instrument_id": name,
        "side": "BUY", "quantity": "5", "decision_price": 100.0,
        "decision_ts_ns": start_ns,
    }  # fmt: skip
    strangers.write(writer, [strangers.message(INPUTS, order)])

    def mine(found: list[dict[str, Any]]) -> list[str]:
        return [e["type"] for e in found if e["client_order_id"] == order["client_order_id"]]

    strangers.read(ORDERS, lambda found: "order_accepted" in mine(found))
    strangers.write(writer, trades(strangers, [name], start_ns + 3 * MINUTE_NS))
    events = strangers.read(ORDERS, lambda found: "order_filled" in mine(found))
    assert mine(events) == ["order_submitted", "order_accepted", "order_filled"]


def test_every_codec_is_read_and_a_wrong_clock_of_the_writer_does_no_harm(
    strangers: Strangers,
) -> None:
    start_ns = OPENING_NS + 50 * MINUTE_NS
    made: list[Message] = []
    for codec, name in CODECS.items():
        mine = trades(strangers, [name], start_ns)
        strangers.confluent(
            mine, stamp_ms=YEAR_2000_MS, compression_type=codec, partitioner="murmur2_random"
        )
        made += mine
    strangers.write("confluent-kafka", time_goes_on(strangers, start_ns + 2 * MINUTE_NS))
    for bar in bars_read(strangers, list(CODECS.values()), start_ns + MINUTE_NS):
        expected = bar_of(made, bar["instrument_id"], start_ns)
        assert {field: bar[field] for field in expected} == expected


def test_wrong_partitioner_is_told_and_mended(strangers: Strangers) -> None:
    names, start_ns = NAMES[-8:], OPENING_NS + 100 * MINUTE_NS
    made = trades(strangers, names, start_ns)
    # Without a setting librdkafka partitions by CRC32.
    placed = strangers.confluent(made)
    homes = [partition_of(strangers.key(item).encode(), 4) for item in made]
    misplaced = sum(at != home for at, home in zip(placed, homes, strict=True))
    assert misplaced > 0
    letters = strangers.read(LETTERS, lambda found: len(found) >= misplaced)
    assert len(letters) == misplaced
    assert all("murmur2_random" in letter["reason"] for letter in letters)
    listed = millrace("deadletter", "list", "--topic", EVENTS, "--bootstrap", strangers.bootstrap)
    assert listed.returncode == 0
    assert "murmur2 partitioner" in listed.stdout

    again = millrace("deadletter", "retry", "--all", "--bootstrap", strangers.bootstrap)
    assert (again.returncode, again.stderr) == (0, "")
    strangers.write("confluent-kafka", time_goes_on(strangers, start_ns + 2 * MINUTE_NS))
    bars = bars_read(strangers, names, start_ns + MINUTE_NS)
    for bar in bars:
        expected = bar_of(made, bar["instrument_id"], start_ns)
        assert bar["trade_count"] == expected["trade_count"]
        assert bar["volume"] == expected["volume"]
