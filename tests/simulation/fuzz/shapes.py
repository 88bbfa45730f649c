"""Requests as the OpenAPI document describes them, with names that the run knows."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

_POOL_MAX = 200
_DEPTH_MAX = 6
_TEXT_MAX = 80
_METHODS = ("get", "post", "put", "patch", "delete")

FIRST_NAMES: dict[str, tuple[str, ...]] = {
    "account_id": ("paper",),
    "strategy_id": ("demo", "manual"),
    "symbol": ("IBM", "SPY", "AAPL"),
    "scope_id": ("paper", "demo", "IBM"),
    "as_of": ("2013-10-07T14:00:00Z", "orders.events.v1:3", "account.inputs.v1/0:10"),
    "after": ("2013-10-07T13:30:00Z", "2013-10-07"),
    "until": ("2013-10-07T20:00:00Z", "2013-10-08"),
    "start_date": ("2014-01-01T00:00:00Z",),
    "end_date": ("2014-06-30T00:00:00Z",),
    "strategy_name": ("momentum_crossover", "mean_reversion"),
    "period": ("all", "5d", "2w"),
    "topic": ("orders.events.v1",),
    "calendar": ("XNYS",),
    "name": ("reconcile", "snapshot", "retention"),
    "status": ("open", "FILLED"),
    "percentage": ("50",),
}
"""What a request may name before any answer has told more."""

_LEARNED = frozenset(
    {
        "account_id",
        "client_order_id",
        "cursor",
        "event_id",
        "instrument_id",
        "name",
        "run_id",
        "strategy_id",
        "symbol",
        "task_id",
    }
)


class Object(list[tuple[str, Any]]):
    """The members of a JSON object in order; a name may stand there twice."""


class Operation(NamedTuple):
    """One operation of the document; ``body`` is the schema of what is sent, None without one."""

    method: str
    path: str
    parameters: list[dict[str, Any]]
    body: dict[str, Any] | None
    statuses: frozenset[int]

    @property
    def name(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"


def operations(document: dict[str, Any]) -> list[Operation]:
    """Return the operations of an OpenAPI document."""
    found = []
    for path, methods in document["paths"].items():
        for method in _METHODS:
            item = methods.get(method)
            if item is None:
                continue
            content = item.get("requestBody", {}).get("content", {})
            found.append(
                Operation(
                    method.upper(),
                    path,
                    item.get("parameters", []),
                    content.get("application/json", {}).get("schema"),
                    frozenset(map(int, item["responses"])),
                )
            )
    return found


class Names:
    """Names by field that requests may use: those known before, and those of answers."""

    def __init__(self) -> None:
        self._pools: dict[str, deque[str]] = {
            name: deque(values, _POOL_MAX) for name, values in FIRST_NAMES.items()
        }

    def learn(self, answer: Any, depth: int = 0) -> None:
        """Take in the names that stand in an answer."""
        if depth > _DEPTH_MAX:
            return
        if isinstance(answer, dict):
            for key, value in answer.items():
                if isinstance(value, str) and key in _LEARNED:
                    self._add(key, value)
                else:
                    self.learn(value, depth + 1)
        elif isinstance(answer, list):
            for item in answer[:20]:
                self.learn(item, depth + 1)

    def _add(self, name: str, value: str) -> None:
        pool = self._pools.setdefault(name, deque(maxlen=_POOL_MAX))
        if value and value not in pool:
            pool.append(value)

    def of(self, name: str, rng: random.Random) -> str | None:
        """Return a name for a field, None if none is known."""
        pool = self._pools.get(name)
        return rng.choice(pool) if pool else None


class Shapes:
    """Makes values of a document's schemas."""

    def __init__(self, document: dict[str, Any], names: Names, rng: random.Random) -> None:
        self._schemas: dict[str, Any] = document["components"]["schemas"]
        self._names = names
        self._rng = rng

    def path(self, operation: Operation) -> str:
        """Return the path of an operation with names in its holes."""
        parts = []
        for part in operation.path.split("/"):
            if part.startswith("{"):
                name = part[1:-1]
                known = self._names.of(name, self._rng) or ""
                # One with a slash leads to another route.
                parts.append(known if known and "/" not in known else self._text())
            else:
                parts.append(part)
        return "/".join(parts)

    def query(self, operation: Operation) -> list[tuple[str, str]]:
        """Return parameters of the query: those that must be, and some of the others."""
        pairs = []
        for parameter in operation.parameters:
            if parameter["in"] != "query":
                continue
            # Another instant of the run is folded from its journal: dear, so asked for seldom.
            share = 0.005 if parameter["name"] in ("run_id", "as_of") else 0.3
            if parameter.get("required") or self._rng.random() < share:
                value = self.value(parameter["schema"], parameter["name"])
                if value is not None:
                    pairs.append((parameter["name"], _plain(value)))
        return pairs

    def body(self, operation: Operation) -> Any:
        """Return a body for an operation that takes one."""
        return self.value(operation.body or {}, "")

    def value(self, schema: dict[str, Any], name: str, depth: int = 0) -> Any:
        """Return a value of a schema for a field called ``name``."""
        rng = self._rng
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices:
            return self.value(rng.choice(choices), name, depth)
        kind = schema.get("type", "object")
        if isinstance(kind, list):
            kind = rng.choice(kind)
        if kind == "string":
            return self._names.of(name, rng) or self._text()
        if kind in ("integer", "number"):
            return self._number(schema, is_whole=kind == "integer", name=name)
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "array":
            return [self.value(schema.get("items", {}), name, depth + 1) for _ in range(2)]
        return None if kind == "null" else Object(self._members(schema, depth))

    def _members(self, schema: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
        required = schema.get("required", ())
        share = 0.35 if depth < _DEPTH_MAX else 0.0
        for name, field in schema.get("properties", {}).items():
            if name in required or self._rng.random() < share:
                yield name, self.value(field, name, depth + 1)
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and depth < _DEPTH_MAX:
            yield self._text(), self.value(more, "", depth + 1)

    def _number(self, schema: dict[str, Any], *, is_whole: bool, name: str) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 1000))
        if name == "timeout_s":
            high = min(high, 0.2)
        number = self._rng.uniform(low, min(high, low + 1000))
        return round(number) if is_whole else round(number, 2)

    def _text(self) -> str:
        return "".join(
            self._rng.choices("abcdefghijKLMNOP-_.0123456789", k=self._rng.randint(1, 12))
        )


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:_TEXT_MAX]
