"""The Faust app of a worker: settings of its client that upstream does not offer."""

from __future__ import annotations

from typing import Any

import pytest

from agents.runners.kafka.app import new_app
from agents.runners.kafka.stages import stage_specs
from agents.strategy.builtin import BUILTIN
from streams.kafka.connection import FETCH_WAIT_MS, Connection
from tests.kafka_case import CONFIG


@pytest.mark.parametrize("stage", ["market", "strategy", "venue", "account"])
async def test_only_what_makes_bars_waits_for_more_than_a_record(stage: str) -> None:
    spec = stage_specs(CONFIG, {}, BUILTIN)[stage]
    here = Connection(bootstrap="127.0.0.1:1")
    app = new_app("ours", here, "unused", fetch_min_bytes=spec.fetch_min_bytes)
    consumer: Any = app.consumer
    client = consumer._new_consumer_thread()._create_worker_consumer(app.transport)
    try:
        assert (client._fetch_min_bytes > 1) == (stage == "market")
        # Nobody waits longer for it than for a partition where nothing comes.
        assert client._fetch_max_wait_ms == FETCH_WAIT_MS
    finally:
        await client.stop()
