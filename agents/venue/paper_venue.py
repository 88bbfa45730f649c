"""The paper venue as a processor: orders in, reports out, driven by position.

    question              rule
    order id              one account's own; its second order of an id is DUPLICATE_ORDER_ID
    which events an       those later in merged order than its command and with a clock at or past
    order sees            command time plus latency (the clock, not the event's own time: an event
                          may come late, and then it happens at the clock)
    order of things       what time brings first, by its instants; then the event meets the orders
    accepted              at once, at the command's time; latency delays what the order sees
    post-only             rejected if it would trade at the last known price when it arrives; if
                          that is later than its command, it is canceled instead, POST_ONLY
    reduce-only           fills at most the position that the venue's own fills made for account,
                          strategy and instrument; the excess is canceled, REDUCE_ONLY
    DAY                   expires at the first position with a clock at or past the close of the
                          session that the command's time is in or before (the first close after
                          it); at UTC midnight without a calendar
    IOC, FOK              decided by the first event; what is left is canceled
    cancel, replace       take effect at command time plus latency, before the event at that
                          position; refused, UNKNOWN_ORDER, if the order is over by then
    replace               keeps the order's place unless a price changes or the quantity grows; with
                          a new price the order arrives anew
    bars                  a bar tells of the time before its close, so what time brings at that very
                          instant comes after the bar
    halt                  nothing is matched while an instrument is not open; time goes on
    split                 quantities are scaled down to the grid, prices to the nearest tick (half
                          to even); an order of which nothing is left is canceled, SPLIT
    symbol change         orders move to the new instrument; they are canceled, SYMBOL_CHANGE, if it
                          is unknown or has other grids; positions add to those that are held there
    end of data           nothing happens; orders keep working

The rules of a fill are the table in ``agents.venue.matching``. Of a batch in which no order works
the venue keeps nothing but the last prices and states.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Mapping

from agents.processor import Outbox
from agents.venue.actions import apply_action
from agents.venue.agenda import Kind, Task
from agents.venue.book import Book, Resting, order_key
from agents.venue.config import BAR, THROUGH, VenueConfig
from agents.venue.execution import Executor
from agents.venue.matching import look, read_event
from agents.venue.reports import Reporter
from agents.venue.tape import Market, Tapes
from agents.venue.terms import Refusal, Terms, changed_terms, read_terms
from agents.venue.usable import Usable
from schemas.columns import MarketBatch
from schemas.commands import VenueCancel, VenueReplace, VenueSubmit
from schemas.enums import Side, TimeInForce
from schemas.identifiers import timer_id
from schemas.instruments import CorporateAction, Universe
from schemas.sessions import SessionTable
from schemas.values import Grid

_DAY_NS = 86_400_000_000_000


class PaperVenue:
    """An exchange that fills orders from market data."""

    def __init__(
        self, config: VenueConfig, universe: Universe, sessions: Mapping[str, SessionTable]
    ) -> None:
        """Take settings, instruments, and the sessions of each calendar by its name."""
        self.config = config
        self._universe = universe
        self._sessions = sessions
        self._closes: dict[str, list[int]] = {}
        self._is_through = config.limit_fill == THROUGH
        self._usable = Usable(universe, config.bar_interval)
        self._reporter = Reporter(universe, config.fee)
        self._book = Book()
        self._executor = Executor(config, self._reporter, self._book.positions)
        self._batch: MarketBatch | None = None
        self._size = 0
        self._tapes: Tapes | None = None
        # Meetings of orders with events of the batch, by position; stale ones are passed over.
        self._meetings: list[tuple[int, str]] = []
        self._next = -1

    # ---- driving -----------------------------------------------------------------------------

    def load(self, batch: MarketBatch) -> None:
        """Take a batch; working orders see it from its first event on."""
        self._batch = batch
        self._size = len(batch)
        self._tapes = Tapes(batch, self.config, self._usable, self._book.states)
        self._meetings = []
        self._next = -1
        for order in self._book.orders.values():
            order.look_anew(-1)
            self._look(order)

    def next(self) -> int:
        """Return the next position at which something may happen, or the batch's length."""
        if self._next < 0:
            self._next = self._find_next()
        return self._next

    def fire(self, pos: int, out: Outbox) -> None:
        """Let everything happen that is due at ``pos``."""
        batch, tapes = self._batch, self._tapes
        if batch is None or tapes is None:
            return
        self._next = -1
        now_ns = int(batch.clock[pos])
        self._pass_time(now_ns, pos, out)
        meeting: list[Resting] = []
        while self._meetings and self._meetings[0][0] == pos:
            order = self._book.orders.get(heapq.heappop(self._meetings)[1])
            if order is not None and order.at == pos:
                order.at = -1
                meeting.append(order)
        market = tapes.market(meeting[0].index) if meeting else None
        if market is not None:
            self._match(meeting, market, pos, now_ns, out)

    def end(self) -> None:
        """Remember the last prices and states; the batch is finished."""
        if self._tapes is not None:
            self._book.last.update(self._tapes.last_sides())
            self._book.states.update(self._tapes.last_states())
        self._batch = self._tapes = None
        self._size = 0
        self._meetings = []
        self._next = -1

    def _find_next(self) -> int:
        meetings = self._meetings
        while meetings:
            order = self._book.orders.get(meetings[0][1])
            if order is not None and order.at == meetings[0][0]:
                break
            heapq.heappop(meetings)
        pos = meetings[0][0] if meetings else self._size
        due_ns = self._book.agenda.next_ns()
        if due_ns is not None and self._batch is not None and self._size:
            clock = self._batch.clock
            if clock[-1] >= due_ns:
                pos = min(pos, int(clock.searchsorted(due_ns)))
        return pos

    def _look(self, order: Resting) -> None:
        """Find the next event that meets an order."""
        if self._batch is None or self._tapes is None:
            return
        market = self._tapes.market(order.index)
        if market is None:
            return
        order.at = look(order, market, self._batch.clock, self._is_through)
        if order.at < self._size:
            heapq.heappush(self._meetings, (order.at, order.key()))
        self._next = -1

    def _match(
        self, orders: list[Resting], market: Market, pos: int, now_ns: int, out: Outbox
    ) -> None:
        """Let the event at ``pos`` meet ``orders``, all of its instrument."""
        assert self._batch is not None
        tape = market.tape
        row = tape.row_from(pos)
        if market.prints is not None and tape.position(row) != pos:
            tape = market.prints
            row = tape.row_from(pos)
        event = read_event(market, tape, row, now_ns)
        market_id = self._batch.event_id(pos)
        over = self._executor.meet(orders, event, tape, row, market_id, out)
        for order in over:
            self._book.drop(order)
        for order in orders:
            if order.key() in self._book.orders:
                order.after = pos
                if tape is market.tape:
                    order.row = row + 1
                else:
                    order.print_row = row + 1
                self._look(order)

    # ---- time --------------------------------------------------------------------------------

    def _pass_time(self, now_ns: int, pos: int, out: Outbox) -> None:
        """Let everything happen that is due by ``now_ns``, before the event at ``pos``."""
        agenda = self._book.agenda
        while (due_ns := agenda.next_ns()) is not None and due_ns <= now_ns:
            task = agenda.pop()
            order = self._book.orders.get(task.order_key)
            if task.command is not None:
                self._take_effect(task.command, order, task.due_ns, pos - 1, out)
            elif order is not None and task.kind is Kind.EXPIRE:
                cause = timer_id(f"expiry:{order.key()}", task.due_ns)
                self._reporter.expired(order, task.due_ns, cause, out)
                self._book.drop(order)
            elif order is not None and self._would_trade(order, order.limit, pos - 1):
                cause = timer_id(f"arrival:{order.key()}", task.due_ns)
                self._reporter.canceled(order, "POST_ONLY", task.due_ns, cause, out)
                self._book.drop(order)

    def _do_at(
        self,
        due_ns: int,
        kind: Kind,
        key: str,
        instrument_id: str,
        command: VenueCancel | VenueReplace | None = None,
    ) -> None:
        """Take on what is to happen at ``due_ns``."""
        # What happens at the close of a bar comes after the bar, which tells of the time before.
        seen_ns = due_ns + (self.config.tier(instrument_id) == BAR)
        self._book.agenda.add(Task(self._book.count(), due_ns, seen_ns, kind, key, command))
        self._next = -1

    def _take_effect(
        self,
        command: VenueCancel | VenueReplace,
        order: Resting | None,
        ts_ns: int,
        after: int,
        out: Outbox,
    ) -> None:
        """Cancel or replace; the new terms hold for the events after position ``after``."""
        if order is None:
            detail = "the order is over, or was never here"
            self._reporter.rejected(command, "UNKNOWN_ORDER", detail, ts_ns, out)
        elif isinstance(command, VenueCancel):
            self._reporter.canceled(order, "REQUESTED", ts_ns, command.event_id, out)
            self._book.drop(order)
        else:
            self._replace(order, command, ts_ns, after, out)

    def _replace(
        self, order: Resting, command: VenueReplace, ts_ns: int, after: int, out: Outbox
    ) -> None:
        terms = changed_terms(order, command, *self._grids(order.index))
        if isinstance(terms, Terms):
            is_repriced = terms.limit != order.limit
            if order.is_post_only and is_repriced and self._would_trade(order, terms.limit, after):
                terms = Refusal("POST_ONLY", "the order would trade at once")
        if isinstance(terms, Refusal):
            self._reporter.rejected(command, *terms, ts_ns, out)
            return
        is_repriced = is_repriced or (order.is_stop() and terms.stop != order.stop)
        if is_repriced or terms.quantity > order.quantity:
            order.priority = self._book.count()
        if is_repriced:
            order.has_rested = order.is_post_only
            order.eligible_ns = max(order.eligible_ns, ts_ns)
        order.quantity, order.limit, order.stop = terms
        order.look_anew(after)
        self._look(order)
        self._reporter.replaced(order, ts_ns, command.event_id, out)

    # ---- commands ----------------------------------------------------------------------------

    def on_command(
        self, command: VenueSubmit | VenueReplace | VenueCancel, pos: int, now_ns: int, out: Outbox
    ) -> None:
        """Take a command that was consumed right after the event at ``pos``, at time ``now_ns``."""
        if isinstance(command, VenueSubmit):
            self._submit(command, pos, now_ns, out)
            return
        latency, key = self.config.latency, order_key(command.account_id, command.client_order_id)
        order = self._book.orders.get(key)
        kind_ns = latency.replace_ns
        if isinstance(command, VenueCancel):
            kind_ns = latency.cancel_ns
        elif order is not None:
            terms = changed_terms(order, command, *self._grids(order.index))
            if isinstance(terms, Refusal):
                self._reporter.rejected(command, *terms, now_ns, out)
                return
        delay_ns = self._delay_ns(kind_ns, key)
        if delay_ns and order is not None:
            due_ns = now_ns + delay_ns
            self._do_at(due_ns, Kind.COMMAND, key, order.instrument_id, command)
        else:
            self._take_effect(command, order, now_ns, pos, out)

    def _submit(self, command: VenueSubmit, pos: int, now_ns: int, out: Outbox) -> None:
        order = self._order_of(command, now_ns)
        if isinstance(order, Refusal):
            self._reporter.rejected(command, *order, now_ns, out)
            return
        is_on_its_way = order.eligible_ns > now_ns
        if order.is_post_only and not is_on_its_way and self._would_trade(order, order.limit, pos):
            detail = "the order would trade at once"
            self._reporter.rejected(command, "POST_ONLY", detail, now_ns, out)
            return
        key, instrument_id = order.key(), order.instrument_id
        self._book.orders[key] = order
        self._reporter.accepted(command, order, now_ns, out)
        if order.is_post_only and is_on_its_way:
            self._do_at(order.eligible_ns, Kind.ARRIVE, key, instrument_id)
        if order.time_in_force is TimeInForce.DAY:
            close_ns = self._session_close(order.index, now_ns)
            self._do_at(close_ns, Kind.EXPIRE, key, instrument_id)
        order.after = pos
        self._look(order)

    def _order_of(self, command: VenueSubmit, now_ns: int) -> Resting | Refusal:
        """Return the order that a command asks for."""
        order_id = command.client_order_id
        key = order_key(command.account_id, order_id)
        if self._book.knows(key):
            return Refusal("DUPLICATE_ORDER_ID", "the venue had an order of this id")
        index = self._universe.index(command.instrument_id)
        if index is None:
            return Refusal("UNKNOWN_INSTRUMENT", f"{command.instrument_id} is not traded here")
        terms = read_terms(command, *self._grids(index))
        if isinstance(terms, Refusal):
            return terms
        delay_ns = self._delay_ns(self.config.latency.submit_ns, key)
        return Resting(
            order_id,
            command.account_id,
            command.strategy_id,
            command.instrument_id,
            command.order_type,
            command.time_in_force,
            1 if command.side is Side.BUY else -1,
            terms.quantity,
            terms.limit,
            terms.stop,
            command.is_post_only,
            command.is_reduce_only,
            self._book.count(),
            now_ns + delay_ns,
            has_rested=command.is_post_only,
            index=index,
        )

    def _delay_ns(self, kind_ns: int, key: str) -> int:
        return kind_ns + self.config.latency.jitter(self.config.seed, key)

    def _grids(self, index: int) -> tuple[Grid, Grid]:
        return self._universe.price_grids[index], self._universe.quantity_grids[index]

    def _session_close(self, index: int, now_ns: int) -> int:
        """Return the first close after ``now_ns``; UTC midnight where the calendar says nothing."""
        calendar = self._universe.instruments[index].calendar
        closes = self._closes.get(calendar)
        if closes is None:
            table = self._sessions.get(calendar)
            closes = [] if table is None else table.close_ns.tolist()
            self._closes[calendar] = closes
        session = bisect_right(closes, now_ns)
        return closes[session] if session < len(closes) else (now_ns // _DAY_NS + 1) * _DAY_NS

    def _would_trade(self, order: Resting, limit: int | None, pos: int) -> bool:
        """Return whether a limit would trade at the price last known after the event at ``pos``."""
        market = None if self._tapes is None else self._tapes.market(order.index)
        sides = None if market is None else market.known.sides_before(pos)
        if sides is None:
            sides = self._book.last.get(order.instrument_id, (0.0, 0.0))
        price = self._universe.price_grids[order.index].to_unit(sides[order.sign > 0])
        return limit is not None and price > 0 and order.sign * (limit - price) >= 0

    # ---- reference data and snapshots ----------------------------------------------------------

    def on_corporate_action(
        self, action: CorporateAction, pos: int, now_ns: int, out: Outbox
    ) -> None:
        """Apply a corporate action consumed right after the event at ``pos``, at ``now_ns``.

        Raises RecordError for a split whose ratio is not positive.
        """
        book = self._book
        for order in apply_action(book, self._universe, action, now_ns, self._reporter, out):
            order.look_anew(max(order.after, pos))
            self._look(order)
        self._next = -1

    def snapshot(self) -> bytes:
        """Return the whole state between two batches; equal states give equal bytes."""
        return self._book.encode()

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave.

        Raises RecordError for another processor version or an unknown instrument.
        """
        self._tapes = None
        self.end()
        self._book = Book.decode(state, self._universe)
        self._executor = Executor(self.config, self._reporter, self._book.positions)
