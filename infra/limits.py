"""The limits of the settings as a run holds to them: bounds that are some, lists of ids."""

from __future__ import annotations

import difflib
import logging

import msgspec

from agents.domain.limits import faults
from schemas.errors import ConfigError
from schemas.instruments import Universe, meant_by
from schemas.risk import LimitSet

_log = logging.getLogger(__name__)
_LISTS = ("allow", "deny")
_SHOWN_MAX = 10


def usable_limits(limits: LimitSet, universe: Universe) -> LimitSet:
    """Return limits whose lists name instruments by their ids, as the gate compares them.

    A name that means no instrument of the run stays and is told: one settings file may serve many
    selections. Raises ConfigError for a bound that is none and a symbol of several instruments.
    """
    for fault in faults(limits):
        raise ConfigError(
            f"a limit {fault.message}",
            field=f"risk.limits.{fault.field}",
            value=fault.value,
            remedy=fault.remedy.removeprefix("or "),
        )
    lists = {
        field: list(dict.fromkeys(_listed(universe, f"risk.limits.{field}", n) for n in names))
        for field in _LISTS
        if (names := getattr(limits, field)) is not None
    }
    return msgspec.structs.replace(limits, **lists) if lists else limits


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
    names = sorted({item.symbol for item in known.values()} | known.keys())
    near = difflib.get_close_matches(name, names, 1)
    there = ", ".join(sorted(known)[:_SHOWN_MAX])
    hint = f"did you mean {near[0]}?" if near else f"there is {there}"
    _log.warning("%s names %s, which is no instrument of this run; %s", field, name, hint)
    return name
