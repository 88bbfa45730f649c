"""The data sets that come with Millrace, by name."""

from __future__ import annotations

from pathlib import Path

BUNDLED: dict[str, str] = {
    "demo": "IBM trades and quotes and SPY trades of 7 October 2013",
    "daily": "SPY and IBM daily bars from 1998 to 2021 with splits and dividends",
}
"""Names of the bundled sets, and what is in them."""


def bundled_folder(name: str) -> Path:
    """Return the folder of a bundled set."""
    return Path(__file__).resolve().parents[2] / "infra" / "bundled" / name
