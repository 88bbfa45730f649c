"""One input, one answer: whatever the cut, the process, the file format, or the interruption."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.runners.engine import Engine, Outputs
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from agents.strategy.parameters import ParameterValue
from infra.backtests import Backtest, BacktestSpec, run_backtest
from infra.serve import open_run
from infra.settings import Settings, SourceSettings
from schemas.columns import MarketBatch
from schemas.identifiers import content_hash
from schemas.topics import ORDER_FILLS
from streams.importing import import_files
from streams.journal import OutputHasher, encode_group
from tests.generated import session, trades, universe, write_csv, write_parquet
from tests.simulation.live_process import engine_config, play

StrategyTerms = tuple[str, str, dict[str, ParameterValue]]
EVENTS = 3000
ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {"fast": 5, "slow": 20, "quantity": 10.0}
few = settings(max_examples=6, deadline=None, derandomize=True, database=None)


def _market() -> MarketBatch:
    return trades(universe(), EVENTS, days=2)


def _backtest(data: Path, out: Path, batch: int = 65_536) -> Backtest:
    spec = BacktestSpec(
        strategy="momentum_crossover",
        parameters=dict(PARAMETERS),
        data=str(data),
        symbols=("GEN",),
        batch=batch,
    )
    return run_backtest(spec, out=out)


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV file of generated trades."""
    return write_csv(tmp_path_factory.mktemp("data") / "gen.csv", _market())


@pytest.fixture(scope="module")
def expected(csv_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the backtest over the CSV file in large batches."""
    done = _backtest(csv_file, tmp_path_factory.mktemp("whole") / "out")
    assert done.metrics.fills > 100, "a run without fills would show nothing"
    return done.manifest.output_hash


# ---- batches


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_backtest_gives_one_hash_for_every_batch_size(
    csv_file: Path, expected: str, tmp_path: Path, size: int
) -> None:
    done = _backtest(csv_file, tmp_path / "out", size)
    assert done.manifest.output_hash == expected


def test_backtest_in_other_batches_has_the_same_manifest_and_files(
    csv_file: Path, tmp_path: Path
) -> None:
    small = _backtest(csv_file, tmp_path / "small", 7)
    large = _backtest(csv_file, tmp_path / "large")
    assert small.manifest == large.manifest
    for file in sorted(path.name for path in large.folder.glob("*.*")):
        assert (small.folder / file).read_bytes() == (large.folder / file).read_bytes(), file


# ---- processes


@pytest.mark.parametrize("seed", ["1", "2"])
def test_backtest_gives_one_hash_under_every_seed_of_hashed_strings(
    csv_file: Path, expected: str, tmp_path: Path, seed: str
) -> None:
    parameters = [f"--param={name}={value}" for name, value in PARAMETERS.items()]
    command = [sys.executable, "-m", "infra", "backtest", "--strategy", "momentum_crossover"]
    command += ["--data", str(csv_file), "--symbols", "GEN", "--json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), *parameters],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout)["manifest"]["output_hash"] == expected


# ---- formats


def test_backtest_over_parquet_gives_the_hash_of_csv(expected: str, tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "gen.parquet", _market())
    assert _backtest(data, tmp_path / "out").manifest.output_hash == expected


def test_backtest_over_imported_csv_gives_the_hash_of_the_file(
    csv_file: Path, expected: str, tmp_path: Path
) -> None:
    import_files("csv", csv_file, tmp_path / "set")
    assert _backtest(tmp_path / "set", tmp_path / "out").manifest.output_hash == expected


def test_backtest_over_imported_parquet_gives_the_hash_of_csv(
    expected: str, tmp_path: Path
) -> None:
    import_files("parquet", write_parquet(tmp_path / "gen.parquet", _market()), tmp_path / "set")
    assert _backtest(tmp_path / "set", tmp_path / "out").manifest.output_hash == expected


def test_backtest_over_the_journal_of_a_session_gives_the_hash_of_its_source(
    csv_file: Path, expected: str, tmp_path: Path
) -> None:
    source = SourceSettings(data=str(csv_file), symbols=("GEN",), speed=0)
    live = open_run(Settings(source=source), tmp_path / "session", "session")
    asyncio.run(play(live.runner))

    recorded = _backtest(tmp_path / "session", tmp_path / "out")
    from_file = _backtest(csv_file, tmp_path / "file")

    assert recorded.manifest.output_hash == expected
    assert recorded.manifest.inputs == from_file.manifest.inputs


# ---- any cut, any interruption


TICKS: tuple[StrategyTerms, ...] = (
    ("momentum_crossover", "trade", {"fast": 3, "slow": 9, "quantity": 20.0}),
    ("mean_reversion", "quote", {"window": 15, "entry_z": 1.5}),
)
BARS: tuple[StrategyTerms, ...] = (
    ("breakout", "1m", {"window": 5, "allow_short": True, "quantity": 30.0}),
    ("buy_and_hold", "5m", {"weight": 0.5}),
)


class Answer(NamedTuple):
    """What a run amounts to: a digest of each topic, and one of the engine's last state."""

    digests: dict[str, str]
    state: str


class Run:
    """An engine over one generated session of two instruments, with limits and latency."""

    def __init__(self, strategies: tuple[StrategyTerms, ...]) -> None:
        configs = tuple(
            StrategyConfig(
                strategy_id=name,
                name=name,
                account_id="paper",
                instrument_ids=("GEN.XXXX", "TWO.XXXX"),
                on=on,
                capital=Decimal(100_000),
                parameters=parameters,
            )
            for name, on, parameters in strategies
        )
        self._config = msgspec.structs.replace(engine_config(), strategies=configs)
        self._universe = universe(("GEN", "TWO"))
        self._market = session(self._universe, 400)
        self._hasher = OutputHasher()
        self._engine = self._make()

    def _make(self) -> Engine:
        return Engine(self._config, self._universe, {}, BUILTIN)

    def play(self, sizes: list[int], *, is_restarting: bool = False) -> Answer:
        """Play everything in pieces of the given sizes, over and over.

        If it ``is_restarting``, a new engine goes on from a snapshot after each piece.
        """
        at = number = 0
        while at < len(self._market):
            end = min(at + sizes[number % len(sizes)], len(self._market))
            self._add(self._engine.process(self._market.slice(at, end)))
            at, number = end, number + 1
            if is_restarting:
                state = self._engine.snapshot()
                self._engine = self._make()
                self._engine.restore(state)
                assert self._engine.snapshot() == state
        self._add(self._engine.finish())
        return Answer(self._hasher.topic_digests(), content_hash(self._engine.snapshot()))

    def _add(self, outputs: Outputs) -> None:
        for topic, table in outputs.tables:
            self._hasher.update_table(topic, self._universe, table)
        if outputs.records:
            self._hasher.update_group(encode_group(outputs.records))

    @property
    def fills(self) -> int:
        """Number of fills so far."""
        return self._hasher.counts[ORDER_FILLS]


cuts = st.lists(st.integers(1, 600), min_size=1, max_size=12)
long_cuts = st.lists(st.integers(30, 600), min_size=1, max_size=8)


@cache
def _whole(strategies: Literal["ticks", "bars"]) -> Answer:
    """Return the answer of the session in one piece."""
    run = Run(TICKS if strategies == "ticks" else BARS)
    answer = run.play([1_000_000])
    assert run.fills > 50, "a session without fills would show nothing"
    return answer


@few
@given(cuts)
def test_engine_with_strategies_on_ticks_gives_one_answer_for_every_cut(cut: list[int]) -> None:
    assert Run(TICKS).play(cut) == _whole("ticks")


@few
@given(cuts)
def test_engine_with_strategies_on_bars_gives_one_answer_for_every_cut(cut: list[int]) -> None:
    assert Run(BARS).play(cut) == _whole("bars")


def test_engine_gives_one_answer_event_by_event() -> None:
    assert Run(TICKS).play([1]) == _whole("ticks")
    assert Run(BARS).play([1]) == _whole("bars")


@few
@given(long_cuts)
def test_engine_restored_anywhere_goes_on_as_if_nothing_had_been(cut: list[int]) -> None:
    assert Run(TICKS).play(cut, is_restarting=True) == _whole("ticks")
    assert Run(BARS).play(cut, is_restarting=True) == _whole("bars")


def test_engine_with_strategies_on_ticks_and_bars_gives_one_answer_event_by_event() -> None:
    assert Run(TICKS + BARS).play([1]) == Run(TICKS + BARS).play([1_000_000])
