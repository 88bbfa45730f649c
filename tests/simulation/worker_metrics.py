"""What a worker process tells on the port of its health, found by what it says at its start."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

LAG = "millrace_lag_messages"
_ADDRESS = re.compile(r"health and metrics on (http://\S+)")


def address_in(log: Path) -> str | None:
    """Return the address that a worker has told in its log, None if it has not yet."""
    found = _ADDRESS.search(log.read_text())
    return found[1] if found else None


def samples(address: str, timeout_s: float) -> Iterator[Any]:
    """Yield what a worker's metrics are now; raises OSError if it does not answer."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=timeout_s) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        yield from family.samples
