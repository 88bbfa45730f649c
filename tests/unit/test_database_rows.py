"""Columns and records to rows: the bytes of a COPY, partitions, cursors, settings."""

from __future__ import annotations

import asyncio
import struct
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.database.settings import DatabaseSettings, dsn_of, pools_of
from schemas.commands import SubmitOrder
from schemas.enums import Side
from schemas.errors import ConfigError
from schemas.topics import ACCOUNT_INPUTS, CATALOGUE
from streams.cursors import read_cursor, write_cursor
from streams.database.batches import Batch
from streams.database.connecting import Database, address_of
from streams.database.copying import Block, Text, encode, text_of
from streams.database.embedded import Address
from streams.database.migrating import FORMS, migrations
from streams.database.paging import stretches
from streams.database.partitions import MONTHS, range_of, ranges_between
from streams.database.tables import FLOW_BY_SOURCE, FLOWS, SERIES_BY_SOURCE, STORED_TOPICS, TRADES
from streams.database.tiers import Tier
from tests.database_case import tiers

FIELDS = {">i8": ">q", ">i4": ">i", ">f8": ">d"}


def decode(block: Block) -> list[tuple[object, ...]]:
    """Read the bytes of a COPY as PostgreSQL does."""
    data, at, rows = b"".join(encode(block)), 0, []
    while at < len(data):
        (count,) = struct.unpack_from(">h", data, at)
        at += 2
        row: list[object] = []
        for _, kind in block.series.columns[:count]:
            (length,) = struct.unpack_from(">i", data, at)
            value = data[at + 4 : at + 4 + length]
            at += 4 + length
            row.append(value.decode() if kind == "text" else struct.unpack(FIELDS[kind], value)[0])
        rows.append(tuple(row))
    return rows


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_rows_come_out_of_a_copy_as_they_went_in(items: list[tuple[str, str, str, int]]) -> None:
    runs, ids, sources, numbers = (list(column) for column in zip(*items, strict=True))
    ts = np.array(numbers, np.int64)
    price = ts.astype(np.float64)
    columns = (
        text_of(runs), ts, text_of(ids), price, -price, text_of(sources), ts,
        np.arange(len(items), dtype=np.int32), ts,
    )  # fmt: skip

    found = decode(Block(TRADES, columns, len(items)))

    assert sorted(found, key=lambda row: row[7]) == [  # type: ignore[arg-type, return-value]
        (run, n, name, float(n), -float(n), source, n, row, n)
        for row, (run, name, source, n) in enumerate(items)
    ]


def test_nul_becomes_the_replacement_character() -> None:
    one = np.zeros(1, np.int64)
    text = Text(np.zeros(1, np.int32), ["a\x00b"])
    block = Block(TRADES, (text, one, text, one, one, text, one, one, one), 1)
    assert decode(block)[0][0] == "a\ufffdb"


@pytest.mark.parametrize("quantity", ["1E+200000", "NaN", "1E-2000"])
def test_number_that_no_column_holds_is_refused_with_its_name(quantity: str) -> None:
    batch = Batch("run")
    order = SubmitOrder("e", 1, "", "", "a", "s", "c", "i", Side.BUY, Decimal(quantity))
    batch.add_records(ACCOUNT_INPUTS, 0, [(3, order)])
    assert batch.flows == {}
    assert [(r.offset, "quantity" in r.reason) for r in batch.rejects] == [(3, True)]


@given(st.sampled_from(sorted(MONTHS)), st.integers(0, 2**62), st.integers(0, 10**17))
def test_partitions_join_without_gap_or_overlap(relation: str, first: int, length: int) -> None:
    found = ranges_between(relation, first, first + length)
    assert found[0].first_ns <= first
    assert first + length < found[-1].until_ns
    assert [a.until_ns for a in found[:-1]] == [b.first_ns for b in found[1:]]
    assert all(range_of(relation, item.first_ns) == item for item in found)


@given(st.integers(0, 10**18), st.integers(0, 10**17), st.booleans())
def test_stretches_cover_a_span_once_in_the_order_asked_for(
    first: int, length: int, newest: bool
) -> None:

    async def all_of() -> list[tuple[int, int]]:
        return [item async for item in stretches(first, first + length, newest=newest)]

    found = asyncio.run(all_of())
    ordered = found[::-1] if newest else found
    assert [a for _, a in ordered[:-1]] == [b for b, _ in ordered[1:]]
    if length:
        assert (ordered[0][0], ordered[-1][1]) == (first, first + length)
    else:
        assert found == []


def test_cursor_holds_for_its_own_question_alone() -> None:
    cursor = write_cursor("fills", [5, "x"])
    assert read_cursor("fills", cursor, int, str) == (5, "x")
    assert read_cursor("fills", "", int, str) is None
    for question, text, types in (
        ("orders", cursor, (int, str)),
        ("fills", cursor, (str, int)),
        ("fills", "no cursor", (int, str)),
        ("fills", write_cursor("fills", [2**63, "x"]), (int, str)),
    ):
        with pytest.raises(ConfigError, match="cursor"):
            read_cursor(question, text, *types)


def test_stored_topics_are_of_the_catalogue_and_each_record_has_one_table() -> None:
    assert set(STORED_TOPICS) <= {topic.name for topic in CATALOGUE}
    assert not SERIES_BY_SOURCE.keys() & FLOW_BY_SOURCE.keys()


@pytest.mark.parametrize("tier", list(Tier))
def test_each_tier_has_every_migration_in_one_form(tier: Tier) -> None:
    found = migrations(tier)
    assert [item.number for item in found] == [1, 2, 3, 4, 5]
    assert len({item.checksum for item in found}) == len(found)
    assert FORMS[tier]


def test_no_table_names_a_source_twice() -> None:
    sources = [(topic, r) for flow in FLOWS for topic, records in flow.sources for r in records]
    assert len(sources) == len(set(sources)) == len(FLOW_BY_SOURCE)


def test_gap_in_the_numbers_of_migrations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1")
    (tmp_path / "0003_b.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match="1, 2, 3"):
        migrations(Tier.PLAIN, tmp_path)


def test_passwords_do_not_show() -> None:
    secret = "hunter2"
    address = Address("h", 1, "u", secret, "d", 2)
    dsn = f"postgresql://u:{secret}@h:5/d?password={secret}"
    for text in (
        repr(address),
        str(address),
        address_of({"dsn": dsn}),
        repr(Database({"dsn": dsn})),
    ):
        assert secret not in text
    with pytest.raises(ConfigError) as refusal:
        dsn_of(DatabaseSettings(dsn=dsn))
    assert secret not in str(refusal.value)


def test_dsn_comes_from_a_file_or_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text("postgresql://u:p@h/d\n")
    assert dsn_of(DatabaseSettings(dsn_file=str(file))) == "postgresql://u:p@h/d"
    assert dsn_of(DatabaseSettings(dsn="postgresql://u@h/d")) == "postgresql://u@h/d"
    assert dsn_of(DatabaseSettings()) == ""
    with pytest.raises(ConfigError, match="cannot be read"):
        dsn_of(DatabaseSettings(dsn_file=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="not the DSN"):
        dsn_of(DatabaseSettings(dsn="mysql://h/d"))
    with pytest.raises(ConfigError, match="above 0"):
        pools_of(DatabaseSettings(statement_timeout_s=0))
    assert tiers()[0] == "plain"
