"""What a stage tells of its progress: the lag of what it has, and of nothing else."""

from __future__ import annotations

from agents.runners.kafka.meters import Meters
from agents.runners.kafka.progress import Progress
from schemas.enums import BreakerState


def lag(meters: Meters, topic: str, partition: int) -> float | None:
    labels = {"stage": "market", "topic": topic, "partition": str(partition)}
    return meters.registry.get_sample_value("millrace_lag_messages", labels)


def test_lag_of_a_partition_that_others_have_now_is_not_shown_any_more() -> None:
    meters = Meters()
    progress = Progress("market", meters)
    progress.show_lag(("t", 0), 7, 0)
    progress.show_lag(("t", 1), 9, 0)
    progress.keep_lag({("t", 1)})
    assert (lag(meters, "t", 0), lag(meters, "t", 1)) == (0, 9)
    progress.show_lag(("t", 0), 3, 0)
    progress.keep_lag({("t", 0), ("t", 1)})
    assert (lag(meters, "t", 0), lag(meters, "t", 1)) == (3, 9)


def test_breaker_of_a_scope_is_the_strictest_that_the_worker_has_now() -> None:
    meters = Meters()

    def level(scope: str) -> float | None:
        return meters.registry.get_sample_value("millrace_breaker_state", {"scope": scope})

    first, second = {"ACCOUNT|one": BreakerState.HALTED}, {"ACCOUNT|two": BreakerState.REDUCING}
    meters.show_breakers([first, second])
    assert (level("ACCOUNT"), level("GLOBAL")) == (2, 0)
    meters.show_breakers([second])
    assert level("ACCOUNT") == 1
    meters.show_breakers([])
    assert level("ACCOUNT") == 0


def test_counts_of_a_stage_begin_at_nothing() -> None:
    meters = Meters()
    meters.begin("market")
    for name in ("failures", "rebalances", "snapshots"):
        assert meters.registry.get_sample_value(f"millrace_{name}_total", {"stage": "market"}) == 0
