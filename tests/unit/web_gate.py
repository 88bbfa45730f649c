"""Keys, a clock and a gate for the tests of who may use the API."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from web.security.gatekeeper import Gatekeeper, Limits
from web.security.keys import KeyFile
from web.security.sessions import Sessions

NOW_NS = 1_700_000_000_000_000_000


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def time_s(self) -> float:
        """Return the seconds of a clock that only goes forward."""
        return self.now_s

    def time_ns(self) -> int:
        """Return the wall clock (ns UTC)."""
        return NOW_NS + round(self.now_s * 1e9)


class Gate:
    """A gate over a file of keys, with secrets that can be told apart."""

    def __init__(
        self, folder: Path, *, is_open: bool = False, limits: Limits | None = None
    ) -> None:
        self.clock = Clock()
        self.keys = KeyFile(folder / "keys.json", self.clock.time_ns, self.clock.time_s)
        self._numbers = count(1)
        sessions = Sessions(self.clock.time_s, lambda: f"secret-{next(self._numbers)}")
        self.keeper = Gatekeeper(
            self.keys,
            sessions,
            self.clock.time_s,
            is_open=is_open,
            limits=limits or Limits(requests_burst=10_000),
        )

    def key(
        self, *scopes: str, name: str = "", expires_ns: int = 0, accounts: tuple[str, ...] = ()
    ) -> str:
        """Make a key with these scopes, for all accounts or some, and return its text."""
        number = next(self._numbers)
        label = name or f"key-{number}"
        secret = f"a_b-{number}"
        return self.keys.make(label, scopes, f"id{number}", secret, expires_ns, accounts)


def bearer(key: str) -> dict[str, str]:
    """Return the header that shows a key."""
    return {"Authorization": f"Bearer {key}"}
