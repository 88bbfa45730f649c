"""Figures, instants and foreign texts as the page writes them, the way the dashboard does."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np

from infra.times import format_day

DASH = "\u2013"
_MINUS = "\u2212"
_LONG_NS = 3 * 86_400 * 10**9
_REPLACEMENT = "\ufffd"


def escaped(text: object) -> str:
    """Return a text that markup cannot be hidden in; what does not print becomes a mark."""
    shown = "".join(c if c.isprintable() else _REPLACEMENT for c in str(text))
    return html.escape(shown)


def amount(value: float | Decimal | None, places: int = 2) -> str:
    """Return a figure with a fixed number of places and a true minus; a dash for none."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{abs(value):,.{places}f}"
    return f"{_MINUS}{text}" if value < 0 and any(c in text for c in "123456789") else text


def signed(value: float | Decimal | None, places: int = 2) -> str:
    """Return a figure that always shows its sign, but for zero."""
    text = amount(value, places)
    is_gain = value is not None and value > 0 and any(c in text for c in "123456789")
    return f"+{text}" if is_gain else text


def percent(value: float | None, places: int = 2) -> str:
    """Return a figure in percent; a dash for none."""
    text = amount(value, places)
    return text if text == DASH else f"{text} %"


def signed_percent(value: float | None, places: int = 2) -> str:
    """Return a figure in percent that shows its sign; a dash for none."""
    text = signed(value, places)
    return text if text == DASH else f"{text} %"


def tone(value: float | Decimal | None) -> str:
    """Return the class of a figure's colour: ``up``, ``down`` or none."""
    if value is None or not value:
        return ""
    return "up" if value > 0 else "down"


def written(span_ns: int) -> Callable[[int], str]:
    """Return how the ends of a span are written: a long one as days."""
    return format_day if span_ns > _LONG_NS else instant


def instant(ns: int) -> str:
    """Return date and time of day, UTC, to the second."""
    return str(np.datetime64(ns, "ns").astype("M8[s]")).replace("T", " ")
