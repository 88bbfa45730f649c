"""The page of a backtest: nothing is lost, nothing comes in, and it is the same each time."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agents.domain.metrics import EquityFold, Metrics, TradeFold, compute
from agents.runners.results import Files
from infra.backtests import Backtest, BacktestSpec, run_backtest
from infra.report import Told, write_report
from infra.report.curves import (
    POINTS_MAX,
    EquityHistory,
    Reducer,
    monthly_returns,
    read_equity,
    yearly_returns,
)
from infra.report.texts import amount, escaped, percent, signed
from infra.report.ticks import time_ticks, value_ticks
from infra.report.trades import read_extremes
from infra.tables import show_backtest
from infra.times import parse_time
from schemas.control import InputRange, RunManifest

DAY_NS = 86_400 * 10**9
START_NS = 1_577_836_800 * 10**9  # 2020-01-01
EVIL = "<script>alert('x')</script>\"&\x00\u202e"
SPEC = BacktestSpec(
    strategy="momentum_crossover",
    parameters={"fast": 5, "slow": 20},
    symbols=("IBM",),
    start_ns=parse_time("2013-01-01", "from"),
    end_ns=parse_time("2014-06-30", "to"),
)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Backtest:
    """Return a backtest over a year and a half of bars."""
    return run_backtest(SPEC, out=tmp_path_factory.mktemp("report") / "run")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Return a run's folder whose tables have no rows."""
    Files(tmp_path).close()
    return tmp_path


def page_of(folder: Path, told: Told) -> tuple[str, ET.Element]:
    """Write the page of a run; return its text, and what XML makes of it."""
    text = write_report(folder, told).read_text(encoding="utf-8")
    return text, ET.fromstring(text)  # the page is our own


def words(root: ET.Element) -> str:
    """Return all texts of a page."""
    return " ".join(root.itertext())


def no_metrics() -> Metrics:
    """Return what a run without marks and trades amounts to."""
    return compute(EquityFold(10_000.0, 0, lambda ts: ts // DAY_NS), TradeFold())


def told_of(metrics: Metrics, **config: object) -> Told:
    """Return a run with a configuration of its own."""
    inputs = [
        InputRange(
            source="bars",
            kind="bar/1d",
            instrument_id="A.X",
            count=3,
            first_ts_ns=START_NS,
            last_ts_ns=START_NS + DAY_NS,
            content_hash="",
        )
    ]
    manifest = RunManifest(
        event_id="run:r:0", ts_event_ns=0, run_id="r", config=dict(config), inputs=inputs
    )
    return Told(manifest, metrics)


def write_equity(folder: Path, times: Sequence[int], equity: Sequence[float]) -> Path:
    """Write a curve as a run does."""
    files = Files(folder)
    for at, value in zip(times, equity, strict=True):
        files.write("equity", (at, value, value, 0.0, 0.0, 0.0))
    files.close()
    return folder / "equity.csv"


def history_of(folder: Path, times: Sequence[int], equity: Sequence[float]) -> EquityHistory:
    """Return what is read from a curve that begins with 100."""
    path = write_equity(folder, times, equity)
    return read_equity(path, 100.0, equity[-1], None)


# ---- reduction


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400),
    st.lists(st.integers(1, 60), min_size=1, max_size=10),
    st.integers(4, 40),
)
def test_reduction_keeps_extremes_and_ends_for_every_way_of_cutting(
    values: list[float], cuts: list[int], limit: int
) -> None:
    reducer = Reducer(limit)
    times = np.arange(len(values), dtype=np.int64)
    column = np.array(values)
    at = 0
    while at < len(values):
        for cut in cuts:
            reducer.add(times[at : at + cut], column[at : at + cut])
            at += cut
    curve = reducer.curve()

    assert len(curve.times) <= limit
    assert (np.diff(curve.times) > 0).all()
    assert curve.values.tolist() == column[curve.times].tolist()
    assert (curve.values.min(), curve.values.max()) == (column.min(), column.max())
    assert (curve.times[0], curve.times[-1]) == (0, len(values) - 1)
    whole = Reducer(limit)
    whole.add(times, column)
    assert whole.curve().times.tolist() == curve.times.tolist()


def test_reduction_keeps_the_extremes_of_each_bucket() -> None:
    values = np.random.default_rng(3).normal(size=64_000).cumsum()
    reducer = Reducer(POINTS_MAX)
    reducer.add(np.arange(len(values), dtype=np.int64), values)
    kept = set(reducer.curve().values.tolist())

    for bucket in values.reshape(-1, 256):  # the least power of two with less than 499 buckets
        assert {float(bucket.min()), float(bucket.max())} <= kept


def test_short_series_stays_as_it_is() -> None:
    values = np.arange(400, dtype=np.float64)
    reducer = Reducer(1000)
    reducer.add(np.arange(400, dtype=np.int64), values)

    assert reducer.curve().values.tolist() == values.tolist()


def test_spike_of_one_mark_among_many_shows_in_both_curves(tmp_path: Path) -> None:
    times = [START_NS + number * 60 * 10**9 for number in range(40_000)]
    equity = [100.0] * 40_000
    equity[12_345], equity[30_001] = 170.0, 85.0
    history = history_of(tmp_path, times, equity)

    assert (history.equity.values.max(), history.equity.values.min()) == (170.0, 85.0)
    assert history.drawdown.values.min() == pytest.approx(-50.0)
    assert max(len(history.equity.times), len(history.drawdown.times)) <= POINTS_MAX
    assert history.marks == 40_000


def test_drawdown_of_the_curve_is_that_of_the_metrics(run: Backtest) -> None:
    m = run.metrics
    history = read_equity(run.folder / "equity.csv", m.initial_equity, m.final_equity, None)

    assert history.drawdown.values.min() == pytest.approx(m.max_drawdown_pct)
    assert history.equity.values[-1] == m.final_equity


def test_mark_that_is_no_number_is_not_drawn(tmp_path: Path) -> None:
    values = [100.0, float("nan"), float("inf"), 90.0]
    history = history_of(tmp_path, [START_NS + i for i in range(4)], values)

    assert set(history.equity.values.tolist()) == {100.0, 90.0}


# ---- months


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(1, 1e6)), min_size=1, max_size=60))
def test_monthly_returns_are_those_of_a_plain_calculation(steps: list[tuple[int, float]]) -> None:
    levels: dict[int, float] = {}
    month = 600
    for skipped, level in steps:
        month += skipped
        levels[month] = level
    found = monthly_returns(levels, 100.0)
    chain = [100.0, *levels.values()]

    assert [(m.year - 1970) * 12 + m.month - 1 for m in found] == list(levels)
    assert [m.return_pct for m in found] == [100 * (b / a - 1) for a, b in pairwise(chain)]
    product = np.prod([1 + (m.return_pct or 0.0) / 100 for m in found])
    assert product == pytest.approx(chain[-1] / 100.0)
    years = yearly_returns(levels, 100.0)
    assert np.prod([1 + (r or 0.0) / 100 for r in years.values()]) == pytest.approx(product)


def test_mark_at_the_end_of_a_month_belongs_to_it(tmp_path: Path) -> None:
    february = START_NS + 31 * DAY_NS
    history = history_of(tmp_path, [february, february + 1, february + DAY_NS], [110, 105, 121])

    assert [(m.year, m.month) for m in history.months] == [(2020, 1), (2020, 2)]
    assert [m.return_pct for m in history.months] == pytest.approx([10.0, 10.0])
    assert history.years == {2020: pytest.approx(21.0)}


def test_month_after_everything_is_lost_has_no_return() -> None:
    assert [m.return_pct for m in monthly_returns({0: 0.0, 1: 5.0}, 10.0)] == [-100.0, None]


# ---- axes and texts


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(1, 12))
def test_value_steps_are_round_and_each_has_its_text(low: float, span: float, count: int) -> None:
    if low + span == low or span / max(abs(low), 1.0) < 1e-6:
        return
    ticks = value_ticks(low, low + span, count)

    assert len(ticks) <= count + 1
    assert len({tick.text for tick in ticks}) == len(ticks)
    for tick in ticks:
        text = tick.text.replace(",", "").replace("\N{MINUS SIGN}", "-")
        assert float(text) == pytest.approx(tick.at, abs=span / 1e6)


@given(st.integers(0, 2 * 10**18), st.integers(1, 4 * 10**18), st.integers(1, 12))
def test_time_steps_lie_in_the_span(first: int, span: int, count: int) -> None:
    ticks = time_ticks(first, first + span, count)

    assert len(ticks) <= count + 1
    assert all(first <= tick.at <= first + span for tick in ticks)
    assert all(a.at < b.at for a, b in pairwise(ticks))


def test_time_steps_are_written_as_short_as_can_be() -> None:
    def texts(days: float, count: int) -> list[str]:
        return [t.text for t in time_ticks(START_NS, START_NS + int(days * DAY_NS), count)]

    assert texts(0.25, 3) == ["2020-01-01", "02:00", "04:00", "06:00"]
    assert texts(21, 4) == ["2020-01-06", "2020-01-13", "2020-01-20"]
    assert texts(300, 4) == ["2020-01", "2020-04", "2020-07", "2020-10"]
    assert texts(366 * 20, 5) == ["2020", "2025", "2030", "2035", "2040"]


def test_figures_have_a_true_minus_and_a_dash_for_none() -> None:
    assert [amount(None), amount(float("nan")), amount(-1234.5)] == ["–", "–", "−1,234.50"]  # noqa: RUF001
    assert [amount(-0.001), signed(0.001), signed(2)] == ["0.00", "0.00", "+2.00"]
    assert percent(None) == "–"  # noqa: RUF001


def test_texts_cannot_hide_markup_or_turn_the_line() -> None:
    assert escaped("<a href='x'>&\x00\u202e") == "&lt;a href=&#x27;x&#x27;&gt;&amp;\ufffd\ufffd"


# ---- the page


def test_run_has_its_page_with_figures_curves_months_and_trades(run: Backtest) -> None:
    text = run.report.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    shown = words(root)

    assert run.manifest.output_hash in shown
    assert "fast 5, slow 20" in shown
    assert "weight 1 (default)" in shown
    assert signed(run.metrics.total_return_pct) + " %" in shown
    assert len(root.findall(f".//{SVG}path[@class='line']")) == 1
    assert len(root.findall(f".//{SVG}path[@class='line down']")) == 1
    assert [row.findtext("th") for row in root.iter("tr")][1:3] == ["2013", "2014"]
    assert "Largest gains" in shown
    assert "Largest losses" in shown


def test_page_loads_nothing_and_runs_nothing(run: Backtest) -> None:
    text = run.report.read_text(encoding="utf-8")
    names = {element.tag for element in ET.fromstring(text).iter()}

    assert not names & {"script", "link", "img", "iframe", "object", "embed"}
    assert not re.findall(r"\b(?:src|href|on\w+)=|@import|url\((?!#)", text)
    assert set(re.findall(r"https?://[^\"\s]+", text)) == {"http://www.w3.org/2000/svg"}


def test_same_run_gives_the_same_bytes(run: Backtest, tmp_path: Path) -> None:
    again = run_backtest(msgspec.structs.replace(SPEC, batch=97), out=tmp_path / "elsewhere")

    assert again.report.read_bytes() == run.report.read_bytes()


def test_empty_run_has_a_page_that_says_so(empty: Path) -> None:
    _, root = page_of(empty, told_of(no_metrics()))
    shown = words(root)

    assert "no equity was marked" in shown
    assert "no trade was closed" in shown
    assert "Monthly returns" not in shown
    assert "Orders denied" not in shown
    figures = [e.text for e in root.iter("p") if e.get("class", "").startswith("figure")]
    assert figures.count("–") == 5  # noqa: RUF001


def test_run_without_inputs_or_configuration_has_a_page(empty: Path) -> None:
    manifest = RunManifest(event_id="run:r:0", ts_event_ns=0)
    _, root = page_of(empty, Told(manifest, no_metrics()))

    assert "no equity was marked" in words(root)


def test_run_of_one_mark_has_no_curve(tmp_path: Path) -> None:
    write_equity(tmp_path, [START_NS], [10_000.0])
    told = told_of(no_metrics())
    told = told._replace(manifest=msgspec.structs.replace(told.manifest, inputs=[]))
    _, root = page_of(tmp_path, told)

    assert "one mark of its equity" in words(root)


@pytest.mark.parametrize("level", [10_000.0, 9_999.999_999_999])
def test_flat_curve_is_drawn(tmp_path: Path, level: float) -> None:
    write_equity(tmp_path, [START_NS, START_NS + DAY_NS], [10_000.0, level])
    text, _ = page_of(tmp_path, told_of(no_metrics()))

    assert "never below its peak" in text
    assert "nan" not in text.lower()
    assert "10,050" in text
    assert "\N{MINUS SIGN}0.4 %" in text


def test_foreign_texts_are_shown_as_text(empty: Path) -> None:
    told = told_of(
        no_metrics(),
        strategies=[{"name": EVIL, "instrument_ids": [EVIL], "parameters": {EVIL: EVIL}}],
        accounts={"accounts": [{"base_currency": EVIL, "cash": EVIL}]},
        venue={"execution_data": EVIL, "fee": {"type": EVIL, EVIL: EVIL}},
        data={"spec": f"/home/someone/{EVIL}", "interval": EVIL},
    )
    manifest = msgspec.structs.replace(
        told.manifest, run_id=EVIL, output_hash=EVIL, engine_version=EVIL
    )
    files = Files(empty)
    row = (EVIL, EVIL, "BUY", EVIL, START_NS, START_NS, EVIL, EVIL, Decimal(5), Decimal(0), EVIL)
    files.write("trades", row)
    files.close()
    told = Told(manifest, told.metrics, {EVIL: 3}, {EVIL: EVIL})
    text, root = page_of(empty, told)

    assert not list(root.iter("script"))
    assert "<script" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "alert('x')" in words(root)


def test_page_does_not_say_where_the_data_lay(empty: Path) -> None:
    text, _ = page_of(empty, told_of(no_metrics(), data={"spec": "/home/someone/prices.csv"}))

    assert "prices.csv" in text
    assert "someone" not in text


def test_warnings_stand_first_and_where_there_are_none_there_is_no_card(empty: Path) -> None:
    told = told_of(no_metrics())
    _, root = page_of(empty, told._replace(warnings=["1 gaps", EVIL]))
    card = next(root.iter("section"))
    assert card.get("class") == "card warnings"
    assert [item.text for item in card.iter("li")] == [
        "1 gaps",
        EVIL.translate({0: 0xFFFD, 0x202E: 0xFFFD}),
    ]

    text, _ = page_of(empty, told)
    assert 'class="card warnings"' not in text


def test_denials_are_counted_by_code(empty: Path) -> None:
    denials = {"max_position": 1234, "buying_power": 2}
    _, root = page_of(empty, told_of(no_metrics())._replace(denials=denials))
    table = next(t for t in root.iter("table") if t.get("class") == "denials")
    rows = ["".join(row.itertext()) for row in table.iter("tr")]

    assert rows[1:] == ["buying_power2", "max_position1,234"]


def test_largest_trades_come_first_and_of_equal_ones_the_earlier(tmp_path: Path) -> None:
    files = Files(tmp_path)
    results = [3, -1, 7, 0, 7, -9, 2, -1]
    for number, result in enumerate(results):
        price, fee = Decimal(1), Decimal(0)
        row = ("s", str(number), "BUY", 1, number, number, price, price, Decimal(result), fee, fee)
        files.write("trades", row)
    files.close()
    found = read_extremes(tmp_path / "trades.csv", 3)

    assert [t.instrument_id for t in found.winners] == ["2", "4", "0"]
    assert [t.instrument_id for t in found.losers] == ["5", "1", "7"]


def test_every_drawing_is_well_formed_and_within_its_bounds(run: Backtest) -> None:
    text = run.report.read_text(encoding="utf-8")
    drawings = [d for d in ET.fromstring(text).iter(f"{SVG}svg") if d.get("viewBox")][1:]

    assert len(drawings) == 2
    for drawing in drawings:
        _, _, width, height = (float(part) for part in drawing.get("viewBox", "").split())
        points = [
            (float(x), float(y))
            for path in drawing.iter(f"{SVG}path")
            for x, y in re.findall(r"([-\d.]+),([-\d.]+)", path.get("d", ""))
        ]
        assert len(points) > 100
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_curve_without_points_is_empty() -> None:
    curve = Reducer().curve()

    assert (len(curve.times), len(curve.values)) == (0, 0)


def test_last_lines_of_the_command_are_paths_that_can_be_copied(run: Backtest) -> None:
    folder = Path("/a/[bold]folder") / ("x" * 90)
    out = io.StringIO()
    show_backtest(Console(file=out, width=60), run._replace(folder=folder), 1.0)

    lines = out.getvalue().splitlines()
    assert lines[-2:] == [f"results in {folder}", f"report in {folder}/report.html"]
