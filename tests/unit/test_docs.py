"""The documents say what is true: commands exist, topics are listed, the first screen is useful."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from infra.docs import topics_markdown
from schemas.topics import CATALOGUE
from tests.source_tree import ROOT

DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
)

WORDS_OF_A_COMMAND = re.compile(
    r"^(?:\$ |> )?(?:\.venv/bin/)?millrace((?: [a-z][a-z-]*)*)(?= |$)", re.MULTILINE
)
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]+)?\)")
MAKE_TARGET = re.compile(r"^(?:\$ )?make ([a-z]+)", re.MULTILINE)


def read(name: str) -> str:
    """Return the text of a document of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def code_in(text: str) -> Iterator[str]:
    """Yield every piece of code in a Markdown text: fenced blocks, then inline code."""
    yield from FENCED.findall(text)
    yield from INLINE.findall(FENCED.sub("", text))


def commands_in(text: str) -> set[tuple[str, ...]]:
    """Return the words that follow ``millrace`` in code, until the first option or value."""
    return {
        tuple(match.group(1).split())
        for code in code_in(text)
        for match in WORDS_OF_A_COMMAND.finditer(code)
    }


def unknown_command(words: tuple[str, ...]) -> str:
    """Return the part of a command that the command line does not know, or nothing."""
    from infra.cli import app

    for position, word in enumerate(words):
        known = {name for name in app if not name.startswith("-")}
        if not known:
            return ""
        if word not in known:
            return " ".join(words[: position + 1])
        app = app[word]
    return ""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_in_the_documents_exist(name: str) -> None:
    unknown = {unknown_command(words) for words in commands_in(read(name))} - {""}

    assert unknown == set(), f"{name} names commands that `millrace --help` does not have"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_in_the_documents_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = {target for code in code_in(read(name)) for target in MAKE_TARGET.findall(code)}

    assert named - targets == set()


LISTED = re.compile(r"^(\w+(?:, \w+)*)  +\S", re.MULTILINE)


@pytest.mark.parametrize(
    "folder",
    [
        str(path.parent.relative_to(ROOT))
        for root in ("agents", "schemas", "streams", "web", "infra")
        for path in sorted((ROOT / root).rglob("__init__.py"))
        if LISTED.search(ast.get_docstring(ast.parse(path.read_text())) or "")
    ],
)
def test_package_that_lists_its_modules_lists_them_all(folder: str) -> None:
    text = ast.get_docstring(ast.parse(read(f"{folder}/__init__.py"))) or ""
    listed = {name for names in LISTED.findall(text) for name in names.split(", ")}
    there = {
        path.stem
        for path in (ROOT / folder).iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }

    assert listed == there, f"say in {folder}/__init__.py what each module is, in a few words"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_within_the_project_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    targets = {path for path, _ in LINK.findall(read(name)) if path and "://" not in path}

    assert {target for target in targets if not (folder / target).exists()} == set()


def test_readme_is_short_and_begins_with_a_command() -> None:
    lines = read("README.md").splitlines()
    first_command = next(
        (
            number
            for number, line in enumerate(lines, start=1)
            if re.match(r"\s*(\$ )?(make|millrace|git clone)\b", line)
        ),
        None,
    )

    assert len(lines) < 200
    assert first_command is not None, "show a command that a reader can run"
    assert first_command <= 25


def test_topics_are_documented_as_they_are() -> None:
    assert read("docs/topics.md") == topics_markdown(), (
        "run `.venv/bin/millrace topics docs > docs/topics.md`"
    )


@pytest.mark.parametrize("topic", [topic.name for topic in CATALOGUE])
def test_every_topic_and_its_records_are_listed(topic: str) -> None:
    text = topics_markdown()
    records = next(entry.values for entry in CATALOGUE if entry.name == topic)

    assert f"## {topic}\n" in text
    for record in records:
        assert f'### {record.__name__}\n\n`"type": "{record.__struct_config__.tag}"`' in text


def test_links_within_the_topics_document_lead_to_a_heading() -> None:
    text = topics_markdown()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = [heading.lower().replace(".", "").replace(" ", "-") for heading in headings]

    assert {anchor[1:] for _, anchor in LINK.findall(text) if anchor} <= set(anchors)
    assert len(anchors) == len(set(anchors))


def test_commands_are_found_in_blocks_and_inline_but_not_in_imports() -> None:
    text = (
        "Run `millrace topics list`.\n\n```console\n$ millrace backtest --data daily\n"
        ".venv/bin/millrace demo\n```\n\n```python\nfrom millrace import Strategy\n```\n"
    )

    assert commands_in(text) == {("topics", "list"), ("backtest",), ("demo",)}
