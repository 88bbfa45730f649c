"""``millrace web``: the API over the topics of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import uuid
from functools import partial

from rich.console import Console

from infra.access import access_of
from infra.backtest_agent import BacktestAgent
from infra.database.service import StorageService
from infra.kafka.letters import resend
from infra.kafka.reading_rule import StageRules
from infra.kafka.session import begun
from infra.kafka.settings import connection_of
from infra.kafka.working import wait_for_topics
from infra.operating import Operating, operations
from infra.ports import check_port
from infra.run_store import JournalRuns
from infra.settings import Settings, data_folder
from schemas.topics import SYSTEM_AUDIT
from streams.kafka.log import KafkaLog
from web.app import WebSettings, create_app
from web.operations import Component, Status
from web.server import WebServer

_SILENT_S_MAX = 10.0
"""A cluster that has not answered for so long is away; it is asked every two seconds."""


async def serve_web(
    settings: Settings,
    port: int,
    stop: asyncio.Event,
    console: Console,
    *,
    wait_s: float = 0.0,
    storage: StorageService | None = None,
) -> None:
    """Serve the API over a cluster until ``stop``; raises MillraceError if it cannot.

    The topics of another session are refused. ``storage`` answers what the topics kept in memory
    have forgotten; it is started and stopped.
    """
    access = access_of(settings, settings.run.host)
    check_port(port)
    connection = connection_of(settings.kafka)
    await wait_for_topics(connection, settings, wait_s)
    await begun(connection, settings.kafka.run)
    rule = await StageRules(connection).make()
    log = KafkaLog(connection, settings.kafka.run, time.time_ns, rule=rule)
    async with log:
        web_settings = WebSettings(
            autonomy_mode=settings.risk.autonomy,
            approval_timeout_s=settings.risk.approval_timeout_s,
            default_account_id=settings.account.account_id,
            allowed_hosts=access.allowed_hosts,
        )
        runs = JournalRuns(data_folder())
        around = operations(settings, storage)
        around.resend = partial(resend, connection)
        around.components.append(lambda: cluster(log))
        app = create_app(
            log,
            web_settings,
            lambda: uuid.uuid4().hex,
            runs=runs,
            history=storage.history if storage is not None else None,
            operations=around,
            gate=access.gate,
            audit=partial(log.publish_side, SYSTEM_AUDIT),
        )
        # The read models hear of everything; the log keeps the newest records only.
        await log.load(app.state.context.views.apply)
        web = WebServer(app, settings.run.host, port, tls=access.tls, proxies=access.proxies)
        await web.start()
        agent = BacktestAgent(log, uuid.uuid4().hex)
        operating = Operating(
            app.state.context,
            agent,
            settings,
            runner=None,
            reports=data_folder() / "reports" / settings.kafka.run,
            root=data_folder(),
        )
        operating.start()
        if storage is not None:
            storage.start()
        following = asyncio.create_task(log.run())
        stopping = asyncio.create_task(stop.wait())
        console.print(
            f"serving {access.scheme}://{settings.run.host}:{web.port}  (API docs at /docs)"
        )
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await operating.stop()
            await agent.stop()
            await web.stop()
            if storage is not None:
                await storage.close()
                await asyncio.to_thread(storage.stop)
            if not following.done():
                following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def cluster(log: KafkaLog) -> Component:
    """Return how Kafka is: whether it answers, and what is still to be written there."""
    ends, side = log.ends, log.side
    detail = f"answered {ends.silent_s:.1f} s ago, {side.waiting:,} records wait to be written"
    if side.lost:
        detail += f", {side.lost:,} are lost (the log has them)"
    if log.refused:
        detail += f", {log.refused:,} read that no stage can use"
    if trouble := ends.trouble or side.trouble:
        detail += f"; {trouble}"
    status: Status = "warn" if side.trouble or side.lost else "pass"
    if ends.silent_s > _SILENT_S_MAX or side.is_refused:
        status = "fail"
    return Component("kafka", status, detail, is_required=True)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
