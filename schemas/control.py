"""Control: strategies, configuration, backtests, runs, snapshots and the order log."""

from __future__ import annotations

import msgspec

from schemas.enums import RunStatus, StrategyAction, StrategyStatus
from schemas.envelope import Incoming, Record
from schemas.instruments import Instrument
from schemas.risk import LimitSet


class StrategyCommand(Record, gc=False, omit_defaults=True, tag="strategy_command"):
    """Tell one strategy what to do; ``parameters`` only with SET_PARAMETERS."""

    strategy_id: str
    action: StrategyAction
    operator: str
    parameters: dict[str, bool | int | float | str] = {}
    reason: str = ""


class StrategyStateChanged(Record, gc=False, omit_defaults=True, tag="strategy_state_changed"):
    """A strategy stands in ``status`` with ``parameters``."""

    strategy_id: str
    name: str
    account_id: str
    status: StrategyStatus
    parameters: dict[str, bool | int | float | str]
    instrument_ids: list[str]
    detail: str = ""


class StrategySignal(Record, gc=False, omit_defaults=True, tag="strategy_signal"):
    """A strategy's target for one instrument changed, by market data alone."""

    strategy_id: str
    instrument_id: str
    target: float
    price: float


class ConfigChanged(Incoming, gc=False, omit_defaults=True, tag="config_changed", kw_only=True):
    """A setting has a new value; secrets never appear here."""

    name: str
    value: str
    operator: str
    reason: str = ""


VenueTable = dict[str, bool | int | float | str | dict[str, bool | int | float | str]]
"""Settings of the venue by name: a value, or the type and the settings of a model."""


class BacktestRequest(Incoming, gc=False, omit_defaults=True, tag="backtest_request", kw_only=True):
    """Ask for a backtest; empty ``data`` is the default data set.

    ``venue`` holds settings of the paper venue, as the table of that name in the settings does;
    what it leaves out is the default, which costs nothing. ``limits`` are those of the global
    scope. ``on`` is what drives the strategy (empty: what it wants), ``interval`` that of the bars
    in a file. In the ``warmup_days`` before the start orders are withheld.
    """

    task_id: str
    strategy_name: str
    start_ns: int | None = None
    end_ns: int | None = None
    initial_cash: str = "10000"
    data: str = ""
    symbols: list[str] = []
    parameters: dict[str, bool | int | float | str] = {}
    seed: int = 0
    operator: str = ""
    venue: VenueTable = {}
    limits: LimitSet = LimitSet()
    on: str = ""
    interval: str = ""
    warmup_days: float = 0.0


class BacktestCancel(Incoming, gc=False, omit_defaults=True, tag="backtest_cancel", kw_only=True):
    """Ask that a backtest which waits or runs be given up."""

    task_id: str
    operator: str = ""
    reason: str = ""


class ParityRequest(Incoming, gc=False, omit_defaults=True, tag="parity_request", kw_only=True):
    """Ask that a recorded run be run again and compared; ``run`` is its id."""

    task_id: str
    run: str
    operator: str = ""


class ParityResult(Record, gc=False, omit_defaults=True, tag="parity_result"):
    """What the comparison of a recorded run with its re-run found, or why it failed (``detail``).

    ``code`` is the stable name of a failure.
    ``fills_live`` to ``classes`` compare a live session with a backtest of its data; they are empty
    for the run of a backtest.
    """

    task_id: str
    run: str
    status: RunStatus
    records_compared: int = 0
    differences: int = 0
    recorded_hash: str = ""
    rerun_hash: str = ""
    fills_live: int = 0
    fills_backtest: int = 0
    fills_equal: int = 0
    classes: dict[str, int] = {}
    detail: str = ""
    code: str = ""


class BacktestProgress(Record, gc=False, omit_defaults=True, tag="backtest_progress"):
    """How far a backtest has come."""

    task_id: str
    status: RunStatus
    events_done: int
    events_total: int
    detail: str = ""


class BacktestResult(Record, gc=False, omit_defaults=True, tag="backtest_result"):
    """A finished backtest: its metrics by name, its manifest's output hash, or why it failed.

    ``finished_ns`` is by the wall clock, which goes on between runs and while the market's stands;
    0 in records of before it was noted. ``warnings``: what is odd about data or orders of the run.
    """

    task_id: str
    strategy_name: str
    status: RunStatus
    metrics: dict[str, float | int | str | None]
    output_hash: str = ""
    detail: str = ""
    finished_ns: int = 0
    warnings: list[str] = []


class InputRange(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """Which records a run read: from one source, so many, with this content hash."""

    source: str
    kind: str
    instrument_id: str
    count: int
    first_ts_ns: int
    last_ts_ns: int
    content_hash: str


class RunManifest(Incoming, gc=False, omit_defaults=True, tag="run_manifest", kw_only=True):
    """Everything a run depends on, and the hash of what came out of it.

    Equal manifests (but for run id, times and ``output_hash`` itself) give equal output hashes.
    ``instruments`` are those that a session on Kafka began with; what stands on the reference
    topics from ``reference_offsets`` on came later.
    """

    segment: int = 0
    mode: str = "backtest"
    engine_version: str = ""
    code_hash: str = ""
    config_hash: str = ""
    config: dict[str, object] = {}
    schema_versions: dict[str, int] = {}
    inputs: list[InputRange] = []
    seed: int = 0
    counts: dict[str, int] = {}
    output_hash: str = ""
    instruments: list[Instrument] = []
    reference_offsets: dict[str, int] = {}


class ApiWrite(Incoming, gc=False, omit_defaults=True, tag="api_write", kw_only=True):
    """Tell who asked for a change over HTTP, and what the answer was.

    ``key_id`` is empty where no key is asked for; ``body_hash`` names the body without showing it.
    """

    operator: str
    key_id: str = ""
    method: str
    path: str
    status: int
    code: str = ""
    address: str = ""
    body_hash: str = ""


class OrderLogEntry(Incoming, gc=False, omit_defaults=True, tag="order_log_entry", kw_only=True):
    """Which offsets of which partition a stage consumed next.

    ``is_claim``: a worker takes over with a new epoch.
    """

    stage: str
    instance: str
    epoch: int
    topic: str = ""
    partition: int = 0
    first_offset: int = 0
    last_offset: int = 0
    is_claim: bool = False


class StageSnapshot(Incoming, gc=False, omit_defaults=True, tag="stage_snapshot", kw_only=True):
    """State of one stage instance with the input offsets it has applied.

    ``topic_ids`` are the cluster's ids of the topics that it has read; empty in older ones.
    """

    stage: str
    instance: str
    processor_version: str
    offsets: dict[str, int]
    states: dict[str, msgspec.Raw]
    topic_ids: dict[str, str] = {}


class DeadLetter(Incoming, gc=False, omit_defaults=True, tag="dead_letter", kw_only=True):
    """A record that could not be used: where it stood, why, and its bytes (base64)."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: str = ""
    value: bytes = b""
