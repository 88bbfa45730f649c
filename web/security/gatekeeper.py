"""Decides who sent a request and whether that is allowed: by key, by browser session, or open.

Open means that nobody is asked for a key: only on loopback, where everybody is the person at the
machine. A key or a cookie that is shown counts there too, with its scopes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from math import ceil
from typing import NamedTuple

from schemas.errors import StorageError
from web.access import Client
from web.problems import ProblemError, unavailable
from web.scopes import PUBLIC, SCOPES
from web.security.keys import ApiKey, KeyFile
from web.security.rates import Rates
from web.security.sessions import Sessions

CSRF_HEADER = "x-csrf-token"
COOKIE = "millrace"
SECURE_COOKIE = "__Host-millrace"
LOCAL_OPERATOR = "api"
"""Who acts where no key is asked for."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="millrace"'}


class Limits(NamedTuple):
    """How many requests a key may send, and how many wrong keys an address; each a second."""

    requests_per_s: float = 50.0
    requests_burst: int = 200
    failures_per_s: float = 0.2
    failures_burst: int = 10


_LIMITS = Limits()


class Caller(NamedTuple):
    """Who sent a request, by which key ("" for nobody's), and by cookie or not."""

    client: Client
    key_id: str = ""
    cookie: str = ""


EVERYBODY = Caller(Client(LOCAL_OPERATOR, frozenset(SCOPES)))
"""The person at the machine: whoever comes where no key is asked for."""

NOBODY = Caller(Client("", frozenset()))
"""Somebody who showed no key where one is asked for."""


def check_scope(client: Client, scope: str) -> None:
    """Raise ProblemError (403) for a client that lacks a scope."""
    if not client.may(scope):
        raise ProblemError(
            403,
            "scope_missing",
            f"key {client.name!r} lacks the scope {scope}; use a key that has it",
        )


class Gatekeeper:
    """Knows callers by key or session; ``is_open`` lets those in who show neither.

    ``is_secure``: the browser talks TLS to us, or to the proxy in front of us.
    """

    def __init__(
        self,
        keys: KeyFile,
        sessions: Sessions,
        clock_s: Callable[[], float],
        *,
        is_open: bool,
        is_secure: bool = False,
        limits: Limits = _LIMITS,
    ) -> None:
        self.keys = keys
        self.sessions = sessions
        self.is_open = is_open
        self.is_secure = is_secure
        self._requests = Rates(limits.requests_per_s, limits.requests_burst, clock_s)
        self._failures = Rates(limits.failures_per_s, limits.failures_burst, clock_s)

    @property
    def cookie_name(self) -> str:
        """The name of the session's cookie; the prefix binds it to this host and to TLS."""
        return SECURE_COOKIE if self.is_secure else COOKIE

    # ---- HTTP

    def authorize(
        self, caller: Caller, method: str, headers: Mapping[str, str], scope: str
    ) -> None:
        """Let a caller use a route of ``scope``, or raise ProblemError.

        401 without a key, 403 without the scope or the token of the page, 429 for too many
        requests.
        """
        if caller.key_id:
            self._spend(caller.key_id)
        if scope == PUBLIC:
            return
        if not caller.client.name:
            raise ProblemError(
                401,
                "key_missing",
                "this needs a key; send it as 'Authorization: Bearer mr_…' (`millrace keys make`)",
                headers=_CHALLENGE,
            )
        if caller.cookie and method not in _SAFE:
            self._check_token(caller.cookie, headers)
        check_scope(caller.client, scope)

    def identify(self, headers: Mapping[str, str], address: str) -> Caller:
        """Return who shows a key or a session; without one everybody if open, else nobody.

        Raises ProblemError: 401 for a key or session that is not good, 429 for too many wrong keys
        of one address, 503 if the keys cannot be read.
        """
        shown = _key_of(headers)
        if shown:
            return Caller(*self._by_key(shown, address))
        cookie = self._cookie_of(headers)
        if cookie:
            session = self.sessions.find(cookie)
            key = self._known(session.key_id) if session is not None else None
            if key is not None:
                return Caller(_client(key), key.key_id, cookie)
            if not self.is_open:
                raise ProblemError(
                    401, "session_ended", "the session has ended; sign in again", headers=_CHALLENGE
                )
        return EVERYBODY if self.is_open else NOBODY

    def caller_of(self, key_id: str) -> Caller | None:
        """Return whom a key belongs to, None if it may not be used."""
        key = self._known(key_id)
        return Caller(_client(key), key.key_id) if key is not None else None

    def _by_key(self, text: str, address: str) -> tuple[Client, str]:
        try:
            key = self.keys.find(text)
        except StorageError as error:
            raise unavailable(error.message, code="keys_unavailable") from error
        if key is None:
            self._count_failure(address)
            raise ProblemError(
                401,
                "key_refused",
                "this key is unknown, revoked or has expired; make one with `millrace keys make`",
                headers=_CHALLENGE,
            )
        return _client(key), key.key_id

    def _count_failure(self, address: str) -> None:
        """Raise ProblemError (429) for too many wrong keys of one address.

        Whoever has a good key is not held up by others behind the same address.
        """
        wait_s = self._failures.take(address)
        if wait_s:
            raise _too_many("wrong keys from this address", wait_s)

    def _known(self, key_id: str) -> ApiKey | None:
        try:
            return self.keys.known(key_id)
        except StorageError as error:
            raise unavailable(error.message, code="keys_unavailable") from error

    def _spend(self, key_id: str) -> None:
        wait_s = self._requests.take(key_id)
        if wait_s:
            raise _too_many("requests with this key", wait_s)

    def _check_token(self, cookie: str, headers: Mapping[str, str]) -> None:
        session = self.sessions.find(cookie)
        given = headers.get(CSRF_HEADER, "")
        if session is None or not hmac.compare_digest(session.csrf.encode(), given.encode()):
            raise ProblemError(
                403,
                "csrf_token_missing",
                f"a page that writes sends the session's token as {CSRF_HEADER};"
                " GET /api/session gives it",
            )

    def _cookie_of(self, headers: Mapping[str, str]) -> str:
        text = headers.get("cookie", "")
        if self.cookie_name not in text:
            return ""
        try:
            found = SimpleCookie(text).get(self.cookie_name)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    # ---- WebSocket

    async def by_headers(self, headers: Mapping[str, str], address: str) -> Client | None:
        """Return the client of a request to connect, None if it does not say who it is."""
        try:
            caller = self.identify(headers, address)
        except ProblemError:
            return None
        return caller.client if caller.client.name else None

    async def by_secret(self, secret: str, address: str) -> Client | None:
        """Return the client that a key or a ticket belongs to, None if nobody's.

        Raises ProblemError (429) for too many wrong ones of one address.
        """
        key_id = self.sessions.redeem(secret)
        try:
            key = self.keys.known(key_id) if key_id is not None else self.keys.find(secret)
        except StorageError:
            return None
        if key is None:
            self._count_failure(address)
            return None
        return _client(key)

    async def is_good(self, client: Client) -> bool:
        """Return whether the key of a client that was let in may still be used."""
        if not client.key_id:
            return self.is_open
        try:
            return self.keys.known(client.key_id) is not None
        except StorageError:
            return False


def _client(key: ApiKey) -> Client:
    accounts = frozenset(key.accounts) if key.accounts else None
    return Client(key.name, frozenset(key.scopes), key.key_id, accounts)


def _key_of(headers: Mapping[str, str]) -> str:
    kind, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def _too_many(what: str, wait_s: float) -> ProblemError:
    after_s = max(ceil(wait_s), 1)
    return ProblemError(
        429,
        "too_many_requests",
        f"too many {what}; try again in {after_s} s",
        headers={"Retry-After": str(after_s)},
    )
