"""The demo's recording on Kafka by the real commands: what one process makes of it, by id.

The first ten minutes of it (20,168 events of 373,608); ``make session`` plays the whole.
"""

from __future__ import annotations

import pytest

from schemas.codec import decode
from schemas.enums import BreakerState, Scope
from schemas.envelope import Header
from schemas.risk import BreakerChanged, RiskDecision, SetLimits
from schemas.topics import RISK_BREAKER, RISK_DECISIONS, RISK_LIMITS
from streams.kafka.reading import read_to_end
from tests.simulation.kafka_session import RUN, Commands, parity, run_session

UNTIL = "2013-10-07T13:40:00Z"


async def records(commands: Commands, topic: str) -> list[Header]:
    """Return what is on a topic, each producer's record once."""
    found: dict[tuple[int, str, int], Header] = {}
    async for item in read_to_end(commands.connection, topic):
        record = decode(topic, item.value)
        found.setdefault((item.partition, record.producer, record.producer_seq), record)
    return list(found.values())


@pytest.mark.parametrize(("workers", "speed"), [(1, 0.0), (3, 30.0)])
async def test_any_number_of_workers_makes_what_one_process_makes(
    commands: Commands, workers: int, speed: float
) -> None:
    checks = await run_session(commands, workers, UNTIL, speed)
    assert [check for check in checks if check.breach] == []
    assert all(check.looked_at for check in checks if check.name != "no dead letter")
    await check_operator(commands, is_paced=speed > 0)
    compared = await parity(commands, RUN, "--from-kafka")
    recording = commands.folder / "recording"
    await commands.run("record", str(recording))
    assert await parity(commands, str(recording)) == compared > 5_000


async def check_operator(commands: Commands, *, is_paced: bool) -> None:
    """Hold the operator's commands to having reached every account, once each.

    Unpaced, the day may be over before the breaker of an account has tripped.
    """
    states = [r for r in await records(commands, RISK_BREAKER) if isinstance(r, BreakerChanged)]
    # Those of an account stand in another partition, whose time is its own.
    states.sort(key=lambda state: state.scope is not Scope.GLOBAL)
    assert [(r.scope.value, r.scope_id, r.state) for r in states] == [
        ("GLOBAL", "", BreakerState.HALTED),
        ("GLOBAL", "", BreakerState.ACTIVE),
        ("ACCOUNT", "second", BreakerState.HALTED),
    ]
    limits = [r for r in await records(commands, RISK_LIMITS) if isinstance(r, SetLimits)]
    assert [r.limits.max_notional for r in limits] == [200_000, 150_000]
    decisions = [r for r in await records(commands, RISK_DECISIONS) if isinstance(r, RiskDecision)]
    approved = {r.account_id for r in decisions if r.is_approved}
    assert approved == {"first", "second"}
    halted = {r.account_id for r in decisions if r.code == "BREAKER_HALTED"}
    assert not is_paced or "second" in halted
