"""What an answer may be: documented, of its schema, and every error a problem that says why."""

from __future__ import annotations

from collections import Counter

import msgspec

from tests.simulation.fuzz.mutations import Message
from tests.simulation.fuzz.sending import DEADLINE_S, Answer
from tests.simulation.fuzz.shapes import Operation
from web.problems import MEDIA_TYPE, Problem
from web.routes import TABLE

_ROUTES = {(route.method, route.path): route for route in TABLE}
_EVERYWHERE = frozenset({"header_repeated", "host_not_allowed", "origin_not_allowed"})
"""Problems that stand before every route; a route's own list does not name them."""


class Judge:
    """Counts answers, and keeps what was wrong with each kind of rule."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.routes: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.breaches: dict[str, list[str]] = {
            "no fault of the server": [],
            "every error is a problem with code and detail": [],
            "every status is documented": [],
            "every answer has its schema": [],
            "every sound request is answered in time": [],
        }
        self.slowest_s = 0.0
        self.slowest = ""
        self.problems = self.decoded = self.sound = self.matched = self.count = 0

    def take(self, message: Message, answer: Answer) -> None:
        """Judge one answer."""
        self.count += 1
        self.statuses[answer.status] += 1
        if answer.took_s > self.slowest_s:
            self.slowest_s, self.slowest = (
                answer.took_s,
                f"{message.method} {message.target[:80]!r}",
            )
        if message.operation is not None:
            self.routes[message.operation.name] += 1
            self.seconds[message.operation.name] += answer.took_s  # type: ignore[assignment]
        self.sound += message.is_sound
        if answer.status <= 0:
            # What is no HTTP may be cut off without a word, but not left hanging.
            if message.is_sound or answer.status < 0:
                how = "was cut off" if not answer.status else f"nothing within {DEADLINE_S:g} s"
                self._breach("every sound request is answered in time", message, how)
            return
        if answer.status >= 500 and answer.status != 503:
            self._breach(
                "no fault of the server", message, f"{answer.status} {answer.body[:300]!r}"
            )
        code = self._problem(message, answer) if answer.status >= 400 else ""
        if message.operation is not None and code not in _EVERYWHERE:
            self.matched += 1
            self._documented(message, message.operation, answer)

    def _breach(self, rule: str, message: Message, what: str) -> None:
        wire = message.wire()
        shown = f"{wire[:700]!r}" + ("..." if len(wire) > 700 else "")
        self.breaches[rule].append(f"{what} [{message.how}] for {shown}")

    def _problem(self, message: Message, answer: Answer) -> str:
        """Return the code of a problem; an answer to HEAD has no body to look at."""
        if message.method == "HEAD":
            return ""
        self.problems += 1
        rule = "every error is a problem with code and detail"
        is_page = answer.status == 404 and answer.headers.get("content-type", "").startswith(
            "text/html"
        )
        if is_page and (b"accept", b"text/html") in message.headers:
            return ""
        if answer.headers.get("content-type") != MEDIA_TYPE:
            kind = answer.headers.get("content-type")
            self._breach(rule, message, f"{answer.status} as {kind}: {answer.body[:200]!r}")
            return ""
        try:
            problem = msgspec.json.decode(answer.body, type=Problem)
        except msgspec.MsgspecError as error:
            self._breach(rule, message, f"{error}: {answer.body[:300]!r}")
            return ""
        if not problem.code or not problem.detail or problem.status != answer.status:
            self._breach(rule, message, f"{answer.status}: {answer.body[:300]!r}")
        self.codes[problem.code] += 1
        return problem.code

    def _documented(self, message: Message, operation: Operation, answer: Answer) -> None:
        if answer.status not in operation.statuses:
            what = f"{answer.status} {answer.body[:300]!r}"
            self._breach("every status is documented", message, what)
        elif answer.status < 300:
            self.decoded += 1
            route = _ROUTES[operation.method, operation.path]
            kind = route.answers.get(answer.status, route.answer)
            try:
                msgspec.json.decode(answer.body, type=kind, strict=False)
            except msgspec.MsgspecError as error:
                what = f"{error}: {answer.body[:300]!r}"
                self._breach("every answer has its schema", message, what)
