"""Dead letters of a live run: a retry holds their records to what the feed takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from infra.operating import check_again
from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.topics import ACCOUNT_INPUTS, MARKET_EVENTS
from tests.generated import cut, session
from tests.simulation.live_process import engine_config
from tests.unit.feed_samples import Clock, S, quote, trade, universe
from tests.unit.test_runners_live_feed import runner_of


@pytest.fixture(params=["feed", "recording"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalRunner]:
    """Return a run over a live feed, and one over a recording."""
    if request.param == "feed":
        found, _ = runner_of(tmp_path, Clock())
    else:
        config, instruments = engine_config(), universe()
        feed = RecordingFeed(iter(cut(session(instruments, 300), 50)), speed=0, first_ns=0)
        manifest = manifest_of(config, [], Identity("test", "test"), "paper", "paper")
        found = LocalRunner(Engine(config, instruments, {}, BUILTIN), feed, tmp_path, manifest)
        found.turn()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("record", "behind_s", "field"),
    [
        (trade(price=-5.0), 0, "price"),
        (trade(size=-1.0), 0, "size"),
        (quote(bid_price=-1.0), 0, "bid_price"),
        (trade(instrument_id="NIX.XXXX"), 0, "instrument_id"),
        (trade(), 90_000, "ts_event_ns"),
        (trade(), -60, "ts_event_ns"),
    ],
)
def test_market_event_that_a_feed_refuses_is_not_written_again(
    runner: LocalRunner, record: Header, behind_s: int, field: str
) -> None:
    msgspec.structs.force_setattr(record, "ts_event_ns", runner.now_ns() - behind_s * S)

    with pytest.raises(RecordError) as caught:
        check_again(runner, MARKET_EVENTS, record)

    assert caught.value.field == field


def test_market_event_that_can_be_used_by_now_passes(runner: LocalRunner) -> None:
    check_again(runner, MARKET_EVENTS, trade(runner.now_ns()))
    # What the stages ask of their own inputs is theirs to say.
    check_again(runner, ACCOUNT_INPUTS, trade(price=-5.0))
