"""Runs all tests in two processes side by side: ``python -m tests`` (``make test``).

One alone leaves a core idle while brokers and workers start, wait and stop. What uses a Kafka
broker is one half, everything else the other: no two tests that are timed by heartbeats and leases
run at once. The second half is shown when the first has ended; exit status 1 if a test of either
fails. With arguments they go to a single pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

_TESTS = Path(__file__).parent
_LOOK_S = 0.2

ON_KAFKA = (
    "integration/test_benchmarks.py",
    "integration/test_database_topics.py",
    "integration/test_kafka_*.py",
    "simulation/test_cursor.py",
    "simulation/test_faults.py",
)
"""The modules that bring up a broker, as patterns below the folder of the tests."""


def main(arguments: list[str]) -> int:
    """Run the tests; return the exit status."""
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments])
    modules = [str(path) for pattern in ON_KAFKA for path in sorted(_TESTS.glob(pattern))]
    ignored = [f"--ignore={module}" for module in modules]
    with tempfile.NamedTemporaryFile("w") as said:
        on_kafka = subprocess.Popen([*pytest, *modules], stdout=said, stderr=subprocess.STDOUT)
        try:
            status = subprocess.call([*pytest, *ignored])
            sys.stdout.write("\nThe tests on Kafka, which ran beside these:\n")
            with Path(said.name).open() as text:
                show(on_kafka, text)
        except BaseException:
            on_kafka.terminate()
            on_kafka.wait()
            raise
    return 1 if status or on_kafka.returncode else 0


def show(process: subprocess.Popen[bytes], text: IO[str]) -> None:
    """Print what a process has said and goes on to say, until it ends."""
    has_ended = False
    while not has_ended:
        has_ended = process.poll() is not None
        sys.stdout.write(text.read())
        sys.stdout.flush()
        if not has_ended:
            time.sleep(_LOOK_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
