"""Opens the data of a run: a file is used as a whole or not at all.

An import leaves bad rows out and lists them; a run that left them out would do so in silence. What
else is odd about a file is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from schemas.errors import ConfigError, DataError
from streams.datasets import DataSet, open_data
from streams.datasets.quality import QualityReport

_log = logging.getLogger(__name__)


def open_whole(
    spec: str, *, symbols: Sequence[str] | None = None, interval: str | None = None
) -> DataSet:
    """Open a data set as ``open_data`` does.

    Raises DataError as well for a file with a row that cannot be used.
    """
    data = open_data(spec, symbols=symbols, interval=interval)
    quality = getattr(data, "quality", None)
    if not isinstance(quality, QualityReport):
        return data
    if quality.rows_rejected:
        raise DataError(
            quality.first_reject,
            field="data",
            value=spec,
            remedy=f"mend the file ({quality.rows_rejected:,} of {quality.rows_read:,} rows cannot"
            " be used), or `millrace import` it, which leaves such rows out and lists them",
        )
    for warning in notes_on(data):
        _log.warning("%s: %s", spec, warning)
    return data


def notes_on(data: DataSet) -> list[str]:
    """Return what is odd about a file; what an import found is told when it is made."""
    quality = getattr(data, "quality", None)
    return quality.warnings() if isinstance(quality, QualityReport) else []


def symbols_of(text: str) -> tuple[str, ...]:
    """Return comma-separated symbols; raises ConfigError for commas alone."""
    symbols = tuple(part.strip() for part in text.split(",") if part.strip())
    if text and not symbols:
        raise ConfigError(
            "no symbol is named",
            field="symbols",
            value=text,
            remedy="write SPY,IBM, or leave --symbols out for all",
        )
    return symbols
