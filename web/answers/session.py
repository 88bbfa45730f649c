"""Answers about the caller: who it is, its tickets and its session."""

from __future__ import annotations

import msgspec


class Ticket(msgspec.Struct):
    """Good for opening one session, or one WebSocket, within the time it says."""

    ticket: str
    expires_in_s: float


class CallerSession(msgspec.Struct, omit_defaults=True):
    """Who the caller is; ``csrf_token`` is what a page with a session sends with every write.

    ``accounts`` are those that its key is bound to; without it the key is for all of them.
    """

    name: str
    scopes: list[str]
    csrf_token: str = ""
    accounts: list[str] = []
