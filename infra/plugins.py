"""Loads the classes that users add: from entry points of packages, and from files of their own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from schemas.errors import ConfigError, NotFoundError
from schemas.identifiers import content_hash

Base = TypeVar("Base")

OR_A_FILE = ", or path/to/file.py:Class"
"""End of a remedy that names what there is; left out where no file may be given."""


class Plugins(Generic[Base]):
    """Classes derived from ``base``: built-in ones, those of entry points, those of files.

    ``noun`` names them in messages, ``public_name`` is how users import their base, ``field`` the
    setting that chooses one, ``group`` the group of entry points.
    """

    def __init__(
        self,
        base: type[Base],
        built_in: Mapping[str, type[Base]],
        *,
        group: str,
        noun: str,
        field: str,
        public_name: str,
    ) -> None:
        self._base = base
        self._built_in = built_in
        self._group = group
        self._noun = noun
        self._field = field
        self._public_name = public_name

    def known(self) -> dict[str, type[Base]]:
        """Return all classes that have a name: built-in ones first, then those of entry points.

        Raises ConfigError for an entry point that does not load.
        """
        found = dict(self._built_in)
        for entry in entry_points(group=self._group):
            if entry.name not in found:
                found[entry.name] = self._loaded(entry)
        return found

    def resolve(self, spec: str) -> tuple[str, type[Base], str]:
        """Return name, class and source hash of ``spec``: a known name, or ``file.py:Class``.

        Raises NotFoundError for a name, file or class that is not there, and ConfigError for a file
        or an entry point that does not load. Other entry points are not loaded.
        """
        if ".py:" in spec or spec.endswith(".py"):
            return self._from_file(spec)
        if spec in self._built_in:
            return spec, self._built_in[spec], ""
        return spec, self._loaded(self._entry(spec)), ""

    def check(self, name: str) -> None:
        """Raise NotFoundError if neither a built-in class nor an entry point has this name."""
        if name not in self._built_in:
            self._entry(name)

    def _entry(self, name: str) -> EntryPoint:
        entries = {entry.name: entry for entry in reversed(entry_points(group=self._group))}
        if name in entries:
            return entries[name]
        names = ", ".join(sorted({*self._built_in, *entries}))
        raise NotFoundError(
            f"{self._noun} {name} not found",
            field=self._field,
            value=name,
            remedy=f"choose one of {names}{OR_A_FILE}",
        )

    def _loaded(self, entry: EntryPoint) -> type[Base]:
        try:
            found = entry.load()
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"the {self._noun} of an entry point does not load: {_in_one_line(error)}",
                field=self._field,
                value=f"{entry.name} = {entry.value}",
                remedy="mend or uninstall the package that declares it",
            ) from error
        return self._checked(found, entry.name)

    def _from_file(self, spec: str) -> tuple[str, type[Base], str]:
        text, _, name = spec.partition(".py:")
        path = Path(f"{text}.py" if name else spec)
        source = self._source(path)
        module = self._module(path, content_hash(source))
        classes = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, self._base)
            and value.__module__ == module.__name__
        }
        if not name and len(classes) == 1:
            name = next(iter(classes))
        if name not in classes:
            there = ", ".join(classes) or f"no class derived from {self._public_name}"
            raise NotFoundError(
                f"{self._noun} {name or '(no class named)'} not found in {path}",
                field=self._field,
                value=spec,
                remedy=f"it has {there}",
            )
        return name, self._checked(classes[name], name), content_hash(source)

    def _source(self, path: Path) -> bytes:
        if not path.is_file():
            raise NotFoundError(
                f"there is no such {self._noun} file",
                field=self._field,
                value=str(path),
                remedy="give path/to/file.py:Class",
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"the {self._noun} file cannot be read: {error.strerror}",
                field=self._field,
                value=str(path),
                remedy="check the rights of the file",
            ) from error

    def _module(self, path: Path, source_hash: str) -> ModuleType:
        name = f"millrace_user_{source_hash}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # a .py file always has a loader
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ConfigError(
                f"the {self._noun} file does not load: {_in_one_line(error)}",
                field=self._field,
                value=str(path),
                remedy="mend the file; `python FILE` shows the traceback",
            ) from error
        return module

    def _checked(self, cls: object, name: str) -> type[Base]:
        if not (isinstance(cls, type) and issubclass(cls, self._base)):
            raise ConfigError(
                f"a {self._noun} must be a class derived from {self._public_name}",
                field=self._field,
                value=name,
                remedy=f"`from millrace import {self._public_name.rpartition('.')[2]}`",
            )
        return cls


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
