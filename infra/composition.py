"""The composition root: settings and a source in, everything an engine needs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.engine import EngineConfig
from agents.strategy.api import Strategy
from agents.strategy.config import StrategyConfig
from agents.venue.config import VenueConfig
from infra.canonical import canonical_config
from infra.limits import usable_limits
from infra.settings import AccountSettings, Settings, StrategySettings
from infra.strategies import resolve_strategy
from schemas.columns import Ints
from schemas.control import InputRange
from schemas.errors import ConfigError, NotFoundError
from schemas.instruments import Instrument, Universe, meant_by
from schemas.market_data import INTERVALS
from schemas.sessions import SessionTable, days_of
from schemas.values import MONEY_CONTEXT
from streams.calendars import session_tables

_TIERS = ("quote", "trade", "bar")
"""Which data fill orders, the best first."""

_ACCOUNT_ID_MAX = 64
"""Longest id of an account: keys of the API are bound to none that is longer."""


class Source(Protocol):
    """What a run reads: a data set, or a live feed that has yet to bring anything."""

    @property
    def universe(self) -> Universe:
        """Its instruments."""
        ...

    @property
    def intervals(self) -> frozenset[str]:
        """Intervals of its bars."""
        ...

    def inputs(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[InputRange]:
        """Return what was selected, one entry an instrument, kind and interval."""
        ...


class Setup(NamedTuple):
    """Everything that an engine is made of."""

    config: EngineConfig
    universe: Universe
    sessions: Mapping[str, SessionTable]
    classes: dict[str, type[Strategy]]
    day_of: Callable[[Ints], Ints]
    inputs: list[InputRange]


def compose(
    settings: Settings,
    data: Source,
    *,
    symbols: Sequence[str] | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
    trade_from_ns: int = 0,
) -> Setup:
    """Make the configuration of a run over a data set or a live feed.

    Raises InputError for whatever does not fit: symbols, ranges, strategies, parameters, limits.
    """
    inputs = data.inputs(start_ns=start_ns, end_ns=end_ns, symbols=symbols)
    universe = data.universe
    chosen = sorted({item.instrument_id for item in inputs})
    first_ns = min(item.first_ts_ns for item in inputs)
    last_ns = max(item.last_ts_ns for item in inputs)
    sessions = session_tables(universe, first_ns, last_ns)
    accounts = _accounts(settings, sessions)
    classes: dict[str, type[Strategy]] = {}
    strategies = _strategies(settings, data, inputs, chosen, universe, classes, trade_from_ns)
    kinds = {instrument_id: kinds_of(inputs, instrument_id) for instrument_id in chosen}
    _check_execution(settings.venue.execution_data, set().union(*kinds.values()))
    common = _common_calendar(universe, chosen)
    calendar = settings.account.calendar or common
    config = EngineConfig(
        accounts=AccountStageConfig(
            accounts=tuple(
                AccountConfig(
                    account_id=account.account_id,
                    calendar=account.calendar or common,
                    kind=account.kind,
                    base_currency=account.base_currency,
                    cash=account.cash,
                )
                for account in accounts.values()
            ),
            limits=usable_limits(settings.risk.limits, universe),
            autonomy=settings.risk.autonomy,
            approval_timeout_s=settings.risk.approval_timeout_s,
            mark_interval_s=settings.market.mark_interval_s,
            snapshot_interval_s=settings.market.snapshot_interval_s,
        ),
        strategies=tuple(strategies),
        market=MarketConfig(
            intervals=_intervals(settings, strategies),
            indicators=settings.market.indicators,
        ),
        venue=VenueConfig(
            execution_data=_tier(
                settings.venue.execution_data, {k for ks in kinds.values() for k in ks}
            ),
            execution_by_instrument={
                instrument_id: _tier(settings.venue.execution_data, has)
                for instrument_id, has in kinds.items()
            },
            limit_fill=_choice("venue.limit_fill", settings.venue.limit_fill, ("touch", "through")),
            participation=settings.venue.participation,
            slippage=settings.venue.slippage,
            fee=settings.venue.fee,
            latency=settings.venue.latency,
            seed=settings.seed,
        ),
        seed=settings.seed,
    )
    config = canonical_config(config)
    return Setup(config, universe, sessions, classes, day_function(sessions.get(calendar)), inputs)


def _accounts(
    settings: Settings, sessions: Mapping[str, SessionTable]
) -> dict[str, AccountSettings]:
    """Return the accounts by id.

    Raises ConfigError for an id that is none or stands twice, and for an unknown calendar.
    """
    found: dict[str, AccountSettings] = {}
    for account in (settings.account, *settings.accounts):
        table = "accounts" if found else "account"
        _check_account_id(account.account_id, table)
        if account.calendar and account.calendar not in sessions:
            raise ConfigError(
                "no such calendar is known, by which days are counted",
                field=f"{table}.calendar",
                value=account.calendar,
                remedy="give an exchange's code such as XNYS, XLON or 24/7, or leave it out",
            )
        if account.account_id in found:
            raise ConfigError(
                "two accounts have one id",
                field="accounts.account_id",
                value=account.account_id,
                remedy="give each account an id of its own",
            )
        found[account.account_id] = account
    return found


def _check_account_id(account_id: str, table: str) -> None:
    """Refuse ids that keys of orders or lists of accounts, joined by | and commas, would cut."""
    is_odd = any(not char.isprintable() or char in " ,|" for char in account_id)
    if is_odd or not 0 < len(account_id) <= _ACCOUNT_ID_MAX:
        raise ConfigError(
            "this can be no account's id",
            field=f"{table}.account_id",
            value=account_id[: _ACCOUNT_ID_MAX + 1],
            remedy=f"give up to {_ACCOUNT_ID_MAX} printable characters, no space, comma or |",
        )


def day_function(table: SessionTable | None) -> Callable[[Ints], Ints]:
    """Return the function from instants to trading days, which are those of the account's limits.

    What happens outside of sessions belongs to the one before, so every mark has its day.
    """
    return lambda ts: days_of(table, ts)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(
            "a setting has no such choice",
            field=name,
            value=value,
            remedy=f"choose {' or '.join(choices)}",
        )
    return value


def kinds_of(inputs: list[InputRange], instrument_id: str) -> set[str]:
    """Return the kinds of data that there are of an instrument: trade, quote, bar."""
    # A kind of bars names its interval as well: bar/1d.
    return {item.kind.split("/")[0] for item in inputs if item.instrument_id == instrument_id}


def _check_execution(wanted: str, kinds: set[str]) -> None:
    """Refuse data that fill no order because there are none; raises ConfigError."""
    if _tier(wanted, kinds) not in kinds and wanted != "auto":
        there = " or ".join(kind for kind in _TIERS if kind in kinds)
        raise ConfigError(
            "no order would be filled: the source has no such data",
            field="venue.execution_data",
            value=wanted,
            remedy=f"choose auto or {there}, which there is",
        )


def _tier(wanted: str, kinds: set[str]) -> str:
    """Return which data fills orders."""
    if wanted != "auto":
        return _choice("venue.execution_data", wanted, _TIERS)
    return next((kind for kind in _TIERS if kind in kinds), "trade")


def _common_calendar(universe: Universe, chosen: list[str]) -> str:
    calendars = {_instrument(universe, instrument_id).calendar for instrument_id in chosen}
    return calendars.pop() if len(calendars) == 1 else ""


def _instrument(universe: Universe, instrument_id: str) -> Instrument:
    index = universe.index(instrument_id)
    assert index is not None  # inputs name instruments of the universe only
    return universe.instruments[index]


def _strategies(
    settings: Settings,
    data: Source,
    inputs: list[InputRange],
    chosen: list[str],
    universe: Universe,
    classes: dict[str, type[Strategy]],
    trade_from_ns: int,
) -> list[StrategyConfig]:
    configs = []
    accounts = {account.account_id: account for account in (settings.account, *settings.accounts)}
    owners = [item.account or settings.account.account_id for item in settings.strategies]
    for item, owner in zip(settings.strategies, owners, strict=True):
        _choice("strategies.account", owner, tuple(accounts))
        name, cls, source_hash = resolve_strategy(item.name)
        label = f"{name}@{source_hash}" if source_hash else name
        classes[label] = cls
        ids = (
            [find_instrument(universe, chosen, s) for s in item.symbols] if item.symbols else chosen
        )
        # Without a word strategies share the cash of their account.
        share = MONEY_CONTEXT.divide(accounts[owner].cash, Decimal(owners.count(owner)))
        capital = item.capital if item.capital is not None else share
        configs.append(
            StrategyConfig(
                strategy_id=item.strategy_id or name,
                name=label,
                account_id=owner,
                instrument_ids=tuple(ids),
                on=_feed(item, cls, data, inputs, ids),
                capital=capital,
                parameters=item.parameters,
                trade_from_ns=trade_from_ns,
            )
        )
    return configs


def find_instrument(universe: Universe, chosen: list[str], symbol: str) -> str:
    """Return the one chosen instrument that ``symbol`` names, by the rule of ``meant_by``.

    Raises NotFoundError if there is none, ConfigError if there are several.
    """
    known = {instrument_id: _instrument(universe, instrument_id) for instrument_id in chosen}
    found = meant_by(symbol, known)
    if not found:
        names = ", ".join(sorted(instrument.symbol for instrument in known.values()))
        raise NotFoundError(
            f"symbol {symbol} not found in the data",
            field="symbols",
            value=symbol,
            remedy=f"there is {names}",
        )
    if len(found) > 1:
        raise ConfigError(
            "a symbol names several instruments",
            field="symbols",
            value=symbol,
            remedy=f"give one of the ids {', '.join(found)}",
        )
    return found[0]


def _feed(
    item: StrategySettings,
    cls: type[Strategy],
    data: Source,
    inputs: list[InputRange],
    ids: list[str],
) -> str:
    """Return what drives a strategy."""
    if item.on in ("trade", "quote", *INTERVALS):
        return item.on
    if item.on != "auto":
        raise ConfigError(
            "a strategy cannot run on this",
            field="on",
            value=item.on,
            remedy=f"choose auto, trade, quote or one of {', '.join(INTERVALS)}",
        )
    wants_bars = cls.on_bar is not Strategy.on_bar or cls.on_bars is not Strategy.on_bars
    kinds = {kind for instrument_id in ids for kind in kinds_of(inputs, instrument_id)}
    finest = min(data.intervals, key=INTERVALS.index) if data.intervals else "1m"
    if wants_bars:
        return finest
    return next((kind for kind in ("trade", "quote") if kind in kinds), finest)


def _intervals(settings: Settings, strategies: list[StrategyConfig]) -> tuple[str, ...]:
    wanted = {*settings.market.intervals, *(s.on for s in strategies if s.on in INTERVALS)}
    for name in wanted:
        _choice("market.intervals", name, INTERVALS)
    return tuple(name for name in INTERVALS if name in wanted)
