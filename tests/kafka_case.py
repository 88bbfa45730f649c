"""A day of trading for the Kafka stages: its data, its settings, what one process makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from operator import itemgetter

import msgspec

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.config import EngineConfig
from agents.runners.engine import Engine
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import Watermark
from schemas.order_events import Fill
from schemas.portfolio import PositionChanged
from schemas.rows import records_from_table
from schemas.topics import MARKET_EVENTS
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece
from tests.generated import session, universe

SYMBOLS = ("AA", "BB", "CC")
STRATEGIES = tuple(
    StrategyConfig(
        strategy_id=f"cross-{symbol}",
        name="momentum_crossover",
        account_id=account,
        instrument_ids=(f"{symbol}.XXXX",),
        on="1m",
        parameters={"fast": 3, "slow": 8},
    )
    for symbol, account in zip(SYMBOLS, ("one", "two", "one"), strict=True)
)
CONFIG = EngineConfig(
    accounts=AccountStageConfig(
        accounts=(
            AccountConfig(account_id="one", cash=Decimal(100_000)),
            AccountConfig(account_id="two", cash=Decimal(100_000)),
        )
    ),
    strategies=STRATEGIES,
    market=MarketConfig(intervals=("1m",)),
)


def data(count: int = 500) -> tuple[Universe, MarketBatch, list[Header]]:
    """Return a day of trades and quotes, as a batch and as records in its order."""
    instruments = universe(SYMBOLS)
    batch = session(instruments, count, days=1)
    events = [
        (pos, record)
        for table in (batch.trades, batch.quotes)
        for pos, record in zip(
            table.pos.tolist(), records_from_table(instruments, table, slice(None)), strict=True
        )
    ]
    events.sort(key=itemgetter(0))
    records = [record for _, record in events]
    end_ns = records[-1].ts_event_ns + 120_000_000_000  # type: ignore[attr-defined]
    records.append(Watermark(source="test", source_seq=1, ts_event_ns=end_ns))
    piece = records_piece(instruments, [(MARKET_EVENTS, record) for record in records])
    return instruments, batch_of(instruments, piece, EARLIEST_NS, 0), records


def content(record: Header) -> bytes:
    """Return a record without what its transport added."""
    return msgspec.json.encode(msgspec.structs.replace(record, producer="", producer_seq=0))


def by_id(records: Sequence[Header]) -> dict[str, bytes]:
    """Return what each id says; the same id may come again, with the same content."""
    found: dict[str, bytes] = {}
    for record in records:
        name = record.event_id  # type: ignore[attr-defined]
        assert found.setdefault(name, content(record)) == content(record)
    return found


class Run:
    """What the one-process engine makes of the data, records by topic."""

    def __init__(self, universe: Universe, events: list[Header]) -> None:
        self.universe = universe
        self.events = events
        self.made: dict[str, list[Header]] = {}


def one_process_run() -> Run:
    """Run the day through the engine."""
    instruments, batch, events = data()
    outputs = Engine(CONFIG, instruments, {}, BUILTIN).process(batch)
    run = Run(instruments, events)
    made = run.made
    for topic, table in outputs.tables:
        made.setdefault(topic, []).extend(records_from_table(instruments, table, slice(None)))
    for topic, record in outputs.records:
        made.setdefault(topic, []).append(record)
    return run


def check_books(fills: Sequence[Header], positions: Sequence[Header]) -> None:
    """Hold positions to the fold of the fills."""
    held: dict[tuple[str, str, str], Decimal] = {}
    for fill in fills:
        assert isinstance(fill, Fill)
        key = (fill.account_id, fill.strategy_id, fill.instrument_id)
        signed = fill.quantity if fill.side == "BUY" else -fill.quantity
        held[key] = held.get(key, Decimal(0)) + signed
    last: dict[tuple[str, str, str], Decimal] = {}
    for position in positions:
        assert isinstance(position, PositionChanged)
        key = (position.account_id, position.strategy_id, position.instrument_id)
        last[key] = position.quantity
    assert last == held
