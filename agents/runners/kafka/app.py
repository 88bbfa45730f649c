"""The Faust app of a worker, with settings that a trading engine can live with.

Faust's defaults are made for web analytics: session timeouts of a minute, produce timeouts of
twenty, an open HTTP server. Each setting that differs here says why.
"""

from __future__ import annotations

from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types.auth import SASLMechanism

from agents.runners.kafka.transport import SCHEME, Positions, Revoked, Transport, register
from streams.kafka.connection import Connection

POLL_RECORDS_MAX = 4000
FETCH_MAX_BYTES = 4 * 1024 * 1024
SESSION_TIMEOUT_S = 10.0
REBALANCE_TIMEOUT_S = 30.0
COMMIT_INTERVAL_S = 0.5
METADATA_MAX_AGE_MS = 3000
_BUFFERED_BATCHES = 4


class _Recovery(Recovery):
    """What Faust does between an assignment and the first record, for as long as it takes.

    Upstream gives up after one request timeout, in silence: a part whose state takes longer to
    restore would stand still for ever. The steps of a restore have deadlines of their own.
    """

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109 - Faust's
        await super()._wait(coro)


class _Tables(TableManager):
    """There are no tables, but their manager is what resumes the streams."""

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


def new_app(
    group: str,
    connection: Connection,
    data_folder: str,
    positions: Positions | None = None,
    revoked: Revoked | None = None,
) -> faust.App:
    """Return an app whose consumer group is ``group``; nothing is connected yet.

    With ``positions`` every assigned partition goes on where that says, and nothing is committed
    but what is allowed. ``revoked`` is awaited before partitions go to others.
    """
    register()
    timeout_s = connection.request_timeout_s
    app = faust.App(
        group,
        broker=[f"{SCHEME}://{server}" for server in connection.servers()],
        broker_credentials=_credentials(connection),
        datadir=data_folder,
        # A group that is new reads everything: processors know what they have seen.
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_commit_every=1_000_000_000,
        # A dead worker's partitions are taken over after this, not after a minute.
        broker_session_timeout=min(SESSION_TIMEOUT_S, timeout_s),
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 5,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
        broker_request_timeout=timeout_s,
        # A broker that has just come back may not know a topic yet: whoever deals partitions out
        # then gives none of it to anybody, and looks again after this, not after five minutes.
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        # A part that is rebuilt from the log polls nothing for long; the worker itself watches
        # that it goes on.
        broker_max_poll_interval=3600.0,
        broker_max_poll_records=POLL_RECORDS_MAX,
        consumer_max_fetch_size=FETCH_MAX_BYTES,
        producer_request_timeout=timeout_s,
        producer_acks=-1,
        # Batches, not records: four of them are up to 16,000 records in front of an agent.
        stream_buffer_maxsize=_BUFFERED_BATCHES,
        # What is not finished is done again from a snapshot; after a failure it never finishes.
        stream_wait_empty=False,
        # State is in our snapshots; topics come from the catalogue.
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        # Anyone who reaches it could read tables; our own server has the health of a worker.
        web_enabled=False,
        worker_redirect_stdouts=False,
        store="memory://",
        TableManager=_Tables,
    )
    transport = app.transport
    assert isinstance(transport, Transport)
    transport.positions = positions
    transport.revoked = revoked
    return app


def _credentials(connection: Connection) -> faust.auth.Credentials | None:
    context = connection.ssl_context()
    if connection.is_sasl():
        return faust.SASLCredentials(
            username=connection.username,
            password=connection.password,
            mechanism=SASLMechanism(connection.mechanism),
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None
