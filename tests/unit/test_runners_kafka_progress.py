"""What a stage tells of its progress: the lag of what it has, and of nothing else."""

from __future__ import annotations

from agents.runners.kafka.meters import Meters
from agents.runners.kafka.progress import Progress


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
