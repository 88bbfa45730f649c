"""What is refused for its name, or for a value of a few names, is refused with the names."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta
from starlette.datastructures import QueryParams

from schemas.enums import Side
from web.decoding import decode_body, decode_query
from web.problems import ProblemError


class Leg(msgspec.Struct):
    """A part of a body."""

    side: Side
    note: str = ""


class Body(msgspec.Struct, rename={"kind_name": "kind"}):
    """A body with names at every depth."""

    side: Side | None = None
    kind_name: Literal["a", "b"] = "a"
    legs: list[Leg] = []
    named: dict[str, Leg] = {}


@pytest.mark.parametrize(
    ("text", "pointer", "remedy"),
    [
        ('{"side": "BUUY"}', "/side", "give one of BUY, SELL"),
        ('{"side": 3}', "/side", "give one of BUY, SELL"),
        ('{"kind": "c"}', "/kind", "give one of a, b"),
        ('{"legs": [{"side": "BUY"}, {"side": ""}]}', "/legs/1/side", "give one of BUY, SELL"),
        ('{"legs": [{"side": "BUY", "note": 1}]}', "/legs/0/note", "see /openapi.json"),
        ('{"legs": 1}', "/legs", "see /openapi.json"),
    ],
)
def test_refusal_of_a_body_lists_the_names(text: str, pointer: str, remedy: str) -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_body(text.encode(), Body)
    (error,) = refusal.value.errors
    assert error.pointer == pointer
    assert error.remedy.startswith(remedy)


def test_refusal_of_a_query_lists_the_names() -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_query(QueryParams("kind=c"), Body)
    (error,) = refusal.value.errors
    assert (error.pointer, error.value, error.remedy) == ("/kind", "c", "give one of a, b")


class Page(msgspec.Struct):
    """A query of numbers."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    after_s: Annotated[float, Meta(gt=0, lt=0.5)] | None = None
    seed: Annotated[int, Meta(ge=0)] = 0
    amount: Annotated[Decimal, Meta(extra_json_schema={"exclusiveMinimum": 0})] | None = None
    either: int | bool = 0
    name: str = ""


@pytest.mark.parametrize(
    ("query", "remedy"),
    [
        ("limit=1000", "give a whole number from 1 to 500"),
        ("limit=many", "give a whole number from 1 to 500"),
        ("after_s=1", "give a number above 0 below 0.5"),
        ("seed=-1", "give a whole number from 0"),
        ("amount=much", "give a number"),
        ("either=x", "see /openapi.json for what it may be"),
    ],
)
def test_refusal_of_a_number_names_its_bounds(query: str, remedy: str) -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_query(QueryParams(query), Page)
    (error,) = refusal.value.errors
    assert error.remedy == remedy


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    """A body that takes nothing else."""

    group_by: str = ""
    limit: int = 0


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body without fields."""


@pytest.mark.parametrize(
    ("name", "kind", "remedy"),
    [
        ("groupby", Closed, "did you mean group_by?"),
        ("x", Closed, "leave it out, or use one of group_by, limit"),
        ("group_by" * 9000, Closed, "leave it out, or use one of group_by, limit"),
        ("x", Nothing, "leave it out"),
    ],
)
def test_field_that_is_not_known_is_answered_with_those_that_are(
    name: str, kind: type[msgspec.Struct], remedy: str
) -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_body(f'{{"{name}": 1}}'.encode(), kind)
    (error,) = refusal.value.errors
    assert error.remedy == remedy
