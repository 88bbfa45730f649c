"""A restart with other settings is told which."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from agents.account.config import AccountConfig, AccountStageConfig
from agents.runners.config import EngineConfig
from agents.strategy.config import StrategyConfig
from infra.config_changes import changes
from schemas.risk import LimitSet


def config(most: str = "5000", size: int = 100, cash: int = 1, **more: object) -> EngineConfig:
    """Return a configuration of one account and one strategy."""
    accounts = (AccountConfig(account_id="paper", cash=Decimal(cash)),)
    strategy = StrategyConfig(
        strategy_id="s",
        name="own@1f",
        account_id="paper",
        instrument_ids=("SPY.ARCX",),
        on="1m",
        parameters={"size": size},
    )
    stage = AccountStageConfig(accounts=accounts, limits=LimitSet(max_position=Decimal(most)))
    return msgspec.structs.replace(EngineConfig(accounts=stage, strategies=(strategy,)), **more)


def test_same_settings_have_no_changes() -> None:
    assert changes(config(), config()) == ""


def test_changed_values_are_named_with_what_they_were() -> None:
    assert changes(config(), config("4000")) == "accounts.limits.max_position 5000, now 4000"
    assert changes(config(), config(size=101)) == "strategies[0].parameters.size 100, now 101"


def test_of_many_changes_the_first_are_told() -> None:
    other = config("4000", 101, 2, seed=7)
    text = changes(config(), other)

    assert text.count("now") == 3
    assert text.endswith("and 1 more")


def test_one_more_strategy_is_counted() -> None:
    one = config()
    two = msgspec.structs.replace(one, strategies=(*one.strategies, *one.strategies))

    assert changes(one, two) == "strategies 1 of them, now 2 of them"
