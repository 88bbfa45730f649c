"""One Kafka node (KRaft, broker and controller) with its data in a folder.

The node is a process of its own: it lives on when the command that started it ends. A file beside
its data holds its process id and address, so that another command finds it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from infra.kafka.jars import jars_folder
from infra.kafka.java import find_java
from schemas.errors import ConfigError, StorageError

_START_TIMEOUT_S = 120.0
_STARTS_MAX = 3
_PORT_TAKEN = b"Address already in use"
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_LOGGING = Path(__file__).with_name("log4j2.properties")
_LOG_TAIL_BYTES = 4000
_PF_EXITING = 0x4  # of the flags in /proc/PID/stat
_HEAP = re.compile(r"([1-9][0-9]{2,5}m|[1-9][0-9]{0,3}g)", re.IGNORECASE)

_SETTINGS = {
    # Topics are created from the catalogue; a misspelt name must fail, not make a topic.
    "auto.create.topics.enable": "false",
    # Listeners are named by what they speak; the controller's is for this machine alone.
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,"
    "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # A killed node may come back within three seconds, not nine.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",
}


class Running(msgspec.Struct, frozen=True):
    """What a started node left in its folder."""

    pid: int
    address: str


class Quorum(NamedTuple):
    """Nodes that are one cluster: its id, and the controller's port of each, of number 1 first."""

    cluster: str
    ports: Sequence[int]


class Node:
    """A node on this machine; ``settings`` are broker properties that win over ours.

    Alone it is a whole cluster. One of a ``quorum`` has a ``number`` there and answers when most of
    the nodes have been started.

    ``listeners`` come beside the plain one, as in SSL://127.0.0.1:9093; ``format_options`` go to
    Kafka's tool that formats the data folder, such as the users that it knows from then on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        heap: str = "512m",
        settings: Mapping[str, str] | None = None,
        jars: Path | None = None,
        listeners: Sequence[str] = (),
        format_options: Sequence[str] = (),
        quorum: Quorum | None = None,
        number: int = 1,
    ) -> None:
        self.folder = folder.absolute()
        self.log_file = self.folder / "server.log"
        self._port = port
        self._heap = heap
        self._settings = dict(settings or {})
        self._listeners = tuple(listeners)
        self._format_options = tuple(format_options)
        self._quorum = quorum
        self._number = number
        # Java runs in the node's folder.
        self._jars = jars.absolute() if jars is not None else self.folder.parent
        self._process: subprocess.Popen[bytes] | None = None

    def running(self) -> Running | None:
        """Return the node if its process lives."""
        if self._process is not None:
            self._process.poll()  # Takes up an ended child, which else would count as alive.
        try:
            known = msgspec.json.decode((self.folder / "running.json").read_bytes(), type=Running)
        except (OSError, msgspec.DecodeError):
            return None
        if _is_alive(known.pid, self.folder):
            return known
        if self._process is not None and self._process.pid == known.pid:
            # It died after the poll: a start must not forget a child that is not taken up.
            self._process.wait(_STOP_TIMEOUT_S)
        return None

    def start(self) -> Running:
        """Start the node and return when it answers; a running one is returned as it is.

        Raises ConfigError for a missing Java or Maven, a folder or a port that cannot be used,
        StorageError if it ends.
        """
        known = self.running()
        if known is not None and _is_ending(known.pid):
            self._wait_for_end(_STOP_TIMEOUT_S)
            known = self.running()
        if known is not None:
            return known
        if not _HEAP.fullmatch(self._heap):
            raise ConfigError(
                "Java can do nothing with this much memory",
                field="heap",
                value=self._heap,
                remedy="give megabytes or gigabytes, such as 512m or 2g",
            )
        java = find_java()
        try:
            jars = jars_folder(self._jars, java)
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log_file.touch()
        except OSError as error:
            raise ConfigError(
                f"the folder of Kafka cannot be written: {error.strerror or error}",
                field="folder",
                value=str(self.folder),
                remedy="choose a folder that this user can write to",
            ) from error
        starts = 0
        while True:
            starts += 1
            seen_bytes = self.log_file.stat().st_size
            try:
                return self._start_once(java, jars)
            except StorageError:
                # A port that was free may be taken before Java listens: there are others.
                is_taken = _PORT_TAKEN in self.log_file.read_bytes()[seen_bytes:]
                if starts == _STARTS_MAX or not is_taken:
                    raise

    def _start_once(self, java: Path, jars: Path) -> Running:
        port = self._port or _kept_port(self.folder) or free_port()
        _check_free(port)
        properties = self._write_properties(port)
        base = [str(java), f"-Xmx{self._heap}", "-XX:+UseSerialGC"]
        base += [f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", f"{jars}/*"]
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(base, properties)
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the Java that was found
                [*base, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C in the terminal is not for the broker
            )
        self._process = process
        found = Running(process.pid, f"127.0.0.1:{port}")
        (self.folder / "running.json").write_bytes(msgspec.json.encode(found))
        self._wait_until_it_answers(process, port)
        (self.folder / "port").write_text(str(port))
        return found

    def stop(self) -> bool:
        """Stop the node cleanly, by force if it takes too long; False if none runs."""
        known = self.running()
        if known is None:
            return False
        os.kill(known.pid, signal.SIGTERM)
        if not self._wait_for_end(_STOP_TIMEOUT_S):
            self.kill()
        (self.folder / "running.json").unlink(missing_ok=True)
        return True

    def kill(self) -> None:
        """End the node at once, as a power cut would end it."""
        known = self.running()
        if known is not None:
            os.kill(known.pid, signal.SIGKILL)
            self._wait_for_end(_STOP_TIMEOUT_S)

    def _write_properties(self, port: int) -> Path:
        if self._quorum is None:
            controller_port = free_port()
            voters = {"controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}"}
        else:
            controller_port = self._quorum.ports[self._number - 1]
            named = [f"{n}@127.0.0.1:{at}" for n, at in enumerate(self._quorum.ports, 1)]
            voters = {"controller.quorum.voters": ",".join(named)}
        listeners = [f"PLAINTEXT://127.0.0.1:{port}", *self._listeners]
        values = {
            "process.roles": "broker,controller",
            "node.id": str(self._number),
            **voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{controller_port}"]),
            "log.dirs": str(self.folder / "data"),
            **_SETTINGS,
            **self._settings,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        return path

    def _format(self, base: list[str], properties: Path) -> None:
        # An id that began with a dash would be read as an option.
        cluster = "M" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        command = [*base, "kafka.tools.StorageTool", "format"]
        if self._quorum is None:
            command.append("--standalone")
        else:
            cluster = self._quorum.cluster
        command += ["-t", cluster, "-c", str(properties), *self._format_options]
        try:
            done = subprocess.run(  # noqa: S603 - the Java that was found
                command, capture_output=True, text=True, timeout=_START_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise self._not_formatted(f"it took more than {_START_TIMEOUT_S:.0f} s") from error
        if done.returncode:
            lines = [x for x in (done.stderr + done.stdout).splitlines() if " INFO " not in x]
            raise self._not_formatted(" ".join(lines[:3]))

    def _not_formatted(self, reason: str) -> StorageError:
        return StorageError(
            f"the data folder of Kafka cannot be formatted: {reason}",
            field="folder",
            value=str(self.folder),
            remedy="choose an empty folder that can be written",
        )

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                raise self._did_not_start(f"it ended with status {process.returncode}")
            # A broker opens its port only when it serves.
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    return
            time.sleep(_POLL_S)
        self.kill()
        raise self._did_not_start(f"it does not answer after {_START_TIMEOUT_S:.0f} s")

    def _did_not_start(self, reason: str) -> StorageError:
        tail = self.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        causes = [line for line in tail.splitlines() if "ERROR" in line or "Exception" in line]
        return StorageError(
            f"Kafka did not start: {reason}" + (f" ({causes[-1].strip()})" if causes else ""),
            field="log",
            value=str(self.log_file),
            remedy="the log says why",
        )

    def _wait_for_end(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if self.running() is None:
                return True
            time.sleep(_POLL_S)
        return False


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kept_port(folder: Path) -> int:
    """Return the port of the node's last life: clients that know it find it again."""
    try:
        return int((folder / "port").read_text())
    except (OSError, ValueError):
        return 0


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"Kafka cannot listen: {error.strerror or error}",
                field="port",
                value=port,
                remedy="stop the program that uses it, or choose another port",
            ) from error


def _is_alive(pid: int, folder: Path) -> bool:
    """Return whether a process lives and is the node of ``folder``: ids are used again.

    One that is ending counts until it has let go of its files and its port.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not Path("/proc/self").exists():
        return True  # macOS: the id alone has to do
    try:
        # In this order: an ending process loses its command line after it is marked as ending.
        return str(folder) in Path(f"/proc/{pid}/cmdline").read_text() or _is_ending(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_ending(pid: int) -> bool:
    """Return whether a process was killed and still holds what it has; never known on macOS."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if state == "Z":
            # A killed Java holds its files until the last of its threads is gone.
            return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False
    return bool(int(fields[5]) & _PF_EXITING)
