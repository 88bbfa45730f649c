"""Who a client of the WebSocket is, and which topics it may read.

The app is served on loopback, where everybody is the person at the machine: ``OpenAccess``. A
server that others can reach gives an ``Authenticator`` that knows keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from schemas.topics import SYSTEM_AUDIT, SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS
from web.scopes import ADMIN, READ, SCOPES
from web.security.accounts import Accounts

_INTERNAL = frozenset({SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS, SYSTEM_AUDIT})


class Client(NamedTuple):
    """Somebody who may do what ``scopes`` name, to ``accounts`` alone where they are not None.

    ``key_id`` is empty where no key is asked for.
    """

    name: str
    scopes: frozenset[str]
    key_id: str = ""
    accounts: Accounts | None = None

    def may(self, scope: str) -> bool:
        """Return whether the client has ``scope``."""
        return scope in self.scopes

    def is_as(self, other: Client) -> bool:
        """Return whether both are known by the same key, or as the same where none is asked for."""
        return self.key_id == other.key_id if other.key_id else self == other


class Authenticator(Protocol):
    """Knows clients by what they show."""

    async def by_headers(self, headers: Mapping[str, str], address: str) -> Client | None:
        """Return the client of a request to connect, None if it does not say who it is."""
        ...

    async def by_secret(self, secret: str, address: str) -> Client | None:
        """Return the client that a key or a ticket belongs to, None if nobody's.

        Raises ProblemError (429) for too many wrong ones of one address.
        """
        ...

    async def is_good(self, client: Client) -> bool:
        """Return whether a client that was let in may stay: its key may have been revoked."""
        ...


class OpenAccess:
    """Takes everybody for the person at the machine."""

    def __init__(self) -> None:
        self._everybody = Client("local", frozenset(SCOPES))

    async def by_headers(self, headers: Mapping[str, str], address: str) -> Client | None:
        """Return the person at the machine."""
        return self._everybody

    async def by_secret(self, secret: str, address: str) -> Client | None:
        """Return the person at the machine."""
        return self._everybody

    async def is_good(self, client: Client) -> bool:
        """Return True: nobody is asked for a key."""
        return True


def scope_of(topic: str) -> str:
    """Return the scope that reading a topic takes.

    States of stages, their order logs and the audit are for those who run the engine.
    """
    return ADMIN if topic in _INTERNAL else READ
