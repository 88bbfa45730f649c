"""The state of the market stage as bytes.

State that is one value an instrument lies in arrays indexed by instrument. Indexes are private to a
process, so the snapshot names the instruments in its order and a restore brings the arrays into its
own.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from agents.market.history import BAR_DTYPE, Bars
from schemas.columns import Codes
from schemas.errors import RecordError
from schemas.instruments import Universe

Arrays = dict[str, npt.NDArray[Any]]

VERSION = 2


class MarketState(msgspec.Struct, kw_only=True):
    """State of a market stage; arrays are bytes, one entry for each of ``instruments``."""

    version: int = VERSION
    instruments: list[str]
    promised_ns: int
    covered_from_ns: int
    arrays: dict[str, bytes]
    histories: dict[str, bytes]
    indicators: bytes


def decode(state: bytes) -> MarketState:
    """Return the state in ``state``; raises RecordError if it cannot be read."""
    try:
        decoded = msgspec.json.decode(state, type=MarketState)
    except msgspec.DecodeError as error:
        raise misfit("state", str(error)) from error
    if decoded.version != VERSION:
        raise misfit("version", decoded.version)
    return decoded


def codes_in(universe: Universe, instruments: list[str]) -> Codes:
    """Return the indexes of ``instruments`` in ``universe``; raises RecordError if unknown."""
    codes = [universe.index(name) for name in instruments]
    if None in codes:
        raise misfit("instrument_id", instruments[codes.index(None)])
    return np.array(codes, np.int32)


def fill(arrays: Arrays, saved: dict[str, bytes], codes: Codes) -> None:
    """Write ``saved`` into the live ``arrays``, at the instruments ``codes``."""
    if arrays.keys() != saved.keys():
        raise misfit("arrays", sorted(arrays.keys() ^ saved.keys()))
    for name, array in arrays.items():
        array[codes] = rows(saved[name], array.dtype, len(codes))


def bars_with_codes(saved: bytes, codes: Codes) -> Bars:
    """Return saved bars with this process's instrument indexes."""
    bars = rows(saved, BAR_DTYPE).copy()
    bars["instrument"] = codes[bars["instrument"]]
    return bars


def rows(saved: bytes, dtype: np.dtype[Any], length: int | None = None) -> npt.NDArray[Any]:
    """Return ``saved`` as an array of ``dtype``; raises RecordError if its size does not fit."""
    if len(saved) % dtype.itemsize or length not in (None, len(saved) // dtype.itemsize):
        raise misfit("arrays", f"{len(saved)} bytes")
    return np.frombuffer(saved, dtype)


def misfit(field: str, value: object) -> RecordError:
    """Return the error for a state that does not belong to this stage."""
    return RecordError(
        "a snapshot of the market stage does not fit",
        field=field,
        value=value,
        remedy="restore it with the version and settings that wrote it, or rebuild from the log",
    )
