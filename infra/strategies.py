"""Finds strategies: built-in ones, entry points (``millrace.strategies``), users' own files."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from agents.strategy.api import Strategy
from agents.strategy.builtin import BUILTIN
from schemas.errors import ConfigError, NotFoundError
from schemas.identifiers import content_hash

GROUP = "millrace.strategies"


def known_strategies() -> dict[str, type[Strategy]]:
    """Return all strategies that have a name: built-in ones first, then those of entry points.

    Raises ConfigError for an entry point that does not load.
    """
    found = dict(BUILTIN)
    for entry in entry_points(group=GROUP):
        if entry.name not in found:
            found[entry.name] = _loaded(entry)
    return found


def resolve_strategy(spec: str) -> tuple[str, type[Strategy], str]:
    """Return name, class and source hash of ``spec``: a known name, or ``path/to/file.py:Class``.

    Raises NotFoundError for a name, file or class that is not there, and ConfigError for a file or
    an entry point that does not load. Other entry points are not loaded.
    """
    if ".py:" in spec or spec.endswith(".py"):
        return _from_file(spec)
    if spec in BUILTIN:
        return spec, BUILTIN[spec], ""
    entries = {entry.name: entry for entry in reversed(entry_points(group=GROUP))}
    if spec in entries:
        return spec, _loaded(entries[spec]), ""
    raise NotFoundError(
        f"strategy {spec} not found",
        field="strategy",
        value=spec,
        remedy=f"choose one of {', '.join(sorted({*BUILTIN, *entries}))}, or path/to/file.py:Class",
    )


def _loaded(entry: EntryPoint) -> type[Strategy]:
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the strategy of an entry point does not load: {_in_one_line(error)}",
            field="strategy",
            value=f"{entry.name} = {entry.value}",
            remedy="mend or uninstall the package that declares it",
        ) from error
    return _checked(found, entry.name)


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


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
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the strategy file cannot be read: {error.strerror}",
            field="strategy",
            value=str(path),
            remedy="check the rights of the file",
        ) from error
    module_name = f"millrace_user_{content_hash(source)}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    assert module_spec is not None  # a .py file always has a loader
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ConfigError(
            f"the strategy file does not load: {_in_one_line(error)}",
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
