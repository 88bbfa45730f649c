"""The paper venue as a processor: orders in, reports out, driven by position.

An order sees only events later in merged order than its command and with a clock at or past command time plus latency. At one
position time comes first (expiry, cancels and replaces that take effect), then matching, by price, then by arrival;
orders of one instrument share what the participation model lets them take of an event. The rules of a fill are the
table in ``agents.venue.matching``.

Of a batch in which no order works the venue keeps nothing but the last prices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from agents.processor import Outbox
from agents.venue.config import VenueConfig
from agents.venue.matching import Touch, first_row, next_row, touch, trigger
from agents.venue.models import allowance, fee_model, latency_ns, slippage_model
from agents.venue.reports import Reporter
from agents.venue.resting import Change, Resting
from agents.venue.tape import BAR, QUOTE, Tape, make_tape
from schemas.columns import MarketBatch
from schemas.commands import VenueCancel, VenueReplace, VenueSubmit
from schemas.enums import CorporateActionKind, InstrumentState, LiquiditySide, Side, TimeInForce
from schemas.errors import RecordError
from schemas.identifiers import timer_id
from schemas.instruments import CorporateAction, Universe
from schemas.market_data import InstrumentStatus
from schemas.sessions import SessionTable

PROCESSOR_VERSION = "venue-1"
_DAY_NS = 86_400_000_000_000
_DONE_KEPT = 4096


class _State(msgspec.Struct, gc=True):
    version: str
    orders: list[Resting]
    positions: dict[str, int]
    states: dict[str, InstrumentState]
    last: dict[str, tuple[float, float]]
    done: dict[str, None]
    sequence: int


class PaperVenue:
    """An exchange that fills orders from market data."""

    def __init__(
        self, config: VenueConfig, universe: Universe, sessions: Mapping[str, SessionTable]
    ) -> None:
        self.config = config
        self._universe = universe
        self._sessions = sessions
        self._is_through = config.limit_fill == "through"
        self._slippage = slippage_model(config.slippage)
        self._reporter = Reporter(universe, fee_model(config.fee))
        self._orders: dict[str, Resting] = {}
        self._positions: dict[str, int] = {}
        self._states: dict[str, InstrumentState] = {}
        self._last: dict[str, tuple[float, float]] = {}
        self._done: dict[str, None] = {}
        self._closes: dict[str, list[int]] = {}
        self._sequence = 0
        self._batch: MarketBatch | None = None
        self._size = 0
        self._next = 0
        self._is_dirty = True
        self._tapes: dict[int, Tape] = {}

    # ---- driving -----------------------------------------------------------------------------

    def load(self, batch: MarketBatch) -> None:
        """Take a batch; working orders see it from its first event on."""
        self._batch = batch
        self._size = len(batch)
        self._tapes = {}
        self._is_dirty = True
        for order in self._orders.values():
            order.after = order.at = order.row = -1

    def next(self) -> int:
        """Return the next position at which something may happen to an order, or the batch's length."""
        if self._is_dirty:
            position = self._size
            for order in self._orders.values():
                if order.at < 0:
                    self._look(order)
                if order.at < position:
                    position = order.at
            self._next = position
            self._is_dirty = False
        return self._next

    def fire(self, pos: int, out: Outbox) -> None:
        """Let everything happen that is due at ``pos``."""
        due = [order for order in self._orders.values() if order.at == pos]
        assert self._batch is not None
        now_ns = int(self._batch.clock[pos])
        by_instrument: dict[int, list[Resting]] = {}
        for order in due:
            self._pass_time(order, pos, now_ns, out)
            if order.client_order_id in self._orders:
                by_instrument.setdefault(order.index, []).append(order)
        for index, orders in by_instrument.items():
            self._match(index, orders, pos, out)
        for order in due:
            order.at = -1
        self._is_dirty = True

    def end(self) -> None:
        """The batch is finished: remember its last prices."""
        batch = self._batch
        if batch is not None:
            self._remember(batch)
        self._batch = None
        self._tapes = {}

    def _tape(self, index: int) -> Tape:
        tape = self._tapes.get(index)
        if tape is None:
            assert self._batch is not None
            instrument_id = self._universe.instruments[index].instrument_id
            state = self._states.get(instrument_id, InstrumentState.OPEN)
            tape = self._tapes[index] = make_tape(self._batch, index, self._tier(instrument_id), state)
        return tape

    def _tier(self, instrument_id: str) -> str:
        return self.config.execution_by_instrument.get(instrument_id, self.config.execution_data)

    def _look(self, order: Resting) -> None:
        """Find the next position at which something may happen to an order."""
        assert self._batch is not None
        clock = self._batch.clock
        at = self._size
        start = order.after + 1
        due_ns = order.expires_ns or 2**63 - 1
        for change in order.changes:
            due_ns = min(due_ns, change.due_ns)
        if start < self._size and int(clock[-1]) >= due_ns:
            at = max(start, int(clock.searchsorted(due_ns)))
        tape = self._tape(order.index)
        if order.row < 0:
            order.row = first_row(order, tape, clock)
        order.row = next_row(order, tape, order.row, self._is_through)
        if order.row < len(tape):
            at = min(at, int(tape.pos[order.row]))
        order.at = at

    # ---- time --------------------------------------------------------------------------------

    def _pass_time(self, order: Resting, pos: int, now_ns: int, out: Outbox) -> None:
        """Let changes and expiry that are due take effect, in order of time."""
        for change in sorted(order.changes, key=lambda c: c.due_ns):
            if change.due_ns > now_ns or (order.expires_ns and change.due_ns >= order.expires_ns):
                break
            order.changes.remove(change)
            self._take_effect(order, change, change.due_ns, out)
            if order.client_order_id not in self._orders:
                return
        if order.expires_ns and now_ns >= order.expires_ns:
            cause = timer_id(f"expiry:{order.client_order_id}", order.expires_ns)
            self._reporter.expired(order, order.expires_ns, cause, out)
            self._drop(order)

    def _take_effect(self, order: Resting, change: Change, ts_ns: int, out: Outbox) -> None:
        if not change.quantity:
            self._reporter.canceled(order, ts_ns, change.cause, "requested", out)
            self._drop(order)
            return
        if change.quantity <= order.filled:
            self._reporter.refused(
                order, "replace", "FILLED_MEANWHILE", "the order has filled as much already", ts_ns, change.cause, out
            )
            return
        order.quantity, order.limit, order.stop = change.quantity, change.limit, change.stop
        order.row = -1
        self._reporter.replaced(order, ts_ns, change.cause, out)

    def _drop(self, order: Resting) -> None:
        del self._orders[order.client_order_id]
        self._done[order.client_order_id] = None
        if len(self._done) > 2 * _DONE_KEPT:
            for order_id in list(self._done)[:_DONE_KEPT]:
                del self._done[order_id]
        self._is_dirty = True

    # ---- matching ----------------------------------------------------------------------------

    def _match(self, index: int, orders: list[Resting], pos: int, out: Outbox) -> None:
        tape = self._tape(index)
        left: dict[int, int | None] = {}
        if len(orders) > 1:
            orders = sorted(orders, key=_priority)
        for order in orders:
            row = order.row
            if row < 0:
                # The order was changed at this very position; it sees this event with its new terms.
                assert self._batch is not None
                row = first_row(order, tape, self._batch.clock)
            if row >= len(tape) or tape.pos[row] != pos:
                continue
            if order.sign not in left:
                size = tape.buy_size[row] if order.sign > 0 else tape.sell_size[row]
                left[order.sign] = allowance(self.config.participation, int(size))
            taken = self._meet(order, tape, row, left[order.sign], out)
            bound = left[order.sign]
            if bound is not None:
                left[order.sign] = bound - taken

    def _meet(self, order: Resting, tape: Tape, row: int, bound: int | None, out: Outbox) -> int:
        """Let one event meet one order; return the units it took."""
        order.row = row + 1
        assert self._batch is not None
        market_id = self._batch.event_id(int(tape.pos[row]))
        if order.is_stop():
            found = trigger(order, tape, row)
            if found is None or (tape.is_print is not None and tape.is_print[row]):
                return 0
            order.is_triggered = True
            self._reporter.triggered(order, found.ts_ns, market_id, out)
            if order.limit is not None and order.sign * (order.limit - found.price) < 0:
                order.has_rested = True
                return self._end_immediate(order, found.ts_ns, market_id, out)
        else:
            is_first = not order.has_rested
            touched = touch(order, tape, row, is_first, self._is_through)
            if touched is None:
                if tape.is_print is not None and tape.is_print[row]:
                    return 0
                order.has_rested = True
                return self._end_immediate(order, int(tape.ts[row]), market_id, out)
            found = touched
        return self._fill(order, tape, row, found, bound, market_id, out)

    def _fill(
        self, order: Resting, tape: Tape, row: int, found: Touch, bound: int | None, market_id: str, out: Outbox
    ) -> int:
        leaves = order.quantity - order.filled
        units = leaves if bound is None else min(leaves, bound)
        if order.is_reduce_only:
            units = min(units, self._reducible(order))
            if not units:
                self._reporter.canceled(order, found.ts_ns, market_id, "REDUCE_ONLY", out)
                self._drop(order)
                return 0
        if order.time_in_force is TimeInForce.FOK and units < order.quantity:
            return self._end_immediate(order, found.ts_ns, market_id, out)
        if not units:
            return self._end_immediate(order, found.ts_ns, market_id, out)
        price = found.price
        if self._slippage is not None and not found.is_maker:
            spread = int(tape.ask[row] - tape.bid[row]) if tape.tier == QUOTE else 0
            price += order.sign * self._slippage(price, spread)
            if order.limit is not None and order.sign * (price - order.limit) > 0:
                price = order.limit
            price = max(price, 1)
        order.filled += units
        liquidity = LiquiditySide.MAKER if found.is_maker else LiquiditySide.TAKER
        self._reporter.fill(order, price, found.price, units, found.ts_ns, liquidity, market_id, out)
        key = f"{order.account_id}|{order.strategy_id}|{order.instrument_id}"
        self._positions[key] = self._positions.get(key, 0) + order.sign * units
        if order.filled == order.quantity:
            self._drop(order)
        elif order.is_reduce_only and not self._reducible(order):
            self._reporter.canceled(order, found.ts_ns, market_id, "REDUCE_ONLY", out, ordinal=1)
            self._drop(order)
        else:
            self._end_immediate(order, found.ts_ns, market_id, out)
        return units

    def _end_immediate(self, order: Resting, ts_ns: int, market_id: str, out: Outbox) -> int:
        """Cancel what is left of an immediate order after its first event."""
        if order.is_immediate():
            self._reporter.canceled(order, ts_ns, market_id, order.time_in_force.value, out, ordinal=1)
            self._drop(order)
        return 0

    def _reducible(self, order: Resting) -> int:
        held = self._positions.get(f"{order.account_id}|{order.strategy_id}|{order.instrument_id}", 0)
        return max(-order.sign * held, 0)

    # ---- commands ----------------------------------------------------------------------------

    def on_command(
        self, command: VenueSubmit | VenueReplace | VenueCancel, pos: int, now_ns: int, out: Outbox
    ) -> None:
        """Take a command that was consumed right after the event at ``pos``, at time ``now_ns``."""
        if isinstance(command, VenueSubmit):
            self._submit(command, pos, now_ns, out)
            return
        order = self._orders.get(command.client_order_id)
        kind = "cancel" if isinstance(command, VenueCancel) else "replace"
        if order is None:
            self._reporter.unknown(command, kind, now_ns, out)
            return
        if isinstance(command, VenueCancel):
            change = Change(0, command.event_id)
            delay = self.config.latency.cancel_ns
        else:
            terms = self._terms(command.quantity, command.limit_price, command.stop_price, order.index)
            if terms is None:
                self._reporter.refused(order, kind, "OFF_GRID", "off the grid", now_ns, command.event_id, out)
                return
            change = Change(0, command.event_id, *terms)
            delay = self.config.latency.replace_ns
        delay = latency_ns(self.config.latency, delay, self.config.seed, command.event_id)
        change.due_ns = now_ns + delay
        order.at = -1
        self._is_dirty = True
        if delay:
            order.changes.append(change)
        else:
            self._take_effect(order, change, now_ns, out)
            order.after = max(order.after, pos)

    def _terms(
        self, quantity: Decimal, limit: Decimal | None, stop: Decimal | None, index: int
    ) -> tuple[int, int | None, int | None] | None:
        """Return quantity and prices in units of the grids; None if one of them is off its grid."""
        units = self._universe.quantity_grids[index].from_decimal(quantity)
        grid = self._universe.price_grids[index]
        limit_ticks = None if limit is None else grid.from_decimal(limit)
        stop_ticks = None if stop is None else grid.from_decimal(stop)
        is_off = (limit is not None and limit_ticks is None) or (stop is not None and stop_ticks is None)
        if units is None or units <= 0 or is_off:
            return None
        return units, limit_ticks, stop_ticks

    def _submit(self, command: VenueSubmit, pos: int, now_ns: int, out: Outbox) -> None:
        order_id = command.client_order_id
        index = self._universe.index(command.instrument_id)
        code = ""
        terms = None
        if order_id in self._orders or order_id in self._done:
            code = "DUPLICATE_ORDER_ID"
        elif index is None:
            code = "UNKNOWN_INSTRUMENT"
        else:
            terms = self._terms(command.quantity, command.limit_price, command.stop_price, index)
            if terms is None:
                code = "OFF_GRID"
        if code or terms is None or index is None:
            self._reporter.rejected(command, code, now_ns, out)
            return
        units, limit, stop = terms
        sign = 1 if command.side is Side.BUY else -1
        if command.is_post_only and limit is not None and self._would_cross(index, sign, limit, pos):
            self._reporter.rejected(command, "POST_ONLY", now_ns, out)
            return
        delay = self.config.latency.submit_ns
        delay = latency_ns(self.config.latency, delay, self.config.seed, command.event_id)
        self._sequence += 1
        expires_ns = 0
        if command.time_in_force is TimeInForce.DAY:
            expires_ns = self._session_close(index, now_ns)
        order = Resting(
            order_id, command.account_id, command.strategy_id, command.instrument_id, index, self._sequence,
            command.order_type, command.time_in_force, sign, units, limit, stop, command.is_reduce_only,
            now_ns + delay, expires_ns, has_rested=command.is_post_only, after=pos,
        )  # fmt: skip
        self._orders[order_id] = order
        self._is_dirty = True
        self._reporter.accepted(command, order, now_ns, out)

    def _session_close(self, index: int, now_ns: int) -> int:
        """Return the close of the session that ``now_ns`` is in or before; UTC midnight without a calendar."""
        calendar = self._universe.instruments[index].calendar
        table = self._sessions.get(calendar) if calendar else None
        if table is None:
            return (now_ns // _DAY_NS + 1) * _DAY_NS
        closes = self._closes.get(calendar)
        if closes is None:
            closes = self._closes[calendar] = table.close_ns.tolist()
        row = bisect_right(closes, now_ns)
        return closes[row] if row < len(closes) else (now_ns // _DAY_NS + 1) * _DAY_NS

    def _would_cross(self, index: int, sign: int, limit: int, pos: int) -> bool:
        """Return whether a limit order would trade at once at the last known price."""
        tape = self._tape(index)
        row = int(tape.pos.searchsorted(pos, side="right")) - 1
        while row >= 0 and tape.is_print is not None and tape.is_print[row]:
            row -= 1
        if row >= 0 and tape.tier != BAR:
            bid, ask = int(tape.bid[row]), int(tape.ask[row])
        else:
            grid = self._universe.price_grids[index]
            known = self._last.get(self._universe.instruments[index].instrument_id, (0.0, 0.0))
            bid, ask = grid.to_unit(known[0]), grid.to_unit(known[1])
        other = ask if sign > 0 else bid
        return other > 0 and sign * (limit - other) >= 0

    # ---- reference data ----------------------------------------------------------------------

    def on_corporate_action(self, action: CorporateAction, pos: int, now_ns: int, out: Outbox) -> None:
        """Scale working orders and positions by a split: quantities down to the grid, prices to the nearest tick."""
        if action.kind is not CorporateActionKind.SPLIT:
            return
        ratio = action.ratio
        for key in self._positions:
            if key.endswith(f"|{action.instrument_id}"):
                self._positions[key] = int(self._positions[key] * ratio)
        for order in self._orders.values():
            if order.instrument_id != action.instrument_id:
                continue
            order.quantity, order.filled = int(order.quantity * ratio), int(order.filled * ratio)
            order.limit = None if order.limit is None else round(order.limit / ratio)
            order.stop = None if order.stop is None else round(order.stop / ratio)
            order.at = order.row = -1
        self._is_dirty = True

    def _remember(self, batch: MarketBatch) -> None:
        """Carry states and last prices over to the next batch."""
        for _, _, record in batch.records:
            if isinstance(record, InstrumentStatus):
                self._states[record.instrument_id] = record.state
        instruments = self._universe.instruments
        for table in (batch.trades, batch.quotes, batch.bars):
            n = len(table)
            if not n:
                continue
            if len(instruments) == 1:
                rows = {0: n - 1}
            else:
                # Later rows overwrite earlier ones, so the last row of each instrument is left.
                rows = dict(zip(table.instrument.tolist(), range(n), strict=True))
            for index, row in rows.items():
                instrument_id = instruments[index].instrument_id
                if (self._tier(instrument_id) == QUOTE) != (table is batch.quotes):
                    continue
                self._last[instrument_id] = _sides(table, row)

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        orders = [
            msgspec.structs.replace(order, after=-1, at=-1, row=-1) for order in self._orders.values()
        ]
        return msgspec.json.encode(
            _State(PROCESSOR_VERSION, orders, self._positions, self._states, self._last, self._done, self._sequence)
        )

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave; raises RecordError for another processor version."""
        known = msgspec.json.decode(state, type=_State)
        if known.version != PROCESSOR_VERSION:
            raise RecordError(
                "a snapshot of the paper venue is of another version", field="version", value=known.version,
                remedy="rebuild the state from the journal",
            )  # fmt: skip
        self._orders = {order.client_order_id: order for order in known.orders}
        self._positions, self._states, self._last = known.positions, known.states, known.last
        self._done, self._sequence = known.done, known.sequence
        self._is_dirty = True


def _priority(order: Resting) -> tuple[int, int, int]:
    """Return the rank of an order at one event: orders at any price, then the better limit, then the earlier."""
    if order.limit is None:
        return (0, 0, order.sequence)
    return (1, -order.sign * order.limit, order.sequence)


def _sides(table: Any, row: int) -> tuple[float, float]:
    if table.KIND == "quote":
        return float(table.bid[row]), float(table.ask[row])
    price = float(table.price[row] if table.KIND == "trade" else table.close[row])
    return price, price


