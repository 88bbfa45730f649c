"""Scheduled jobs: their state, and run now."""

from __future__ import annotations

from schemas.errors import ConflictError, NotFoundError
from web.answers import system as answers
from web.context import Context
from web.operations import JobState
from web.problems import ProblemError, not_found
from web.route_table import Call, NoQuery, Route
from web.scopes import ADMIN, READ
from web.times import format_time


async def get_scheduler(context: Context, call: Call[NoQuery, None]) -> answers.Scheduler:
    """Return all jobs: when each runs next, and what its last run said."""
    return scheduler_answer(context)


async def run_job(context: Context, call: Call[NoQuery, None]) -> answers.Job:
    """Run a job now and answer with what it said."""
    jobs, name = context.operations.jobs, call.path["name"]
    if jobs is None:
        raise not_found("job", name, "this process has no scheduled jobs")
    try:
        return _job(await jobs.run_now(name))
    except NotFoundError as error:
        names = ", ".join(state.name for state in jobs.states())
        raise not_found("job", name, f"there are {names}") from error
    except ConflictError as error:
        raise ProblemError(409, "already_running", str(error)) from error


def scheduler_answer(context: Context) -> answers.Scheduler:
    """Return all jobs as an answer."""
    jobs = context.operations.jobs
    if jobs is None:
        return answers.Scheduler(False, [], "this process has no scheduled jobs")
    return answers.Scheduler(True, [_job(state) for state in jobs.states()], "")


def _job(s: JobState) -> answers.Job:
    return answers.Job(
        s.name,
        s.description,
        s.schedule,
        s.is_running,
        format_time(s.next_run_ns) if s.next_run_ns is not None else None,
        s.next_run_ns,
        format_time(s.last_started_ns) if s.last_started_ns is not None else None,
        s.last_started_ns,
        s.last_duration_s,
        s.last_status,
        s.last_result,
    )


ROUTES = (
    Route(
        "GET",
        "/api/system/scheduler",
        get_scheduler,
        answers.Scheduler,
        READ,
        "Scheduled jobs",
        "system",
    ),
    Route(
        "POST",
        "/api/system/scheduler/{name}/run",
        run_job,
        answers.Job,
        ADMIN,
        "Run a job now",
        "system",
        errors=(404, 409, 503),
        example="/api/system/scheduler/reconcile/run",
    ),
)
