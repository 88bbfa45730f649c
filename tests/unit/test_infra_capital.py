"""The capital of a strategy: the whole in the run's configuration, its share at each instrument."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from agents.strategy.stage import StrategyStage
from infra.composition import compose
from infra.feeds import LiveSource
from infra.settings import AccountSettings, Settings, StrategySettings
from tests.generated import START_NS, universe

OWN = f"{Path(__file__).parents[2] / 'docs' / 'examples' / 'channel_maker.py'}:ChannelMaker"


@pytest.mark.parametrize(
    ("name", "shares"),
    [("momentum_crossover", ["300", "300"]), (OWN, ["600"])],
    ids=["array form", "event form"],
)
def test_array_form_has_an_equal_share_of_the_capital_at_each_instrument(
    name: str, shares: list[str]
) -> None:
    source = LiveSource(
        "set",
        universe(("AA", "BB")).instruments,
        ("trade",),
        (),
        first_ns=START_NS,
        until_ns=START_NS + 1,
    )
    settings = Settings(
        account=AccountSettings(cash=Decimal(600)), strategies=(StrategySettings(name=name),)
    )

    setup = compose(settings, source)
    stage = StrategyStage(list(setup.config.strategies), setup.classes, setup.universe)

    assert [config.capital for config in setup.config.strategies] == [Decimal(600)]
    assert [instance.view.capital for instance in stage.instances] == [Decimal(s) for s in shares]
