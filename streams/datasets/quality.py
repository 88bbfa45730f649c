"""What was wrong with imported rows.

Counted by kind, and the rows that cannot be used kept word for word.

Nothing is dropped in silence: ``rows_read`` is always ``rows_kept`` plus ``rows_rejected``, and
every rejected row stands in the reject file with its line and the reason.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec

from streams.datasets.store import disk_errors

REJECT_NAME = "rejects.csv"
JUMP_LIMIT = 0.25
"""A price that moves by more than this fraction between two rows without a split is a jump."""

TICK_GAP_NS = 600_000_000_000
"""Trades and quotes: longest silence within a trading day that is no gap (10 minutes)."""

DAILY_GAP_NS = 8 * 86_400_000_000_000
"""Daily bars: longest step that is no gap.

The longest closure in the sample (September 2001) is seven days.
"""


class Reject(msgspec.Struct, frozen=True):
    """One row that could not be used; ``line`` counts from 1, the header included."""

    file: str
    line: int
    reason: str
    text: str


class QualityReport(msgspec.Struct, kw_only=True):
    """Counts over all files of one import.

    Rows out of order are kept in file order. ``duplicates`` equal the row before them; of ticks
    they are kept, for equal prints are common, of bars they are rejected. ``off_grid`` prices are
    no multiple of the price increment. ``bars_at_open`` close at the very instant at which their
    session opens (daily ones: or later within it), in a series of which none closes with its
    session; if one of them does, the daily ones are ``days_early``, for the others show that the
    stamps are ends. ``first_early`` says which. ``bars_cut`` end with their session though the
    file has trading beyond it. ``uneven`` symbols have bars that do not fit the interval of their
    file; ``first_uneven`` says how.
    ``spikes`` are bars whose high or low is a jump away from their own close and the one before.
    ``first_spike`` says which and what; ``first_reject`` says file, line and reason of the first
    rejected row.
    """

    rows_read: int = 0
    rows_kept: int = 0
    rows_rejected: int = 0
    first_reject: str = ""
    out_of_order: int = 0
    duplicates: int = 0
    gaps: int = 0
    longest_gap_ns: int = 0
    crossed_quotes: int = 0
    locked_quotes: int = 0
    jumps: int = 0
    off_grid: int = 0
    suspicious: int = 0
    bars_at_open: int = 0
    days_early: int = 0
    first_early: str = ""
    bars_cut: int = 0
    uneven: int = 0
    first_uneven: str = ""
    spikes: int = 0
    first_spike: str = ""
    reject_file: str = ""

    def note_spacing(self, oddity: str) -> None:
        """Count a symbol whose bars do not fit the interval of their file, if anything is odd."""
        self.uneven += bool(oddity)
        self.first_uneven = self.first_uneven or oddity

    def warnings(self) -> list[str]:
        """Return one phrase for every count that is not zero."""
        counts = {
            "rows rejected": self.rows_rejected,
            "rows out of order": self.out_of_order,
            "duplicate rows": self.duplicates,
            "gaps": self.gaps,
            "crossed quotes": self.crossed_quotes,
            "locked quotes": self.locked_quotes,
            f"jumps over {JUMP_LIMIT:.0%} without a split": self.jumps,
            f"bars with a high or low over {JUMP_LIMIT:.0%} beyond their close and the one before"
            f" (the first: {self.first_spike})": self.spikes,
            f"symbols with bars further apart than their interval (the first: {self.first_uneven}),"
            " which begin or end at a wrong time unless nothing traded between them: split the file"
            " by interval, or give theirs with --interval": self.uneven,
            "prices off the grid": self.off_grid,
            "rows flagged suspicious by the source": self.suspicious,
            "bars close as their session opens, or daily ones within it, and none with it: if the"
            " file stamps bars by their start, `millrace import` it with --bar-start, or name the"
            " column `start`": self.bars_at_open,
            "daily bars end before the close of their session, which they tell ahead of its time"
            f" (the first: {self.first_early}): write their days (2013-11-04), or the instants at"
            " which their sessions closed": self.days_early,
            "bars end as their session closes though the next begins later: if they hold trades of"
            " after the close, give their ends as `timestamp` beside `start`": self.bars_cut,
        }
        return [f"{count:,} {what}" for what, count in counts.items() if count]


class RejectFile:
    """Collects rejected rows and appends them to ``rejects.csv`` of a folder.

    The file is made with the first reject. Raises StorageError if the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / REJECT_NAME
        self.count = 0

    def add(self, rejects: list[Reject]) -> None:
        """Append ``rejects``."""
        if not rejects:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        with disk_errors("cannot be written", self.path):
            if not self.count:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                writer.writerow(("file", "line", "reason", "text"))
            writer.writerows((r.file, r.line, r.reason, r.text) for r in rejects)
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        self.count += len(rejects)
