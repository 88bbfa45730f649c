"""Amounts as texts, and floats as the amounts that they stand for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from schemas.values import amount_text, from_float, money
from web.answers import encode


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("-837.2802000000000000000000000", "-837.2802"),
        ("8349.00", "8349.00"),
        ("165.1", "165.1"),
        ("165.10000", "165.10"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("1E-7", "0.0000001"),
        ("0E-8", "0.00"),
        ("-0.000", "0.00"),
        ("33.33333333333333333333333333", "33.333333333333"),
        ("12345678901234567890123456.7890000000000001", "12345678901234567890123456.789"),
    ],
)
def test_amount_is_written_without_noise(value: str, text: str) -> None:
    assert amount_text(Decimal(value)) == text


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        (99193.92190000002, "99193.9219"),
        ((165.09 + 165.11) / 2, "165.1"),
        (0.1 + 0.2, "0.3"),
        (-0.00001234, "-0.00001234"),
        (250.0, "250"),
    ],
)
def test_float_is_the_amount_it_stands_for(value: float, amount: str) -> None:
    assert from_float(value) == Decimal(amount)


@pytest.mark.parametrize(
    ("value", "amount"),
    [(10.279999999995, "10.28"), (-431.03499999999985, "-431.035"), (1e12 / 3, "333333333333.333")],
)
def test_sum_in_float64_is_money_to_six_places(value: float, amount: str) -> None:
    assert money(value) == Decimal(amount)


def test_answers_hold_amounts_as_such_numbers_wherever_they_stand() -> None:
    answer = {"a": [{"b": Decimal("1E+3")}, None], "c": (1, Decimal("2.5000")), "d": [1.5, 2.5]}

    assert encode(answer) == b'{"a":[{"b":1000},null],"c":[1,2.50],"d":[1.5,2.5]}'
