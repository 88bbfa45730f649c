"""The caller itself: who it is, tickets for browsers, and sessions by cookie."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from web.answers.session import CallerSession, Ticket
from web.context import Context
from web.problems import ProblemError
from web.route_table import Call, NoQuery, Reply, Route
from web.scopes import PUBLIC, SCOPES
from web.security.gatekeeper import Caller, Gatekeeper
from web.security.sessions import SESSION_LIFE_S, TICKET_LIFE_S


class TicketRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The ticket that opens a session."""

    ticket: Annotated[str, Meta(min_length=1, max_length=200)]


async def get_session(context: Context, call: Call[NoQuery, None]) -> CallerSession:
    """Say who the caller is and what it may do."""
    caller = call.caller
    if not caller.client.name:
        raise ProblemError(401, "key_missing", "nobody is signed in; send a key, or sign in")
    return _answer(context, caller)


async def make_ticket(context: Context, call: Call[NoQuery, None]) -> Ticket:
    """Give a ticket that opens one browser session, or signs in one WebSocket, within a minute."""
    gate = _gate(context)
    if not call.caller.key_id:
        raise ProblemError(
            401,
            "key_missing",
            "a ticket is for a key; send it as 'Authorization: Bearer mr_…'",
        )
    return Ticket(gate.sessions.ticket(call.caller.key_id), TICKET_LIFE_S)


async def open_session(context: Context, call: Call[NoQuery, TicketRequest]) -> Reply:
    """Open a browser session: the cookie that comes with the answer carries it."""
    gate = _gate(context)
    key_id = gate.sessions.redeem(call.body.ticket)
    caller = gate.caller_of(key_id) if key_id is not None else None
    if caller is None:
        raise ProblemError(
            401, "ticket_refused", "this ticket is unknown, used or too old; ask for a new one"
        )
    cookie, _ = gate.sessions.open(caller.key_id)
    header = _cookie(gate, cookie, round(SESSION_LIFE_S))
    return Reply(200, _answer(context, caller._replace(cookie=cookie)), {"Set-Cookie": header})


async def close_session(context: Context, call: Call[NoQuery, None]) -> Reply:
    """End the session of the cookie."""
    gate = _gate(context)
    if call.caller.cookie:
        gate.sessions.close(call.caller.cookie)
    return Reply(200, CallerSession("", []), {"Set-Cookie": _cookie(gate, "", 0)})


def _gate(context: Context) -> Gatekeeper:
    if context.gate is None:
        raise ProblemError(409, "no_keys", "this server asks nobody for a key; there is no session")
    return context.gate


def _answer(context: Context, caller: Caller) -> CallerSession:
    token = ""
    if caller.cookie and context.gate is not None:
        session = context.gate.sessions.find(caller.cookie)
        token = session.csrf if session is not None else ""
    scopes = [scope for scope in SCOPES if caller.client.may(scope)]
    accounts = sorted(caller.client.accounts or ())
    return CallerSession(caller.client.name, scopes, token, accounts)


def _cookie(gate: Gatekeeper, text: str, max_age_s: int) -> str:
    secure = "; Secure" if gate.is_secure else ""
    return (
        f"{gate.cookie_name}={text}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
    )


def _route(
    method: str, path: str, handler: Any, answer: type[Any], summary: str, **more: Any
) -> Route:
    return Route(method, path, handler, answer, PUBLIC, summary, "session", **more)


ROUTES = (
    _route("GET", "/api/session", get_session, CallerSession, "Who the caller is", errors=(401,)),
    _route(
        "POST", "/api/session/ticket", make_ticket, Ticket,
        "A ticket for one browser session", errors=(401, 409),
    ),
    _route(
        "POST", "/api/session", open_session, CallerSession,
        "Open a browser session with a ticket", body=TicketRequest, errors=(400, 401, 409, 422),
    ),
    _route(
        "DELETE", "/api/session", close_session, CallerSession, "End the session", errors=(409,),
    ),
)  # fmt: skip
