"""Golden wire samples: for every record type, its JSON as it was once written.

``python -m tests.replay.wire_samples`` writes a candidate for each record type that has no sample
with all its fields; read it before you commit it. Samples are never changed or removed: they stand
for records in somebody's log.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from schemas.codec import encode
from schemas.topics import CATALOGUE

FOLDER = Path(__file__).resolve().parent / "golden" / "wire"
COMMAND = ".venv/bin/python -m tests.replay.wire_samples"

REALISTIC: dict[str, Any] = {
    "account_id": "paper",
    "base_currency": "USD",
    "calendar": "XNYS",
    "causation_id": "0123456789abcdef0123456789abcdef-0",
    "client_order_id": "momentum-20131007-1",
    "command": "submit",
    "condition": "F",
    "correlation_id": "momentum-20131007-1",
    "currency": "EUR",
    "code_hash": "1f" * 16,
    "config_hash": "2e" * 16,
    "content_hash": "3d" * 16,
    "data": "daily",
    "end_ns": 1381176000000000000,
    "engine_version": "0.1.0",
    "event_id": "fedcba9876543210fedcba9876543210-1",
    "initial_cash": "25000",
    "instance": "paper",
    "instrument_id": "SPY.ARCX",
    "interval": "1m",
    "mode": "live",
    "name": "momentum_crossover",
    "new_symbol": "SPYX",
    "operator": "ada",
    "output_hash": "4c" * 16,
    "producer": "account:paper",
    "quote_currency": "JPY",
    "run_id": "run-20131007",
    "schema_version": 1,
    "source": "lean-trades",
    "stage": "account",
    "start_ns": 1381152600000000000,
    "strategy_id": "momentum",
    "strategy_name": "momentum_crossover",
    "symbol": "SPY",
    "task_id": "task-1",
    "time_zone": "America/New_York",
    "topic": "market.events.v1",
    "trade_id": "trade-1",
    "ts_event_ns": 1381152600000000001,
    "ts_received_ns": 1381152600000001000,
    "venue": "ARCX",
    "venue_order_id": "venue-1",
}
"""Texts and times by field name, so that a candidate reads like a real record. No defaults."""


def record_types() -> dict[str, type[Any]]:
    """Return every record type of the catalogue by its tag; raises ValueError if two share one."""
    found: dict[str, type[Any]] = {}
    for value in (value for topic in CATALOGUE for value in topic.values):
        tag = str(value.__struct_config__.tag)
        if found.setdefault(tag, value) is not value:
            raise ValueError(f"{value.__name__} and {found[tag].__name__} share the tag {tag!r}")
    return found


def samples(tag: str) -> list[Path]:
    """Return the samples of the record type with ``tag``, oldest first."""
    paths = FOLDER.glob(f"{tag}.*.json")
    return sorted(paths, key=lambda path: int(path.name.split(".")[1]))


def has_every_field(path: Path, record_type: type[Any]) -> bool:
    """Return whether a sample shows every field; the version is left out while it is 1."""
    fields: set[str] = {*record_type.__struct_encode_fields__} - {"schema_version"}
    sample = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    return fields <= sample.keys()


def candidate(record_type: type[Any]) -> Any:
    """Return a record with a value in every field that differs from the field's default."""
    kind = types.type_info(record_type)
    assert isinstance(kind, types.StructType)
    return _struct(kind)


def _struct(kind: types.StructType) -> Any:
    return kind.cls(**{field.name: _field(field) for field in kind.fields})


def _field(field: types.Field) -> Any:
    if field.default is True:
        return False
    return _value(field.type, field.name)


def _value(kind: types.Type, name: str) -> Any:
    """Return a value of ``kind``; numbers differ by field, so that exchanged fields show."""
    if isinstance(kind, types.UnionType):
        return _value(next(t for t in kind.types if not isinstance(t, types.NoneType)), name)
    if isinstance(kind, types.StructType):
        return _struct(kind)
    if isinstance(kind, types.EnumType):
        return list[Any](kind.cls)[-1]
    if isinstance(kind, types.ListType):
        return [_value(kind.item_type, name.removesuffix("s"))]
    if isinstance(kind, types.DictType):
        return {"key": _value(kind.value_type, name)}
    if isinstance(kind, types.StrType | types.IntType) and name in REALISTIC:
        return REALISTIC[name]
    number = 1 + sum(name.encode()) % 1000
    by_kind: dict[type[types.Type], Any] = {
        types.AnyType: "any value",
        types.BoolType: True,
        types.BytesType: b"\x00bytes",
        types.CustomType: "any value",
        types.DecimalType: number / Decimal(4),
        types.FloatType: number / 4,
        types.IntType: number,
        types.RawType: msgspec.Raw(b'{"open":1}'),
        types.StrType: name,
    }
    return by_kind[type(kind)]


def write_candidates() -> list[Path]:
    """Write a candidate for each record type that lacks a complete sample; return the paths."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = []
    for tag, record_type in record_types().items():
        existing = samples(tag)
        if not any(has_every_field(path, record_type) for path in existing):
            path = FOLDER / f"{tag}.{len(existing) + 1}.json"
            path.write_bytes(encode(candidate(record_type)) + b"\n")
            written.append(path)
    return written


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in write_candidates())
