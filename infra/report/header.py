"""What a run was: strategy, parameters, data, range and what names it, out of its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import NamedTuple

import msgspec

from agents.runners.parity import input_span
from infra.report.texts import DASH, amount, escaped, written
from infra.times import format_day
from schemas.control import RunManifest

_SYMBOLS_MAX = 12


class _Strategy(msgspec.Struct, frozen=True):
    name: str = ""
    instrument_ids: list[str] = []
    on: str = ""
    parameters: dict[str, object] = {}
    trade_from_ns: int = 0


class _Account(msgspec.Struct, frozen=True):
    base_currency: str = ""
    cash: str = ""


class _Accounts(msgspec.Struct, frozen=True):
    accounts: list[_Account] = []


class _Venue(msgspec.Struct, frozen=True):
    execution_data: str = ""
    fee: dict[str, object] = {}
    slippage: dict[str, object] = {}


class _Data(msgspec.Struct, frozen=True):
    spec: str = ""
    interval: str = ""


class _Config(msgspec.Struct, frozen=True):
    """The part of a run's configuration that is shown."""

    strategies: list[_Strategy] = []
    accounts: _Accounts = _Accounts()
    venue: _Venue = _Venue()
    data: _Data = _Data()


class Header(NamedTuple):
    """The run in words: ``facts`` are names with texts, of the strategy and of the run."""

    title: str
    currency: str
    facts: list[tuple[str, str]]


def header_of(manifest: RunManifest, parameters: Mapping[str, object]) -> Header:
    """Return what the head of the page says; ``parameters`` are those of the run, with defaults."""
    config = msgspec.convert(manifest.config, _Config)
    strategy = config.strategies[0] if config.strategies else _Strategy()
    account = config.accounts.accounts[0] if config.accounts.accounts else _Account()
    # A strategy of a file is known by the hash of its source as well.
    name, _, source_hash = strategy.name.partition("@")
    facts = [
        ("strategy", f"{name} of a file ({source_hash[:12]})" if source_hash else name),
        ("parameters", _parameters(parameters, strategy.parameters)),
        ("instruments", _instruments(strategy.instrument_ids)),
        ("data", _data(config.data, strategy.on)),
        ("range", _range(manifest, strategy.trade_from_ns)),
        ("cash", f"{_cash(account.cash)} {account.base_currency}".rstrip()),
        ("execution", _venue(config.venue)),
        ("seed", str(manifest.seed)),
        ("run", manifest.run_id or DASH),
        ("output hash", manifest.output_hash or DASH),
        ("config hash", manifest.config_hash or DASH),
        ("engine", f"Millrace {manifest.engine_version} ({manifest.code_hash[:12]})"),
    ]
    return Header(name or DASH, account.base_currency, facts)


def facts_list(header: Header) -> str:
    """Return the facts as a list of names and texts."""
    rows = []
    for name, text in header.facts:
        kind = ' class="hash"' if name.endswith("hash") else ""
        rows.append(f"<div><dt>{escaped(name)}</dt><dd{kind}>{escaped(text)}</dd></div>")
    return f'<dl class="facts">{"".join(rows)}</dl>'


def span_ns(manifest: RunManifest) -> tuple[int, int] | None:
    """Return the first and the last event of a run, None of one that had none."""
    return input_span(manifest) if manifest.inputs else None


def traded_span_ns(manifest: RunManifest) -> tuple[int, int] | None:
    """Return what the figures of a run are of: its span without the warm-up."""
    span = span_ns(manifest)
    if span is None:
        return None
    strategies = msgspec.convert(manifest.config, _Config).strategies
    from_ns = min((item.trade_from_ns for item in strategies), default=0)
    return max(span[0], from_ns), max(span[1], from_ns)


def _parameters(parameters: Mapping[str, object], given: Mapping[str, object]) -> str:
    texts = [
        f"{name} {_value(value)}" + ("" if name in given else " (default)")
        for name, value in parameters.items()
    ]
    return ", ".join(texts) or "none"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _instruments(names: list[str]) -> str:
    more = len(names) - _SYMBOLS_MAX
    shown = ", ".join(names[:_SYMBOLS_MAX]) or DASH
    return f"{shown} and {more:,} more" if more > 0 else shown


def _data(data: _Data, on: str) -> str:
    """Return the name of the data without its folder: where it lies decides nothing."""
    name = PurePath(data.spec).name or DASH
    return f"{name}, {data.interval or on}" if data.interval or on else name


def _range(manifest: RunManifest, trade_from_ns: int) -> str:
    span = span_ns(manifest)
    if span is None:
        return DASH
    first, last = span
    events = sum(item.count for item in manifest.inputs)
    when = written(last - first)
    text = f"{when(first)} to {when(last)} UTC, {events:,} event{'' if events == 1 else 's'}"
    return f"{text}, traded from {format_day(trade_from_ns)}" if trade_from_ns else text


def _cash(text: str) -> str:
    try:
        return amount(float(text))
    except ValueError:
        return text or DASH


def _venue(venue: _Venue) -> str:
    return (
        f"on {venue.execution_data or DASH} data, fee {_model(venue.fee)},"
        f" slippage {_model(venue.slippage)}"
    )


def _model(model: Mapping[str, object]) -> str:
    """Return a model of costs: its name and what it was set to."""
    values = [f"{name} {value}" for name, value in model.items() if name != "type" and value]
    return " ".join([str(model.get("type", DASH)), *values])
