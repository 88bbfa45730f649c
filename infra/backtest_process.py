"""What the process of a backtest is told, and what is made of what it says.

Whoever can write to the log can ask for a backtest, so a request is looked at before it becomes a
command line.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from agents.runners.engine import Engine
from agents.strategy.builtin import BUILTIN
from infra.backtests import BacktestSpec, failure_code, prepare, warmup_ns_of
from infra.limits import check_bounds
from infra.plugins import OR_A_FILE
from infra.settings import RiskSettings, Settings, parse_venue
from infra.strategies import check_strategy
from infra.times import format_time
from schemas.control import BacktestRequest, ParityRequest, ParityResult
from schemas.enums import RunStatus
from schemas.errors import ConfigError, InputError, NotFoundError
from schemas.identifiers import derived_id
from schemas.risk import LimitSet
from streams.datasets import BUNDLED
from streams.datasets.store import INDEX_NAME

_REFUSED = 2
"""Exit status of the command line for what it cannot use, or for a disk that refused."""

_VALUE_SHOWN = 60
_AUTO = "auto"


class Failure(Exception):  # noqa: N818 - what became of a request, not a fault of the agent
    """A request that ends without a result: how, with a stable code, and why."""

    def __init__(self, status: RunStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


def refused(request: BacktestRequest, folder: Path) -> Failure | None:
    """Return how a request ends that is not run, None if it may; see ``refusal_of``."""
    refusal = refusal_of(request, folder)
    if refusal:
        return Failure(RunStatus.FAILED, "bad_request", refusal)
    try:
        check_strategy(request.strategy_name)
    except NotFoundError as error:
        error.remedy = error.remedy.removesuffix(OR_A_FILE)
        return Failure(RunStatus.FAILED, "not_found", str(error))
    try:
        parse_venue(request.venue)
        check_bounds(request.limits)
        warmup_ns_of(request.warmup_days)
    except ConfigError as error:
        return Failure(RunStatus.FAILED, "bad_request", str(error))
    return None


def unfit(request: BacktestRequest, folder: Path) -> Failure | None:
    """Return how a request would end that its process would refuse, None if that is not known.

    Settles parameters of built-in strategies, symbols and dates of imported and bundled data, in
    some 20 ms. Strategies of others and files are left to the process: the ones may do anything,
    and the others are read as a whole. ``folder`` is the data folder.
    """
    data = data_of(request.data, folder)
    is_imported = data in BUNDLED or (Path(data) / INDEX_NAME).exists()
    if request.strategy_name not in BUILTIN or not is_imported:
        return None
    try:
        cash = Decimal(request.initial_cash)
    except ArithmeticError:
        return None
    settings = Settings(venue=parse_venue(request.venue), risk=RiskSettings(limits=request.limits))
    spec = BacktestSpec(
        strategy=request.strategy_name,
        parameters=dict(request.parameters),
        data=data,
        symbols=tuple(request.symbols),
        start_ns=request.start_ns,
        end_ns=request.end_ns,
        cash=cash,
        seed=request.seed,
        interval=request.interval,
        on=request.on or _AUTO,
        warmup_ns=warmup_ns_of(request.warmup_days),
        settings=settings,
    )
    try:
        _, setup, _ = prepare(spec)
        Engine(setup.config, setup.universe, setup.sessions, setup.classes)
    except InputError as error:
        return Failure(RunStatus.FAILED, failure_code(error), str(error))
    return None


def refusal_of(request: BacktestRequest, folder: Path) -> str:
    """Return why a request is not run, empty if it may; ``folder`` is the data folder."""
    if "/" in request.strategy_name or ".py:" in request.strategy_name:
        return (
            f"strategy {request.strategy_name!r} is a file: only the command line runs files;"
            " give a strategy its name by an entry point"
        )
    data = request.data
    texts = [request.strategy_name, data, request.on, request.interval]
    texts += [*request.symbols, *request.parameters]
    texts += [value for value in request.parameters.values() if isinstance(value, str)]
    if not all(text.isprintable() for text in texts):
        return "a text of the request has a character that is not printable; leave it out"
    try:
        data_of(data, folder)
    except ConfigError as error:
        return str(error)
    return ""


def data_of(data: str, folder: Path) -> str:
    """Return what ``--data`` is for the ``data`` of a request: a bundled set, or a path.

    A relative path is one within ``folder``, else within the present folder. Raises ConfigError for
    one that leaves ``folder``, by dots or links as well, and for one that is not there; of what is
    outside nothing is told, not even whether it is there.
    """
    if not data:
        return "daily"
    if data in BUNDLED:
        return data
    try:
        root = folder.resolve()
        paths = [p for p in (folder / data, Path(data)) if p.resolve().is_relative_to(root)]
        found = next((path for path in paths if path.exists()), None)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            "this is no path that can be looked up",
            field="data",
            value=data[:_VALUE_SHOWN],
            remedy=f"give {' or '.join(BUNDLED)}, or a path within {folder}",
        ) from error
    if not paths:
        raise ConfigError(
            "this lies outside of the data folder",
            field="data",
            value=data,
            remedy=f"import it into {folder}, or give a path within it",
        )
    if found is None:
        raise ConfigError(
            "there is no such data set in the data folder",
            field="data",
            value=data,
            remedy=f"give {' or '.join(BUNDLED)}, or a path within {folder}",
        )
    return str(found)


def arguments_of(request: BacktestRequest, folder: Path) -> list[str]:
    """Return the command line of a request; what it says can never become an option.

    ``folder`` is the data folder. Raises ConfigError if the data are there no more.
    """
    out = [
        "backtest",
        "--json",
        "--progress",
        f"--strategy={request.strategy_name}",
        f"--data={data_of(request.data, folder)}",
        f"--cash={request.initial_cash}",
        f"--seed={request.seed}",
    ]
    if request.symbols:
        out.append(f"--symbols={','.join(request.symbols)}")
    if request.start_ns is not None:
        out.append(f"--from={format_time(request.start_ns)}")
    if request.end_ns is not None:
        out.append(f"--to={format_time(request.end_ns)}")
    if request.venue:
        out.append(f"--venue={json.dumps(request.venue)}")
    if request.limits != LimitSet():
        out.append(f"--limits={msgspec.json.encode(request.limits).decode()}")
    if request.on:
        out.append(f"--on={request.on}")
    if request.interval:
        out.append(f"--interval={request.interval}")
    if request.warmup_days:
        out.append(f"--warmup-days={request.warmup_days}")
    out += [f"--param={name}={value}" for name, value in request.parameters.items()]
    return out


def told(line: str) -> dict[str, Any]:
    """Return what a line says of the progress or of the failure, nothing if it says neither."""
    if not line.startswith(('{"done":', '{"code":')):
        return {}
    try:
        values: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return values if values.keys() in ({"done", "total"}, {"code"}) else {}


def ended(status: int, detail: str, code: str) -> Failure:
    """Return the failure of a process that ended with ``status``.

    Only status 2 with a word on it is about the request; a process that was killed, or ended in a
    fault of ours, says nothing of it.
    """
    if status == _REFUSED and detail:
        return Failure(RunStatus.FAILED, code or "bad_request", detail)
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    said = f": {detail}" if detail else ""
    return Failure(RunStatus.FAILED, "backtest_failed", f"its process ended {how}{said}")


def parity_result(request: ParityRequest, report: dict[str, Any], now_ns: int) -> ParityResult:
    """Return the result of a comparison out of its report; raises LookupError if it is none."""
    rerun = report["rerun"]
    against: dict[str, Any] = report.get("backtest_against_live") or {}
    classes = {name: int(found["count"]) for name, found in against.get("classes", {}).items()}
    return ParityResult(
        derived_id("backtests", request.event_id, 0),
        now_ns,
        request.task_id,
        request.event_id,
        request.task_id,
        request.run,
        RunStatus.COMPLETED,
        rerun["records_compared"],
        rerun["differences"],
        rerun["recorded_hash"],
        rerun["rerun_hash"],
        against.get("fills live", 0),
        against.get("fills backtest", 0),
        against.get("equal", 0),
        classes,
        str(report.get("reason", "")),
    )
