"""What must hold over all topics of a session on Kafka, whatever happened to its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, NamedTuple

from agents.domain.order_state import Step, next_status
from agents.runners.engine import Engine
from agents.runners.kafka.cluster_log import ClusterLog
from agents.runners.kafka.order_log import valid_entries
from agents.runners.kafka.parts.account import AccountPart
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.runners.kafka.rerun import PartRerun, rerun_session
from infra.kafka.session import Session, manifests, session_of
from infra.origin import load_classes
from schemas import order_events as oe
from schemas.columns import MarketBatch
from schemas.control import OrderLogEntry
from schemas.enums import OrderStatus
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.order_events import Fill
from schemas.rows import records_from_table
from schemas.topics import (
    ACCOUNT_INPUTS,
    CATALOGUE,
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_EVENTS,
    ORDER_FILLS,
    PORTFOLIO_POSITIONS,
    STRATEGY_INPUTS,
    STRATEGY_SIGNALS,
    SYSTEM_DEAD_LETTERS,
    SYSTEM_ORDER_LOG,
    SYSTEM_SNAPSHOTS,
    VENUE_COMMANDS,
)
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher
from tests.kafka_case import check_books, content, fold

_MARKET_DATA = frozenset({MARKET_EVENTS, MARKET_BARS})
_STEPS: dict[type[Any], Step] = {
    oe.OrderDenied: Step.DENY,
    oe.OrderPendingApproval: Step.HOLD,
    oe.OrderSubmitted: Step.APPROVE,
    oe.OrderAccepted: Step.ACCEPT,
    oe.OrderRejected: Step.REJECT,
    oe.OrderTriggered: Step.TRIGGER,
    oe.OrderPartiallyFilled: Step.FILL_PART,
    oe.OrderFilled: Step.FILL,
    oe.OrderPendingCancel: Step.REQUEST_CANCEL,
    oe.OrderCanceled: Step.CANCEL,
    oe.OrderExpired: Step.EXPIRE,
    oe.OrderReplaced: Step.REPLACE,
    oe.OrderUnknown: Step.LOSE,
}


class Check(NamedTuple):
    """One thing that must hold: how much was looked at, and the first breach."""

    name: str
    looked_at: int
    breach: str = ""


class Topics:
    """Everything on the topics, each producer's record once."""

    def __init__(self) -> None:
        self.records: dict[str, list[Header]] = {}
        self.breach = ""
        self.total = 0

    def add(self, topic: str, partition: int, records: Sequence[tuple[int, Header]]) -> None:
        """Take the records of a partition."""
        seen: dict[tuple[str, int], Header] = {}
        for offset, record in records:
            self.total += 1
            if record.producer:
                known = seen.setdefault((record.producer, record.producer_seq), record)
                if known is not record:
                    if known != record:
                        self.breach = self.breach or f"{topic}/{partition}/{offset}: {record}"
                    continue
            self.records.setdefault(topic, []).append(record)


async def check_session(
    connection: Connection, run_id: str, batch: MarketBatch, fed: int
) -> list[Check]:
    """Check a session over the events of ``batch``; ``fed`` records were put into its topics."""
    async with Publisher(connection) as publisher:
        counts = await publisher.counts(topic.name for topic in CATALOGUE)
    known = await manifests(connection, run_id)
    session = session_of(known, run_id, load_classes(known[0]))
    log = ClusterLog(connection, session.instruments, counts)
    topics = Topics()
    notes: list[OrderLogEntry] = []
    ends: dict[tuple[str, int], int] = {}
    for topic in CATALOGUE:
        if topic.name == SYSTEM_SNAPSHOTS:
            continue
        for partition in range(counts[topic.name]):
            records: list[tuple[int, Header]] = []
            async for chunk in log.chunks(topic.name, partition):
                records.extend(chunk.records)
                ends[topic.name, partition] = chunk.next_offset
            if topic.name == SYSTEM_ORDER_LOG:
                notes += [r for _, r in records if isinstance(r, OrderLogEntry)]
            else:
                topics.add(topic.name, partition, records)
    specs = session.specs()
    strategies = [
        specs["strategy"].make(partition, Universe(session.instruments), counts)
        for partition in range(counts[STRATEGY_INPUTS])
    ]
    needed = {
        part.instance: part.looked_at for part in strategies if isinstance(part, StrategyPart)
    }
    reruns = await rerun_session(log, specs.values(), session.instruments)
    return [
        Check("nothing was said twice differently", topics.total, topics.breach or _ids(topics)),
        _nothing_lost(topics, notes, ends, session.manifest.reference_offsets, fed, needed),
        check_venue_orders(topics),
        check_histories(topics),
        await _books(log, topics, session, counts),
        _as_unfaulted(topics, session, batch),
        _parity(reruns),
        Check("no dead letter", 0, _first(topics.records.get(SYSTEM_DEAD_LETTERS, []))),
    ]


def _first(records: Sequence[Header]) -> str:
    return str(records[0]) if records else ""


def _ids(topics: Topics) -> str:
    """Return the first id that stands for two contents on one topic."""
    for topic, records in topics.records.items():
        known: dict[str, bytes] = {}
        for record in records:
            name = getattr(record, "event_id", "")
            if name and known.setdefault(name, content(record)) != content(record):
                return f"{topic}: {record}"
    return ""


def _nothing_lost(
    topics: Topics,
    notes: Sequence[OrderLogEntry],
    ends: dict[tuple[str, int], int],
    begin: Mapping[str, int],
    fed: int,
    needed: Mapping[str, Set[tuple[str, int]]],
) -> Check:
    """Every record that was fed is there, and every noted input follows the one before it.

    ``needed``: what an instance reads of market data to the end; of other partitions a part of
    strategies takes the first records alone.
    """
    fed_records = [
        record
        for record in topics.records.get(MARKET_EVENTS, [])
        if not isinstance(record, Instrument)
    ]
    found = len(fed_records)
    breach = "" if found == fed else f"{found} of {fed} market events are on the topic"
    by_instance: dict[str, list[OrderLogEntry]] = {}
    for note in notes:
        by_instance.setdefault(note.instance, []).append(note)
    for instance in {*by_instance, *needed}:
        entries = by_instance.get(instance, [])
        at: dict[tuple[str, int], int] = {}
        if instance == "reference/0":
            at = {(topic, 0): offset for topic, offset in begin.items()}
        for entry in valid_entries(entries):
            place = (entry.topic, entry.partition)
            if entry.first_offset != at.get(place, 0):
                breach = breach or f"{instance}: {entry} does not follow {at.get(place, 0)}"
            at[place] = entry.last_offset + 1
        looked_at = needed.get(instance, at.keys())
        for place in {*at, *looked_at}:
            if place[0] in _MARKET_DATA and place not in looked_at:
                continue
            end, wanted = at.get(place, 0), ends.get(place, 0)
            if end != wanted:
                breach = breach or f"{instance}: {place} was consumed up to {end} of {wanted}"
    return Check("no input is lost", found, breach)


def check_venue_orders(topics: Topics) -> Check:
    """No order stands twice at the venue, and no command was given twice."""
    commands = topics.records.get(VENUE_COMMANDS, [])
    given = [(type(c).__name__, c.event_id) for c in commands]  # type: ignore[attr-defined]
    accepted = [
        record.client_order_id
        for record in topics.records.get(ACCOUNT_INPUTS, [])
        if isinstance(record, oe.VenueAccepted)
    ]
    twice = sorted({str(item) for item in given if given.count(item) > 1})
    twice += sorted({item for item in accepted if accepted.count(item) > 1})
    return Check("no order is at the venue twice", len(accepted), ", ".join(twice[:3]))


def check_histories(topics: Topics) -> Check:
    """Every order's events are a way through the table of transitions."""
    status: dict[str, OrderStatus] = {}
    before_cancel: dict[str, OrderStatus] = {}
    market = topics.records.get(MARKET_EVENTS, [])
    actions = {action.event_id for action in market if isinstance(action, CorporateAction)}
    for record in topics.records.get(ORDER_EVENTS, []):
        if record.causation_id in actions:  # type: ignore[attr-defined]
            continue  # a split leaves an order in its state
        order = record.client_order_id  # type: ignore[attr-defined]
        now = status.get(order, OrderStatus.INITIALIZED)
        if isinstance(record, oe.OrderCancelRejected):
            status[order] = before_cancel.pop(order, now)
            continue
        step = _STEPS.get(type(record))
        if step is None:
            continue
        if step is Step.REQUEST_CANCEL:
            before_cancel[order] = now
        after = next_status(now, step)
        if after is None:
            return Check("every history is legal", len(status), f"{order}: {step} in {now}")
        status[order] = after
    return Check("every history is legal", len(status))


async def _books(
    log: ClusterLog, topics: Topics, session: Session, counts: dict[str, int]
) -> Check:
    """Positions and cash are the fold of the fills."""
    fills = [r for r in topics.records.get(ORDER_FILLS, []) if isinstance(r, Fill)]
    actions = [r for r in topics.records[MARKET_EVENTS] if isinstance(r, CorporateAction)]
    name = "positions and cash are the fold of the fills"
    try:
        check_books(fills, topics.records.get(PORTFOLIO_POSITIONS, []), actions)
    except AssertionError as error:
        return Check(name, len(fills), f"positions: {error}")
    for config in session.config.accounts.accounts:
        wanted = config.cash + fold(fills, actions).cash.get(config.account_id, Decimal(0))
        found = await _cash(log, session, counts, config.account_id)
        if found != wanted:
            return Check(name, len(fills), f"{config.account_id} has {found}, fills say {wanted}")
    return Check(name, len(fills), "" if fills else "there are no fills")


async def _cash(
    log: ClusterLog, session: Session, counts: dict[str, int], account_id: str
) -> Decimal:
    for partition in range(counts[ACCOUNT_INPUTS]):
        part = AccountPart(
            partition,
            Universe(list(session.instruments)),
            counts,
            session.config.accounts,
            session.sessions,
        )
        account = part._stage.accounts.get(account_id)
        if account is None:
            continue
        async for chunk in log.chunks(ACCOUNT_INPUTS, partition):
            part.take(ACCOUNT_INPUTS, partition, chunk.records, chunk.next_offset)
        return account.cash[account.config.base_currency]
    raise AssertionError(f"no partition has the account {account_id}")


def _as_unfaulted(topics: Topics, session: Session, batch: MarketBatch) -> Check:
    """Bars and signals are those of one process over the same events, by id."""
    engine = Engine(session.config, batch.universe, session.sessions, session.classes)
    outputs = engine.process(batch)
    wanted: dict[str, list[Header]] = {}
    for topic, table in outputs.tables:
        rows = records_from_table(batch.universe, table, slice(None))
        wanted.setdefault(topic, []).extend(rows)
    for topic, record in outputs.records:
        wanted.setdefault(topic, []).append(record)
    count = 0
    for topic in (MARKET_BARS, STRATEGY_SIGNALS):
        on_topic = topics.records.get(topic, [])
        found = _contents([r for r in on_topic if not isinstance(r, CorporateAction)])
        made = _contents(wanted.get(topic, []))
        count += len(found)
        for name in made.keys() | found.keys():
            if made.get(name) != found.get(name):
                breach = f"{topic} {name}: {found.get(name)!r} for {made.get(name)!r}"
                return Check("bars and signals as without faults", count, breach)
    return Check("bars and signals as without faults", count)


def _contents(records: Sequence[Header]) -> dict[str, bytes]:
    return {record.event_id: content(record) for record in records}  # type: ignore[attr-defined]


def _parity(reruns: Sequence[PartRerun]) -> Check:
    compared = sum(item.compared for item in reruns)
    for item in reruns:
        if item.differences:
            return Check("parity without difference", compared, f"{item.instance}: {item.first}")
        if item.unpublished:
            left = f"{item.instance}: {item.unpublished} outputs were never published"
            return Check("parity without difference", compared, left)
    return Check("parity without difference", compared)
