"""What the documents show works: code compiles, strategies load, settings parse, examples trade."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from infra.backtests import BacktestSpec, run_backtest
from infra.settings import parse_settings
from infra.strategies import resolve_strategy
from schemas.codec import decode
from schemas.envelope import Header
from schemas.instruments import Instrument, Universe
from schemas.topics import MARKET_EVENTS, TOPIC_BY_NAME, key_of
from tests.source_tree import ROOT

DOCUMENTS = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))


def blocks(document: str, language: str) -> list[str]:
    """Return the fenced blocks of one language in a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_in_a_document_compiles_and_its_strategies_load(
    document: str, tmp_path: Path
) -> None:
    for number, code in enumerate(blocks(document, "python")):
        compile(code, document, "exec")
        file = tmp_path / f"shown_{number}.py"
        file.write_text(code)
        for name in re.findall(r"^class (\w+)\(Strategy\)", code, re.MULTILINE):
            assert resolve_strategy(f"{file}:{name}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_in_a_document_are_settings(document: str) -> None:
    for text in blocks(document, "toml"):
        values = tomllib.loads(text)
        if "project" not in values:  # a pyproject.toml of the reader's own
            parse_settings(values, document)


def test_strategy_of_the_readme_is_the_example() -> None:
    shown = next(code for code in blocks("README.md", "python") if "RsiSwing" in code)
    example = (ROOT / "docs/examples/rsi_swing.py").read_text(encoding="utf-8")
    assert shown.split("class ", 1)[1] == example.split("class ", 1)[1], (
        "README.md and docs/examples/rsi_swing.py show one strategy: change both"
    )


def test_producer_of_the_kafka_page_writes_what_stages_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str, int, Header]] = []

    class Producer:
        def __init__(self, settings: dict[str, object]) -> None:
            assert settings["partitioner"] == "murmur2_random"

        def produce(self, topic: str, value: str, key: str, partition: int) -> None:
            sent.append((topic, key, partition, decode(topic, value.encode())))

        def flush(self) -> None:
            """Do nothing: it was written at once."""

    module = ModuleType("confluent_kafka")
    module.__dict__["Producer"] = Producer
    monkeypatch.setitem(sys.modules, "confluent_kafka", module)
    (code,) = (code for code in blocks("docs/kafka.md", "python") if "produce(" in code)
    file = tmp_path / "shown.py"
    file.write_text(code)
    spec = spec_from_file_location("shown", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))
    partitions = list(range(TOPIC_BY_NAME[MARKET_EVENTS].partitions))
    (defined, *again), (traded, *marks) = sent[: 1 + len(partitions)], sent[1 + len(partitions) :]
    assert isinstance(defined[3], Instrument)
    assert Universe([defined[3]]).index(traded[1]) == 0
    for items in (again, marks):
        assert [(item[0], item[2]) for item in items] == [(MARKET_EVENTS, p) for p in partitions]
    assert all(item[3] == defined[3] for item in again)
    assert all(key in ("", key_of(topic, record)) for topic, key, _, record in sent)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_trades_on_bundled_data(path: Path, tmp_path: Path) -> None:
    name = "".join(word.capitalize() for word in path.stem.split("_"))
    spec = BacktestSpec(strategy=f"{path}:{name}", data="daily", symbols=("SPY",))
    run = run_backtest(spec, out=tmp_path / "run")
    assert run.metrics.fills > 20
    assert run.metrics.total_trades > 10
