"""The limits of the settings as a run holds to them: bounds that are some, lists of ids."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping

import msgspec

from agents.domain.limits import faults
from schemas.errors import ConfigError
from schemas.instruments import Instrument, Universe, meant_by
from schemas.risk import LimitSet

_log = logging.getLogger(__name__)
_LISTS = ("allow", "deny")
_SHOWN_MAX = 10


def usable_limits(limits: LimitSet, universe: Universe) -> LimitSet:
    """Return limits whose lists name instruments by their ids, as the gate compares them.

    A name that means no instrument of the run stays and is logged: one settings file may serve many
    selections. Raises ConfigError for a bound that is none and a symbol of several instruments.
    """
    check_bounds(limits)
    lists = {
        field: list(dict.fromkeys(_listed(universe, f"risk.limits.{field}", n) for n in names))
        for field in _LISTS
        if (names := getattr(limits, field)) is not None
    }
    return msgspec.structs.replace(limits, **lists) if lists else limits


def check_bounds(limits: LimitSet) -> None:
    """Raise ConfigError for a bound that is none."""
    for fault in faults(limits):
        raise ConfigError(
            f"a limit {fault.message}",
            field=f"risk.limits.{fault.field}",
            value=fault.value,
            remedy=fault.remedy.removeprefix("or "),
        )


def unknown_names(limits: LimitSet, universe: Universe) -> list[str]:
    """Return a word on each name in the lists of ``limits`` that means no instrument of the run."""
    known = {item.instrument_id: item for item in universe.instruments}
    return [
        f"limits.{field} names {name}, which {_nothing(name, known)}"
        for field in _LISTS
        for name in getattr(limits, field) or ()
        if not meant_by(name, known)
    ]


def _nothing(name: str, known: Mapping[str, Instrument]) -> str:
    names = sorted({item.symbol for item in known.values()} | known.keys())
    near = difflib.get_close_matches(name, names, 1)
    there = ", ".join(sorted(known)[:_SHOWN_MAX])
    hint = f"did you mean {near[0]}?" if near else f"there is {there}"
    return f"is no instrument of this run; {hint}"


def _listed(universe: Universe, field: str, name: str) -> str:
    known = {item.instrument_id: item for item in universe.instruments}
    found = meant_by(name, known)
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            "a symbol names several instruments",
            field=field,
            value=name,
            remedy=f"give one of the ids {', '.join(found[:_SHOWN_MAX])}",
        )
    _log.warning("%s names %s, which %s", field, name, _nothing(name, known))
    return name
