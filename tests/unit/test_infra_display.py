"""Progress for a program that reads it."""

from __future__ import annotations

import io
import json

from infra.display import Lines


def test_lines_are_seldom_but_the_last_one_is_told() -> None:
    stream = io.StringIO()
    now_s = iter([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
    lines = Lines(stream, lambda: next(now_s))
    lines.total(30)
    for _ in range(3):
        lines.advance(10)
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert said == [{"done": 0, "total": 30}, {"done": 30, "total": 30}]
