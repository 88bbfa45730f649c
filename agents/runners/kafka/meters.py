"""What a worker measures, as Prometheus metrics.

Labels are stages, topics, partitions and words of our own enumerations: never ids, whose number has
no bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from agents.runners.kafka.parts.part import Output
from schemas.commands import SubmitOrder, VenueSubmit
from schemas.enums import BreakerState, Scope
from schemas.risk import RiskDecision
from schemas.topics import ORDER_EVENTS

_NS = 1e9
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_SIZES = (1, 4, 16, 64, 256, 1024, 4000)
_BREAKER_LEVEL = {BreakerState.ACTIVE: 0, BreakerState.REDUCING: 1, BreakerState.HALTED: 2}


class Meters:
    """The metrics of all stages of one worker process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"millrace_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"millrace_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"millrace_{name}", text, labels, buckets=bounds, registry=registry)

        self.consumed = counter(
            "records_consumed", "Records that parts took.", "stage", "topic", "partition"
        )
        self.produced = counter("records_produced", "Records that were acknowledged.",
                                "stage", "topic")  # fmt: skip
        self.failures = counter("failures", "Failures that ended a stage.", "stage")
        self.batch_records = histogram("batch_records", "Records in a batch.", _SIZES, "stage")
        self.handler_seconds = histogram(
            "handler_seconds", "From a batch to its acknowledged outputs.", _SECONDS, "stage"
        )
        self.lag_messages = gauge(
            "lag_messages", "Records that are not yet taken.", "stage", "topic", "partition"
        )
        self.lag_seconds = gauge(
            "lag_seconds",
            "Age of the newest taken record while more are waiting, else 0.",
            "stage", "topic", "partition",
        )  # fmt: skip
        self.standstill_seconds = gauge(
            "standstill_seconds", "For how long nothing goes on while records wait.", "stage"
        )
        self.event_seconds = histogram(
            "event_latency_seconds", "From the event's time to its outputs.", _SECONDS, "stage"
        )
        self.tick_to_order_seconds = histogram(
            "tick_to_order_seconds",
            "From the time of the tick that caused it to an acknowledged order.",
            _SECONDS, "stage",
        )  # fmt: skip
        self.rebalances = counter("rebalances", "Assignments of partitions.", "stage")
        self.snapshots = counter("snapshots", "Saved states.", "stage")
        self.snapshot_bytes = gauge("snapshot_bytes", "Size of the last saved state.",
                                    "stage", "partition")  # fmt: skip
        self.duplicates = counter("duplicates_dropped", "Records known before.", "stage")
        self.gaps = counter("gaps", "Records of a producer that are missing.", "stage")
        self.dead_letters = counter("dead_letters", "Records that cannot be used.", "stage")
        self.breaker = gauge(
            "breaker_state",
            "0 active, 1 reducing, 2 halted: the strictest of the scope on this worker.",
            "scope",
        )
        self.orders = counter("orders", "Events of orders.", "outcome")
        self.denials = counter("risk_denials", "Orders that risk did not let through.", "reason")
        self.loop_lag_seconds = gauge(
            "event_loop_lag_seconds", "How late the event loop wakes up, newest measure."
        )

    def begin(self, stage: str) -> None:
        """Show counts of a stage as 0: what begins with its first event has no increase."""
        for metric in (self.failures, self.rebalances, self.snapshots):
            metric.labels(stage)

    def show_breakers(self, states: Iterable[Mapping[str, BreakerState]]) -> None:
        """Show the strictest state of each scope; the keys of ``states`` are ``SCOPE|id``."""
        levels = dict.fromkeys((scope.value for scope in Scope), 0)
        for held in states:
            for key, state in held.items():
                scope = key.partition("|")[0]
                levels[scope] = max(levels[scope], _BREAKER_LEVEL[state])
        for scope, level in levels.items():
            self.breaker.labels(scope).set(level)

    def see_outputs(self, stage: str, made: Sequence[Output], wall_ns: int) -> None:
        """Count acknowledged outputs of a batch; ``wall_ns`` is the time now (ns UTC)."""
        by_topic: dict[str, int] = {}
        for topic, _, record in made:
            by_topic[topic] = by_topic.get(topic, 0) + 1
            if topic == ORDER_EVENTS:
                self.orders.labels(_tag(record)).inc()
            elif isinstance(record, RiskDecision):
                if not record.is_approved:
                    self.denials.labels(record.code).inc()
            elif isinstance(record, SubmitOrder | VenueSubmit):
                waited_s = max(wall_ns - record.ts_event_ns, 0) / _NS
                self.tick_to_order_seconds.labels(stage).observe(waited_s)
        for topic, count in by_topic.items():
            self.produced.labels(stage, topic).inc(count)


def _tag(record: Any) -> str:
    return str(record.__struct_config__.tag)
