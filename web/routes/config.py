"""Configuration: what the run was set up with, and the little that can be changed while it runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.enums import AutonomyMode
from schemas.risk import SetAutonomy
from schemas.topics import ACCOUNT_INPUTS
from web.answers import system as answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid
from web.route_table import Call, NoQuery, Reply, Route
from web.scopes import ADMIN, CONFIG_WRITE, READ
from web.times import format_time


class ConfigRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What is to change.

    With a mode, orders that wait for a person lapse after ``approval_timeout_s`` seconds; without
    it the time in force stays.
    """

    autonomy_mode: AutonomyMode | None = None
    paper_trading: bool | None = None
    approval_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


async def get_config(context: Context, call: Call[NoQuery, None]) -> answers.Config:
    """Return how the run is set up and which settings were changed while it ran."""
    return _config(context)


async def put_config(
    context: Context, call: Call[NoQuery, ConfigRequest]
) -> answers.Config | Reply:
    """Change who lets orders go; a record that every replay sees as well.

    Paper trading cannot be left: this program has no other venue than the paper venue.
    """
    context.check_is_present()
    body = call.body
    if body.paper_trading is not None and body.paper_trading != context.settings.is_paper_trading:
        detail = "a run cannot leave paper trading: the only venue is the paper venue"
        raise ProblemError(409, "paper_trading_only", detail)
    mode, risk = body.autonomy_mode, context.views.risk
    if mode is None:
        _check_changes_nothing(body)
        return _config(context)
    timeout_s = body.approval_timeout_s or risk.approval_timeout_s
    event_id = f"web:{context.ids()}"
    command = SetAutonomy(
        event_id,
        context.log.now_ns(),
        event_id,
        "",
        mode,
        call.operator,
        body.reason,
        timeout_s,
    )
    await context.publish(ACCOUNT_INPUTS, command, "GET /api/config shows what stands")
    is_done = await context.waiters.until(
        lambda: (risk.autonomy_mode, risk.approval_timeout_s) == (mode, timeout_s),
        context.settings.receipt_timeout_s,
    )
    answer = _config(context)
    return answer if is_done else Reply(202, answer, {"Location": "/api/config"})


def _check_changes_nothing(body: ConfigRequest) -> None:
    """Raise ProblemError (422) if a request without a mode asks for something all the same."""
    errors = [
        FieldError(f"/{name}", "goes with autonomy_mode", f"give autonomy_mode, or no {name}")
        for name in ("approval_timeout_s", "reason")
        if getattr(body, name)
    ]
    if not errors and body.paper_trading is None:
        errors = [FieldError("", "changes nothing", "give autonomy_mode or paper_trading")]
    if errors:
        raise invalid(errors)


async def get_system_config(context: Context, call: Call[NoQuery, None]) -> answers.SystemConfig:
    """Return the settings of the process, secrets masked."""
    return answers.SystemConfig(context.operations.settings, _changes(context))


def _config(context: Context) -> answers.Config:
    return answers.Config(
        context.settings.is_paper_trading,
        context.views.risk.autonomy_mode,
        context.views.risk.approval_timeout_s,
        context.settings.mode,
        _changes(context),
    )


def _changes(context: Context) -> dict[str, answers.Setting]:
    return {
        name: answers.Setting(c.value, c.operator, format_time(c.ts_event_ns), c.ts_event_ns)
        for name, c in sorted(context.views.system.settings.items())
    }


ROUTES = (
    Route(
        "GET",
        "/api/config",
        get_config,
        answers.Config,
        READ,
        "Configuration",
        "system",
        is_of_run=True,
    ),
    Route(
        "PUT",
        "/api/config",
        put_config,
        answers.Config,
        CONFIG_WRITE,
        "Change who lets orders go",
        "system",
        body=ConfigRequest,
        answers={202: answers.Config},
        errors=(400, 409, 413, 503),
        example_body={"autonomy_mode": "SEMI_AUTOMATIC", "reason": "new strategy"},
    ),
    Route(
        "GET",
        "/api/system/config",
        get_system_config,
        answers.SystemConfig,
        ADMIN,
        "Settings of the process",
        "system",
    ),
)
