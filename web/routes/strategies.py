"""Strategies: what they do, what they want, what they achieved, and what they are told."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import numpy as np
from msgspec import Meta

from agents.domain.metrics import EquityFold, Metrics, TradeFold, compute
from schemas.columns import EquityColumns, Ints
from schemas.control import StrategyCommand, StrategySignal, StrategyStateChanged
from schemas.enums import StrategyAction
from schemas.errors import field_in, parts_of
from schemas.portfolio import EquityMark
from schemas.topics import STRATEGY_INPUTS, STRATEGY_STATES
from schemas.values import tidy
from streams.history import Filters
from web.answers import strategies as answers
from web.context import Context
from web.problems import FieldError, invalid, not_found
from web.route_table import Call, NoQuery, Reply, Route
from web.routes.older import records
from web.routes.resolving import instruments_of, is_among
from web.scopes import READ, TRADE
from web.times import format_time
from web.views.configured import configured
from web.views.models import Views
from web.views.pnl import DAY_NS
from web.waiting import within

Reason = Annotated[str, Meta(max_length=500)]
Key = Annotated[str, Meta(min_length=1, max_length=100)]


class ActionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why a strategy is told to do something."""

    reason: Reason = ""


class ParametersRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters to change; the others stay as they are."""

    parameters: Annotated[dict[Key, bool | int | float | str], Meta(min_length=1, max_length=100)]
    reason: Reason = ""


class SignalsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; ``cursor`` is that of the page before."""

    symbol: str | None = None
    after: str | None = None
    until: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


async def list_strategies(context: Context, call: Call[NoQuery, None]) -> answers.Strategies:
    """Return all strategies of the run."""
    names = sorted(context.views.strategies.names())
    return answers.Strategies([_strategy(context.views, name) for name in names])


async def get_strategy(context: Context, call: Call[NoQuery, None]) -> answers.Strategy:
    """Return one strategy."""
    return _strategy(context.views, _known(context, call))


async def get_parameters(context: Context, call: Call[NoQuery, None]) -> answers.Parameters:
    """Return the parameters that a strategy works with."""
    name = _known(context, call)
    return answers.Parameters(name, _strategy(context.views, name).parameters)


async def patch_parameters(
    context: Context, call: Call[NoQuery, ParametersRequest]
) -> answers.Strategy | Reply:
    """Change parameters of a strategy; it starts anew with them from the next event on."""
    name = _known(context, call)
    body = call.body
    state = await _tell(
        context, name, StrategyAction.SET_PARAMETERS, call.operator, body.reason, body.parameters
    )
    if state is not None and state.detail != body.reason:
        raise invalid([_refused(state.detail, body.parameters)], code="parameters_refused")
    return _told(context, name, state)


def _refused(detail: str, parameters: dict[str, bool | int | float | str]) -> FieldError:
    """Return what a strategy says to parameters that it does not take."""
    stands = "the strategy goes on as it was"
    name = field_in(detail, parameters)
    if not name:
        return FieldError("/parameters", detail, stands)
    value = parameters[name]
    message, remedy = parts_of(detail, name, value)
    remedy = f"{remedy}; {stands}" if remedy else stands
    return FieldError(f"/parameters/{name}", message, remedy, value)


async def start_strategy(
    context: Context, call: Call[NoQuery, ActionRequest]
) -> answers.Strategy | Reply:
    """Let a strategy go on that was stopped or paused; one that failed begins from scratch.

    The same as ``resume``.
    """
    return await _act(context, call, StrategyAction.START)


async def stop_strategy(
    context: Context, call: Call[NoQuery, ActionRequest]
) -> answers.Strategy | Reply:
    """Stop a strategy: it decides nothing any more; its orders and positions stand."""
    return await _act(context, call, StrategyAction.STOP)


async def pause_strategy(
    context: Context, call: Call[NoQuery, ActionRequest]
) -> answers.Strategy | Reply:
    """Pause a strategy: it follows the market, but sends no orders."""
    return await _act(context, call, StrategyAction.PAUSE)


async def resume_strategy(
    context: Context, call: Call[NoQuery, ActionRequest]
) -> answers.Strategy | Reply:
    """Let a strategy go on that was paused or stopped; one that failed begins from scratch.

    The same as ``start``.
    """
    return await _act(context, call, StrategyAction.RESUME)


async def _act(
    context: Context, call: Call[NoQuery, ActionRequest], action: StrategyAction
) -> answers.Strategy | Reply:
    name = _known(context, call)
    state = await _tell(context, name, action, call.operator, call.body.reason, {})
    return _told(context, name, state)


async def _tell(
    context: Context,
    strategy_id: str,
    action: StrategyAction,
    operator: str,
    reason: str,
    parameters: dict[str, bool | int | float | str],
) -> StrategyStateChanged | None:
    """Publish a command and return the strategy's new state, None if that is late."""
    context.check_is_present()
    event_id = f"web:{context.ids()}"
    command = StrategyCommand(
        event_id,
        context.log.now_ns(),
        event_id,
        "",
        strategy_id,
        action,
        operator,
        parameters,
        reason,
    )
    with context.waiters.expect(STRATEGY_STATES, event_id) as answer:
        await context.publish(STRATEGY_INPUTS, command, "GET /api/strategies shows what stands")
        state = await within(answer, context.settings.receipt_timeout_s)
    return state if isinstance(state, StrategyStateChanged) else None


def _told(
    context: Context, strategy_id: str, state: StrategyStateChanged | None
) -> answers.Strategy | Reply:
    found = _strategy(context.views, strategy_id)
    if state is not None:
        return found
    return Reply(202, found, {"Location": f"/api/strategies/{quote(strategy_id, safe='')}"})


async def list_signals(context: Context, call: Call[SignalsQuery, None]) -> answers.SignalPage:
    """List the targets of a strategy as they changed, the newest first."""
    name, query, views = _known(context, call), call.query, context.views
    chosen = instruments_of(views, query.symbol)
    filters = Filters(strategy_id=name, instrument_ids=chosen)

    def is_wanted(signal: StrategySignal) -> bool:
        return signal.strategy_id == name and is_among(chosen, signal.instrument_id)

    found, cursor = await records(
        context,
        views.strategies.history,
        "strategy_signals",
        query,
        is_wanted,
        lambda history, window: history.signals(window, filters),
    )
    return answers.SignalPage(name, [_signal(s) for s in found], len(found), cursor)


async def get_performance(context: Context, call: Call[NoQuery, None]) -> answers.Performance:
    """Return what a strategy has achieved so far, by the formulas of the metrics."""
    views, name = context.views, _known(context, call)
    config = configured(views.system.manifest).strategy(name)
    state = views.strategies.states.get(name)
    account_id = state.account_id if state else config.account_id if config else ""
    capital = float(config.capital) if config is not None and config.capital else None
    async with context.share_deadline():
        marks = (await context.curve(account_id, name)).all_points()
        lots = await context.lots(account_id, name)
    figures = _figures(marks, capital or 0.0, lots.trades_of(account_id, name))
    last = marks[-1] if marks else None
    has_returns = capital is not None and last is not None
    return answers.Performance(
        name,
        account_id or None,
        capital,
        tidy(last.equity + (capital or 0.0)) if last else None,
        tidy(figures.net_profit),
        figures.total_return_pct if has_returns else None,
        figures.sharpe_ratio if has_returns else None,
        figures.sortino_ratio if has_returns else None,
        figures.max_drawdown_pct if has_returns else None,
        figures.total_trades,
        figures.win_rate,
        figures.profit_factor,
        _tidied(figures.expectancy),
        _tidied(figures.best_trade),
        _tidied(figures.worst_trade),
        figures.average_trade_duration_s,
        figures.fills,
        tidy(figures.total_fees),
        tidy(figures.total_slippage),
        format_time(last.ts_event_ns) if last else None,
        last.ts_event_ns if last else None,
    )


def _figures(marks: list[EquityMark], capital: float, trades: TradeFold) -> Metrics:
    """Return the metrics of a strategy's share, whose marks count from 0."""
    fold = EquityFold(capital, marks[0].ts_event_ns if marks else 0, _days)
    if marks:
        empty = np.zeros(len(marks), np.int64)
        fold.apply(
            EquityColumns(
                pos=empty,
                ts=np.array([m.ts_event_ns for m in marks], np.int64),
                instrument=empty,
                source=empty,
                seq=empty,
                equity=np.array([capital + m.equity for m in marks]),
                cash=np.array([m.cash for m in marks]),
                gross=np.array([m.gross_exposure for m in marks]),
                net=np.array([m.net_exposure for m in marks]),
                drawdown=np.array([m.drawdown for m in marks]),
            )
        )
    return compute(fold, trades)


def _tidied(amount: float | None) -> float | None:
    return None if amount is None else tidy(amount)


def _days(ts: Ints) -> Ints:
    days: Ints = ts // DAY_NS
    return days


def _known(context: Context, call: Call[Any, Any]) -> str:
    name = call.path["strategy_id"]
    if name not in context.views.strategies.names():
        raise not_found("strategy", name, "GET /api/strategies lists those of this run")
    return name


def _signal(s: StrategySignal) -> answers.Signal:
    return answers.Signal(
        s.instrument_id, s.target, s.price, format_time(s.ts_event_ns), s.ts_event_ns
    )


def _strategy(views: Views, strategy_id: str) -> answers.Strategy:
    state = views.strategies.states.get(strategy_id)
    signals = [_signal(s) for s in views.strategies.signals.get(strategy_id, {}).values()]
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


def _action(name: str, handler: object, summary: str) -> Route:
    return Route(
        "POST",
        f"/api/strategies/{{strategy_id}}/{name}",
        handler,  # type: ignore[arg-type]
        answers.Strategy,
        TRADE,
        summary,
        "strategies",
        body=ActionRequest,
        answers={202: answers.Strategy},
        errors=(400, 404, 409, 413, 503),
        example=f"/api/strategies/momentum/{name}",
        example_body={"reason": "lunch"},
    )


ROUTES = (
    Route(
        "GET",
        "/api/strategies",
        list_strategies,
        answers.Strategies,
        READ,
        "All strategies",
        "strategies",
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/strategies/{strategy_id}",
        get_strategy,
        answers.Strategy,
        READ,
        "One strategy",
        "strategies",
        errors=(404,),
        is_of_run=True,
        is_stored=True,
        example="/api/strategies/momentum",
    ),
    Route(
        "GET",
        "/api/strategies/{strategy_id}/parameters",
        get_parameters,
        answers.Parameters,
        READ,
        "Parameters",
        "strategies",
        errors=(404,),
        is_of_run=True,
        is_stored=True,
        example="/api/strategies/momentum/parameters",
    ),
    Route(
        "PATCH",
        "/api/strategies/{strategy_id}/parameters",
        patch_parameters,
        answers.Strategy,
        TRADE,
        "Change parameters",
        "strategies",
        body=ParametersRequest,
        answers={202: answers.Strategy},
        errors=(400, 404, 409, 413, 503),
        example="/api/strategies/momentum/parameters",
        example_body={"parameters": {"fast": 20}, "reason": "slower market"},
    ),
    Route(
        "GET",
        "/api/strategies/{strategy_id}/performance",
        get_performance,
        answers.Performance,
        READ,
        "What it achieved",
        "strategies",
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/strategies/momentum/performance",
    ),
    Route(
        "GET",
        "/api/strategies/{strategy_id}/signals",
        list_signals,
        answers.SignalPage,
        READ,
        "Its targets",
        "strategies",
        query=SignalsQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/strategies/momentum/signals?limit=20",
    ),
    _action("start", start_strategy, "Start a strategy"),
    _action("stop", stop_strategy, "Stop a strategy"),
    _action("pause", pause_strategy, "Pause a strategy"),
    _action("resume", resume_strategy, "Resume a strategy"),
)
