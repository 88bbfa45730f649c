"""All read models of a run, folded from its topics.

``load`` reads what the log has at hand, ``apply`` takes what is published from then on. A log that
keeps the newest records alone tells the older ones by ``apply`` before that, while it reads them.
All may see a record that was seen before; the offset decides.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from schemas import topics as t
from schemas.control import RunManifest
from schemas.enums import AutonomyMode
from schemas.instruments import CorporateAction, ExchangeRate
from schemas.order_events import Fill
from schemas.portfolio import PositionChanged
from schemas.retries import retried_letter
from schemas.risk import SetAutonomy
from streams.cursors import END_PLACE, RecordPlace
from streams.log import Log, Published
from streams.merging import time_of
from web.views.backtests import Backtests
from web.views.causes import Causes
from web.views.configured import configured
from web.views.lots import Lots
from web.views.market import Market
from web.views.orders import OrderBook
from web.views.portfolio import Portfolio
from web.views.recent import RecentRecords
from web.views.risk import Risk
from web.views.strategies import Strategies
from web.views.system import System

_PAGE = 1_000
_MARKET = frozenset({t.MARKET_EVENTS, t.MARKET_BARS})
INTERNAL = frozenset({t.SYSTEM_ORDER_LOG, t.SYSTEM_SNAPSHOTS})
"""What stages write for themselves: no read model is made of it."""

_WHOLE = frozenset(
    {
        t.REFERENCE_ACTIONS,
        t.REFERENCE_RATES,
        t.ORDER_FILLS,
        t.ORDER_EVENTS,
        t.PORTFOLIO_EQUITY,
    }
)
"""Topics besides those of states that are folded whole: lots, open orders and curves of the whole
run follow from them, each in bounded memory.
"""


class Views:
    """The read models; ``history_max`` bounds each of them."""

    def __init__(
        self,
        history_max: int = 10_000,
        autonomy_mode: AutonomyMode = AutonomyMode.AUTOMATIC,
        approval_timeout_s: float = 300.0,
    ) -> None:
        self._history_max = history_max
        self._next_offsets: dict[tuple[str, int], int] = {}
        self._with_gaps: set[str] = set()
        self.newest_ns: dict[str, int] = {}
        self.recent = RecentRecords()
        self.orders = OrderBook(history_max)
        self.causes = Causes(history_max)
        self.market = Market()
        self.portfolio = Portfolio(self.market.instruments)
        self.lots = Lots(self.market.instruments)
        self.risk = Risk(autonomy_mode, approval_timeout_s, history_max)
        self.strategies = Strategies(history_max)
        self.backtests = Backtests(history_max)
        self.system = System()
        self._folds = self._fold_table()
        self._placed: dict[str, Callable[[Published], None]] = {
            t.ORDER_FILLS: self._on_fill,
            t.RISK_DECISIONS: self.risk.on_decision,
            t.STRATEGY_SIGNALS: self.strategies.on_signal,
            t.ACCOUNT_INPUTS: self._on_input,
            t.ORDER_EVENTS: self.orders.on_event,
            t.PORTFOLIO_POSITIONS: self._on_position,
            t.RISK_BREAKER: self.risk.on_breaker,
            t.SYSTEM_DEAD_LETTERS: self.system.on_dead_letter,
        }

    def _fold_table(self) -> dict[str, Callable[[Any], None]]:
        """Return for each topic who takes its records."""
        return {
            t.MARKET_EVENTS: self.market.on_event,
            t.MARKET_BARS: self.market.on_event,
            t.REFERENCE_INSTRUMENTS: self.market.on_instrument,
            t.MARKET_QUALITY: self.system.on_quality,
            t.ORDER_RECEIPTS: self.orders.on_receipt,
            t.REFERENCE_ACTIONS: self._on_action,
            t.REFERENCE_RATES: self.portfolio.on_rate,
            t.PORTFOLIO_ACCOUNTS: self.portfolio.on_snapshot,
            t.PORTFOLIO_EQUITY: self.portfolio.on_mark,
            t.RISK_LIMITS: self.risk.on_limits,
            t.STRATEGY_STATES: self.strategies.on_state,
            t.BACKTEST_REQUESTS: self.backtests.on_request,
            t.BACKTEST_PROGRESS: self.backtests.on_progress,
            t.BACKTEST_RESULTS: self.backtests.on_result,
            t.CONTROL_CONFIG: self.system.on_config,
            t.SYSTEM_RUNS: self._on_manifest,
        }

    def load(self, log: Log) -> None:
        """Take in what the log has at hand, behind what was taken in before.

        State topics, fills, order events and marks from the first record on, of the others the
        newest.
        """
        self.apply(self.merged(log))
        begins = {
            t.ACCOUNT_INPUTS: self.orders.commands,
            t.ORDER_EVENTS: self.orders.life,
            t.ORDER_FILLS: self.orders.fills.begin,
            t.PORTFOLIO_POSITIONS: self.portfolio.results.begin,
            t.RISK_DECISIONS: self.risk.decisions.begin,
            t.RISK_BREAKER: self.risk.changes.begin,
            t.STRATEGY_SIGNALS: self.strategies.history.begin,
        }
        for topic, begin in begins.items():
            for partition in range(log.partitions(topic)):
                if (
                    log.end_offset(topic, partition)
                    and (topic, partition) not in self._next_offsets
                ):
                    # Retention took all that it held.
                    begin.rise(RecordPlace(log.now_ns(), partition, 0, ""))

    def folds(self, topic: str) -> bool:
        """Return whether read models beyond the newest records are made of a topic."""
        return topic in self._folds or topic in self._placed

    def has_all(self, log: Log) -> bool:
        """Return whether a log has at hand all that these read models have been made of.

        Of a compacted topic it has not, once a newer record of its key has replaced one.
        """
        return not any(
            log.at_hand(topic.name, partition)
            or (topic.is_compacted and topic.name in self._with_gaps)
            for topic in t.CATALOGUE
            if self.folds(topic.name)
            for partition in range(log.partitions(topic.name))
        )

    def account_of(self, strategy_id: str) -> str | None:
        """Return the account of a strategy, None if it is not known."""
        state = self.strategies.states.get(strategy_id)
        if state is not None:
            return state.account_id
        known = configured(self.system.manifest).strategy(strategy_id)
        return known.account_id if known is not None else None

    def of(self, accounts: frozenset[str]) -> Views:
        """Return read models in which there are no other accounts; for one request.

        Lists that no route of such a key asks for (risk's counts, dead letters, what is recent) are
        still those of all.
        """
        own = copy.copy(self)
        own.orders = self.orders.of(accounts)
        own.portfolio = self.portfolio.of(accounts)
        own.risk = copy.copy(self.risk)
        own.risk.decisions = self.risk.decisions.of(
            lambda item: getattr(item.record, "account_id", "") in accounts
        )
        names = self.strategies.names()
        own.strategies = self.strategies.only(
            frozenset(name for name in names if self.account_of(name) in accounts)
        )
        return own

    def forget(self) -> None:
        """Know that lists lack records anywhere: only states were taken in."""
        self.orders.forget()
        self.portfolio.results.begin.rise(END_PLACE)
        self.portfolio.dividends.is_whole = False
        self.risk.decisions.forget()
        self.risk.changes.forget()
        self.strategies.history.forget()

    def merged(self, log: Log) -> Iterator[Published]:
        """Yield what the log has at hand, merged by time as far as the offsets allow.

        What was taken in before is left out.
        """
        pages = []
        for topic in t.CATALOGUE:
            if topic.name in INTERNAL:
                continue
            is_whole = topic.websocket == "state" or topic.name in _WHOLE
            for partition in range(log.partitions(topic.name)):
                end = log.end_offset(topic.name, partition)
                known = self._next_offsets.get((topic.name, partition), 0)
                first = max(log.at_hand(topic.name, partition), known)
                if not is_whole:
                    first = max(first, end - self._history_max)
                pages.append(_records(log, topic.name, partition, first, end))
        return heapq.merge(*pages, key=time_of)

    def apply(self, published: Iterable[Published]) -> None:
        """Take in records as they are published."""
        for item in published:
            place = (item.topic, item.partition)
            expected = self._next_offsets.get(place, 0)
            if item.offset < expected:
                continue
            if item.offset > expected:
                self._with_gaps.add(item.topic)
            ts_ns = time_of(item)
            if item.offset and not expected and item.topic in _MARKET:
                self.market.begin_late(ts_ns)
            self._next_offsets[place] = item.offset + 1
            if ts_ns > self.newest_ns.get(item.topic, 0):
                self.newest_ns[item.topic] = ts_ns
            self.recent.apply(item)
            self.causes.apply(item)
            if item.record.producer and (letter_id := retried_letter(item.record)):
                self.system.on_retried(letter_id)
            fold = self._folds.get(item.topic)
            if fold is not None:
                fold(item.record)
            else:
                placed = self._placed.get(item.topic)
                if placed is not None:
                    placed(item)

    def next_offsets(self, topic: str) -> dict[str, int]:
        """Return for each partition of ``topic`` the offset behind the last record taken in."""
        return {
            str(partition): offset
            for (name, partition), offset in self._next_offsets.items()
            if name == topic
        }

    def _on_manifest(self, manifest: RunManifest) -> None:
        self.system.on_manifest(manifest)
        accounts = configured(manifest).accounts
        if accounts.autonomy is not None:
            self.risk.on_configured(accounts.autonomy, accounts.approval_timeout_s)

    def _on_fill(self, item: Published) -> None:
        self.orders.on_fill(item)
        if isinstance(item.record, Fill):
            self.lots.on_fill(item.record)

    def _on_position(self, item: Published) -> None:
        self.portfolio.on_position(item)
        if isinstance(item.record, PositionChanged):
            self.lots.on_position(item.record)

    def _on_action(self, action: CorporateAction) -> None:
        self.lots.on_action(action)
        self.portfolio.dividends.on_action(action)

    def _on_input(self, item: Published) -> None:
        self.orders.on_input(item)
        record = item.record
        if isinstance(record, SetAutonomy):
            self.risk.on_autonomy(record)
        elif isinstance(record, CorporateAction):
            self._on_action(record)
        elif isinstance(record, ExchangeRate):
            self.portfolio.on_rate(record)


def _records(log: Log, topic: str, partition: int, offset: int, end: int) -> Iterator[Published]:
    """Yield the records of a partition page by page."""
    while offset < end and (page := log.read(topic, offset, _PAGE, partition)):
        yield from page
        offset = page[-1].offset + 1
