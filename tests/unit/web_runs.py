"""Recorded runs for the tests of the web app, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from io import BytesIO

from schemas.envelope import Header
from schemas.errors import NotFoundError
from streams.log import Published
from tests.unit.web_run import START_NS
from web.result_files import ResultRows, read_rows
from web.runs import RunInfo


class FakeRuns:
    """A store of runs that are lists of records; counts how often one is read."""

    def __init__(self, **runs: Sequence[tuple[str, Header]]) -> None:
        self.all = {name.replace("_", "-"): list(records) for name, records in runs.items()}
        self.files: dict[tuple[str, str], bytes] = {}
        self.reads = 0
        self.asked: list[tuple[int, int]] = []

    def runs(self) -> list[RunInfo]:
        """Return all runs."""
        return [RunInfo(name, "backtest", START_NS, "hash") for name in sorted(self.all)]

    def version(self, run_id: str) -> str:
        """Return the number of records."""
        return str(len(self._known(run_id)))

    def records(self, run_id: str) -> Iterator[list[Published]]:
        """Yield the records three at a time."""
        self.reads += 1
        next_offsets: dict[str, int] = {}
        group = []
        for topic, record in self._known(run_id):
            offset = next_offsets.get(topic, 0)
            next_offsets[topic] = offset + 1
            group.append(Published(topic, 0, offset, record))
            if len(group) == 3:
                yield group
                group = []
        yield group

    def result(self, run_id: str, name: str) -> bytes:
        """Return a result file."""
        self._known(run_id)
        if (run_id, name) not in self.files:
            raise NotFoundError("the run has no such result", field="run_id", value=run_id)
        return self.files[run_id, name]

    def result_rows(self, run_id: str, name: str, offset: int, limit: int) -> ResultRows:
        """Return rows of a result file, and note what was asked for."""
        content = self.result(run_id, name)
        self.asked.append((offset, limit))
        return read_rows(BytesIO(content), offset, limit, content.count(b"\n") - 1)

    def add_results(self, run_id: str, *, sharpe: float, fast: int, output_hash: str) -> None:
        """Give a run the files of a finished backtest."""
        manifest = {
            "run_id": run_id,
            "output_hash": output_hash,
            "config_hash": f"c{fast}",
            "counts": {"orders.fills.v1": 2},
            "config": {
                "strategies": [{"name": "momentum_crossover", "parameters": {"fast": fast}}],
                "data": {"spec": "daily", "symbols": ["SPY"]},
            },
        }
        metrics = {"sharpe_ratio": sharpe, "total_trades": 1, "cagr_pct": None}
        equity = "time_ns,equity,cash\n" + "".join(
            f"{START_NS + n},{1000 + n}.5,{900}\n" for n in range(5)
        )
        trades = "strategy_id,side,quantity,entry_ns,pnl\nmomentum,BUY,10,1,-1.50\n"
        self.files |= {
            (run_id, "manifest.json"): json.dumps(manifest).encode(),
            (run_id, "metrics.json"): json.dumps(metrics).encode(),
            (run_id, "warnings.json"): json.dumps({"warnings": ["1 gaps"]}).encode(),
            (run_id, "equity.csv"): equity.encode(),
            (run_id, "trades.csv"): trades.encode(),
        }

    def _known(self, run_id: str) -> list[tuple[str, Header]]:
        if run_id not in self.all:
            raise NotFoundError("run not found", field="run_id", value=run_id)
        return self.all[run_id]
