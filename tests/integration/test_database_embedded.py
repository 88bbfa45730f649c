"""The embedded server: shared by processes, left behind by killed ones, closed to others."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from schemas.errors import StorageError
from streams.database.connecting import Database
from streams.database.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
_HOLD = """
import sys
from pathlib import Path
from streams.database.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), with_timescale=False)
print(server.join().pid, flush=True)
sys.stdin.read()
server.leave()
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a folder that the server's user can reach, removed at the end."""
    found = Path(tempfile.mkdtemp(prefix="millrace-db-"))
    yield found / "database"
    EmbeddedServer(found / "database").stop()
    shutil.rmtree(found, ignore_errors=True)


def hold(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that uses the server; return it and the server's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


async def answer(server: EmbeddedServer) -> int:
    """Ask the server something."""
    address = server.running()
    assert address is not None
    connection = await asyncpg.connect(**address.options())
    try:
        return int(await connection.fetchval("SELECT 42"))
    finally:
        await connection.close()


async def test_server_outlives_a_killed_owner_and_is_found_again(folder: Path) -> None:
    owner, pid = hold(folder)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()

    server = EmbeddedServer(folder, with_timescale=False)
    with server:
        address = server.running()
        assert address is not None
        assert address.pid == pid
        assert await answer(server) == 42
    assert server.running() is None


async def test_last_user_stops_the_server(folder: Path) -> None:
    other, pid = hold(folder)
    server = EmbeddedServer(folder, with_timescale=False)
    server.join()
    other.communicate("")
    assert await answer(server) == 42
    server.leave()
    assert server.running() is None
    assert pid


async def test_killed_server_comes_back_and_leftover_files_do_not_matter(folder: Path) -> None:
    server = EmbeddedServer(folder, with_timescale=False)
    pid = server.join().pid
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        # A killed process needs a moment to be gone.
        while server.running() is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    revived = server.revive()
    assert revived is not None
    assert revived.pid != pid
    assert await answer(server) == 42
    server.leave()
    # The number of a process that is something else: this one's.
    (folder / "cluster" / "postmaster.pid").write_text(
        f"{os.getpid()}\n{folder / 'cluster'}\n1\n{revived.port}\n\n127.0.0.1\n1 1\nready\n"
    )
    assert server.running() is None
    with server:
        assert await answer(server) == 42


async def test_started_server_stays_until_it_is_stopped(folder: Path) -> None:
    server = EmbeddedServer(folder, with_timescale=False)
    server.start()
    with EmbeddedServer(folder, with_timescale=False):
        pass
    assert await answer(server) == 42
    assert server.stop()
    assert not server.stop()
    assert server.revive() is None


async def test_server_wants_its_password_and_keeps_it_to_itself(folder: Path) -> None:
    with EmbeddedServer(folder, with_timescale=False) as server:
        address = server.running()
        assert address is not None
        wrong = Database({**address.options(), "password": "guess"})
        with pytest.raises(StorageError) as refusal:
            async with wrong.reading():
                pass
        await wrong.close()
        assert "password" in str(refusal.value)
        assert address.password not in str(refusal.value) + repr(address)
        assert (folder / "password").stat().st_mode & 0o077 == 0
        for log in (folder / "cluster" / "log").glob("*.log"):
            assert address.password not in log.read_text()
