"""The ``millrace`` command.

Exit status: 0 done, 1 a comparison found differences, 2 the input cannot be used or the disk
refused (one line on standard error says what, where and how to mend it), 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from infra.backtests import BATCH_EVENTS, BacktestSpec, failure_code, run_backtest, warmup_ns_of
from infra.cli_api import api_app
from infra.cli_db import db_app, sink
from infra.cli_import import import_app
from infra.cli_kafka import kafka_app
from infra.cli_keys import add_keys_commands
from infra.cli_letters import letters_app
from infra.cli_recording import add_recording_commands
from infra.cli_topics import topics_app
from infra.cli_worker import add_worker_commands
from infra.data import symbols_of
from infra.display import Bar, Lines, progress_bar
from infra.identity import VERSION
from infra.schema_export import export_schemas
from infra.settings import EXAMPLE, Settings, data_folder, load_settings, with_limits, with_venue
from infra.strategies import known_strategies
from infra.tables import show_backtest
from infra.times import parse_time
from schemas.errors import ConfigError, MillraceError
from streams.datasets.topics_folder import TOPICS

app = App(
    name="millrace",
    version=VERSION,
    help="A real-time trading engine: a backtest is a replay through the same agents.",
    default_parameter=Parameter(negative="", show_default=lambda value: value or None),
)
schema_app = App(name="schema", help="JSON Schemas of the records.")
config_app = App(name="config", help="Settings files.")
runs_app = App(name="runs", help="Recorded runs.")
for sub in (
    api_app,
    topics_app,
    schema_app,
    import_app,
    config_app,
    runs_app,
    kafka_app,
    letters_app,
    db_app,
):
    app.command(sub)
add_worker_commands(app)
app.command(sink)
add_recording_commands(app)
add_keys_commands(app)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
_CASH = "10000"


def _decimal(text: str, field: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ConfigError(
            "not a number", field=field, value=text, remedy="write an amount such as 10000"
        ) from error
    return value


def _parameters(items: list[str]) -> dict[str, bool | int | float | str]:
    found: dict[str, bool | int | float | str] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name:
            raise ConfigError(
                "a parameter is written name=value",
                field="param",
                value=item,
                remedy="for example --param fast=20",
            )
        found[name.strip()] = value.strip()
    return found


def _settings(config: Path | None) -> Settings:
    return load_settings(config) if config is not None else Settings()


@app.command
def demo(
    *,
    exit_: Annotated[bool, Parameter(name="--exit", negative="")] = False,
    speed: float = 1200.0,
    port: int = 8000,
    strategy: str = "momentum_crossover",
) -> None:
    """Play a bundled recording through all agents, live, and prove that its replay is equal.

    Parameters
    ----------
    exit_
        end after the comparison instead of serving until Ctrl-C
    speed
        multiple of real time
    port
        port of the HTTP server (0 takes a free one)
    strategy
        the strategy that trades
    """
    from infra.demo import run_demo

    sys.exit(run_demo(is_exiting=exit_, speed=speed, port=port, strategy=strategy, console=console))


@app.command
def run(*, config: Path | None = None, port: int | None = None, folder: Path | None = None) -> None:
    """Run the one-process engine with its API.

    A source, strategies and limits from a settings file.

    Parameters
    ----------
    config
        settings file (`millrace config example` prints one)
    port
        port of the HTTP server, wins over the file
    folder
        the run's folder; an existing one is continued
    """
    from infra.serve import run_engine

    sys.exit(run_engine(_settings(config), port=port, folder=folder, console=console))


@app.command
def backtest(
    *,
    strategy: str,
    data: str = "daily",
    symbols: str = "",
    param: list[str] = [],  # noqa: B006 - cyclopts reads the default, nobody changes it
    from_: Annotated[str, Parameter(name="--from")] = "",
    to: str = "",
    cash: str = "",
    seed: int | None = None,
    on: str = "auto",
    interval: str = "",
    warmup_days: float = 0.0,
    batch: int = BATCH_EVENTS,
    from_kafka: Annotated[bool, Parameter(negative="")] = False,
    offsets: str = "",
    bootstrap: str | None = None,
    config: Path | None = None,
    venue: str = "",
    limits: str = "",
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    progress: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Replay history through the agents and print what came of it.

    Parameters
    ----------
    strategy
        a name (`millrace strategies`), or path/to/file.py:Class
    data
        a bundled set (demo, daily), a CSV, Parquet or LEAN file, an imported folder, a run
    symbols
        comma-separated; all of the data without it
    param
        name=value, may be repeated
    from_
        first day or time
    to
        last day or time
    cash
        what the account begins with; without it what --config says, else 10000
    seed
        feeds models that draw numbers; without it what --config says, else 0
    on
        what drives the strategy: auto, trade, quote, or an interval such as 1m
    interval
        interval of the bars in a CSV or Parquet file
    warmup_days
        days before --from in which the strategy runs with its orders withheld
    batch
        events a batch; never changes the result
    from_kafka
        the history is what the topics of a cluster hold; wins over --data
    offsets
        with --from-kafka: partition=first:last with commas, last excluded; all without it
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    config
        settings file for account, risk, venue and market
    venue
        the table [venue] as JSON, {"fee": {"type": "per_share", "rate": 0.005}}; wins over --config
    limits
        the table [risk.limits] as JSON, {"max_position": 500}; wins over --config
    out
        folder for report, manifest, metrics, equity, orders, fills and trades; those of an older
        run in it give way
    json
        one JSON object on standard output and nothing else there
    progress
        how far it has come, and of a failure its code, as JSON lines on standard error
    """
    settings = _settings(config)
    if not cash:
        cash = str(settings.account.cash) if config is not None else _CASH
    spec = BacktestSpec(
        strategy=strategy,
        parameters=_parameters(param),
        data=data,
        symbols=symbols_of(symbols),
        interval=interval,
        on=on,
        start_ns=parse_time(from_, "from") if from_ else None,
        end_ns=parse_time(to, "to", is_end=True) if to else None,
        warmup_ns=warmup_ns_of(warmup_days),
        cash=_decimal(cash, "cash"),
        seed=settings.seed if seed is None else seed,
        batch=batch,
        settings=with_limits(with_venue(settings, venue), limits),
    )
    started = time.perf_counter()
    with ExitStack() as stack:
        if from_kafka:
            from infra.cli_recording import kafka_history

            history = stack.enter_context(kafka_history(config, bootstrap, offsets))
            spec = msgspec.structs.replace(spec, data=str(history))
        bar: Bar = Lines(sys.stderr, time.monotonic)
        if not progress:
            bar = stack.enter_context(progress_bar(errors, "replay"))
        try:
            done = run_backtest(spec, out=out, on_total=bar.total, on_progress=bar.advance)
        except MillraceError as error:
            bar.fail(failure_code(error))
            raise
    if json:
        sys.stdout.write(msgspec.json.encode(done.as_dict()).decode() + "\n")
    else:
        show_backtest(console, done, time.perf_counter() - started)


@app.command
def parity(
    run: str = "",
    *,
    strategy: tuple[str, ...] = (),
    data: str = "",
    from_kafka: Annotated[bool, Parameter(negative="")] = False,
    config: Path | None = None,
    bootstrap: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Run a recorded session again and compare every record.

    Then compare it with a backtest of the same data.

    Parameters
    ----------
    run
        folder of a run, else the name or id of one under the data folder, or how only one begins;
        the folder of recorded topics; with --from-kafka the name of a session on the cluster
    from_kafka
        a session on Kafka, from its topics
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    strategy
        path/to/file.py:Class of a session whose strategy came from a file; may be repeated
    data
        the data that a backtest read, as --data of backtest
    json
        one JSON object on standard output and nothing else there
    """
    from infra.cli_recording import kafka_parity
    from infra.parity import run_parity

    if from_kafka or (run and (Path(run) / TOPICS).is_dir()):
        sys.exit(
            kafka_parity(
                run, strategy, is_json=json, from_cluster=from_kafka, config=config,
                bootstrap=bootstrap,
            )
        )  # fmt: skip
    sys.exit(
        run_parity(
            run, strategies=strategy, data=data, is_json=json, console=console, errors=errors
        )
    )


@app.command
def replay(
    data: str, *, config: Path | None = None, speed: float = 60.0, port: int | None = None
) -> None:
    """Play history at a multiple of real time into a live one-process engine.

    Parameters
    ----------
    data
        as --data of backtest
    config
        settings file
    speed
        multiple of real time
    port
        port of the HTTP server
    """
    from infra.serve import run_engine

    settings = _settings(config)
    source = msgspec.structs.replace(settings.source, data=data, speed=speed, feed="", options={})
    settings = msgspec.structs.replace(settings, source=source)
    sys.exit(run_engine(settings, port=port, folder=None, console=console))


@app.command
def strategies() -> None:
    """List the strategies that have a name, with their parameters."""
    for name, cls in sorted(known_strategies().items()):
        summary = (cls.__doc__ or "").strip().splitlines()[0]
        console.print(f"[bold]{name}[/bold]  {summary}")
        for key, parameter in cls.parameters.items():
            console.print(
                f"    {key}={parameter.default!r} {parameter.range_text()} {parameter.description}",
                markup=False,
            )


@schema_app.command(name="export")
def schema_export(directory: Path) -> None:
    """Write a JSON Schema (2020-12) for every topic.

    Parameters
    ----------
    directory
        folder to write to
    """
    for path in export_schemas(directory):
        console.print(str(path), markup=False)


@config_app.command(name="example")
def config_example() -> None:
    """Print a commented settings file."""
    sys.stdout.write(EXAMPLE)


@config_app.command(name="show")
def config_show(*, config: Path | None = None) -> None:
    """Print the settings that hold, as JSON.

    Parameters
    ----------
    config
        settings file
    """
    sys.stdout.write(
        msgspec.json.format(msgspec.json.encode(_settings(config)), indent=2).decode() + "\n"
    )


@runs_app.command(name="list")
def runs_list() -> None:
    """List the runs under the data folder."""
    from infra.parity import list_runs

    for line in list_runs(data_folder()):
        console.print(line, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command; errors of ours and of the command line become one line, exit status 2."""
    try:
        app(print_error=False, exit_on_error=False)
    except MillraceError as error:
        errors.print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(2)
    except CycloptsError as error:
        # Help lists all commands; the first few, which cyclopts adds, hide what was wrong.
        text = " ".join(str(error).split()).partition(" Available commands:")[0].rstrip(".")
        names = " ".join(["millrace", *(error.command_chain or ())])
        errors.print(f"error: {text}; see `{names} --help`", markup=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)
