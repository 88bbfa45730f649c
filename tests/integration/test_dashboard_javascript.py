"""What the live page folds and how it writes figures, run by node without a browser."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import web
from web.route_table import Route
from web.routes import TABLE
from web.security.accounts import is_of_own, is_shared, may_read

HERE = Path(__file__).parent
MINUS, DASH = "\u2212", "\u2013"
STATIC = Path(web.__file__).parent / "static"


STUBS = {
    "chart": "export class EquityChart { show() {} }",
    "client": "export class StreamError extends Error {}\n"
    "export async function* watch({ topics, snapshot }) {\n"
    "  if (snapshot) { yield { kind: 'snapshot', updates: [], isLast: true }; return; }\n"
    "  globalThis.followed = topics;\n"
    "  yield { kind: 'subscribed', topics }; yield await globalThis.heard;\n"
    "  await new Promise(() => {});\n"
    "}",
    "tables": "export const fillTable = (id, rows) => { globalThis.tables[id] = rows; };",
}
"""What stands for the modules that need a page or a server."""


def said(folder: Path, script: str, modules: tuple[str, ...], *arguments: str) -> Any:
    """Return what a script says of modules of the page, which lie beside it."""
    # Not every node takes a file for a module unless its name says so.
    for name in modules:
        text = STUBS.get(name) or (STATIC / f"{name}.js").read_text(encoding="utf-8")
        (folder / f"{name}.mjs").write_text(text.replace('.js"', '.mjs"'), encoding="utf-8")
    copy = folder / script
    copy.write_text((HERE / script).read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        ["node", str(copy), *arguments], capture_output=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def route_of(path: str) -> Route:
    """Return the route that a path of the page is answered by."""
    found = [
        route
        for route in TABLE
        if route.method == "GET" and re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), path)
    ]
    return min(found, key=lambda route: "{" in route.path)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what the modules answer."""
    modules = ("accounts", "folding", "format", "rows")
    return said(tmp_path_factory.mktemp("page"), "dashboard.mjs", modules)


def test_figures_have_fixed_places_and_no_value_is_a_dash(answers: Any) -> None:
    assert answers["amounts"] == ["1,234,567.89", "0.00", f"{MINUS}12.50", DASH, DASH, "0.00"]
    assert answers["signs"] == ["+12.00", f"{MINUS}12.00", "0.00", DASH]
    assert answers["tones"] == ["", "down", "up", "down", "", ""]
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


def test_orders_are_told_apart_by_account_and_say_why_they_ended(answers: Any) -> None:
    assert answers["orders"] == [
        ["paper|a", "FILLED", "10", "", False],
        ["other|a", "INITIALIZED", "0", "", True],
        ["paper|b", "DENIED", "0", "MAX_POSITION", False],
        ["paper|c", "CANCELED", "0", "REDUCE_ONLY", False],
    ]


def test_page_begins_with_the_default_account_unless_the_address_names_another(
    answers: Any,
) -> None:
    assert answers["chosen"] == ["paper", "ira", "paper", "ira", ""]
    assert answers["addresses"] == [
        "ira",
        "",
        "https://host/?account=a%26b&all=fills",
        ["fills"],
        "https://host/?account=ira&all=fills&all=orders",
        "https://host/?account=ira",
    ]


def test_account_sees_what_is_its_own_beside_a_busy_one(answers: Any) -> None:
    assert answers["seen"] == {
        "ira": [20, 1, 1, 1, "HALTED", "closed", 101],
        "paper": [100, 500, 100, 100, "REDUCING", "too fast", 101],
        "nobody": None,
    }
    assert answers["loaded"] == ["paper|a", "ira|b", "paper|c"]


def test_orders_say_what_they_wait_for_and_that_they_only_reduce(answers: Any) -> None:
    assert answers["prices_of_orders"] == [
        ["T", DASH],
        ["T", "182.50"],
        ["T", "stop 182.85"],
        ["T reduce-only", "stop 182.85 / limit 182.50"],
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


def test_page_follows_the_account_that_is_chosen_and_the_way_back(tmp_path: Path) -> None:
    modules = ("accounts", "app", "folding", "format", "rows", *STUBS)
    pages = said(tmp_path, "choosing.mjs", modules)

    paper = {
        "account": "account paper",
        "equity": "100.00",
        "breaker": "ACTIVE",
        "choice": [False, ["ira", "paper"], "paper"],
        "positions": ["PAPER"],
        "orders": ["paper"],
        "fills": ["paper"],
    }
    ira = {
        "account": "account ira",
        "equity": "20.00",
        "breaker": "HALTED",
        "choice": [False, ["ira", "paper"], "ira"],
        "positions": ["IRA"],
        "orders": ["ira"],
        "fills": ["ira"],
    }
    assert pages["early"] == ["account ira", True]
    assert pages["first"] == pages["back"] == paper
    assert pages["chosen"] == {**ira, "address": "http://host/?account=ira"}
    wide = {"orders": ["ira", "paper"], "address": "http://host/?account=ira&all=orders"}
    assert pages["wide"] == {**ira, **wide}
    assert pages["left"] == []


def test_page_of_a_key_of_one_account_asks_for_nothing_that_is_not_for_it(tmp_path: Path) -> None:
    modules = ("accounts", "app", "folding", "format", "rows", *STUBS)
    page = said(tmp_path, "choosing.mjs", modules, "bound")

    assert (page["account"], page["equity"], page["orders"]) == ("account ira", "20.00", ["ira"])
    assert page["notes"] == ["not shown to this key", ""]
    assert page["hidden"] == [True, True]
    assert page["asked"]
    routes = [route_of(path.partition("?")[0]) for path in page["asked"]]
    closed = [r.path for r in routes if not (is_shared(r.path, r.tag) or is_of_own(r.path, r.tag))]
    assert closed == []
    assert page["topics"]
    assert [topic for topic in page["topics"] if not may_read(topic)] == []
