"""``millrace web`` over a real Kafka: what the topics have lost is answered from the database."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas import topics as t
from streams.database.connecting import Database
from streams.database.journals import JournalSource
from streams.database.sinks import Sink
from streams.database.tables import STORED_TOPICS
from streams.journal import JournalReader
from streams.kafka.connection import Connection
from streams.kafka.ranges import PlaceReader
from streams.kafka.topics import ClusterTopics
from tests.database_case import Servers, record_run
from tests.integration.command_line import BOUND_S, Background, environment
from tests.integration.test_database_topics import Records, expected, stored, write
from tests.kafka_case import one_process_run
from tests.tcp_gate import Gate

LISTS = (
    ("/api/orders?account_id=one", "orders"),
    ("/api/orders?symbol=BB", "orders"),
    ("/api/orders?status=open", "orders"),
    ("/api/fills?", "fills"),
    ("/api/trades?strategy_id=cross-AA", "trades"),
    ("/api/risk/decisions?", "decisions"),
    ("/api/strategies/cross-CC/signals?", "signals"),
)
LOST = (
    t.ACCOUNT_INPUTS,
    t.ORDER_EVENTS,
    t.ORDER_FILLS,
    t.RISK_DECISIONS,
    t.STRATEGY_SIGNALS,
    t.PORTFOLIO_POSITIONS,
)


class Answer(NamedTuple):
    """A response."""

    status: int
    body: Any
    retry_after: str | None


class Web:
    """Asks a running ``millrace web``; in a thread, for the door to the database is in the loop."""

    def __init__(self, program: Background) -> None:
        program.until("serving http")
        found = re.search(r"serving (http://\S+)", program.said())
        assert found is not None
        self._url = found[1]

    def ask(self, path: str, method: str = "GET", content: Any = None) -> Answer:
        """Return the response to a request."""
        data = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=BOUND_S) as response:
                return Answer(response.status, json.loads(response.read()), None)
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read()), error.headers["Retry-After"])

    def status(self, path: str) -> int:
        """Return the status of the response to a path."""
        return self.ask(path).status

    def get(self, path: str) -> Any:
        """Return a good answer."""
        answer = self.ask(path)
        assert answer.status == 200, (path, answer)
        return answer.body

    def until(self, is_met: Callable[[], bool]) -> None:
        """Wait for something."""
        end_s = time.monotonic() + BOUND_S
        while not is_met():
            assert time.monotonic() < end_s
            time.sleep(0.1)

    def told(self) -> dict[str, Any]:
        """Return all pages of all lists, the results, and the life of the oldest order."""
        found: dict[str, Any] = {}
        for path, name in LISTS:
            found[path], cursor = [], ""
            while cursor is not None:
                page = self.get(f"{path}&limit=20{cursor and f'&cursor={cursor}'}")
                found[path] += page[name]
                cursor = page["next_cursor"]
        for group in ("strategy", "instrument", "day"):
            found[group] = self.get(f"/api/portfolio/pnl?group_by={group}")["groups"]
        oldest = found["/api/fills?"][-1]["client_order_id"]
        found["oldest"] = self.get(f"/api/orders/{oldest}")
        found["events"] = self.get(f"/api/orders/{oldest}/events")
        return found


async def lose_the_older_half(connection: Connection) -> None:
    """Delete what retention would: the older half of every partition of the order flow."""
    places = [(topic, p) for topic in LOST for p in range(t.TOPIC_BY_NAME[topic].partitions)]
    async with PlaceReader(connection) as reader:
        ends = await reader.ends(places)
    admin = AIOKafkaAdminClient(bootstrap_servers=connection.bootstrap)
    await admin.start()
    await admin.delete_records(
        {
            TopicPartition(*place): RecordsToDelete(before_offset=end // 2)
            for place, end in ends.items()
            if end > 1
        }
    )
    await admin.close()


def address(options: dict[str, Any]) -> str:
    """Return a DSN of these options."""
    user, password = quote(options["user"]), quote(options["password"])
    return (
        f"postgresql://{user}:{password}@{options['host']}:{options['port']}/{options['database']}"
    )


async def test_web_answers_from_the_database_what_the_topics_have_lost(
    own_bootstrap: str, servers: Servers, tmp_path: Path
) -> None:
    connection = Connection(bootstrap=own_bootstrap)
    await ClusterTopics(connection).apply()
    run = one_process_run()
    records: Records = [(t.REFERENCE_INSTRUMENTS, item) for item in run.universe.instruments]
    records += [(t.MARKET_EVENTS, event) for event in run.events]
    records += [
        (topic, record)
        for topic, made in run.made.items()
        if topic in STORED_TOPICS
        for record in made
    ]
    await write(own_bootstrap, records, first_number=0, is_twice=True)
    options = await servers.new_database("plain")
    database = Database(options)
    journal = record_run(tmp_path / "earlier", "earlier")
    await Sink(database, JournalSource(journal), time.time_ns).drain()
    config = tmp_path / "web.toml"
    config.write_text('[kafka]\nrun = "k"\n[account]\naccount_id = "one"\n')
    words = ("--config", config, "--bootstrap", own_bootstrap, "--port", 0)

    async with Gate(options) as gate:
        env = environment(
            MILLRACE_DATA_FOLDER=str(tmp_path / "data"),
            MILLRACE_DATABASE_DSN=address(gate.options),
            COLUMNS="200",
        )
        with Background(tmp_path / "sink.log", "sink", *words, env=env):
            async with asyncio.timeout(BOUND_S):
                while await stored(database, "k") != expected(records):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        with Background(tmp_path / "one.log", "web", *words, env=env) as program:
            web = await asyncio.to_thread(Web, program)
            whole = await asyncio.to_thread(web.told)
        assert len(whole["/api/fills?"]) > 20
        assert len(whole["events"]["events"]) > 1

        await lose_the_older_half(connection)
        with Background(tmp_path / "two.log", "web", *words, env=env) as program:
            web = await asyncio.to_thread(Web, program)
            found = await asyncio.to_thread(web.told)
            for name, answer in whole.items():
                assert found[name] == answer, name
            results = await asyncio.to_thread(web.get, "/api/portfolio/pnl")
            assert results["source"] == "database"

            # A session of before, of which this process has no journal.
            fills = await asyncio.to_thread(web.get, "/api/fills?run_id=earlier&limit=500")
            assert fills["count"] == JournalReader(journal).next_offsets[t.ORDER_FILLS]

            await gate.shut()
            await asyncio.to_thread(while_the_database_is_away, web)
            await gate.open()
            await asyncio.to_thread(
                web.until, lambda: web.ask("/api/fills?limit=500").status == 200
            )
            assert await asyncio.to_thread(web.told) == whole
    await database.close()


def while_the_database_is_away(web: Web) -> None:
    """What is new goes on being answered, for the rest one is asked to wait."""
    web.until(lambda: web.status("/api/fills?limit=500") == 503)
    for path in ("/api/orders?limit=500", "/api/portfolio/pnl", "/api/fills?run_id=earlier"):
        answer = web.ask(path)
        assert (answer.status, answer.body["code"]) == (503, "history_unavailable"), path
        assert answer.retry_after == "5"
    assert web.get("/api/fills?limit=3")["count"] == 3
    assert web.get("/api/orders?status=open")["is_complete"] is False
    assert web.get("/api/positions?is_open=false")["count"] > 0
    web.until(lambda: web.get("/readyz")["status"] == "degraded")
