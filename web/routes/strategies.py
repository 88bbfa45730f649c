"""Strategies: what they do and what they last wanted."""

from __future__ import annotations

from web.answers import strategies as answers
from web.context import Context
from web.problems import not_found
from web.route_table import Call, NoQuery, Route
from web.times import format_time
from web.views.models import Views


async def list_strategies(context: Context, call: Call[NoQuery, None]) -> answers.Strategies:
    """Return all strategies of the run."""
    views = context.views.strategies
    names = sorted({*views.states, *views.signals})
    return answers.Strategies([_strategy(context.views, name) for name in names])


async def get_strategy(context: Context, call: Call[NoQuery, None]) -> answers.Strategy:
    """Return one strategy."""
    name = call.path["strategy_id"]
    views = context.views.strategies
    if name not in views.states and name not in views.signals:
        raise not_found("strategy", name, "GET /api/strategies lists those of this run")
    return _strategy(context.views, name)


def _strategy(views: Views, strategy_id: str) -> answers.Strategy:
    state = views.strategies.states.get(strategy_id)
    signals = [
        answers.Signal(
            s.instrument_id, s.target, s.price, format_time(s.ts_event_ns), s.ts_event_ns
        )
        for s in views.strategies.signals.get(strategy_id, {}).values()
    ]
    if state is None:
        return answers.Strategy(strategy_id, None, None, None, {}, [], "", signals)
    return answers.Strategy(
        strategy_id,
        state.name,
        state.account_id,
        state.status,
        state.parameters,
        state.instrument_ids,
        state.detail,
        signals,
    )


ROUTES = (
    Route(
        "GET",
        "/api/strategies",
        list_strategies,
        answers.Strategies,
        "read",
        "All strategies",
        "strategies",
    ),
    Route(
        "GET",
        "/api/strategies/{strategy_id}",
        get_strategy,
        answers.Strategy,
        "read",
        "One strategy",
        "strategies",
        errors=(404,),
    ),
)
