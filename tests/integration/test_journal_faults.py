"""The journal under violence: killed processes, full disks, folders that cannot be written.

The writing sides are processes of their own, which run this file: a kill must not reach the test,
and the limit of the file size that stands in for a full disk holds for a whole process.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import StorageError
from schemas.topics import MARKET_EVENTS
from streams.journal import JournalReader, JournalWriter, Kind, encode_group
from tests.unit import journal_samples as samples

ROOT = Path(__file__).parents[2]
UNIVERSE = samples.make_universe()
KINDS = (Kind.RECORDS, Kind.COLUMNS, Kind.BATCH)


def numbered_write(number: int) -> samples.Write:
    """Return what entry ``number`` of the killed journals holds."""
    return samples.make_write(KINDS[number % 3], 1 + number % 50, number, UNIVERSE)


def write_until_killed(folder: Path) -> None:
    """Write entry after entry and print the number of each once it is acknowledged."""
    with JournalWriter.open(folder, run_id="r", segment_bytes=200_000) as writer:
        say(f"next {writer.next_entry}")
        while True:
            number = writer.next_entry
            samples.append(writer, UNIVERSE, numbered_write(number))
            writer.flush()
            say(str(number))


def write_until_full(folder: Path) -> None:
    """Write until the file may not grow; print errors, then the acknowledged records."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    writer = JournalWriter.open(folder, run_id="r")
    acknowledged = 0

    def write_group() -> None:
        nonlocal acknowledged
        items: samples.Items = [(MARKET_EVENTS, samples.make_trade(acknowledged))] * 7
        writer.append_group(encode_group(items))
        writer.flush()
        acknowledged += 7

    while try_and_say(write_group):
        pass
    for attempt in (writer.flush, writer.sync, lambda: writer.append_mark("m", b"")):
        try_and_say(attempt)
    writer.close()
    say(str(acknowledged))


def try_and_say(attempt: Callable[[], None]) -> bool:
    """Return whether ``attempt`` succeeded; print the error if it did not."""
    try:
        attempt()
    except StorageError as error:
        say(str(error))
        return False
    return True


def say(text: str) -> None:
    """Write one line to the parent at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def start(child: Callable[[Path], None], folder: Path) -> subprocess.Popen[str]:
    """Start ``child``, a function of this file, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, child.__name__, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_everything_acknowledged_is_read_back_after_each_of_ten_kills(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged = -1
    for _ in range(10):
        process = start(write_until_killed, tmp_path)
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("next "), process.communicate()[1]
        assert int(first.split()[1]) > acknowledged
        time.sleep(chance.uniform(0.0, 0.25))
        process.kill()
        # The kill may have come within a line, so only whole lines count.
        lines = process.communicate()[0].splitlines(keepends=True)
        acknowledged = max([acknowledged, *(int(n) for n in lines if n.endswith("\n"))])
        entries = samples.contents(JournalReader(tmp_path), UNIVERSE)
        assert [index for index, *_ in entries] == list(range(len(entries)))
        assert len(entries) > acknowledged
    assert acknowledged > 20
    for index, kind, _, _, content in samples.contents(JournalReader(tmp_path), UNIVERSE):
        assert (kind, content) == samples.written([numbered_write(index)], UNIVERSE)[0]


def test_full_disk_stops_the_writer_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    process = start(write_until_full, tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    first, *refused, number = out.splitlines()
    assert "segment-00000000.log" in first
    assert "raise the limit of the file size" in first
    assert len(refused) == 3
    assert all("stopped at an earlier failure" in line for line in refused)
    assert int(number) > 50
    reader = JournalReader(tmp_path)
    assert reader.torn_tail is None
    assert reader.next_offsets == {MARKET_EVENTS: int(number)}
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        assert writer.recovered is None
        writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(0))]))
    assert JournalReader(tmp_path).next_offsets == {MARKET_EVENTS: int(number) + 1}


def open_without_rights(folder: Path) -> str:
    """Return the error of opening ``folder`` as a user who may not write there."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        text = "no error"
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            JournalWriter.open(folder, run_id="r")
        except StorageError as error:
            text = str(error)
        finally:
            os.write(outlet, text.encode())
            os._exit(0)
    os.close(outlet)
    with os.fdopen(inlet) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


def test_folder_that_cannot_be_written_is_named_with_the_remedy() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        text = open_without_rights(folder)
        assert name in text
        assert "choose another folder" in text
        text = open_without_rights(folder / "new")
        assert f"{name}/new" in text
        assert "choose another folder" in text


def test_process_holding_the_lock_is_named_until_it_dies(tmp_path: Path) -> None:
    process = start(write_until_killed, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("next ")
    with pytest.raises(StorageError, match=f"process {process.pid}"):
        JournalWriter.open(tmp_path, run_id="r")
    process.kill()
    process.communicate()
    JournalWriter.open(tmp_path, run_id="r").close()


if __name__ == "__main__":
    children = {child.__name__: child for child in (write_until_killed, write_until_full)}
    children[sys.argv[1]](Path(sys.argv[2]))
