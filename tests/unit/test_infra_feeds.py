"""The settings of a live source: what contradicts itself, what does not exist, what continues."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from infra.composition import compose
from infra.feeds import open_feed
from infra.serve import open_run
from infra.settings import EXAMPLE, Settings, SourceSettings, StrategySettings, parse_settings
from schemas.errors import ConfigError, ConflictError, JournalError, NotFoundError
from schemas.market_data import Trade
from schemas.topics import MARKET_EVENTS
from streams.journal import JournalWriter, encode_group
from tests.source_tree import ROOT
from tests.unit.feed_samples import START_NS, Clock, Collected, trade

JSONL: dict[str, Any] = {"port": 7001, "instruments": ["SPY", "IBM", "GEN"]}
ADAPTER = """
from millrace import Emit, FeedAdapter, Instrument


class Mine(FeedAdapter):
    {body}

    def instruments(self):
        return [Instrument(ts_event_ns=0, instrument_id="A.XXXX", symbol="A", venue="XXXX")]

    async def run(self, emit: Emit) -> None:
        return
"""


def source(**changes: Any) -> SourceSettings:
    """Return settings of the feed jsonl, but for ``changes``."""
    return SourceSettings(**({"feed": "jsonl", "options": JSONL} | changes))


def adapter_file(folder: Path, body: str = "pass", text: str = ADAPTER) -> str:
    """Write an adapter into a file and return its path."""
    path = folder / "mine.py"
    path.write_text(text.replace("{body}", body))
    return str(path)


# ---- settings


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"data": "demo"}, "source.data"),
        ({"speed": 2.0}, "source.speed"),
        ({"feed": ""}, "source.options"),
        ({"lateness_s": -1.0}, "source.lateness_s"),
        ({"lateness_s": float("nan")}, "source.lateness_s"),
    ],
)
def test_source_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        open_run(Settings(source=source(**changes)), tmp_path / "run", "run", now_ns=Clock())
    assert caught.value.field == field
    assert caught.value.remedy
    assert not (tmp_path / "run").exists()


def test_settings_of_a_feed_are_read_from_toml_values() -> None:
    settings = parse_settings({"source": {"feed": "jsonl", "options": {"port": 1}}}, "here")
    assert (settings.source.feed, settings.source.options) == ("jsonl", {"port": 1})


# ---- finding adapters


def test_adapter_of_a_file_is_found_and_made(tmp_path: Path) -> None:
    adapter, live = open_feed(SourceSettings(feed=adapter_file(tmp_path)), 1, 2)
    assert type(adapter).__name__ == "Mine"
    assert (live.name, sorted(live.kinds)) == ("feed/Mine", ["quote", "trade"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kinds = ('ticks',)", "choose from trade, quote, bar/1s"),
        ("kinds = ()", "choose from trade, quote"),
        ("name = 'a:b'", "name cannot stand in a record"),
        ("instruments = None", "instruments() failed: TypeError"),
        ("def __init__(self): raise ValueError('x')", "cannot be made: ValueError: x"),
    ],
)
def test_adapter_that_breaks_its_contract_is_refused(tmp_path: Path, body: str, words: str) -> None:
    text = ADAPTER.replace("    def instruments(self):\n", "    def other(self):\n")
    is_without = body.startswith("instruments")
    spec = adapter_file(tmp_path, body, text if is_without else ADAPTER)
    with pytest.raises(ConfigError) as caught:
        open_feed(SourceSettings(feed=spec), 1, 2)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["nothing", "no/such.py:Mine"])
def test_adapter_that_does_not_exist_is_refused_by_name(spec: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        open_feed(SourceSettings(feed=spec), 1, 2)
    assert caught.value.field == "source.feed"
    assert "file.py:Class" in caught.value.remedy


def test_file_without_an_adapter_names_the_base_class(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("")
    with pytest.raises(NotFoundError, match=r"no class derived from millrace\.FeedAdapter"):
        open_feed(SourceSettings(feed=str(path)), 1, 2)


# ---- composing


def test_symbols_choose_among_the_instruments_and_order_them_by_id() -> None:
    _, live = open_feed(source(), 1, 2)
    assert [i.symbol for i in live.universe.instruments] == ["GEN", "IBM", "SPY"]
    _, live = open_feed(source(symbols=("ibm",)), 1, 2)
    assert [i.symbol for i in live.universe.instruments] == ["IBM"]
    assert live.unselected == {"SPY.ARCX", "GEN.XXXX"}
    with pytest.raises(NotFoundError, match="MSFT"):
        open_feed(source(symbols=("MSFT",)), 1, 2)


@pytest.mark.parametrize(
    ("kinds", "execution", "on"),
    [
        (["trade", "quote"], "quote", "trade"),
        (["trade"], "trade", "trade"),
        (["bar/5m"], "bar", "5m"),
    ],
)
def test_kinds_of_the_feed_choose_what_fills_and_what_drives(
    kinds: list[str], execution: str, on: str
) -> None:
    settings = Settings(
        source=source(options=JSONL | {"kinds": kinds}),
        strategies=(StrategySettings(name="momentum_crossover"),),
    )
    _, live = open_feed(settings.source, START_NS, START_NS + 10**16)
    setup = compose(settings, live)
    assert setup.config.venue.execution_data == execution
    assert setup.config.strategies[0].on == on
    assert set(setup.sessions) == {"XNYS", "America/New_York"}


# ---- continuing


def open_and_close(folder: Path, clock: Clock, settings: Settings) -> Any:
    """Open a run, leave it, and return its manifest."""
    live = open_run(settings, folder, "run", now_ns=clock, steady_ns=clock.steady)
    live.runner.close()
    return live.manifest


def test_restart_keeps_the_calendars_of_the_beginning(tmp_path: Path) -> None:
    clock = Clock()
    first = open_and_close(tmp_path, clock, Settings(source=source()))
    clock.go(1_000_000)
    second = open_and_close(tmp_path, clock, Settings(source=source()))
    assert (first.segment, second.segment) == (0, 1)
    assert first.inputs == second.inputs
    assert first.config_hash == second.config_hash
    assert first.inputs[0].first_ts_ns == START_NS


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (Settings(source=SourceSettings(data="demo", symbols=("IBM",))), "another"),
        (Settings(source=source(options=JSONL | {"kinds": ["trade"]})), "another configuration"),
        (Settings(source=source(symbols=("IBM",))), "another configuration"),
        (
            Settings(
                source=source(
                    options={
                        "port": 7001,
                        "instruments": [
                            "SPY",
                            "IBM",
                            {"symbol": "GEN", "venue": "XXXX", "price_increment": "0.5"},
                        ],
                    }
                )
            ),
            "another definition of an instrument",
        ),
    ],
)
def test_session_does_not_go_on_with_another_source(
    tmp_path: Path, changed: Settings, words: str
) -> None:
    open_and_close(tmp_path, Clock(), Settings(source=source()))
    with pytest.raises(ConflictError, match=words):
        open_run(changed, tmp_path, "run", now_ns=Clock())


def test_port_and_host_of_a_feed_may_change_at_a_restart(tmp_path: Path) -> None:
    open_and_close(tmp_path, Clock(), Settings(source=source()))
    moved = source(options=JSONL | {"port": 7002, "host": "10.0.0.1"})
    assert open_and_close(tmp_path, Clock(), Settings(source=moved)).segment == 1


@pytest.mark.parametrize("is_opened", [False, True])
def test_session_killed_while_it_began_begins_again(tmp_path: Path, is_opened: bool) -> None:
    journal = tmp_path / "journal"
    JournalWriter.open(journal, run_id="run").close()
    if not is_opened:
        for path in journal.glob("*.log"):
            path.unlink()
    assert open_and_close(tmp_path, Clock(), Settings(source=source())).segment == 0
    assert open_and_close(tmp_path, Clock(), Settings(source=source())).segment == 1


def test_journal_of_something_else_is_not_continued(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path / "journal", run_id="run") as writer:
        writer.append_group(encode_group([(MARKET_EVENTS, trade())]))
    with pytest.raises(JournalError, match="no manifest"):
        open_run(Settings(source=source()), tmp_path, "run", now_ns=Clock())


# ---- the document


async def test_example_of_the_document_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/feeds.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "example.py"
    path.write_text(blocks[0])
    ticks = tmp_path / "ticks.csv"
    ticks.write_text("OLD,1,1\n")
    options = {"path": str(ticks), "symbols": ["ABC"], "pause_s": 0.001}
    adapter, live = open_feed(SourceSettings(feed=f"{path}:TailFeed", options=options), 1, 2)
    assert [i.instrument_id for i in live.universe.instruments] == ["ABC.XXXX"]

    emit = Collected()
    running = asyncio.create_task(adapter.run(emit))
    async with asyncio.timeout(20):
        await emit.noted.wait()
        with ticks.open("a") as file:
            file.write("ABC,10.5,300\nABC,what\n")
        await emit.was_refused.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (record,) = emit.records
    assert isinstance(record, Trade)
    assert (record.instrument_id, record.price, record.size) == ("ABC.XXXX", 10.5, 300.0)
    assert emit.refused[0][0] == b"ABC,what\n"


def test_commented_feed_of_the_example_settings_is_right() -> None:
    lines = EXAMPLE[EXAMPLE.index("# [source]") : EXAMPLE.index("[account]")].splitlines()
    raw = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines))
    settings = parse_settings(raw, "example")
    _, live = open_feed(settings.source, 1, 2)
    assert [i.symbol for i in live.universe.instruments] == ["IBM"]
    assert live.unselected == {"BTCUSD.XXXX"}
