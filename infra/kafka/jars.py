"""Brings the jars of the Kafka broker through Maven, once for each version of the pom."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from schemas.errors import ConfigError
from schemas.identifiers import content_hash

POM = Path(__file__).with_name("pom.xml")
_TIMEOUT_S = 600.0


def jars_folder(folder: Path, java: Path) -> Path:
    """Return the folder of the jars below ``folder``, and fill it if it is not there.

    Raises ConfigError if Maven is missing or cannot bring them.
    """
    target = folder / f"jars-{content_hash(POM.read_bytes())[:12]}"
    if target.is_dir():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise ConfigError(
            "the jars of Kafka come through Maven, which is not here",
            field="mvn",
            value="not on the PATH",
            remedy="install it (on Debian: apt install maven), or name a broker of yours with"
            " --bootstrap or MILLRACE_KAFKA_BOOTSTRAP",
        )
    folder.mkdir(parents=True, exist_ok=True)
    # One at a time: Maven's own store takes no two writers. Renamed when whole: a download that was
    # cut off is never taken for a set of jars.
    with (
        (folder / ".lock").open("w") as lock,
        tempfile.TemporaryDirectory(dir=folder, prefix=".jars-") as work,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _copy(maven, Path(work) / "lib", java)
            (Path(work) / "lib").rename(target)
    return target


def _copy(maven: str, lib: Path, java: Path) -> None:
    command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={lib}"]
    environment = {**os.environ, "JAVA_HOME": str(java.resolve().parent.parent)}
    try:
        done = subprocess.run(  # noqa: S603 - Maven with our own pom
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"no end after {_TIMEOUT_S:.0f} s") from error
    if done.returncode or not list(lib.glob("kafka_*.jar")):
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise _failed(lines[0] if lines else f"exit status {done.returncode}")


def _failed(reason: str) -> ConfigError:
    return ConfigError(
        "Maven could not bring the jars of Kafka",
        field="pom",
        value=str(POM),
        remedy=f"check the network and Maven's settings; it said: {reason}",
    )
