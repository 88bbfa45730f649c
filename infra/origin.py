"""What a run is made again from: the files of its strategies, and the data of a backtest.

A manifest keeps both as paths, beside the configuration in ``config`` and outside of its hash:
where a file lies decides nothing about a run. What the file says does, so its hash is checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from agents.runners.parity import engine_config, input_span
from agents.strategy.api import Strategy
from infra.data import open_whole
from infra.strategies import resolve_strategy
from schemas.control import InputRange, RunManifest
from schemas.errors import ConfigError, ConflictError, NotFoundError
from schemas.identifiers import content_hash
from streams.datasets import BUNDLED, DataSet

STRATEGY_FILES = "strategy_files"
DATA = "data"


class DataOrigin(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a backtest as it was asked for; instants are int64 ns UTC."""

    spec: str
    interval: str = ""
    symbols: tuple[str, ...] = ()
    start_ns: int | None = None
    end_ns: int | None = None


def with_origin(
    manifest: RunManifest,
    classes: Mapping[str, type[Strategy]],
    data: DataOrigin | None = None,
) -> RunManifest:
    """Return ``manifest`` with the files of its strategies and the data of a backtest."""
    config = dict(manifest.config)
    files = {
        label: str(Path(inspect.getfile(cls)).resolve())
        for label, cls in classes.items()
        if "@" in label
    }
    if files:
        config[STRATEGY_FILES] = files
    if data is not None:
        if data.spec not in BUNDLED:
            data = msgspec.structs.replace(data, spec=str(Path(data.spec).resolve()))
        config[DATA] = msgspec.to_builtins(data)
    return msgspec.structs.replace(manifest, config=config)


def load_classes(manifest: RunManifest, given: Sequence[str] = ()) -> dict[str, type[Strategy]]:
    """Return the classes of a manifest's strategies.

    ``given`` names files as path/to/file.py:Class; they win over those of the manifest. Raises
    NotFoundError for a strategy or a file that is not there, ConflictError for a file that is not
    the one that the run had.
    """
    files = _paths(given)
    classes: dict[str, type[Strategy]] = {}
    labels = [strategy.name for strategy in engine_config(manifest).strategies]
    for name in files:
        if name not in {label.partition("@")[0] for label in labels if "@" in label}:
            raise NotFoundError(
                f"the run has no strategy {name} of a file",
                field="strategy",
                value=name,
                remedy=f"it has {', '.join(labels) or 'none'}",
            )
    kept = msgspec.convert(manifest.config.get(STRATEGY_FILES, {}), dict[str, str])
    for label in labels:
        name, _, source_hash = label.partition("@")
        if source_hash:
            paths = files.get(name) or [kept.get(label, "")]
            classes[label] = _from_file(name, source_hash, paths)
        else:
            classes[label] = resolve_strategy(label)[1]
    return classes


def _paths(given: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths by class of each ``path/to/file.py:Class``."""
    found: dict[str, list[str]] = {}
    for spec in given:
        text, colon, name = spec.rpartition(".py:")
        if not (colon and text and name):
            raise ConfigError(
                "a strategy file is named with its class",
                field="strategy",
                value=spec,
                remedy="give --strategy path/to/file.py:Class",
            )
        found.setdefault(name, []).append(f"{text}.py")
    return found


def _from_file(name: str, source_hash: str, paths: Sequence[str]) -> type[Strategy]:
    """Return class ``name`` of the one of ``paths`` that holds the source of the run."""
    hashes = [_source_hash(name, source_hash, path) for path in paths]
    # Before it is loaded: a file that is not the run's must not even run.
    if source_hash not in hashes:
        raise ConflictError(
            f"the file of strategy {name} has changed: the run had source hash {source_hash},"
            f" the file has {hashes[0]}",
            field="strategy",
            value=paths[0],
            remedy=f"give the file as it was with --strategy path/to/file.py:{name}",
        )
    return resolve_strategy(f"{paths[hashes.index(source_hash)]}:{name}")[1]


def _source_hash(name: str, source_hash: str, path: str) -> str:
    if not path:
        raise NotFoundError(
            f"the run does not say which file its strategy {name} came from",
            field="strategy",
            value=f"{name}@{source_hash}",
            remedy=f"give it with --strategy path/to/file.py:{name}",
        )
    try:
        return content_hash(Path(path).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"the file of strategy {name} is not there",
            field="strategy",
            value=path,
            remedy=f"bring it back, or give --strategy path/to/file.py:{name}",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the file of strategy {name} cannot be read: {error.strerror}",
            field="strategy",
            value=path,
            remedy=f"check the rights of the file, or give --strategy path/to/file.py:{name}",
        ) from error


def open_origin(manifest: RunManifest, data: str = "") -> tuple[DataSet, DataOrigin]:
    """Open the data of a backtest and return it with what is to be selected.

    ``data`` wins over what the manifest names. Raises NotFoundError if neither names any,
    ConflictError if it is not the data that the run had.
    """
    kept = manifest.config.get(DATA)
    if kept is not None:
        origin = msgspec.convert(kept, DataOrigin)
        if data:
            origin = msgspec.structs.replace(origin, spec=data)
    elif data:
        origin = _selection(manifest, data)
    else:
        raise NotFoundError(
            "the backtest does not say which data it read",
            field="data",
            value=manifest.run_id,
            remedy="give it with --data, as to `millrace backtest`",
        )
    symbols = origin.symbols or None
    found = open_whole(origin.spec, symbols=symbols, interval=origin.interval or None)
    inputs = found.inputs(start_ns=origin.start_ns, end_ns=origin.end_ns, symbols=symbols)
    if _contents(inputs) != _contents(manifest.inputs):
        had, has = (_digest(items) for items in (manifest.inputs, inputs))
        raise ConflictError(
            f"the data is not what the backtest read: that had content hash {had}, this has {has}",
            field="data",
            value=origin.spec,
            remedy="give the data as it was with --data",
        )
    return found, origin


def _selection(manifest: RunManifest, data: str) -> DataOrigin:
    """Return the selection that gives the inputs of a manifest which does not name its data."""
    first_ns, last_ns = input_span(manifest)
    intervals = {item.kind.partition("/")[2] for item in manifest.inputs} - {""}
    return DataOrigin(
        data,
        interval=intervals.pop() if len(intervals) == 1 else "",
        symbols=tuple(sorted({item.instrument_id for item in manifest.inputs})),
        start_ns=first_ns,
        end_ns=last_ns + 1,
    )


def _contents(inputs: list[InputRange]) -> list[tuple[str, str, int, str]]:
    """Return what was read, without the name of its source, which may have moved."""
    return sorted((i.instrument_id, i.kind, i.count, i.content_hash) for i in inputs)


def _digest(inputs: list[InputRange]) -> str:
    return content_hash(msgspec.json.encode(_contents(inputs)))
