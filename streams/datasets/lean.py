"""Files of the LEAN engine: zips of one CSV each, below ``equity/usa``, and their factor files.

The name of the CSV inside says what it is: ``20131007_spy_Trade_Tick.csv``,
``20131007_spy_minute_trade.csv``, ``spy.csv`` (daily or hourly). Prices are in 1/10,000 dollar,
times are New York's: ms since midnight, or day and time. Bars are stamped at their start there and
at their close here; daily bars at the close of the session. A quote row updates one side: it
becomes a full quote with the last state of the other side, whatever exchange that came from, and a
side that was not quoted yet that day is 0. All rows are kept, those flagged suspicious as well;
they are counted.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from schemas.columns import Floats, Ints
from schemas.errors import DataError, NotFoundError
from schemas.instruments import Instrument
from schemas.market_data import INTERVAL_NS, INTERVALS
from streams.calendars import (
    date_of_number,
    days_since_epoch,
    is_day_number,
    local_midnight_ns,
    utc_offsets,
)
from streams.datasets.csv_text import Mask, TextTable, integers, matches, numbers, text_tables
from streams.datasets.factor_files import read_factor_file
from streams.datasets.ingest import Ingest, Rows
from streams.datasets.store import disk_error
from streams.datasets.tabular import closes_of_days

PRICE_SCALE = 10_000.0
_DAY_NS = 86_400_000_000_000
_NEW_YORK = "America/New_York"
_TICKS = re.compile(
    r"^(?P<day>\d{8})_(?P<symbol>.+)_(?P<kind>trade|quote)_(?P<step>tick|second|minute)\.csv$"
)
_STEPS = re.compile(
    r"^(?P<day>\d{8})_(?P<symbol>.+)_(?P<step>tick|second|minute)_(?P<kind>trade|quote)\.csv$"
)
_SERIES = re.compile(r"^(?P<symbol>[^_]+)\.csv$")
_INTERVALS = {"second": "1s", "minute": "1m"}
_COLUMNS = {
    "trade": ("time", "price", "size", "exchange", "condition", "suspicious"),
    "quote": ("time", "bid", "bid_size", "ask", "ask_size", "exchange", "condition", "suspicious"),
    "bar": ("time", "open", "high", "low", "close", "volume"),
}
_PRICES = frozenset({"price", "bid", "ask", "open", "high", "low", "close"})
_SIZES = frozenset({"size", "bid_size", "ask_size", "volume"})


class Source(NamedTuple):
    """What one zip holds; ``day`` is yyyymmdd, 0 for a file of many days."""

    symbol: str
    kind: str
    interval: str
    day: int


def is_lean_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder with LEAN zips in it."""
    return path.is_dir() and next(path.rglob("*.zip"), None) is not None


def read_lean(ingest: Ingest, path: Path, *, symbols: Sequence[str] | None = None) -> None:
    """Hand the rows of a LEAN zip, or of all zips of a folder, to ``ingest``, factor files first.

    Raises NotFoundError if there is no zip for ``symbols``, and DataError for a zip that cannot be
    read.
    """
    wanted = None if symbols is None else {symbol.partition(".")[0].lower() for symbol in symbols}
    files = [path] if path.is_file() else sorted(path.rglob("*.zip"))
    chosen = [
        file for file in files if path.is_file() or wanted is None or _symbol_of(file) in wanted
    ]
    missing = set() if wanted is None else wanted - {_symbol_of(file) for file in files}
    if not chosen or (missing and path.is_dir()):
        have = ", ".join(sorted({_symbol_of(file).upper() for file in files})) or "no zip at all"
        raise NotFoundError(
            f"the folder {path} has no LEAN data for this",
            field="symbols",
            value=",".join(sorted(missing)).upper(),
            remedy=f"it has {have}",
        )
    done: set[str] = set()
    for file in chosen:
        symbol = _symbol_of(file)
        if symbol not in done:
            done.add(symbol)
            _read_factors(ingest, file, symbol)
    # The same series must come in the order of time, and folders sort by day within a symbol.
    for file in chosen:
        _read_zip(ingest, file)


def _symbol_of(file: Path) -> str:
    """Return the symbol of a zip by its place.

    The file's name, or its folder's if the name begins with a day.
    """
    return file.parent.name.lower() if re.match(r"\d{8}_", file.name) else file.stem.lower()


def _read_factors(ingest: Ingest, file: Path, symbol: str) -> None:
    """Add the corporate actions of ``symbol``, if there is a factor file in a folder above."""
    for folder in file.parents[:4]:
        factors = folder / "factor_files" / f"{symbol}.csv"
        if factors.exists():
            instrument = ingest.instrument(symbol.upper(), is_us_equity=True)
            ingest.add_actions(read_factor_file(factors, instrument))
            return


def _read_zip(ingest: Ingest, path: Path) -> None:
    name, data = _unzip(path)
    source = _source_of(path, name)
    instrument = ingest.instrument(source.symbol, is_us_equity=True)
    file = f"{path.name}/{name}"
    ingest.begin_file(file)
    interval = source.interval
    quotes = _Quotes()
    for table in text_tables(ingest, file, io.BytesIO(data), _COLUMNS[source.kind]):
        rows = _rows(source, instrument, interval, table)
        interval = rows.interval
        if source.kind == "quote":
            quotes.fold(rows)
        if "suspicious" in table.columns:
            ingest.quality.suspicious += int(matches(table.columns["suspicious"], "^1$").sum())
        ingest.add(rows)


def _unzip(path: Path) -> tuple[str, bytes]:
    """Return name and content of the one file in a zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if len(names) == 1:
                return names[0], archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        # zipfile says by RuntimeError that a file is encrypted or compressed in an unknown way.
        raise DataError(
            f"{path.name} is no whole zip: {error}",
            field="file",
            value=str(path),
            remedy="download or copy the file again",
        ) from error
    except OSError as error:
        raise disk_error("cannot be read", path, error) from error
    raise DataError(
        f"{path.name} holds {len(names)} CSV files",
        field="file",
        value=str(path),
        remedy="a LEAN zip holds exactly one",
    )


def _source_of(path: Path, name: str) -> Source:
    """Return what a file is by the name of the CSV in it."""
    base = name.rpartition("/")[2].lower()
    found = _TICKS.match(base) or _STEPS.match(base)
    if found:
        kind, step = found["kind"], found["step"]
        if step == "tick":
            return Source(found["symbol"].upper(), kind, "", int(found["day"]))
        if kind == "trade":
            return Source(found["symbol"].upper(), "bar", _INTERVALS[step], int(found["day"]))
    series = _SERIES.match(base)
    if series:
        return Source(series["symbol"].upper(), "bar", "", 0)
    raise DataError(
        f"{path.name} is none of the LEAN files that can be read",
        field="file",
        value=name,
        remedy="give ticks (trades or quotes) or bars of trades (second, minute, hour, daily)"
        " of US equities",
    )


def _rows(source: Source, instrument: Instrument, interval: str, table: TextTable) -> Rows:
    """Return the rows of ``table``; times and prices converted, quotes still one-sided."""
    if not source.day:
        return _series_rows(source, instrument, interval, table)
    ms, is_bad = integers(table.columns["time"])
    midnight_ns = local_midnight_ns(date_of_number(source.day), _NEW_YORK)
    length_ns = INTERVAL_NS[INTERVALS.index(interval)] if interval else 0
    start = midnight_ns + ms * 1_000_000
    rows = _empty_rows(source, interval, table, start + length_ns)
    _reject(rows, is_bad | (ms < 0) | (ms >= 86_400_000), "unreadable time", is_unplaced=True)
    if interval:
        rows.start = start
    return rows


def _series_rows(source: Source, instrument: Instrument, interval: str, table: TextTable) -> Rows:
    """Return daily or hourly bars; a file whose rows all stand at midnight is daily."""
    column = table.columns["time"]
    is_good = matches(column, r"^\d{8} \d{2}:\d{2}$")
    day, is_bad = integers(pc.utf8_slice_codeunits(column, 0, 8), is_good)
    hour, _ = integers(pc.utf8_slice_codeunits(column, 9, 11), is_good)
    minute, _ = integers(pc.utf8_slice_codeunits(column, 12, 14), is_good)
    is_bad |= ~is_good | ~is_day_number(day)
    day[is_bad] = 19700101
    if not interval:
        interval = "1h" if (hour + minute)[~is_bad].any() else "1d"
    if interval == "1d":
        opens, closes, is_session = closes_of_days(instrument, day)
        rows = _empty_rows(source, interval, table, closes)
        rows.start = opens
        _reject(rows, is_bad, "unreadable time", is_unplaced=True)
        _reject(rows, ~is_session, f"no session of {instrument.calendar}", is_unplaced=True)
        return rows
    local = days_since_epoch(day) * _DAY_NS + (hour * 60 + minute) * 60_000_000_000
    # The offset is that of the instant, which the local time less its own offset meets but around
    # changes of clocks.
    guess = local - utc_offsets(local, _NEW_YORK)
    start = local - utc_offsets(guess, _NEW_YORK)
    rows = _empty_rows(source, interval, table, start + INTERVAL_NS[INTERVALS.index(interval)])
    rows.start = start
    _reject(rows, is_bad, "unreadable time", is_unplaced=True)
    return rows


def _empty_rows(source: Source, interval: str, table: TextTable, ts: Ints) -> Rows:
    """Return rows at ``ts`` with the prices and sizes of ``table``."""
    rows = Rows(
        kind=source.kind,
        interval=interval,
        symbols=[source.symbol],
        code=np.zeros(len(table), np.int32),
        ts=ts,
        values={},
        line=table.line,
        text=table.text,
    )
    for name, column in table.columns.items():
        if name in _PRICES or name in _SIZES:
            values, is_bad = numbers(column)
            rows.values[name] = values / PRICE_SCALE if name in _PRICES else values
            _reject(rows, is_bad, f"{name} is not a number")
    return rows


def _reject(rows: Rows, is_bad: Mask, reason: str, *, is_unplaced: bool = False) -> None:
    bad = np.flatnonzero(is_bad).tolist()
    for row in bad:
        rows.reasons.setdefault(row, reason)
    if is_unplaced:
        rows.unplaced |= frozenset(bad)


class _Quotes:
    """The state of both sides, carried from block to block of one day."""

    def __init__(self) -> None:
        self._last = {"bid": (0.0, 0.0), "ask": (0.0, 0.0)}

    def fold(self, rows: Rows) -> None:
        """Put the last state of the side that a row does not update into it."""
        is_read = np.ones(len(rows.ts), np.bool_)
        is_read[list(rows.reasons)] = False
        bid, ask = rows.values["bid"], rows.values["ask"]
        is_updated = {"bid": is_read & (bid > 0), "ask": is_read & (ask > 0)}
        _reject(rows, is_read & (bid == 0) & (ask == 0), "neither side has a price")
        for side, is_new in is_updated.items():
            price = _carried(rows.values[side], is_new, self._last[side][0])
            size = _carried(rows.values[f"{side}_size"], is_new, self._last[side][1])
            if len(price):
                self._last[side] = (float(price[-1]), float(size[-1]))
            is_good = is_read & (rows.values[side] >= 0)
            rows.values[side] = np.where(is_good, price, rows.values[side])
            rows.values[f"{side}_size"] = np.where(is_good, size, rows.values[f"{side}_size"])


def _carried(values: Floats, is_new: Mask, before: float) -> Floats:
    """Return the last of ``values`` at which ``is_new`` held, at each row.

    ``before`` where there is none yet.
    """
    last = np.maximum.accumulate(np.where(is_new, np.arange(len(values)), -1))
    return np.where(last >= 0, values[last], before)
