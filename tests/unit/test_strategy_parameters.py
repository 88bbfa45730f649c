"""Declared parameters: typed, bounded, and an error that says which, what and how to mend it."""

from __future__ import annotations

from typing import Any

import pytest

from agents.processor import Outbox
from agents.strategy.api import Strategy
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from agents.strategy.parameters import ParameterValue, parameter, resolve
from agents.strategy.stage import StrategyStage
from schemas.control import StrategyCommand, StrategyStateChanged
from schemas.enums import StrategyAction
from schemas.errors import ConfigError
from tests.generated import universe


class Declared(Strategy):
    """One parameter of each type."""

    length: int = parameter(20, minimum=2, maximum=500, description="length of the window")
    level: float = parameter(1.5, minimum=0.0)
    is_loud: bool = parameter(False)
    side: str = parameter("both", choices=("long", "short", "both"))
    note: str = parameter("")


class Derived(Declared):
    """Inherits, changes one default and adds one."""

    length: int = parameter(5, minimum=2, maximum=10)
    extra: int = parameter(1)


def _resolved(**given: Any) -> dict[str, ParameterValue]:
    return resolve(Declared.parameters, given, "declared")


def test_parameters_not_given_have_their_defaults() -> None:
    assert _resolved() == {
        "quantity": 0.0,
        "weight": 1.0,
        "length": 20,
        "level": 1.5,
        "is_loud": False,
        "side": "both",
        "note": "",
    }


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("length", "30", 30),
        ("length", 30.0, 30),
        ("length", 2, 2),
        ("length", 500, 500),
        ("level", "2", 2.0),
        ("level", 3, 3.0),
        ("level", "1e-3", 0.001),
        ("is_loud", "true", True),
        ("is_loud", "FALSE", False),
        ("is_loud", "1", True),
        ("is_loud", True, True),
        ("side", "long", "long"),
        ("note", "any words", "any words"),
    ],
)
def test_parameter_takes_its_type_from_values_and_from_text(
    name: str, given: object, expected: object
) -> None:
    value = _resolved(**{name: given})[name]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "remedy"),
    [
        ("length", 1, "from 2 to 500"),
        ("length", "501", "from 2 to 500"),
        ("length", "20.5", "of type int"),
        ("length", 20.5, "of type int"),
        ("length", "twenty", "of type int"),
        ("length", True, "of type int"),
        ("length", None, "of type int"),
        ("length", [20], "of type int"),
        ("level", -0.1, "from 0"),
        ("level", "nan", "from 0"),
        ("level", "inf", "from 0"),
        ("level", "", "of type float"),
        ("is_loud", "yes", "of type bool"),
        ("is_loud", 1, "of type bool"),
        ("side", "sideways", "one of long, short, both"),
        ("note", 3, "of type str"),
    ],
)
def test_parameter_that_does_not_fit_is_refused_with_name_value_and_remedy(
    name: str, given: object, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _resolved(**{name: given})
    assert (caught.value.field, caught.value.value) == (name, given)
    assert remedy in caught.value.remedy


def test_unbounded_number_that_is_not_finite_is_refused() -> None:
    class Open(Strategy):
        factor: float = parameter(1.0)

    with pytest.raises(ConfigError, match="finite"):
        resolve(Open.parameters, {"factor": "inf"}, "open")


@pytest.mark.parametrize("value", [10**400, -(2**63), 2**63])
def test_whole_number_that_no_record_can_hold_is_refused(value: int) -> None:
    class Open(Strategy):
        count: int = parameter(5)

    with pytest.raises(ConfigError, match="cannot be used"):
        resolve(Open.parameters, {"count": value}, "open")


def test_unknown_parameter_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError) as caught:
        _resolved(lenght=30)
    assert (caught.value.field, caught.value.value) == ("lenght", 30)
    assert "declared" in caught.value.message
    assert "length, level, is_loud, side, note" in caught.value.remedy


def test_parameters_are_inherited_and_may_be_declared_anew() -> None:
    values = resolve(Derived.parameters, {}, "derived")
    assert (values["length"], values["level"], values["extra"]) == (5, 1.5, 1)
    with pytest.raises(ConfigError, match="from 2 to 10"):
        resolve(Derived.parameters, {"length": 11}, "derived")
    assert resolve(Declared.parameters, {"length": 11}, "declared")["length"] == 11


def test_attribute_of_a_strategy_holds_the_value_of_the_run() -> None:
    strategy = Declared(_resolved(length="7", side="short"))
    other = Declared(_resolved())
    assert (strategy.length, strategy.side, strategy.level) == (7, "short", 1.5)
    assert other.length == 20


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_built_in_strategy_describes_every_parameter_and_runs_on_its_defaults(name: str) -> None:
    cls = BUILTIN[name]
    assert all(declared.description for declared in cls.parameters.values())
    strategy = cls(resolve(cls.parameters, {}, name))
    strategy.on_start()
    for key, declared in cls.parameters.items():
        assert declared.check(declared.default) == getattr(strategy, key)


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("momentum_crossover", {"fast": 30, "slow": 30}, "fast"),
        ("mean_reversion", {"entry_z": 1.0, "exit_z": 1.0}, "exit_z"),
        ("breakout", {"window": 1}, "window"),
        ("buy_and_hold", {"weight": -1.0}, "weight"),
    ],
)
def test_built_in_strategy_refuses_what_makes_no_sense(
    name: str, parameters: dict[str, ParameterValue], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _stage(name, BUILTIN[name], parameters)
    assert caught.value.field == field
    assert caught.value.remedy


def test_refused_change_of_parameters_leaves_everything_as_it_was() -> None:
    stage = _stage("momentum_crossover", BUILTIN["momentum_crossover"], {})
    before = stage.snapshot()
    out: Outbox = []
    stage.on_record(_change({"fast": 300}), 1, out)
    (_, state), *_ = out
    assert isinstance(state, StrategyStateChanged)
    assert "below slow (200)" in state.detail
    assert state.parameters["fast"] == 50
    assert stage.snapshot() == before


def test_change_of_parameters_takes_effect_and_is_published() -> None:
    stage = _stage("momentum_crossover", BUILTIN["momentum_crossover"], {})
    out: Outbox = []
    stage.on_record(_change({"fast": "30"}), 1, out)
    (_, state), *_ = out
    assert isinstance(state, StrategyStateChanged)
    assert (state.detail, state.parameters["fast"], state.parameters["slow"]) == ("", 30, 200)
    assert stage.instances[0].parameters()["fast"] == 30


def _change(parameters: dict[str, ParameterValue]) -> StrategyCommand:
    return StrategyCommand(
        "command",
        1,
        "command",
        "command",
        "momentum_crossover",
        StrategyAction.SET_PARAMETERS,
        "operator",
        parameters,
    )


def _stage(name: str, cls: type[Strategy], parameters: dict[str, ParameterValue]) -> StrategyStage:
    config = StrategyConfig(
        strategy_id=name,
        name=name,
        account_id="paper",
        instrument_ids=("GEN.XXXX",),
        parameters=parameters,
    )
    return StrategyStage([config], {name: cls}, universe())
