"""A backtest from its request to its files.

The one way in which the command line, the API and notebooks run one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agents.domain.metrics import DAY_NS, Metrics
from agents.runners.replay import ReplayResult, manifest_of, replay
from agents.strategy.parameters import ParameterValue, resolve
from infra.amounts import check_number
from infra.composition import Setup, compose
from infra.data import notes_on, open_whole
from infra.identity import identity
from infra.limits import unknown_names
from infra.origin import DataOrigin, with_origin
from infra.report import REPORT_NAME, Told, write_report
from infra.settings import AccountSettings, MarketSettings, Settings, StrategySettings, data_folder
from infra.unfilled import unfilled
from schemas.control import RunManifest
from schemas.errors import (
    ConfigError,
    ConflictError,
    DataError,
    InputError,
    MillraceError,
    NotFoundError,
    StorageError,
)
from streams.datasets import DataSet
from streams.datasets.base import time_text

BATCH_EVENTS = 65_536
_WARMUP_DAYS_MAX = 36_500


class BacktestSpec(msgspec.Struct, kw_only=True):
    """What to run. ``settings`` holds venue, limits and market.

    Strategy, cash and seed here win over it.
    """

    strategy: str
    parameters: dict[str, ParameterValue] = {}
    data: str = "daily"
    symbols: tuple[str, ...] = ()
    interval: str = ""
    on: str = "auto"
    start_ns: int | None = None
    end_ns: int | None = None
    warmup_ns: int = 0
    cash: Decimal = Decimal(10000)
    seed: int = 0
    batch: int = BATCH_EVENTS
    settings: Settings = Settings()


class Backtest(NamedTuple):
    """A finished backtest with the folder that holds its journal and files.

    ``data_notes`` is what is odd about the data and what was asked of it, ``order_notes`` why
    orders were not filled.
    """

    result: ReplayResult
    folder: Path
    data_notes: tuple[str, ...] = ()
    order_notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> Metrics:
        """The metrics."""
        return self.result.metrics

    @property
    def manifest(self) -> RunManifest:
        """The manifest with the output hash."""
        return self.result.manifest

    @property
    def warnings(self) -> list[str]:
        """What whoever reads the figures should know first."""
        return [*self.data_notes, *self.order_notes]

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.folder / REPORT_NAME

    def as_dict(self) -> dict[str, Any]:
        """Return manifest, metrics, counts, denials and warnings as plain values."""
        manifest = msgspec.to_builtins(self.manifest)
        return {
            "manifest": manifest,
            "metrics": msgspec.to_builtins(self.metrics),
            "counts": dict(self.manifest.counts),
            "denials": dict(sorted(self.result.denials.items())),
            "warnings": self.warnings,
            "events": self.result.events,
            "has_dividends": self.metrics.total_dividends != 0,
            "folder": str(self.folder),
        }


def failure_code(error: MillraceError) -> str:
    """Return the stable code of what kept a backtest from its result, for whoever asked for it."""
    if isinstance(error, NotFoundError) and error.field == "strategy":
        return "not_found"
    if isinstance(error, DataError) and error.field == "range":
        return "no_data"
    return "bad_request" if isinstance(error, (InputError, ConflictError)) else "backtest_failed"


def warmup_ns_of(days: float) -> int:
    """Return a warm-up in nanoseconds; raises ConfigError for a number that is no warm-up's."""
    if not 0 <= days <= _WARMUP_DAYS_MAX:
        raise ConfigError(
            "a warm-up lies before the first day",
            field="warmup_days",
            value=days,
            remedy=f"give a number of days from 0 to {_WARMUP_DAYS_MAX:,}",
        )
    return round(days * DAY_NS)


def settings_of(spec: BacktestSpec) -> Settings:
    """Return the run's settings: the given ones with strategy, cash and seed of the request."""
    check_number("cash", spec.cash)
    if not spec.cash:
        raise ConfigError(
            "a backtest needs cash to begin with",
            field="cash",
            value=str(spec.cash),
            remedy="give an amount above 0",
        )
    warmup_ns_of(spec.warmup_ns / DAY_NS)
    if spec.warmup_ns and spec.start_ns is None:
        raise ConfigError(
            "a warm-up lies before the first day, and none is named",
            field="warmup_days",
            value=spec.warmup_ns / DAY_NS,
            remedy="give the first day (--from) as well, or no warm-up",
        )
    if spec.start_ns is not None and spec.end_ns is not None and spec.end_ns < spec.start_ns:
        raise ConfigError(
            "the range ends before it begins",
            field="range",
            value=f"{time_text(spec.start_ns)} to {time_text(spec.end_ns)}",
            remedy="give an end at or after the start",
        )
    if spec.batch < 1:
        raise ConfigError(
            "a batch holds one event or more",
            field="batch",
            value=spec.batch,
            remedy="give a number from 1",
        )
    base = spec.settings
    account: AccountSettings = msgspec.structs.replace(base.account, cash=spec.cash)
    strategy = StrategySettings(
        name=spec.strategy,
        strategy_id="",
        symbols=spec.symbols,
        on=spec.on,
        parameters=spec.parameters,
    )
    market: MarketSettings = base.market
    return msgspec.structs.replace(
        base, account=account, strategies=(strategy,), seed=spec.seed, market=market
    )


def prepare(spec: BacktestSpec) -> tuple[DataSet, Setup, int]:
    """Open the data and compose the run.

    Return both and the number of events. Raises InputError.
    """
    settings = settings_of(spec)
    data = open_whole(spec.data, symbols=spec.symbols or None, interval=spec.interval or None)
    start_ns = spec.start_ns
    trade_from_ns = 0
    if spec.warmup_ns and start_ns is not None:
        trade_from_ns, start_ns = start_ns, start_ns - spec.warmup_ns
    symbols = list(spec.symbols) or None
    setup = compose(
        settings,
        data,
        symbols=symbols,
        start_ns=start_ns,
        end_ns=spec.end_ns,
        trade_from_ns=trade_from_ns,
    )
    return data, setup, sum(item.count for item in setup.inputs)


def run_backtest(
    spec: BacktestSpec,
    *,
    out: Path | None = None,
    on_total: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Backtest:
    """Run a backtest and write its folder.

    Journal, manifest, metrics, equity, orders, fills, trades, and the page that shows them.

    ``out`` names the folder; without it a new one under the data folder. It is written under
    another name and renamed when whole, so a failed run leaves nothing half-written. Raises
    InputError, StorageError.
    """
    data, setup, total = prepare(spec)
    if on_total is not None:
        on_total(total)
    if out is not None:
        _check_out(out)
    draft = manifest_of(setup.config, setup.inputs, identity(), "draft", "backtest")
    folder, run_id = _folder(out, draft.config_hash)
    manifest = msgspec.structs.replace(draft, run_id=run_id, event_id=f"run:{run_id}:0")
    manifest = with_origin(manifest, setup.classes, _origin(spec))
    manifest = msgspec.structs.replace(manifest, instruments=list(setup.universe.instruments))
    working = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    batches = partial(
        data.batches,
        spec.batch,
        start_ns=_start_ns(spec),
        end_ns=spec.end_ns,
        symbols=list(spec.symbols) or None,
    )
    try:
        try:
            working.mkdir(parents=True)
        except OSError as error:
            raise StorageError(
                f"the results cannot be written: {error.strerror}",
                field="out",
                value=str(folder),
                remedy="choose another folder with --out",
            ) from error
        try:
            result = replay(
                setup.config,
                setup.universe,
                setup.sessions,
                setup.classes,
                batches(),
                manifest,
                day_of=setup.day_of,
                journal=working / "journal",
                out=working,
                on_progress=on_progress,
            )
            notes = tuple(unfilled(setup, result.orders, result.denials, batches))
            data_notes = notes_on(data)
            data_notes += unknown_names(spec.settings.risk.limits, setup.universe)
            done = Backtest(result, folder, tuple(data_notes), notes)
            (working / "manifest.json").write_bytes(_pretty(result.manifest))
            (working / "metrics.json").write_bytes(_pretty(result.metrics))
            (working / "warnings.json").write_bytes(_pretty({"warnings": done.warnings}))
            write_report(working, _told(setup, done))
            _put_in_place(working, folder)
        except OSError as error:
            raise StorageError(
                f"the results cannot be written: {error.strerror}",
                field="out",
                value=str(folder),
                remedy="free space or choose another folder with --out",
            ) from error
        return done
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _start_ns(spec: BacktestSpec) -> int | None:
    """Return where the data begins: the warm-up lies before the start of trading."""
    return spec.start_ns - spec.warmup_ns if spec.start_ns is not None else None


def _told(setup: Setup, done: Backtest) -> Told:
    """Return what the page of a run shows beside its files."""
    strategy = setup.config.strategies[0]
    declared = setup.classes[strategy.name].parameters
    parameters = resolve(declared, strategy.parameters, strategy.short_name)
    return Told(done.manifest, done.metrics, done.result.denials, parameters, done.warnings)


def _origin(spec: BacktestSpec) -> DataOrigin:
    return DataOrigin(spec.data, spec.interval, spec.symbols, _start_ns(spec), spec.end_ns)


def _check_out(out: Path) -> None:
    """Refuse a place that cannot take the results before the work is done, not after it."""
    if out.is_dir() and not os.access(out, os.W_OK | os.X_OK):
        problem = "the folder cannot be written to"
    elif out.exists() and not out.is_dir():
        problem = "it is a file"
    else:
        return
    raise StorageError(
        f"the results cannot be written: {problem}",
        field="out",
        value=str(out),
        remedy="choose another folder with --out",
    )


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _put_in_place(working: Path, folder: Path) -> None:
    """Rename the finished folder; files of an older run in the same folder give way."""
    if folder.exists():
        for item in working.iterdir():
            target = folder / item.name
            if target.is_dir():
                shutil.rmtree(target)
            item.replace(target)
    else:
        working.replace(folder)


def _folder(out: Path | None, config_hash: str) -> tuple[Path, str]:
    """Return the folder and the run's id."""
    if out is not None:
        return out, f"backtest-{config_hash[:8]}"
    runs = data_folder() / "runs"
    number = 1
    with contextlib.suppress(OSError):
        runs.mkdir(parents=True, exist_ok=True)
    while (runs / f"backtest-{config_hash[:8]}-{number}").exists():
        number += 1
    run_id = f"backtest-{config_hash[:8]}-{number}"
    return runs / run_id, run_id
