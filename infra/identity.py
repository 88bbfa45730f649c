"""What code runs: version, and one hash over the sources that decide what comes out of a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from agents.runners.replay import Identity
from schemas.identifiers import content_hash

VERSION = "0.1.0"
_DECIDING = ("schemas", "agents", "streams")


@cache
def identity() -> Identity:
    """Return version and code hash; files by path, so the hash does not depend on the machine."""
    root = Path(__file__).resolve().parent.parent
    parts = [
        f"{path.relative_to(root).as_posix()} {content_hash(path.read_bytes())}"
        for package in _DECIDING
        for path in sorted((root / package).rglob("*.py"))
    ]
    return Identity(VERSION, content_hash("\n".join(parts).encode()))
