"""What is wrong with settings, said by the setting's path, its value and what it may be.

msgspec tells the path alone; the choices are those of the annotations along it.
"""

from __future__ import annotations

import difflib
import enum
import re
from typing import Any, Literal, get_args, get_origin

import msgspec

from schemas.errors import ConfigError

_TAG_FIELD = "type"
"""The key by which a table chooses its model."""

_VALUE_SHOWN = 200
"""Longest value that an error repeats."""

_EXAMPLE = "`millrace config example` shows every key with its form"
_PAGES = {
    "venue": "docs/venue.md names the models and their settings",
    "risk.limits": "docs/risk.md names every limit with its form",
}
"""Where more is told of the settings that begin so."""

_ANY_KEY = "..."
_STEP = re.compile(r"\.([^.\[\]`]+)|\[([^\]]*)\]")
"""A step of a path as msgspec writes it: ``.key``, ``[3]``, or ``[...]`` for a key of any name."""


def check_keys(raw: dict[str, Any], cls: type[msgspec.Struct], origin: str, prefix: str) -> None:
    """Name an unknown key with the nearest known one; msgspec alone would not suggest.

    Goes into every table within, so into that of a model too, whose struct ignores what it does not
    know: it is read from manifests of later versions as well. Raises ConfigError.
    """
    known = {field.name: field.type for field in msgspec.structs.fields(cls)}
    tag = cls.__struct_config__.tag
    names = [*known] if tag is None else [_TAG_FIELD, *known]
    for key, value in raw.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            of = "" if tag is None else f" of {_TAG_FIELD} {tag}"
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known{of}: {', '.join(names)}"
            raise ConfigError(
                f"{origin}: unknown setting{of}", field=f"{prefix}{key}", value=value, remedy=hint
            )
        for item in value if isinstance(value, list) else [value]:
            kind = _table(known.get(key), item)
            if kind is not None:
                check_keys(item, kind, origin, f"{prefix}{key}.")


def unfit(
    error: msgspec.ValidationError, raw: Any, cls: type[msgspec.Struct], origin: str, prefix: str
) -> ConfigError:
    """Return the error of a value in ``raw`` that did not become a ``cls``.

    ``prefix`` stands before the path of the setting.
    """
    what, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    steps = [key or index for key, index in _STEP.findall(path)]
    if _ANY_KEY in steps:
        # Which key of the table it is nobody says: the table is shown.
        steps, path = steps[: steps.index(_ANY_KEY)], path.partition(f"[{_ANY_KEY}]")[0]
    value: Any = raw
    annotation: Any = cls
    for step in steps:
        value, annotation = _value_at(value, step), _type_at(annotation, step)
    if what.endswith(f"required field `{_TAG_FIELD}`"):
        steps, path = [*steps, _TAG_FIELD], f"{path}.{_TAG_FIELD}"
        value, annotation = None, _type_at(annotation, _TAG_FIELD)
    field = f"{prefix}{path}".lstrip(".")
    page = next((page for start, page in _PAGES.items() if field.startswith(start)), _EXAMPLE)
    shown = value if len(repr(value)) <= _VALUE_SHOWN else None
    choices = _choices(annotation)
    if not choices:
        remedy = page
    elif steps[-1] == _TAG_FIELD:
        what = f"there is no such model of {steps[-2]}"
        remedy = f"choose {', '.join(choices)}; docs/venue.md tells what they do"
    else:
        what, remedy = "a setting has no such choice", f"choose {', '.join(choices)}"
    return ConfigError(f"{origin}: {what}", field=field, value=shown, remedy=remedy)


def _value_at(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdigit():
        return value[int(step)]
    return None


def _type_at(annotation: Any, step: str) -> Any:
    """Return the annotation of a key or an item within one, None where none is known."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        fields = {field.name: field.type for field in msgspec.structs.fields(annotation)}
        return fields.get(step)
    inner = get_args(annotation)
    models = [kind.__struct_config__.tag for kind in inner if _is_model(kind)]
    if models and step == _TAG_FIELD:
        return Literal[tuple(models)]
    if get_origin(annotation) in (tuple, list):
        return inner[0]
    return None


def _is_model(kind: Any) -> bool:
    return (
        isinstance(kind, type)
        and issubclass(kind, msgspec.Struct)
        and kind.__struct_config__.tag is not None
    )


def _choices(annotation: Any) -> list[str]:
    """Return what a value may be where that is a choice among names."""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [str(member.value) for member in annotation]
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def _table(annotation: Any, value: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a value of an annotated field becomes, of models the one it names."""
    if not isinstance(value, dict):
        return None
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        tag = annotation.__struct_config__.tag
        return annotation if tag is None or tag == value.get(_TAG_FIELD) else None
    found = (_table(inner, value) for inner in get_args(annotation))
    return next((kind for kind in found if kind is not None), None)
