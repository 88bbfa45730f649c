"""Curves as SVG that needs no script and fits every width.

The curve lies in a drawing that is stretched to the room there is, its lines are not. Texts would
be squeezed by that, so axes are drawings of their own whose places are percentages, and the axis of
time is there twice: with more steps where there is room for them, with fewer on a telephone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from infra.report.curves import Curve
from infra.report.texts import amount, escaped, instant, percent
from infra.report.ticks import Tick, time_ticks, value_ticks

_WIDTH = 1000
_TOP = 10
_BOTTOM = 6
_HEIGHT = 260
_FALL_HEIGHT = 150
_TICK_EVERY = 44
_FALL_TICK_EVERY = 30
_SHORT_TEXT = 7
_TAB = 9
_MARGIN = 13
_LETTER = 6.7
_NOISE = 1e-9  # a curve that moves by no more is flat: arithmetic alone does that
_SVG = 'xmlns="http://www.w3.org/2000/svg"'


class _Places(NamedTuple):
    """Where instants and values lie in a drawing."""

    first_ns: int
    last_ns: int
    low: float
    high: float
    height: int

    def x(self, at: float) -> float:
        return _WIDTH * (at - self.first_ns) / (self.last_ns - self.first_ns)

    def y(self, value: float) -> float:
        room = self.height - _TOP - _BOTTOM
        return _TOP + room * (self.high - value) / (self.high - self.low)


class _Plot(NamedTuple):
    """A curve before its axes are drawn: ``body`` is stretched, ``over`` lies on it and is not."""

    places: _Places
    ticks: list[Tick]
    body: str
    over: str
    label: str
    tab: Tick | None


def is_drawable(curve: Curve) -> bool:
    """Return whether a curve spans any time."""
    return len(curve.times) > 1 and int(curve.times[-1]) > int(curve.times[0])


def plots(equity: Curve, drawdown: Curve, initial: float) -> tuple[str, str]:
    """Return the equity and the drawdown below it, over one axis of time.

    The equity has its initial value as a dashed line, gains above and losses below it. The drawdown
    hangs from the line of no drawdown.
    """
    upper, lower = _equity(equity, initial), _drawdown(drawdown)
    texts = [tick.text for plot in (upper, lower) for tick in (*plot.ticks, plot.tab) if tick]
    # Both leave the same room beside them, so that an instant is at one place in both.
    side = math.ceil(max(map(len, texts)) * _LETTER) + 16
    return _drawn(upper, side), _drawn(lower, side)


def _equity(curve: Curve, initial: float) -> _Plot:
    values = curve.values
    low, high = min(float(values.min()), initial), max(float(values.max()), initial)
    size = max(abs(low), abs(high), 1.0)
    is_flat = high - low < _NOISE * size
    margin = 0.01 * size if is_flat else 0.03 * (high - low)
    places = _places_of(curve, low - margin, high + margin, _HEIGHT)
    ticks = value_ticks(places.low, places.high, _HEIGHT // _TICK_EVERY)
    zero = places.y(initial)
    line, area = _line(curve, places), _area(curve, places, zero)
    body = (
        f'<clipPath id="gains"><rect width="{_WIDTH}" height="{zero:.1f}"/></clipPath>'
        f'<clipPath id="losses"><rect y="{zero:.1f}" width="{_WIDTH}"'
        f' height="{max(_HEIGHT - zero, 0):.1f}"/></clipPath>'
        f'<path class="area up" clip-path="url(#gains)" d="{area}"/>'
        f'<path class="area down" clip-path="url(#losses)" d="{area}"/>'
        f'<path class="line" d="{line}"/>'
    )
    dashes = f'<line class="base" x2="100%" y1="{_crisp(zero)}" y2="{_crisp(zero)}"/>'
    newest = Tick(float(values[-1]), amount(float(values[-1])))
    label = (
        f"Equity from {_span(curve)}: lowest {amount(float(values.min()))}, "
        f"highest {amount(float(values.max()))}, last {newest.text}"
    )
    return _Plot(places, ticks, body, dashes, label, newest)


def _drawdown(curve: Curve) -> _Plot:
    low = min(float(curve.values.min()), 0.0)
    places = _places_of(curve, -1.0 if low > -100 * _NOISE else low * 1.04, 0.0, _FALL_HEIGHT)
    ticks = value_ticks(places.low, 0.0, _FALL_HEIGHT // _FALL_TICK_EVERY, " %")
    body = (
        f'<path class="area down" d="{_area(curve, places, places.y(0.0))}"/>'
        f'<path class="line down" d="{_line(curve, places)}"/>'
    )
    label = f"Drawdown from {_span(curve)}: lowest {percent(low)}"
    return _Plot(places, ticks, body, "", label, None)


def _places_of(curve: Curve, low: float, high: float, height: int) -> _Places:
    return _Places(int(curve.times[0]), int(curve.times[-1]), low, high, height)


def _span(curve: Curve) -> str:
    return f"{instant(int(curve.times[0]))} to {instant(int(curve.times[-1]))}"


def _line(curve: Curve, places: _Places) -> str:
    points = zip(curve.times.tolist(), curve.values.tolist(), strict=True)
    return "M" + "L".join(f"{places.x(at):.1f},{places.y(value):.1f}" for at, value in points)


def _area(curve: Curve, places: _Places, base: float) -> str:
    return f"{_line(curve, places)}L{_WIDTH},{base:.1f}L0,{base:.1f}Z"


def _crisp(y: float) -> float:
    """Return the middle of a row of pixels, where a thin line is not blurred."""
    return round(y) + 0.5


def _drawn(plot: _Plot, side: int) -> str:
    places, height = plot.places, plot.places.height
    grid = "".join(
        f'<line x2="100%" y1="{_crisp(places.y(tick.at))}" y2="{_crisp(places.y(tick.at))}"/>'
        for tick in plot.ticks
    )
    return (
        f'<div class="plot" style="grid-template-columns:minmax(0,1fr) {side}px">'
        f'<svg {_SVG} width="100%" height="{height}" role="img" aria-label="{escaped(plot.label)}">'
        f'<g class="grid">{grid}</g>'
        f'<svg width="100%" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
        f' preserveAspectRatio="none">{plot.body}</svg>{plot.over}</svg>'
        f"{_value_axis(places, plot.ticks, plot.tab, side)}"
        f"{_time_axis(places, (12, 8), 560, 'wide')}"
        f"{_time_axis(places, (5, 3), 260, 'narrow')}</div>"
    )


def _value_axis(places: _Places, ticks: list[Tick], tab: Tick | None, side: int) -> str:
    tab_y = places.y(tab.at) if tab else -math.inf
    # The tab of the newest value stands over what is close to it.
    texts = "".join(
        f'<text x="{side - 6}" y="{places.y(tick.at) + 4:.1f}">{escaped(tick.text)}</text>'
        for tick in ticks
        if abs(places.y(tick.at) - tab_y) > 2 * _TAB - 2
    )
    if tab:
        texts += (
            f'<rect x="4" y="{tab_y - _TAB:.1f}" width="{side - 4}" height="{2 * _TAB}" rx="2"/>'
            f'<text class="tab" x="{side - 6}" y="{tab_y + 4:.1f}">{escaped(tab.text)}</text>'
        )
    return (
        f'<svg {_SVG} class="values" width="{side}" height="{places.height}"'
        f' aria-hidden="true">{texts}</svg>'
    )


def _time_axis(places: _Places, counts: tuple[int, int], width: int, name: str) -> str:
    """Return the axis below a plot, with as many steps as there is room for short or long texts.

    A text that would leave the card on the left stands right of its step; ``width`` is the least
    that the plot has in pixels. On the right there is room below the axis of values.
    """
    ticks = time_ticks(places.first_ns, places.last_ns, counts[0])
    if any(len(tick.text) > _SHORT_TEXT for tick in ticks):
        ticks = time_ticks(places.first_ns, places.last_ns, counts[1])
    marks = []
    for tick in ticks:
        share = places.x(tick.at) / _WIDTH
        is_cut = share * width < len(tick.text) * _LETTER / 2 - _MARGIN
        anchor = ' text-anchor="start"' if is_cut else ""
        at = f"{100 * share:.2f}%"
        marks.append(
            f'<line x1="{at}" x2="{at}" y2="4"/><text x="{at}" y="17"{anchor}>{tick.text}</text>'
        )
    return (
        f'<svg {_SVG} class="times {name}" width="100%" height="22" aria-hidden="true">'
        f"{''.join(marks)}</svg>"
    )
