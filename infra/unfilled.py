"""Why orders of a finished backtest were not filled, as far as its data tell.

A run whose orders never met the market looks like one that did not want to trade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from agents.runners.results import OrderTally
from agents.venue.config import BAR, QUOTE, VenueConfig
from agents.venue.models import Share
from infra.composition import Setup, kinds_of
from schemas.columns import Floats, MarketBatch
from schemas.values import Grid, decimal_text

_ENDS = {
    "EXPIRED": "their time was over",
    "FOK": "not filled whole by the event that decides them",
    "IOC": "not filled by the event that decides them",
    "OFF_GRID": "price or quantity is no multiple of the instrument's increment",
    "POST_ONLY": "they would not have rested, but traded at once",
    "REDUCE_ONLY": "there was nothing to reduce",
    "REQUESTED": "canceled on request",
    "SPLIT": "a split left nothing of them",
    "SYMBOL_CHANGE": "the new symbol has other increments",
}
"""What the codes say by which orders end unfilled."""


def unfilled(
    setup: Setup,
    tally: OrderTally,
    denials: Mapping[str, int],
    batches: Callable[[], Iterable[MarketBatch]],
) -> list[str]:
    """Return a sentence for each instrument whose orders could not be filled, and why.

    If none was filled at all and there is no such reason, one that says how they ended, which
    is all that is known; if none reached the venue, one that says by which code they were denied.
    ``batches`` is asked for the data once more only if orders may take a share of it too small.
    """
    if denials and not tally.sent:
        codes = ", ".join(f"{count:,} {code}" for code, count in sorted(denials.items()))
        return [f"all orders were denied by the risk gate: {codes}"]
    waiting = {name: count for name, count in tally.sent.items() if name not in tally.filled}
    venue = setup.config.venue
    reasons = {
        name: f"the data have no {tier}s of it, which venue.execution_data asks for"
        for name in waiting
        if (tier := venue.tier(name)) not in kinds_of(setup.inputs, name)
    }
    others = waiting.keys() - reasons.keys()
    if others and venue.participation is not None:
        reasons |= _too_small(setup, {name: tally.first_ns[name] for name in others}, batches())
    found = [f"{name}: {_none_of(waiting[name])}: {reasons[name]}" for name in sorted(reasons)]
    if waiting and not found and not tally.filled:
        ends = [
            f"{count:,} {code}" + (f" ({_ENDS[code]})" if code in _ENDS else "")
            for code, count in sorted(tally.ends.items())
        ]
        working = sum(waiting.values()) - sum(tally.ends.values())
        if working > 0:
            ends.append(f"{working:,} working at the end")
        found.append(f"{_none_of(sum(waiting.values()))}: {', '.join(ends)}")
    return found


def _none_of(count: int) -> str:
    return f"{count:,} order{'s' * (count > 1)} reached the venue and none was filled"


def _too_small(
    setup: Setup, first_ns: dict[str, int], batches: Iterable[MarketBatch]
) -> dict[str, str]:
    """Return what is said of those instruments of which no event has a size to share.

    Only events from ``first_ns`` on, when the first order went; nothing is said if there is none.
    """
    venue = setup.config.venue
    assert venue.participation is not None
    share = Share(venue.participation)
    waiting, largest = set(first_ns), dict[str, float]()
    for batch in batches:
        for name in sorted(waiting):
            index = batch.universe.index(name)
            if index is None:
                continue
            lots = Grid(batch.universe.instruments[index].quantity_increment)
            for sizes in _sizes(batch, index, venue.tier(name), first_ns[name]):
                if len(sizes):
                    largest[name] = max(largest.get(name, 0.0), float(sizes.max()))
            if share.floor(lots.to_unit(largest.get(name, 0.0))):
                waiting.remove(name)
        if not waiting:
            break
    return {name: _of_size(setup, venue, name, largest[name]) for name in waiting & largest.keys()}


def _sizes(batch: MarketBatch, index: int, tier: str, from_ns: int) -> Iterator[Floats]:
    """Yield the sizes that orders of an instrument share which went at ``from_ns``."""
    if tier == BAR:
        bars = batch.bars
        yield bars.volume[(bars.instrument == index) & (bars.start >= from_ns)]
        return
    if tier == QUOTE:
        quotes = batch.quotes
        rows = np.flatnonzero((quotes.instrument == index) & (batch.clock[quotes.pos] >= from_ns))
        yield quotes.bid_size[rows]
        yield quotes.ask_size[rows]
    trades = batch.trades
    yield trades.size[(trades.instrument == index) & (batch.clock[trades.pos] >= from_ns)]


def _of_size(setup: Setup, venue: VenueConfig, name: str, size: float) -> str:
    if not size:
        return (
            f"its {venue.tier(name)}s behind the first of them have no size of which"
            " venue.participation could give a share; leave it out"
        )
    index = setup.universe.index(name)
    assert index is not None  # inputs name instruments of the universe only
    lot = decimal_text(setup.universe.instruments[index].quantity_increment)
    return (
        f"venue.participation = {venue.participation} leaves less than one unit ({lot}) of each"
        f" {venue.tier(name)} behind the first of them, of which the largest has {size:,.15g};"
        " raise it, or leave it out for no bound"
    )
