"""The output hash depends on what was written, never on the cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.columns import BarColumns, Columns, QuoteColumns
from schemas.topics import MARKET_BARS, MARKET_EVENTS
from streams.journal import OutputHasher, encode_group
from streams.journal.hashing import BLOCK_BYTES, ChainHash
from tests.unit import journal_samples as samples

UNIVERSE = samples.make_universe()


def cuts_of(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size), max_size=6).map(lambda cuts: [0, *sorted(cuts), size])


def hash_all(
    items: samples.Items, bars: Columns, item_cuts: Sequence[int], bar_cuts: Sequence[int]
) -> OutputHasher:
    """Hash the records and bars, cut as told."""
    hasher = OutputHasher()
    for start, stop in pairwise(item_cuts):
        hasher.update_group(encode_group(items[start:stop]))
    for start, stop in pairwise(bar_cuts):
        rows = bars.take(slice(start, stop))
        hasher.update_table(MARKET_BARS, UNIVERSE, rows.moved(rows.pos - start))
    return hasher


@given(item_cuts=cuts_of(60), bar_cuts=cuts_of(5_000), pause=st.integers(0, 60))
@settings(max_examples=40)
def test_digest_is_the_same_for_every_cut_and_through_a_snapshot(
    item_cuts: list[int], bar_cuts: list[int], pause: int
) -> None:
    items = samples.make_items(60)
    bars = samples.make_table(BarColumns, 5_000)
    whole = hash_all(items, bars, (0, 60), (0, 5_000))
    parts = hash_all(items, bars, item_cuts, bar_cuts)
    assert parts.hexdigest() == whole.hexdigest()
    assert parts.snapshot() == whole.snapshot()
    assert whole.counts[MARKET_BARS] == 5_000

    resumed = OutputHasher()
    resumed.restore(hash_all(items[:pause], bars, (0, pause), bar_cuts).snapshot())
    resumed.update_group(encode_group(items[pause:]))
    assert resumed.topic_digests() == whole.topic_digests()
    assert resumed.counts == whole.counts


@given(cuts=cuts_of(3 * BLOCK_BYTES + 5))
@settings(max_examples=40)
def test_chain_hash_is_the_same_for_every_cut(cuts: list[int]) -> None:
    data = bytes(range(251)) * (3 * BLOCK_BYTES // 251 + 1)
    data = data[: 3 * BLOCK_BYTES + 5]
    whole, parts = ChainHash(), ChainHash()
    whole.update(data)
    for start, stop in pairwise(cuts):
        parts.update(data[start:stop])
    assert parts.digest() == whole.digest()
    assert len(parts.rest) < BLOCK_BYTES


def test_digest_does_not_depend_on_the_numbering_of_the_universe() -> None:
    other = samples.make_universe(samples.IDS[::-1], ("file", "feed"))
    table = samples.make_table(QuoteColumns, 50)
    moved = table.take(slice(None))
    moved.instrument = 2 - table.instrument
    moved.source = 1 - table.source
    one, two = OutputHasher(), OutputHasher()
    one.update_table(MARKET_EVENTS, UNIVERSE, table)
    two.update_table(MARKET_EVENTS, other, moved)
    assert one.hexdigest() == two.hexdigest()


def test_digest_follows_a_universe_that_grows() -> None:
    universe = samples.make_universe(samples.IDS[:1])
    table = samples.make_table(QuoteColumns, 50)
    table.instrument[:] = [0] * 25 + [1] * 25
    one, two = OutputHasher(), OutputHasher()
    one.update_table(MARKET_EVENTS, universe, table.take(slice(0, 25)))
    universe.add(UNIVERSE.instruments[1])
    one.update_table(MARKET_EVENTS, universe, table.take(slice(25, 50)))
    two.update_table(MARKET_EVENTS, UNIVERSE, table)
    assert one.hexdigest() == two.hexdigest()


def test_every_column_and_every_record_counts() -> None:
    table = samples.make_table(BarColumns, 20)
    digests = {table_digest(table)}
    for name in BarColumns.names():
        changed = table.take(slice(None))
        values = getattr(table, name).copy()
        values[7] = not values[7] if values.dtype == bool else (values[7] + 1) % 2
        setattr(changed, name, values)
        digests.add(table_digest(changed))
    # All but ``pos`` change it.
    assert len(digests) == len(BarColumns.names())


def table_digest(table: Columns) -> str:
    hasher = OutputHasher()
    hasher.update_table(MARKET_BARS, UNIVERSE, table)
    return hasher.hexdigest()


def test_order_of_records_within_a_topic_counts() -> None:
    items: samples.Items = [(MARKET_EVENTS, samples.make_trade(n)) for n in range(2)]
    one, two = OutputHasher(), OutputHasher()
    one.update_group(encode_group(items))
    two.update_group(encode_group(items[::-1]))
    assert one.hexdigest() != two.hexdigest()
