"""Why orders of a finished backtest were not filled, as far as its data tell.

A run whose orders never met the market looks like one that did not want to trade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from agents.runners.results import OrderTally
from agents.venue.config import BAR, QUOTE, VenueConfig
from agents.venue.models import Share
from infra.composition import Setup, kinds_of
from schemas.columns import Floats, MarketBatch
from schemas.values import Grid, decimal_text


def unfilled(
    setup: Setup, tally: OrderTally, batches: Callable[[], Iterable[MarketBatch]]
) -> list[str]:
    """Return a sentence for each instrument whose orders could not be filled, and why.

    If none was filled at all and there is no such reason, one that says how they ended.
    ``batches`` is asked for the data once more only if orders may take a share of it too small.
    """
    waiting = {name: count for name, count in tally.sent.items() if name not in tally.filled}
    venue = setup.config.venue
    reasons = {
        name: f"the data have no {tier}s of it, which venue.execution_data asks for"
        for name in waiting
        if (tier := venue.tier(name)) not in kinds_of(setup.inputs, name)
    }
    others = waiting.keys() - reasons.keys()
    if others and venue.participation is not None:
        reasons |= _too_small(setup, others, batches())
    found = [f"{name}: {_none_of(waiting[name])}: {reasons[name]}" for name in sorted(reasons)]
    if waiting and not found and not tally.filled:
        ends = [f"{count:,} {code}" for code, count in sorted(tally.ends.items())]
        working = sum(waiting.values()) - sum(tally.ends.values())
        if working > 0:
            ends.append(f"{working:,} working at the end")
        found.append(
            f"{_none_of(sum(waiting.values()))} ({', '.join(ends)}): no event that came behind"
            " them reached their prices in time"
        )
    return found


def _none_of(count: int) -> str:
    return f"{count:,} order{'s' * (count > 1)} reached the venue and none was filled"


def _too_small(setup: Setup, names: set[str], batches: Iterable[MarketBatch]) -> dict[str, str]:
    """Return what is said of those instruments of which no event has a size to share."""
    venue = setup.config.venue
    assert venue.participation is not None
    share = Share(venue.participation)
    largest = dict.fromkeys(names, 0.0)
    for batch in batches:
        for name in list(largest):
            index = batch.universe.index(name)
            if index is None:
                continue
            lots = Grid(batch.universe.instruments[index].quantity_increment)
            for sizes in _sizes(batch, index, venue.tier(name)):
                largest[name] = max(largest[name], float(sizes.max(initial=0.0)))
            if share.floor(lots.to_unit(largest[name])):
                del largest[name]
        if not largest:
            break
    return {name: _of_size(setup, venue, name, size) for name, size in largest.items()}


def _sizes(batch: MarketBatch, index: int, tier: str) -> Iterator[Floats]:
    """Yield the sizes that orders of an instrument share."""
    if tier == BAR:
        yield batch.bars.volume[batch.bars.instrument == index]
        return
    if tier == QUOTE:
        rows = np.flatnonzero(batch.quotes.instrument == index)
        yield batch.quotes.bid_size[rows]
        yield batch.quotes.ask_size[rows]
    yield batch.trades.size[batch.trades.instrument == index]


def _of_size(setup: Setup, venue: VenueConfig, name: str, size: float) -> str:
    if not size:
        return (
            f"its {venue.tier(name)}s have no size of which venue.participation could give a share;"
            " leave it out"
        )
    index = setup.universe.index(name)
    assert index is not None  # inputs name instruments of the universe only
    lot = decimal_text(setup.universe.instruments[index].quantity_increment)
    return (
        f"venue.participation = {venue.participation} leaves less than one unit ({lot}) of each"
        f" {venue.tier(name)}, of which the largest has {size:,.15g}; raise it, or leave it out for"
        " no bound"
    )
