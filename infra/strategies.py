"""Finds strategies: built-in ones, entry points (``millrace.strategies``), users' own files."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path

from agents.strategy.api import Strategy
from agents.strategy.builtin import BUILTIN
from schemas.errors import ConfigError, NotFoundError
from schemas.identifiers import content_hash

GROUP = "millrace.strategies"


def known_strategies() -> dict[str, type[Strategy]]:
    """Return all strategies that have a name: built-in ones first, then those of entry points."""
    found = dict(BUILTIN)
    for entry in entry_points(group=GROUP):
        if entry.name not in found:
            found[entry.name] = _checked(entry.load(), entry.name)
    return found


def resolve_strategy(spec: str) -> tuple[str, type[Strategy], str]:
    """Return name, class and source hash of ``spec``: a known name, or ``path/to/file.py:Class``.

    Raises NotFoundError for a name, file or class that is not there, and ConfigError for a file
    that does not load.
    """
    if ".py:" in spec or spec.endswith(".py"):
        return _from_file(spec)
    known = known_strategies()
    if spec not in known:
        raise NotFoundError(
            f"strategy {spec} not found",
            field="strategy",
            value=spec,
            remedy=f"choose one of {', '.join(sorted(known))}, or path/to/file.py:Class",
        )
    return spec, known[spec], ""


def _from_file(spec: str) -> tuple[str, type[Strategy], str]:
    text, _, name = spec.partition(".py:")
    path = Path(f"{text}.py" if name else spec)
    if not path.is_file():
        raise NotFoundError(
            "there is no such strategy file",
            field="strategy",
            value=str(path),
            remedy="give path/to/file.py:Class",
        )
    source = path.read_bytes()
    module_name = f"millrace_user_{content_hash(source)}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    assert module_spec is not None  # a .py file always has a loader
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"the strategy file does not load: {type(error).__name__}: {error}",
            field="strategy",
            value=str(path),
            remedy="mend the file; `python FILE` shows the traceback",
        ) from error
    classes = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Strategy)
        and value.__module__ == module_name
    }
    if not name and len(classes) == 1:
        name = next(iter(classes))
    if name not in classes:
        raise NotFoundError(
            f"strategy {name or '(no class named)'} not found in {path}",
            field="strategy",
            value=spec,
            remedy=f"it has {', '.join(classes) or 'no class derived from millrace.Strategy'}",
        )
    return name, _checked(classes[name], name), content_hash(source)


def _checked(cls: object, name: str) -> type[Strategy]:
    if not (isinstance(cls, type) and issubclass(cls, Strategy)):
        raise ConfigError(
            "a strategy must be a class derived from millrace.Strategy",
            field="strategy",
            value=name,
            remedy="`from millrace import Strategy`",
        )
    return cls
