"""What a run's manifest says of its accounts and strategies, as far as the read models need it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.control import RunManifest
from schemas.enums import AccountKind, AutonomyMode


class ConfiguredAccount(msgspec.Struct, frozen=True):
    """One account as the run began with it."""

    account_id: str
    cash: Decimal
    calendar: str = ""
    base_currency: str = "USD"
    kind: AccountKind = AccountKind.REG_T


class ConfiguredStrategy(msgspec.Struct, frozen=True):
    """One strategy as the run began with it."""

    strategy_id: str
    account_id: str = ""
    capital: Decimal | None = None


class _Accounts(msgspec.Struct, frozen=True):
    accounts: tuple[ConfiguredAccount, ...] = ()
    autonomy: AutonomyMode | None = None
    approval_timeout_s: float = 300.0
    initial_margin: Decimal = Decimal("0.5")


class _Market(msgspec.Struct, frozen=True):
    intervals: tuple[str, ...] = ()


class Configured(msgspec.Struct, frozen=True):
    """The part of a run's configuration that answers need."""

    accounts: _Accounts = _Accounts()
    market: _Market = _Market()
    strategies: tuple[ConfiguredStrategy, ...] = ()

    def account(self, account_id: str) -> ConfiguredAccount | None:
        """Return an account's configuration, None if the manifest does not have it."""
        return next((a for a in self.accounts.accounts if a.account_id == account_id), None)

    def strategy(self, strategy_id: str) -> ConfiguredStrategy | None:
        """Return a strategy's configuration, None if the manifest does not have it."""
        return next((s for s in self.strategies if s.strategy_id == strategy_id), None)


def configured(manifest: RunManifest | None) -> Configured:
    """Return what a manifest says; nothing for none, or for one of another form."""
    if manifest is None:
        return Configured()
    try:
        return msgspec.convert(manifest.config, Configured, strict=False)
    except msgspec.ValidationError:
        return Configured()
