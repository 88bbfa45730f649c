"""Which trading day an instant of a run belongs to."""

from __future__ import annotations

import numpy as np

from infra.composition import day_function
from tests.unit.account_records import DAY_S, SESSION_S, at_ns
from tests.unit.account_script import sessions


def test_what_happens_outside_of_sessions_belongs_to_the_one_before() -> None:
    of = day_function(sessions()["XNYS"])
    seconds = (0, SESSION_S, SESSION_S + 60, DAY_S - 1, DAY_S, DAY_S + SESSION_S)

    days = of(np.array([at_ns(second) for second in seconds]))

    assert days.tolist() == [20131007] * 4 + [20131008] * 2


def test_days_without_a_calendar_are_those_of_utc() -> None:
    days = day_function(None)(np.array([at_ns(0), at_ns(DAY_S)]))

    assert days[1] - days[0] == 1
