"""The project's own sources as syntax trees, for the tests that hold the rules of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "streams", "agents", "web", "infra")
FACADE = "millrace"

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """One source file: dotted name, path, text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    def at(self, line: int) -> str:
        """Return ``path:line``, as editors and terminals understand it."""
        return f"{self.path.relative_to(ROOT)}:{line}"

    def is_in(self, *packages: str) -> bool:
        """Return whether the module is one of ``packages`` or stands inside one of them."""
        return any(is_inside(self.name, package) for package in packages)


class Import(NamedTuple):
    """One name that a module imports, as a dotted path, and the line."""

    target: str
    line: int


def is_inside(name: str, package: str) -> bool:
    """Return whether the dotted ``name`` is ``package`` or below it."""
    return name == package or name.startswith(package + ".")


@cache
def modules() -> tuple[Module, ...]:
    """Return all modules of the five packages and the facade, by name."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    facade = ROOT / f"{FACADE}.py"
    if facade.exists():
        paths.append(facade)
    return tuple(sorted((_module(path) for path in paths), key=lambda module: module.name))


@cache
def sources_of_tests() -> tuple[Module, ...]:
    """Return all modules below ``tests``, by name."""
    paths = (ROOT / "tests").rglob("*.py")
    return tuple(sorted((_module(path) for path in paths), key=lambda module: module.name))


def imports(module: Module) -> Iterator[Import]:
    """Yield what ``module`` imports anywhere, functions and type-checking blocks included.

    ``from a import b`` gives ``a.b``: whether ``b`` is a module or a name, it lies in ``a``.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield Import(f"{node.module}.{alias.name}", node.lineno)


def functions(module: Module) -> Iterator[tuple[str, FunctionNode]]:
    """Yield every function and method of ``module`` with its qualified name."""
    yield from _functions(module.tree, "")


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` for an attribute chain or name, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, FunctionNode]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _module(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text, filename=str(path)))
