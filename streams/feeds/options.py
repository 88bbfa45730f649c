"""Makes an adapter out of the settings' options: every one known, typed and explained if wrong.

The constructor of an adapter says by its keyword arguments and their annotations which options
there are, so that an adapter needs no code for it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import msgspec

from schemas.errors import ConfigError, MillraceError
from streams.feeds.base import FeedAdapter

Adapter = TypeVar("Adapter", bound=FeedAdapter)


def make_adapter(cls: type[Adapter], options: Mapping[str, Any]) -> Adapter:
    """Return an adapter of ``cls`` with ``options`` as its keyword arguments.

    Raises ConfigError for an option that is unknown, missing or of another type, and for a
    constructor that fails.
    """
    known = _parameters(cls)
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            listed = ", ".join(known) or "none"
            raise ConfigError(
                f"{cls.__name__} has no such option",
                field=f"source.options.{name}",
                value=value,
                remedy=f"did you mean {near[0]}?" if near else f"known are {listed}",
            )
    for name, (_, is_required) in known.items():
        if is_required and name not in options:
            raise ConfigError(
                f"{cls.__name__} needs an option that is not there",
                field=f"source.options.{name}",
                value=None,
                remedy="set it under [source.options]",
            )
    given = {name: _typed(cls, name, value, known[name][0]) for name, value in options.items()}
    try:
        return cls(**given)
    except MillraceError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the feed adapter cannot be made: {one_line(error)}",
            field="source.feed",
            value=cls.__name__,
            remedy="check [source.options], or mend the adapter",
        ) from error


def one_line(error: BaseException) -> str:
    """Return type and words of a foreign error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _parameters(cls: type[FeedAdapter]) -> dict[str, tuple[Any, bool]]:
    """Return type and necessity of each option by name."""
    if cls.__init__ is object.__init__:
        return {}
    try:
        hints = get_type_hints(cls.__init__)
    except NameError as error:
        raise ConfigError(
            f"an annotation of the feed adapter means nothing at run time: {error}",
            field="source.feed",
            value=cls.__name__,
            remedy="import the name outside of TYPE_CHECKING",
        ) from error
    found = {}
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            is_required = parameter.default is parameter.empty
            found[parameter.name] = (hints.get(parameter.name, Any), is_required)
    return found


def _typed(cls: type[FeedAdapter], name: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"an option of {cls.__name__} cannot be used: {error}",
            field=f"source.options.{name}",
            value=value,
            remedy="give a value of that type",
        ) from error
