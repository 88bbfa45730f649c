"""The storage beside a run: its own thread, its own troubles, and never the run's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from infra.database.service import StorageService
from infra.database.settings import DatabaseSettings
from schemas.control import BacktestResult
from schemas.enums import RunStatus
from schemas.errors import StorageError
from schemas.topics import BACKTEST_RESULTS
from streams.database.connecting import Database
from streams.database.embedded import DATABASE, EmbeddedServer
from streams.database.journals import JournalSource
from streams.database.migrating import migrate
from streams.database.writing import Writer
from streams.history import Window
from tests.database_case import journaled_rows, make_runner, record_run, rows_of, until


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that the server's user can reach, removed at the end."""
    found = Path(tempfile.mkdtemp(prefix="millrace-db-"))
    yield found
    EmbeddedServer(found / "database").stop()
    shutil.rmtree(found, ignore_errors=True)


async def test_run_and_its_backtests_are_stored_through_a_death_of_the_server(
    folder: Path,
) -> None:
    runner = make_runner(folder / "runs" / "live" / "journal", "live")
    service = StorageService(
        DatabaseSettings(),
        folder / "database",
        lambda: JournalSource(folder / "runs" / "live" / "journal"),
        runs=folder / "runs",
    )
    with pytest.raises(StorageError):
        await service.history.runs()
    service.start()
    runner.turn()
    await until(lambda: service.state().rows > 0, 120)
    assert service.state().is_ready
    assert service.state().tier

    address = EmbeddedServer(folder / "database").running()
    assert address is not None
    os.kill(address.pid, signal.SIGKILL)
    # A backtest finishes meanwhile; its result on the log names the folder of its journal.
    done = record_run(folder / "runs" / "backtest-1" / "journal", "backtest-1")
    result = BacktestResult(
        "r", runner.now_ns(), "task", "", "task", "s", RunStatus.COMPLETED, {}, "", str(done.parent)
    )
    runner.publish_side(BACKTEST_RESULTS, result)
    while not runner.feed.is_done:
        runner.turn()
    runner.finish()
    runner.close()
    expected = rows_of(journaled_rows(folder / "runs" / "live" / "journal"))
    await until(lambda: service.state().rows >= expected and service.state().is_ready, 120)

    history = service.history
    (found,) = (await history.backtests()).items
    assert found.result.task_id == "task"
    stored: set[str] = set()

    async def runs() -> None:
        stored.update(run.run_id for run in (await history.runs()).items)

    for _ in range(600):
        await runs()
        if "backtest-1" in stored:
            break
        await asyncio.sleep(0.1)
    assert stored == {"live", "backtest-1"}
    assert (await history.fills(Window("backtest-1"))).items
    await service.close()
    service.stop()
    assert service.state().status == "stopped"
    assert EmbeddedServer(folder / "database").running() is None


async def test_server_that_does_not_start_is_told_without_paths_until_it_does(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(folder / "run" / "journal", "live")
    runner.turn()
    service = StorageService(
        DatabaseSettings(), folder / "database", lambda: JournalSource(folder / "run" / "journal")
    )
    service.start()
    await until(lambda: service.state().rows > 0, 120)
    server = EmbeddedServer(folder / "database")
    address = server.running()
    assert address is not None
    control = server.cluster / "global" / "pg_control"
    control.rename(control.with_suffix(".away"))
    signal_all(address.pid, signal.SIGKILL)
    words = "the embedded PostgreSQL does not start; the log of this program says more"
    said: set[str] = set()

    def has_said() -> bool:
        said.update(service.faults.values())
        return bool(said)

    await until(has_said, 60)
    assert said == {words}
    assert str(folder) not in service.state().last_error
    assert any("pg_control" in message for message in caplog.messages)
    control.with_suffix(".away").rename(control)
    await until(lambda: service.state().is_ready and not service.faults, 60)
    assert service.state().last_error == ""
    runner.close()
    service.stop()
    await service.close()


async def test_database_that_hangs_is_told_and_not_for_ever(folder: Path) -> None:
    runner = make_runner(folder / "run" / "journal", "live")
    runner.turn()
    service = StorageService(
        DatabaseSettings(),
        folder / "database",
        lambda: JournalSource(folder / "run" / "journal"),
        silence_s=3.0,
    )
    service.start()
    await until(lambda: service.state().rows > 0, 120)
    address = EmbeddedServer(folder / "database").running()
    assert address is not None
    try:
        signal_all(address.pid, signal.SIGSTOP)
        await until(lambda: not service.state().is_ready, 30)
        state = service.state()
    finally:
        signal_all(address.pid, signal.SIGCONT)
    assert state.status == "away"
    assert "has not answered for" in state.last_error
    await until(lambda: service.state().is_ready, 60)
    assert service.state().last_error == ""
    runner.close()
    service.stop()
    await service.close()


async def test_rows_of_another_run_of_the_same_name_are_no_history(folder: Path) -> None:
    for name in ("first", "second"):
        record_run(folder / name / "journal", "live", seed=len(name))
    services = [
        StorageService(
            DatabaseSettings(), folder / "database", partial(JournalSource, folder / n / "journal")
        )
        for n in ("first", "second")
    ]
    services[0].start()
    await until(lambda: services[0].state().rows > 0, 120)
    services[1].start()
    await until(lambda: services[1].state().status == "failed", 120)
    assert (await services[0].history.runs()).items
    with pytest.raises(StorageError, match="another journal of that name"):
        await services[1].history.runs()
    for service in services:
        service.stop()
        await service.close()


def signal_all(pid: int, number: signal.Signals) -> None:
    """Send a signal to a server and to all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (pid, *map(int, children)):
        os.kill(each, number)


async def test_database_that_cannot_be_reached_is_said_and_waited_for(folder: Path) -> None:
    service = StorageService(
        DatabaseSettings(dsn="postgresql://nobody@127.0.0.1:1/none"),
        folder / "database",
        lambda: JournalSource(folder / "none"),
    )
    service.start()
    await until(lambda: service.state().status == "away")
    state = service.state()
    with pytest.raises(StorageError):
        await service.history.runs()
    service.stop()

    assert not state.is_ready
    assert state.last_error
    assert state.address == "127.0.0.1:1/none"
    assert service.state().status == "stopped"


async def test_who_only_asks_is_told_whether_anybody_stores_its_run(folder: Path) -> None:
    service = StorageService(DatabaseSettings(), folder / "database", stored_by="kafka:live")
    may_hold = service.holds_run  # until the database says otherwise
    service.start()
    await until(lambda: service.state().status == "empty", 120)
    state = service.state()
    assert state.is_ready
    assert "millrace sink" in state.last_error
    assert (may_hold, service.holds_run) == (True, False)

    address = EmbeddedServer(folder / "database").running()
    assert address is not None
    database = Database({**address.options(), "database": DATABASE})
    await migrate(database)
    async with database.writing() as connection:
        await Writer("kafka:live").begin(connection, {(BACKTEST_RESULTS, 0): 0})
    await database.close()
    await until(lambda: service.holds_run, 60)
    assert service.state().status == "reading"
    service.stop()
    await service.close()
