"""Finds strategies: built-in ones, entry points (``millrace.strategies``), users' own files."""

from __future__ import annotations

from agents.strategy.api import Strategy
from agents.strategy.builtin import BUILTIN
from infra.plugins import Plugins

GROUP = "millrace.strategies"

_PLUGINS = Plugins(
    Strategy,
    BUILTIN,
    group=GROUP,
    noun="strategy",
    field="strategy",
    public_name="millrace.Strategy",
)


def known_strategies() -> dict[str, type[Strategy]]:
    """Return all strategies that have a name: built-in ones first, then those of entry points.

    Raises ConfigError for an entry point that does not load.
    """
    return _PLUGINS.known()


def resolve_strategy(spec: str) -> tuple[str, type[Strategy], str]:
    """Return name, class and source hash of ``spec``: a known name, or ``path/to/file.py:Class``.

    Raises NotFoundError for a name, file or class that is not there, and ConfigError for a file or
    an entry point that does not load. Other entry points are not loaded.
    """
    return _PLUGINS.resolve(spec)


def check_strategy(name: str) -> None:
    """Raise NotFoundError for a name that no strategy has; none is loaded."""
    _PLUGINS.check(name)
