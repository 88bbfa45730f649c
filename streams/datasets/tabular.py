"""Tables with named columns, from CSV or Parquet.

Which column means what, and rows as ``ingest`` takes them.

| column | also known as | kinds |
|---|---|---|
| timestamp | ts, time, date, datetime, ts_event, ts_event_ns | all |
| symbol | ticker, instrument, instrument_id | all |
| price | last, last_price, trade_price | trade |
| size | qty, quantity, volume, vol, last_size, trade_size | trade |
| bid | bid_price, bidprice, bid_px | quote |
| ask | ask_price, askprice, ask_px, offer | quote |
| bid_size | bidsize, bid_qty, bid_sz | quote |
| ask_size | asksize, ask_qty, ask_sz, offer_size | quote |
| open, high, low, close | o, h, l, c | bar |
| volume | vol, v, qty, quantity | bar |
| vwap, trade_count | vw, average; count, trades, n | bar, optional |
| start | open_time, ts_start | bar, optional: the open instant; then the timestamp may be missing |
| source, seq | source_seq | optional: where the row stood in its first source |

Names are compared in lower case. The kind follows from the columns. ``timestamp`` of a bar is its
close, unless the reader is told that it is the start, as many vendors stamp bars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.columns import Floats, Ints
from schemas.errors import DataError
from schemas.instruments import Instrument
from streams.calendars import date_of_number, day_number, sessions, utc_offsets

ALIASES: dict[str, tuple[str, ...]] = {
    "timestamp": ("ts", "time", "date", "datetime", "ts_event", "ts_event_ns"),
    "symbol": ("ticker", "instrument", "instrument_id"),
    "price": ("last", "last_price", "trade_price"),
    "size": ("qty", "quantity", "volume", "vol", "last_size", "trade_size"),
    "bid": ("bid_price", "bidprice", "bid_px"),
    "ask": ("ask_price", "askprice", "ask_px", "offer"),
    "bid_size": ("bidsize", "bid_qty", "bid_sz"),
    "ask_size": ("asksize", "ask_qty", "ask_sz", "offer_size"),
    "open": ("o",),
    "high": ("h",),
    "low": ("l",),
    "close": ("c",),
    "volume": ("vol", "v", "qty", "quantity"),
    "vwap": ("vw", "average"),
    "count": ("trade_count", "trades", "n"),
    "start": ("open_time", "ts_start"),
    "source": (),
    "seq": ("source_seq",),
}
VALUES: dict[str, tuple[str, ...]] = {
    "bar": ("open", "high", "low", "close", "volume"),
    "quote": ("bid", "ask", "bid_size", "ask_size"),
    "trade": ("price", "size"),
}
_SIGNS = {"bar": "open", "quote": "bid", "trade": "price"}
_OPTIONAL = {"bar": ("vwap", "count", "start"), "quote": (), "trade": ()}
_DAY_NS = 86_400_000_000_000
UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass(frozen=True, slots=True)
class Layout:
    """Kind of a table, and the name in the file of each column that is used."""

    kind: str
    columns: dict[str, str]


def layout_of(
    file: str, header: Sequence[str], symbols: Sequence[str] | None, is_bar_start: bool = False
) -> Layout:
    """Return what the columns of a file mean.

    ``is_bar_start``: the ``timestamp`` of bars is their start. Raises DataError for a column that
    is missing or named twice.
    """
    by_name: dict[str, str] = {}
    for name in header:
        key = name.strip().lower()
        if key in by_name:
            raise DataError(
                f"{file} has two columns of one name",
                field="column",
                value=name,
                remedy="give every column a name of its own",
            )
        by_name[key] = name
    kind = next((k for k, sign in _SIGNS.items() if _find(sign, by_name)), None)
    if kind is None:
        raise DataError(
            f"{file} has neither trades, quotes nor bars",
            field="columns",
            value=",".join(header)[:200],
            remedy="trades need price and size, quotes bid, ask, bid_size and ask_size, bars open,"
            " high, low, close and volume, each with timestamp and symbol, named in the first line",
        )
    columns: dict[str, str] = {}
    for name in ("timestamp", "symbol", *VALUES[kind], *_OPTIONAL[kind], "source", "seq"):
        found = _find(name, by_name)
        if found:
            columns[name] = found
    _check_complete(file, kind, columns, header, symbols)
    if is_bar_start and kind == "bar" and "start" not in columns:
        columns["start"] = columns.pop("timestamp")
    return Layout(kind, columns)


def _check_complete(
    file: str,
    kind: str,
    columns: dict[str, str],
    header: Sequence[str],
    symbols: Sequence[str] | None,
) -> None:
    missing = [name for name in VALUES[kind] if name not in columns]
    if "timestamp" not in columns and "start" not in columns:
        missing.insert(0, "timestamp")
    if missing:
        name = missing[0]
        also = ", ".join(ALIASES[name]) or "no other names"
        raise DataError(
            f"{file} has no column {name}, which {kind}s need",
            field="columns",
            value=",".join(header)[:200],
            remedy=f"add it, or rename the column that means it to {name} (also known: {also})",
        )
    if "symbol" not in columns and (symbols is None or len(symbols) != 1):
        raise DataError(
            f"{file} has no column symbol",
            field="symbols",
            value=None if symbols is None else ",".join(symbols),
            remedy="add the column, or name exactly one symbol",
        )
    if ("source" in columns) != ("seq" in columns):
        raise DataError(
            f"{file} has only one of the columns source and seq",
            field="columns",
            value=",".join(header)[:200],
            remedy="give both or neither",
        )


def _find(name: str, by_name: dict[str, str]) -> str | None:
    return next((by_name[key] for key in (name, *ALIASES[name]) if key in by_name), None)


def unit_of(value: int) -> str:
    """Return the unit of an integer timestamp by its magnitude.

    Seconds stay below 10**11 until the year 5138; each finer unit has three digits more.
    """
    size = abs(value)
    return "s" if size < 10**11 else "ms" if size < 10**14 else "us" if size < 10**17 else "ns"


def closes_of_days(instrument: Instrument, days: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Return open and close instants.

    Ns UTC of the sessions of ``days`` (yyyymmdd), and which days are sessions.

    Without a calendar the day is that of UTC, and its close the last microsecond of it: midnight
    itself is of the next day, to whoever asks for days.
    """
    if not instrument.calendar or not len(days):
        numbers = np.array([date_of_number(int(day)).toordinal() for day in days], np.int64)
        opens = (numbers - 719_163) * _DAY_NS
        return opens, opens + _DAY_NS - 1_000, np.ones(len(days), np.bool_)
    first, last = date_of_number(int(days.min())), date_of_number(int(days.max()))
    table = sessions(instrument.calendar, first, last)
    if not len(table.day):
        return np.zeros(len(days), np.int64), np.zeros(len(days), np.int64), days < 0
    index = np.clip(np.searchsorted(table.day, days), 0, len(table.day) - 1)
    return table.open_ns[index], table.close_ns[index], table.day[index] == days


def days_at_midnight(instrument: Instrument, ts: Ints) -> Ints:
    """Return the day (yyyymmdd) of each instant that is midnight, in UTC or locally, else 0.

    Many files of daily bars write the day like this; a bar of that day is not known before its
    close.
    """
    local = ts + utc_offsets(ts, instrument.time_zone)
    at = np.where(ts % _DAY_NS == 0, ts, np.where(local % _DAY_NS == 0, local, -1))
    dates = (at // _DAY_NS).astype("datetime64[D]").tolist()
    numbers = [day_number(d) if a >= 0 else 0 for d, a in zip(dates, at.tolist(), strict=True)]
    return np.array(numbers, np.int64)


Text = Callable[[int], str]


@dataclass(slots=True, kw_only=True)
class Block:
    """Consecutive parsed rows of a table.

    ``day`` is yyyymmdd where the timestamp is a plain date, else 0.

    If it ``is_by_start``, ``ts`` is the open of bars until their interval is known. Else ``start``
    is what the file gives beside the end; where that is a plain date, ``start_day`` has it.
    """

    symbols: list[str]
    code: npt.NDArray[np.int32]
    ts: Ints
    day: Ints
    values: dict[str, Floats]
    line: Ints
    text: Text
    reasons: dict[int, str]
    unplaced: set[int]
    is_by_start: bool = False
    start: Ints | None = None
    start_day: Ints | None = None
    source: npt.NDArray[np.object_] | None = None
    seq: Ints | None = None

    def turned(self) -> Block:
        """Return the same rows in the opposite order."""
        last = len(self.ts) - 1
        text = self.text
        return replace(
            self,
            code=self.code[::-1].copy(),
            ts=self.ts[::-1].copy(),
            day=self.day[::-1].copy(),
            values={name: values[::-1].copy() for name, values in self.values.items()},
            line=self.line[::-1].copy(),
            text=lambda row: text(last - row),
            reasons={last - row: reason for row, reason in self.reasons.items()},
            unplaced={last - row for row in self.unplaced},
            start=None if self.start is None else self.start[::-1].copy(),
            start_day=None if self.start_day is None else self.start_day[::-1].copy(),
            source=None if self.source is None else self.source[::-1].copy(),
            seq=None if self.seq is None else self.seq[::-1].copy(),
        )
