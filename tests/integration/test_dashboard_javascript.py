"""What the live page folds and how it writes figures, run by node without a browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import web

HERE = Path(__file__).parent
MINUS, DASH = "\u2212", "\u2013"
STATIC = Path(web.__file__).parent / "static"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what the modules answer."""
    folder = tmp_path_factory.mktemp("page")
    # Not every node takes a file for a module unless its name says so.
    for name in ("format", "folding"):
        text = (STATIC / f"{name}.js").read_text(encoding="utf-8")
        (folder / f"{name}.mjs").write_text(text.replace('.js"', '.mjs"'), encoding="utf-8")
    script = folder / "dashboard.mjs"
    script.write_text((HERE / "dashboard.mjs").read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(["node", str(script)], capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_figures_have_fixed_places_and_no_value_is_a_dash(answers: Any) -> None:
    assert answers["amounts"] == ["1,234,567.89", "0.00", f"{MINUS}12.50", DASH, DASH, "0.00"]
    assert answers["signs"] == ["+12.00", f"{MINUS}12.00", "0.00", DASH]
    assert answers["quantities"] == ["12,000", f"{MINUS}0.12345678", DASH]
    assert answers["spans"] == ["8 s", "2 min", "2 h"]


def test_prices_of_an_instrument_keep_the_places_they_need(answers: Any) -> None:
    assert answers["places"] == [2, 2, 5, 8, 2, 2, 2]
    assert answers["prices"]["places"] == 5
    assert answers["prices"]["tone"] == "down"


def test_axis_steps_are_round(answers: Any) -> None:
    equity, small, flat = answers["axes"]

    assert equity == {"ticks": [99800, 99900, 100000], "places": 0}
    assert small["places"] == 2
    assert [round(value, 9) for value in small["ticks"]] == [0.11, 0.12, 0.13, 0.14]
    assert flat["ticks"] == [5]
    hours, seconds, days = answers["times"]
    assert hours == ["14:00", "15:00", "16:00", "17:00", "18:00", "19:00"]
    assert seconds == ["13:31:00", "13:31:30", "13:32:00", "13:32:30"]
    assert days == ["2013-10-08", "2013-10-09", "2013-10-10", "2013-10-11", "2013-10-12"]


def test_orders_are_told_apart_by_account_and_say_why_they_were_denied(answers: Any) -> None:
    assert answers["orders"] == [
        ["paper|a", "FILLED", "10", "", False],
        ["other|a", "INITIALIZED", "0", "", True],
        ["paper|b", "DENIED", "0", "MAX_POSITION", False],
    ]


def test_old_closed_orders_are_forgotten_and_open_ones_never(answers: Any) -> None:
    assert answers["terms"] == ["STOP", "8.5", True, "4", "1"]
    assert answers["kept"] == [500, True]


def test_record_that_comes_twice_counts_once(answers: Any) -> None:
    assert answers["fills"] == 1
    assert answers["curve"] == [[100, 101], 100, "paper", ["portfolio"] * 4]


def test_account_is_valued_between_marks_but_never_back_in_time(answers: Any) -> None:
    assert answers["values"] == [[100, 1], [103, 2]]
    assert answers["initial"] == 90
    assert answers["asked"] == ["portfolio", ""]


def test_results_of_strategies_are_added_up_in_one_currency_only(answers: Any) -> None:
    assert answers["results"] == [{"realized": -5, "unrealized": 0, "fees": 2}, None]


def test_long_curve_is_thinned_and_keeps_both_ends(answers: Any) -> None:
    assert answers["long"] == [True, 100, 4599]
