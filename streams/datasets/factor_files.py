"""Factor files of the LEAN engine as corporate actions.

A row is: last day on which it holds, price factor (dividends), split factor, close of that day.
Adjusted price = raw price x both factors, so a change from one row to the next tells what took
effect after the first one's day:

    split ratio = split factor of the next row / split factor of the row
    dividend    = close x (1 - price factor of the row / price factor of the next row)

Both take effect at the open of the next session. Amounts are kept to six decimals.
"""

from __future__ import annotations

import csv
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal, DecimalException
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.enums import CorporateActionKind
from schemas.errors import DataError
from schemas.identifiers import source_id, source_sequence
from schemas.instruments import CorporateAction, Instrument
from schemas.sessions import SessionTable
from streams.calendars import date_of_number, sessions
from streams.datasets.store import disk_error

SOURCE = "actions"
_AMOUNT = Decimal("0.000001")
_SEARCH_DAYS = 15


class _Row(NamedTuple):
    day: int
    price_factor: Decimal
    split_factor: Decimal
    close: Decimal


def read_factor_file(path: Path, instrument: Instrument) -> list[CorporateAction]:
    """Return the splits and dividends of a factor file, by time.

    Raises DataError for a line that is none.
    """
    rows = _read(path)
    if len(rows) < 2:
        return []
    first, last = date_of_number(rows[0].day), date_of_number(rows[-2].day)
    table = sessions(instrument.calendar, first, last + timedelta(days=_SEARCH_DAYS))
    actions: list[CorporateAction] = []
    for row, following in pairwise(rows):
        effective_ns = _next_open_ns(table, row.day)
        if row.split_factor != following.split_factor:
            # Factors are rounded (a third is 0.3333333), ratios are small fractions.
            ratio = Fraction(following.split_factor) / Fraction(row.split_factor)
            simple = ratio.limit_denominator(1000)
            actions.append(
                _action(
                    instrument,
                    CorporateActionKind.SPLIT,
                    effective_ns,
                    row.day,
                    ratio=Decimal(simple.numerator) / Decimal(simple.denominator),
                )
            )
        amount = row.close * (1 - row.price_factor / following.price_factor)
        amount = amount.quantize(_AMOUNT, ROUND_HALF_EVEN)
        if amount > 0:
            actions.append(
                _action(
                    instrument, CorporateActionKind.DIVIDEND, effective_ns, row.day, amount=amount
                )
            )
    return actions


def _action(
    instrument: Instrument,
    kind: CorporateActionKind,
    effective_ns: int,
    day: int,
    *,
    ratio: Decimal = Decimal(1),
    amount: Decimal = Decimal(0),
) -> CorporateAction:
    seq = source_sequence(day, 0 if kind is CorporateActionKind.SPLIT else 1)
    return CorporateAction(
        event_id=source_id(SOURCE, instrument.instrument_id, seq),
        source=SOURCE,
        source_seq=seq,
        ts_event_ns=effective_ns,
        instrument_id=instrument.instrument_id,
        kind=kind,
        ratio=ratio,
        amount=amount,
        currency=instrument.currency,
    )


def _next_open_ns(table: SessionTable, day: int) -> int:
    """Return the open of the first session after ``day``."""
    return int(table.open_ns[np.searchsorted(table.day, day, "right")])


def _read(path: Path) -> list[_Row]:
    rows: list[_Row] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line, fields in enumerate(csv.reader(file), 1):
                if fields:
                    rows.append(_row(path, line, fields))
    except OSError as error:
        raise disk_error("cannot be read", path, error) from error
    return sorted(rows)


def _row(path: Path, line: int, fields: list[str]) -> _Row:
    try:
        day, price_factor, split_factor, close = fields[:4]
        row = _Row(int(day), Decimal(price_factor), Decimal(split_factor), Decimal(close))
    except (ValueError, DecimalException):
        row = None
    numbers = row[1:] if row is not None else ()
    if row is None or not all(n.is_finite() and n >= 0 for n in numbers) or 0 in numbers[:2]:
        raise DataError(
            f"{path.name}, line {line} is no row of a factor file",
            field="line",
            value=",".join(fields),
            remedy="a row is: day as yyyymmdd, price factor, split factor, close",
        )
    date_of_number(row.day)
    return row
