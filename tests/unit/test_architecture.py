"""Who may import whom: folders, modules and libraries.

`schemas` says, `streams` carries, `agents` decides, `web` shows, `infra` runs.
"""

from __future__ import annotations

import ast

import pytest

from tests.source_tree import FACADE, PACKAGES, Import, Module, dotted, imports, is_inside, modules

MAY_IMPORT = {
    "schemas": ("schemas",),
    "agents.domain": ("schemas", "agents.domain"),
    "agents.runners": ("schemas", "agents", "streams"),
    "agents": ("schemas", "agents"),
    "streams": ("schemas", "streams"),
    "web": ("schemas", "streams", "agents.domain", "web"),
    "infra": ("schemas", "streams", "agents", "web", "infra", FACADE),
    FACADE: ("schemas", "streams", "agents", "infra"),
}
"""The most specific entry of a module's name holds."""

MAY_NOT_IMPORT = {"agents": ("agents.runners",)}
"""Exceptions from the table above: processors do not know who runs them."""

OWNERS = {
    "faust": ("agents.runners",),
    "mode": ("agents.runners",),
    "aiokafka": ("streams", "agents.runners.kafka"),
    "asyncpg": ("streams",),
    "ib_async": ("streams",),
    "pyarrow": ("streams",),
    "starlette": ("web",),
    "uvicorn": ("web", "infra"),
    "cyclopts": ("infra",),
    "rich": ("infra",),
    "exchange_calendars": ("streams.calendars",),
    "pandas": ("streams.calendars",),
}
"""One owner a library: what is exchanged or upgraded is touched in one place."""


def rule_of(name: str) -> str:
    """Return the most specific entry of MAY_IMPORT that ``name`` falls under."""
    return max((rule for rule in MAY_IMPORT if is_inside(name, rule)), key=len)


def breach(module: str, target: str) -> str | None:
    """Return why ``module`` may not import ``target``, or None if it may."""
    if not any(is_inside(target, own) for own in (*PACKAGES, FACADE)):
        return None
    rule = rule_of(module)
    allowed = MAY_IMPORT[rule]
    if not any(is_inside(target, package) for package in allowed):
        return f"{rule} may import only {', '.join(allowed)}"
    for package in MAY_NOT_IMPORT.get(rule, ()):
        if is_inside(target, package):
            return f"{rule} may not import {package}"
    return None


def edges(found: tuple[Module, ...]) -> dict[str, set[str]]:
    """Return which module imports which other module of ours; type-checking blocks do not count."""
    names = {module.name for module in found}
    graph: dict[str, set[str]] = {}
    for module in found:
        hidden = type_checking_lines(module)
        targets = {owner(entry, names) for entry in imports(module) if entry.line not in hidden}
        graph[module.name] = {target for target in targets if target} - {module.name}
    return graph


def owner(entry: Import, names: set[str]) -> str:
    """Return the module of ours that ``entry`` names or takes a name from; empty if none."""
    if entry.target in names:
        return entry.target
    parent = entry.target.rpartition(".")[0]
    return parent if parent in names else ""


def type_checking_lines(module: Module) -> set[int]:
    """Return the lines that stand under ``if TYPE_CHECKING``."""
    return {
        line
        for node in ast.walk(module.tree)
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return one cycle of ``graph``, its first module repeated at the end; empty if none."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            found = search(target, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        found = search(name, [])
        if found:
            return found
    return []


def test_folders_import_only_what_lies_below_them() -> None:
    breaches = [
        f"{module.at(entry.line)} imports {entry.target}: {reason}; "
        "move the code to where both may import it, or hand the object in"
        for module in modules()
        for entry in imports(module)
        if (reason := breach(module.name, entry.target))
    ]

    assert breaches == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    found = cycle(edges(modules()))

    assert found == [], "break the circle by moving what both need into a module of its own"


def test_libraries_are_imported_by_their_owner_alone() -> None:
    breaches = [
        f"{module.at(entry.line)} imports {library}: only {', '.join(owners)} may; "
        "use what the owner offers, or widen it there"
        for module in modules()
        for entry in imports(module)
        for library, owners in OWNERS.items()
        if is_inside(entry.target, library) and not module.is_in(*owners)
    ]

    assert breaches == []


def test_only_infra_reads_the_environment() -> None:
    names = {"os.environ", "os.environb", "os.getenv", "os.getenvb"}
    breaches = [
        f"{module.at(node.lineno)} reads {dotted(node)}: take the value from infra's settings"
        for module in modules()
        if not module.is_in("infra")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and dotted(node) in names
    ]
    breaches += [
        f"{module.at(entry.line)} imports {entry.target}: take the value from infra's settings"
        for module in modules()
        if not module.is_in("infra")
        for entry in imports(module)
        if entry.target in names
    ]

    assert breaches == []


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("schemas.topics", "agents.domain.limits"),
        ("agents.domain.limits", "agents.processor"),
        ("agents.account.checks", "streams.log"),
        ("agents.account.checks", "agents.runners.replay"),
        ("streams.log", "agents.processor"),
        ("web.app", "agents.processor"),
        ("web.app", "infra.settings"),
        ("agents.runners.replay", "infra.settings"),
        ("millrace", "web.app"),
    ],
)
def test_import_rule_refuses_what_points_upwards(module: str, target: str) -> None:
    assert breach(module, target) is not None


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("agents.account.checks", "agents.domain.limits"),
        ("agents.runners.replay", "agents.runners.driver"),
        ("web.app", "agents.domain.limits"),
        ("infra.cli", "web.app"),
        ("schemas.columns", "numpy"),
    ],
)
def test_import_rule_allows_what_points_downwards(module: str, target: str) -> None:
    assert breach(module, target) is None


def test_cycle_search_finds_a_circle_behind_a_chain() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}) == ["b", "c", "d", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
