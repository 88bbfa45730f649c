"""The runs under the data folder, as the API reads them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import msgspec
import pytest

from agents.runners.parity import read_manifest
from agents.runners.replay import MANIFEST
from infra.backtests import BacktestSpec, run_backtest
from infra.run_store import JournalRuns
from infra.times import parse_time
from schemas import topics as t
from schemas.errors import ConfigError, NotFoundError, StorageError
from streams.journal import JournalReader, JournalWriter
from web.views.models import Views


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with one finished backtest, called ``mine``."""
    folder = tmp_path_factory.mktemp("data")
    spec = BacktestSpec(
        strategy="momentum_crossover",
        parameters={"fast": 5, "slow": 20},
        symbols=("IBM",),
        start_ns=parse_time("2014-01-01", "from"),
        end_ns=parse_time("2014-06-30", "to"),
    )
    run_backtest(spec, out=folder / "runs" / "mine")
    return folder


def test_records_have_the_offsets_of_the_journal(root: Path) -> None:
    reader = JournalReader(root / "runs" / "mine" / "journal")
    records = [item for group in JournalRuns(root).records("mine") for item in group]

    ends: dict[str, int] = {}
    for item in records:
        assert item.offset == ends.get(item.topic, 0)
        ends[item.topic] = item.offset + 1
    assert ends == {**reader.next_offsets, t.REFERENCE_INSTRUMENTS: 1, t.SYSTEM_RUNS: 1}
    fills = [(item.offset, item.record) for item in records if item.topic == t.ORDER_FILLS]
    assert fills == reader.read(t.ORDER_FILLS, 0, 1000)


def test_folded_run_has_orders_positions_and_curve(root: Path) -> None:
    views = Views()
    for group in JournalRuns(root).records("mine"):
        views.apply(group)

    assert views.portfolio.account_ids() == ["paper"]
    assert len(views.portfolio.curves["paper", ""]) > 100
    filled = [row for row in views.orders.newest_first() if row.status == "FILLED"]
    assert filled
    assert views.market.resolve("IBM") == ["IBM.XNYS"]
    chain = [item for _, item in views.causes.of("paper", filled[-1].client_order_id)]
    assert [item.topic for item in chain if item is not None][:3] == [
        t.MARKET_BARS,
        t.STRATEGY_SIGNALS,
        t.ACCOUNT_INPUTS,
    ]


def test_run_is_found_by_folder_and_by_id_and_a_live_one_by_its_journal(root: Path) -> None:
    store = JournalRuns(root, {"live": root / "runs" / "mine" / "journal"})
    run_id = JournalReader(root / "runs" / "mine" / "journal").run_id

    assert store.version("mine") == store.version(run_id) == store.version("live") != ""
    assert [run.mode for run in JournalRuns(root).runs()] == ["backtest"]


def test_runs_are_told_anew_when_their_journals_change(root: Path, tmp_path: Path) -> None:
    journal = root / "runs" / "mine" / "journal"
    place = tmp_path / "runs" / "copy" / "journal"
    shutil.copytree(journal, place)
    store, live = JournalRuns(tmp_path), JournalRuns(tmp_path, {"live": place})
    (told,) = store.runs()
    assert store.runs() == [told]
    assert {run.run_id for run in live.runs()} == {"copy", JournalReader(place).run_id}
    assert live.runs() == live.runs()

    reader = JournalReader(place)
    other = msgspec.structs.replace(read_manifest(reader), output_hash="another")
    with JournalWriter.open(place, run_id=reader.run_id) as writer:
        writer.append_mark(MANIFEST, msgspec.json.encode(other))

    assert {run.output_hash for run in live.runs()} == {"another"}
    assert [run.output_hash for run in store.runs()] == ["another"]
    shutil.rmtree(place)
    assert store.runs() == []


def test_results_are_those_of_the_folder_and_nothing_else(root: Path) -> None:
    store = JournalRuns(root)

    assert b'"total_trades"' in store.result("mine", "metrics.json")
    for run_id, name in (
        ("mine", "../../secret"),
        ("mine", "journal"),
        ("../runs/mine", "metrics.json"),
        (str(root / "runs" / "mine"), "metrics.json"),
        ("", "metrics.json"),
        ("nope", "metrics.json"),
    ):
        with pytest.raises(NotFoundError):
            store.result(run_id, name)


def test_table_is_read_page_by_page_from_a_place_on(root: Path) -> None:
    store = JournalRuns(root)
    table = root / "runs" / "mine" / "equity.csv"
    head, *rows = csv.reader(table.read_text().splitlines())
    found: list[list[str]] = []
    place: int | None = 0
    while place is not None:
        page = store.result_rows("mine", "equity.csv", place, 50)
        assert (page.head, page.row_count) == (head, len(rows))
        assert page.next_offset is None or len(page.rows) == 50
        found += page.rows
        place = page.next_offset

    assert found == rows
    assert len(rows) > 100
    size = table.stat().st_size
    for offset in (1, len(",".join(head)), size - 1, size, size + 1, 10**15):
        with pytest.raises(ConfigError):
            store.result_rows("mine", "equity.csv", offset, 50)


def test_rows_of_a_table_are_counted_anew_when_it_has_changed(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "runs" / "mine", tmp_path / "runs" / "copy")
    table = tmp_path / "runs" / "copy" / "trades.csv"
    store = JournalRuns(tmp_path)
    lines = table.read_bytes().splitlines(keepends=True)
    assert store.result_rows("copy", "trades.csv", 0, 1).row_count == len(lines) - 1

    table.write_bytes(b"".join([*lines, lines[-1]]))
    assert store.result_rows("copy", "trades.csv", 0, 1).row_count == len(lines)
    table.write_bytes(lines[0] + b"1,2\r\n")
    with pytest.raises(StorageError, match="columns"):
        store.result_rows("copy", "trades.csv", 0, 1)
    table.write_bytes(b"")
    assert store.result_rows("copy", "trades.csv", 0, 1) == ([], [], None, 0)
    with pytest.raises(ConfigError):
        store.result_rows("copy", "trades.csv", 5, 1)


def test_progress_ends_at_what_there_is_to_do(tmp_path: Path) -> None:
    totals: list[int] = []
    steps: list[int] = []
    spec = BacktestSpec(strategy="buy_and_hold", symbols=("IBM",))
    run_backtest(spec, out=tmp_path / "run", on_total=totals.append, on_progress=steps.append)
    # Dividends come beside the prices, and are not counted.
    assert [sum(steps)] == totals
