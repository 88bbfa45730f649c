"""Playing a recording into the topics of a real Kafka: what the stages find there."""

from __future__ import annotations

from pathlib import Path

from agents.runners.kafka.incoming import Taken, take_records
from infra.kafka.publishing import publish_recording
from infra.kafka.session import known_instruments
from schemas.instruments import Instrument, Universe
from schemas.market_data import Trade
from schemas.topics import MARKET_EVENTS, TOPIC_BY_NAME
from streams.kafka.connection import Connection
from streams.kafka.reading import read_to_end
from streams.kafka.topics import ClusterTopics
from tests.generated import trades, universe, write_csv
from tests.kafka_case import content

COUNT = 300


async def taken(connection: Connection) -> list[Taken]:
    """Return what the stages of a session that knows no instrument take of each partition."""
    partitions = TOPIC_BY_NAME[MARKET_EVENTS].partitions
    return [
        take_records(
            MARKET_EVENTS,
            partition,
            [item async for item in read_to_end(connection, MARKET_EVENTS, [partition])],
            Universe([]),
            partitions,
        )
        for partition in range(partitions)
    ]


async def test_no_trade_of_a_new_instrument_is_ahead_of_its_definition(
    own_bootstrap: str, tmp_path: Path
) -> None:
    """Whatever the reference stage of a session that runs is about; here there is none at all."""
    connection = Connection(bootstrap=own_bootstrap)
    assert await ClusterTopics(connection).apply() == []
    data = write_csv(tmp_path / "new.csv", trades(universe(("NEW",)), COUNT, days=1))
    assert await publish_recording(connection, str(data), speed=0.0) == COUNT
    # Played again, as after an interruption.
    assert await publish_recording(connection, str(data), speed=0.0) == COUNT
    found = await taken(connection)
    assert [letter.reason for part in found for letter in part.letters] == []
    assert sum(isinstance(r, Trade) for part in found for _, r in part.records) == 2 * COUNT
    (known,) = await known_instruments(connection)
    for part in found:
        defined = [r for _, r in part.records if isinstance(r, Instrument)]
        assert [content(r) for r in defined] == [content(known)] * 2
        # What is played again is known by its number.
        assert [r.producer_seq for r in defined] == [1, 1]
        assert len({r.producer for r in defined}) == 1
