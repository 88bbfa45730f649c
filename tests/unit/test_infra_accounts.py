"""Accounts of the settings: what may be the id of one."""

from __future__ import annotations

import pytest

from agents.runners.engine import EngineConfig
from infra.composition import compose
from infra.feeds import LiveSource
from infra.settings import AccountSettings, Settings
from schemas.errors import ConfigError
from tests.generated import START_NS, universe


def composed(*account_ids: str) -> EngineConfig:
    """Return the engine of a run with these accounts."""
    source = LiveSource(
        "set",
        universe(("AA",)).instruments,
        ("trade",),
        (),
        first_ns=START_NS,
        until_ns=START_NS + 1,
    )
    first, *others = (AccountSettings(account_id=account_id) for account_id in account_ids)
    return compose(Settings(account=first, accounts=tuple(others)), source).config


@pytest.mark.parametrize("odd", ["a|b", "a b", "a,b", "", "a\n", "a\u200b", "a" * 65])
@pytest.mark.parametrize(("before", "field"), [((), "account"), (("a",), "accounts")])
def test_id_that_can_be_no_account_s_is_refused_with_a_remedy(
    odd: str, before: tuple[str, ...], field: str
) -> None:
    with pytest.raises(ConfigError, match="this can be no account's id") as caught:
        composed(*before, odd)

    assert (caught.value.field, caught.value.value) == (f"{field}.account_id", odd)
    assert caught.value.remedy == "give up to 64 printable characters, no space, comma or |"


def test_ids_that_are_told_apart_are_taken() -> None:
    config = composed("paper", "a" * 64, "Büro-1_b.c/d")

    taken = [account.account_id for account in config.accounts.accounts]
    assert taken == ["paper", "a" * 64, "Büro-1_b.c/d"]


def test_id_that_stands_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="two accounts have one id") as caught:
        composed("a", "a")

    assert caught.value.field == "accounts.account_id"
