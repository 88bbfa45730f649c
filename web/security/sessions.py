"""Browser sessions: a key buys a ticket, a ticket opens one session, a cookie carries it.

So a key never stands in a page, an address or a cookie. Sessions live in this process alone and end
with it; each is bound to its key and ends when the key does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from web.security.keys import secret_digest

TICKET_LIFE_S = 60.0
SESSION_LIFE_S = 12 * 3600.0
_IDLE_S = 3600.0
_TICKETS_MAX = 1_000
_SESSIONS_MAX = 1_000


class Session(msgspec.Struct, kw_only=True):
    """One browser; ``csrf`` is what its pages must send with every write."""

    key_id: str
    csrf: str
    opened_s: float
    used_s: float


class Sessions:
    """Tickets and sessions, kept by the hash of their secrets.

    ``clock_s`` only goes forward; ``secrets`` gives a new secret of 256 random bits with each call.
    Too many at once push out the oldest.
    """

    def __init__(self, clock_s: Callable[[], float], secrets: Callable[[], str]) -> None:
        self._clock_s = clock_s
        self._secrets = secrets
        self._tickets: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def ticket(self, key_id: str) -> str:
        """Return a ticket of a key, good for one use within a minute."""
        text = self._secrets()
        self._tickets[secret_digest(text)] = (key_id, self._clock_s())
        while len(self._tickets) > _TICKETS_MAX:
            self._tickets.popitem(last=False)
        return text

    def redeem(self, ticket: str) -> str | None:
        """Return the key of a ticket, which is used up then; None if it is not good."""
        found = self._tickets.pop(secret_digest(ticket), None)
        if found is None or self._clock_s() - found[1] > TICKET_LIFE_S:
            return None
        return found[0]

    def open(self, key_id: str) -> tuple[str, Session]:
        """Open a session of a key; return the cookie's secret and the session."""
        now_s = self._clock_s()
        text = self._secrets()
        session = Session(key_id=key_id, csrf=self._secrets(), opened_s=now_s, used_s=now_s)
        self._sessions[secret_digest(text)] = session
        while len(self._sessions) > _SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return text, session

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie while it lives; being asked for keeps it alive."""
        name = secret_digest(cookie)
        session = self._sessions.get(name)
        if session is None:
            return None
        now_s = self._clock_s()
        if now_s - session.opened_s > SESSION_LIFE_S or now_s - session.used_s > _IDLE_S:
            del self._sessions[name]
            return None
        session.used_s = now_s
        return session

    def close(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(secret_digest(cookie), None)
