"""A day of trading for the Kafka stages: its data, its settings, what one process makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

import msgspec

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.config import EngineConfig
from agents.runners.engine import Engine
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from schemas.codec import decode
from schemas.columns import MarketBatch
from schemas.enums import CorporateActionKind
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.market_data import Trade, Watermark
from schemas.order_events import Fill
from schemas.portfolio import PositionChanged
from schemas.rows import records_from_table
from schemas.topics import MARKET_BARS, MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, outgoing
from streams.kafka.reading import read_to_end
from tests.generated import session, universe

SYMBOLS = ("AA", "BB", "CC")
LATE = "DD"
"""An instrument that is defined while the session runs."""

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
_DEFINE_TIMEOUT_S = 120.0
_MINUTE_NS = 60_000_000_000

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


def known() -> Universe:
    """Return the instruments that a session begins with."""
    return universe(SYMBOLS)


def data(count: int = 500) -> tuple[Universe, MarketBatch, list[Header]]:
    """Return a day of trades and quotes, as a batch and as records in its order.

    AA splits two for one, CC pays a dividend, and DD is defined after some hours.
    """
    instruments = universe((*SYMBOLS[:2], LATE, SYMBOLS[2]))
    late = instruments.instruments[2]
    batch = session(instruments, count, days=1)
    events: list[tuple[int, Header]] = [(pos, record) for pos, _, record in batch.records]
    events += [
        (pos, record)
        for table in (batch.trades, batch.quotes)
        for pos, record in zip(
            table.pos.tolist(), records_from_table(instruments, table, slice(None)), strict=True
        )
    ]
    events.sort(key=itemgetter(0))
    begin = len(events) * 2 // 5
    records = [r for _, r in events[:begin] if getattr(r, "instrument_id", "") != f"{LATE}.XXXX"]
    records += [late, *(record for _, record in events[begin:])]
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
        self.actions = [event for event in events if isinstance(event, CorporateAction)]
        self.made: dict[str, list[Header]] = {}


async def define(connection: Connection, instrument: Instrument) -> None:
    """Define an instrument while workers run; return when all market partitions have it.

    Those that the session began with may be there long before, and say nothing of this one.
    """
    async with Publisher(connection) as publisher:
        await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, instrument)])
        partitions = (await publisher.counts([MARKET_EVENTS]))[MARKET_EVENTS]
    async with asyncio.timeout(_DEFINE_TIMEOUT_S):
        while True:
            have = set()
            async for item in read_to_end(connection, MARKET_EVENTS):
                record = decode(MARKET_EVENTS, item.value)
                if (
                    isinstance(record, Instrument)
                    and record.instrument_id == instrument.instrument_id
                ):
                    have.add(item.partition)
            if len(have) == partitions:
                return
            await asyncio.sleep(0.2)


def one_process_run() -> Run:
    """Run the day through the engine."""
    instruments, batch, events = data()
    outputs = Engine(CONFIG, instruments, {}, BUILTIN).process(batch)
    run = Run(known(), events)
    made = run.made
    for topic, table in outputs.tables:
        made.setdefault(topic, []).extend(records_from_table(instruments, table, slice(None)))
    for topic, record in outputs.records:
        made.setdefault(topic, []).append(record)
    return run


class Fold:
    """What fills and corporate actions come to: quantities by line, and cash by account."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str, str], Decimal] = {}
        self.cash: dict[str, Decimal] = {}

    def _pay(self, account_id: str, amount: Decimal) -> None:
        self.cash[account_id] = self.cash.get(account_id, Decimal(0)) + amount

    def on_fill(self, fill: Fill) -> None:
        """Take in a fill."""
        key = (fill.account_id, fill.strategy_id, fill.instrument_id)
        signed = fill.quantity if fill.side == "BUY" else -fill.quantity
        self.held[key] = self.held.get(key, Decimal(0)) + signed
        self._pay(fill.account_id, -signed * fill.price - fill.fee)

    def on_action(self, action: CorporateAction) -> None:
        """Take in a split or a dividend."""
        for key, quantity in self.held.items():
            if key[2] == action.instrument_id:
                if action.kind is CorporateActionKind.SPLIT:
                    self.held[key] = quantity * action.ratio
                else:
                    self._pay(key[0], quantity * action.amount)


def fold(fills: Sequence[Header], actions: Sequence[CorporateAction]) -> Fold:
    """Return what fills and actions come to, in the order of their times."""
    found = Fold()
    both: list[Any] = sorted(
        # An action takes effect before the data of its instant.
        [*actions, *fills],
        key=lambda record: (record.ts_event_ns, isinstance(record, Fill)),
    )
    for record in both:
        if isinstance(record, Fill):
            found.on_fill(record)
        else:
            found.on_action(record)
    return found


def check_books(
    fills: Sequence[Header], positions: Sequence[Header], actions: Sequence[CorporateAction]
) -> None:
    """Hold positions to the fold of the fills.

    A split is told of flat positions, too, such as those of orders that have not been filled yet.
    """
    last: dict[tuple[str, str, str], Decimal] = {}
    for position in positions:
        assert isinstance(position, PositionChanged)
        key = (position.account_id, position.strategy_id, position.instrument_id)
        last[key] = position.quantity
    held = fold(fills, actions).held
    wrong = {key for key in last | held if last.get(key, 0) != held.get(key, 0)}
    assert not wrong, f"{[(key, last.get(key), held.get(key)) for key in sorted(wrong)]}"


async def trade_once(connection: Connection, ts_ns: int) -> None:
    """Publish one trade, and that two minutes have gone by since."""
    share = known().instruments[0]
    trade = Trade(ts_event_ns=ts_ns, instrument_id=share.instrument_id, price=100.0, size=1.0)
    mark = Watermark(ts_event_ns=ts_ns + 2 * _MINUTE_NS, source="clock", source_seq=ts_ns)
    async with Publisher(connection) as publisher:
        counts = await publisher.counts([MARKET_EVENTS])
        await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, share)])
        await publisher.publish([outgoing(MARKET_EVENTS, trade)])
        await publisher.publish(
            [outgoing(MARKET_EVENTS, mark, p) for p in range(counts[MARKET_EVENTS])]
        )


async def bar_ends(connection: Connection) -> set[int]:
    """Return when the bars on the cluster end (ns UTC)."""
    return {
        decode(MARKET_BARS, item.value).ts_event_ns  # type: ignore[attr-defined]
        async for item in read_to_end(connection, MARKET_BARS)
    }
