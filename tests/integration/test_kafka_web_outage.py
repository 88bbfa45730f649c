"""A broker that goes away under a running ``millrace web``, and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from infra.kafka.node import Node
from schemas.codec import decode
from schemas.control import ApiWrite
from schemas.topics import REFERENCE_INSTRUMENTS, SYSTEM_AUDIT
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, outgoing
from streams.kafka.reading import read_to_end
from streams.kafka.topics import ClusterTopics
from tests.integration.command_line import Background, environment
from tests.integration.conftest import JARS
from tests.integration.test_kafka_history import Web
from tests.unit.web_run import instrument

MODES = ("SEMI_AUTOMATIC", "OBSERVE_ONLY")


async def test_outage_is_told_and_lived_through_and_no_audit_is_lost(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", jars=JARS)
    address = (await asyncio.to_thread(node.start)).address
    env = environment(MILLRACE_DATA_FOLDER=str(tmp_path / "data"), COLUMNS="200")
    connection = Connection(bootstrap=address)
    try:
        await ClusterTopics(connection).apply()
        async with Publisher(connection) as publisher:
            await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, instrument())])
        words = ("web", "--bootstrap", address, "--port", 0)
        with Background(tmp_path / "web.log", *words, env=env) as program:
            web = await asyncio.to_thread(Web, program)
            await asyncio.to_thread(through, web, node)
            # What waits at the end is written, too.
            last = await asyncio.to_thread(web.ask, "/api/config", "PUT", {"speed": 1})
            assert (last.status, program.stop()) == (422, 0)
        audits = [
            decode(SYSTEM_AUDIT, item.value) async for item in read_to_end(connection, SYSTEM_AUDIT)
        ]
    finally:
        node.kill()

    assert all(isinstance(audit, ApiWrite) for audit in audits)
    found = sorted((a.method, a.path, a.status, a.code) for a in audits)  # type: ignore[attr-defined]
    assert found[0] in [("PUT", "/api/config", 200, ""), ("PUT", "/api/config", 202, "")]
    assert found[1:] == [
        ("PUT", "/api/config", 422, "invalid_request"),
        ("PUT", "/api/config", 503, "outcome_unknown"),
        ("PUT", "/api/config", 503, "outcome_unknown"),
    ]


def through(web: Web, node: Node) -> None:
    """Take the broker away for so long that two commands get no answer, and bring it back."""
    web.until(lambda: web.status("/readyz") == 200)
    assert kafka(web)["status"] == "pass"

    node.kill()
    answers = [web.ask("/api/config", "PUT", {"autonomy_mode": mode}) for mode in MODES]
    assert [(a.status, a.body["code"]) for a in answers] == [(503, "outcome_unknown")] * 2
    # The first audit has been waiting for as long as a command would by now.
    web.until(lambda: kafka(web)["status"] == "fail" and "2 records wait" in kafka(web)["detail"])
    away = web.ask("/readyz")
    assert (away.status, away.body["detail"].split(";")[0]) == (503, "kafka: fail")
    assert web.get("/api/instruments")["count"] == 1

    node.start()
    web.until(lambda: web.status("/readyz") == 200)
    web.until(lambda: "0 records wait" in kafka(web)["detail"])
    # It stands behind what was sent while the broker was away.
    assert web.ask("/api/config", "PUT", {"autonomy_mode": "AUTOMATIC"}).status in (200, 202)
    web.until(lambda: web.get("/api/system/lag")["behind_records"] == 0)


def kafka(web: Web) -> Any:
    """Return what the health says of the cluster."""
    found = web.get("/api/system/health")["components"]
    return next(item for item in found if item["name"] == "kafka")
