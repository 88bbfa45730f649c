"""Rules of the house that no linter knows, each with its remedy in the message."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.source_tree import (
    ROOT,
    FunctionNode,
    Module,
    dotted,
    functions,
    imports,
    is_inside,
    modules,
    sources_of_tests,
)

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

LONGER_FUNCTIONS: dict[str, int] = {}
"""Functions that were too long when the rule came, with their length: it may only fall."""

PURE_IMPORTS = {
    "time": "take the time from the records or from the caller",
    "random": "take random numbers from a seeded generator that the caller hands in",
    "secrets": "take random numbers from a seeded generator that the caller hands in",
    "uuid": "derive ids with schemas.identifiers",
    "asyncio": "stay synchronous; runners do the waiting",
    "threading": "stay in one thread; runners do the scheduling",
    "multiprocessing": "stay in one process; runners do the scheduling",
    "logging": "publish a record, or raise an error; runners write logs",
    "structlog": "publish a record, or raise an error; runners write logs",
    "os": "take what you need as a parameter; infra reads settings, streams reads files",
    "socket": "leave I/O to streams",
    "zoneinfo": "take local days as a SessionTable: streams.calendars reads the zone database",
    "subprocess": "leave processes to infra",
}

PURE_CALLS = {
    "open": "leave files to streams",
    "print": "publish a record, or raise an error; infra prints",
    "input": "take it as a parameter",
    "hash": "use xxhash: hash() of a string differs between processes",
    "id": "give the object an id of its own: id() differs between runs",
    "datetime.now": "take the time from the records or from the caller",
    "datetime.utcnow": "take the time from the records or from the caller",
    "datetime.today": "take the time from the records or from the caller",
    "date.today": "take the time from the records or from the caller",
}

BANNED_IMPORTS = {
    "pickle": "use msgspec: unpickling runs foreign code and breaks with every rename",
    "marshal": "use msgspec",
    "shelve": "use msgspec: it pickles",
    "dill": "use msgspec: it pickles",
}

BANNED_CALLS = {
    "eval": "parse the input with msgspec, or write a table of what is allowed",
    "exec": "import the module with importlib",
    "asyncio.wait_for": "use asyncio.timeout: wait_for may swallow a cancellation (Python 3.11)",
}

MARKERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def is_pure(module: Module) -> bool:
    """Return whether ``module`` may depend on nothing but what it is handed."""
    return module.is_in("schemas", "agents") and not module.is_in("agents.runners")


def calls(module: Module, banned: dict[str, str]) -> Iterator[str]:
    """Yield a message for each call in ``module`` whose dotted name ends with a banned one."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            for call, remedy in banned.items():
                if name == call or ("." in call and name.endswith("." + call)):
                    yield f"{module.at(node.lineno)} calls {call}(): {remedy}"


def banned_imports(module: Module, banned: dict[str, str]) -> Iterator[str]:
    """Yield a message for each import in ``module`` of a banned library."""
    for entry in imports(module):
        for library, remedy in banned.items():
            if is_inside(entry.target, library):
                yield f"{module.at(entry.line)} imports {library}: {remedy}"


def body_lines(function: FunctionNode) -> int:
    """Return the number of lines from the first statement after the docstring to the last."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def narrows_a_type(test: ast.expr) -> bool:
    """Return whether an assertion only tells the type checker what the code guarantees already."""
    if isinstance(test, ast.Call):
        return dotted(test.func) == "isinstance"
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return all(narrows_a_type(value) for value in test.values)
    return (
        isinstance(test, ast.Compare)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.IsNot)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value is None
    )


def parse(source: str) -> Module:
    """Return ``source`` as a module of a pure package, for tests of the rules themselves."""
    return Module("schemas.example", ROOT / "schemas/example.py", source, ast.parse(source))


def test_pure_code_uses_no_clock_randomness_environment_or_io() -> None:
    breaches = [
        message
        for module in modules()
        if is_pure(module)
        for message in (*banned_imports(module, PURE_IMPORTS), *calls(module, PURE_CALLS))
    ]

    assert breaches == []


def test_pure_code_uses_no_hidden_generator_of_numpy() -> None:
    breaches = [
        f"{module.at(node.lineno)} uses numpy.random: {PURE_IMPORTS['random']}"
        for module in modules()
        if is_pure(module)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and dotted(node) in {"np.random", "numpy.random"}
    ]

    assert breaches == []


def test_nothing_pickles_or_runs_text_as_code() -> None:
    breaches = [
        message
        for module in (*modules(), *sources_of_tests())
        for message in (*banned_imports(module, BANNED_IMPORTS), *calls(module, BANNED_CALLS))
    ]

    assert breaches == []


def test_no_exception_is_caught_without_a_name() -> None:
    breaches = [
        f"{module.at(node.lineno)} catches everything: name the errors that you can mend"
        for module in (*modules(), *sources_of_tests())
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]

    assert breaches == []


def test_assert_is_no_validation() -> None:
    breaches = [
        f"{module.at(node.lineno)} validates with assert, which python -O removes: "
        "raise an error of schemas.errors"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert) and not narrows_a_type(node.test)
    ]

    assert breaches == []


def test_nothing_is_left_to_do() -> None:
    breaches: list[str] = []
    for module in (*modules(), *sources_of_tests()):
        breaches += [
            f"{module.at(token.start[0])}: do it, or file an issue"
            for token in tokenize.generate_tokens(io.StringIO(module.text).readline)
            if token.type == tokenize.COMMENT and MARKERS.search(token.string)
        ]
        breaches += [
            f"{module.at(node.lineno)} raises NotImplementedError: write it, or use a Protocol"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node)
        ]

    assert breaches == []


def test_modules_open_with_a_docstring() -> None:
    breaches = [
        f"{module.at(1)} has no docstring: say what it is and why it exists"
        for module in (*modules(), *sources_of_tests())
        if not ast.get_docstring(module.tree)
    ]

    assert breaches == []


def test_modules_can_be_read_in_one_sitting() -> None:
    breaches = [
        f"{module.path.relative_to(ROOT)} has {lines} lines, {MODULE_LINES_MAX} are allowed: "
        "split it by concept"
        for module in modules()
        if (lines := len(module.text.splitlines())) > MODULE_LINES_MAX
    ]

    assert breaches == []


def test_functions_fit_on_a_screen() -> None:
    longer = {
        f"{module.name}.{name}": lines
        for module in modules()
        for name, function in functions(module)
        if (lines := body_lines(function)) > FUNCTION_LINES_MAX
    }

    assert longer == LONGER_FUNCTIONS, (
        f"{FUNCTION_LINES_MAX} lines are allowed: move calculations into helpers; "
        "when a listed function became shorter, lower its entry or remove it"
    )


def test_functions_are_annotated() -> None:
    breaches = []
    for module in modules():
        for name, function in functions(module):
            arguments = function.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
            bare = [a.arg for a in every if a.annotation is None and a.arg not in {"self", "cls"}]
            if function.returns is None:
                bare.append("return")
            if bare:
                breaches.append(f"{module.at(function.lineno)} {name}: annotate {', '.join(bare)}")

    assert breaches == []


def test_rules_see_what_they_forbid() -> None:
    assert len(list(banned_imports(parse("from time import time_ns"), PURE_IMPORTS))) == 1
    assert len(list(banned_imports(parse("import os.path"), PURE_IMPORTS))) == 1
    assert len(list(calls(parse("datetime.datetime.now()"), PURE_CALLS))) == 1
    assert len(list(calls(parse("open('x')"), PURE_CALLS))) == 1
    assert list(calls(parse("connection.open()"), PURE_CALLS)) == []
    assert list(banned_imports(parse("import timeit_like"), PURE_IMPORTS)) == []


def test_assert_rule_tells_narrowing_from_validation() -> None:
    def condition(source: str) -> ast.expr:
        statement = ast.parse(source).body[0]
        assert isinstance(statement, ast.Assert)
        return statement.test

    assert narrows_a_type(condition("assert isinstance(x, int) and y is not None"))
    assert not narrows_a_type(condition("assert quantity > 0"))
    assert not narrows_a_type(condition("assert isinstance(x, int) or x"))


def test_function_length_leaves_the_docstring_out() -> None:
    source = 'def f():\n    """Do.\n\n    More.\n    """\n    a = 1\n\n    return a\n'
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)

    assert body_lines(function) == 3
