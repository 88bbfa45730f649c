"""``millrace keys``: make, list and revoke the keys of the API."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from cyclopts import App
from rich.console import Console
from rich.table import Table

from infra.settings import Settings, data_folder, load_settings
from schemas.errors import ConfigError
from web.scopes import SCOPES
from web.security.keys import ApiKey, KeyFile
from web.times import format_time

_DAY_NS = 86_400_000_000_000
_ID_BYTES = 6
_SECRET_BYTES = 32

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def key_file(settings: Settings) -> KeyFile:
    """Return the keys of an installation: the file of the settings, or one in the data folder."""
    path = Path(settings.web.keys_file) if settings.web.keys_file else data_folder() / "keys.json"
    return KeyFile(path, time.time_ns, time.monotonic)


def add_keys_commands(app: App) -> None:
    """Put the commands on the command line."""
    keys = App(name="keys", help="Keys of the HTTP and WebSocket API.")
    keys.command(make)
    keys.command(list_keys, name="list")
    keys.command(revoke)
    app.command(keys)


def make(
    name: str,
    *,
    scopes: str = "read",
    accounts: str | None = None,
    days: float | None = None,
    config: Path | None = None,
) -> None:
    """Make a key and print it; it is shown this once, only its hash is kept.

    Parameters
    ----------
    name
        who or what will use it; stands in the audit of everything that it does
    scopes
        what it may do: read, trade, risk:write, breaker:trip, breaker:reset, config:write,
        backtest, admin, with commas; all for all of them
    accounts
        whose accounts it may see and trade, with commas; without it all of them
    days
        for how long it is good; for ever without it
    config
        settings file; its web.keys_file is where keys are kept
    """
    expires_ns = 0
    if days is not None:
        if not 0 < days < 36_500:
            raise ConfigError(
                "a key is good for some days",
                field="days",
                value=days,
                remedy="give a number above 0",
            )
        expires_ns = time.time_ns() + round(days * _DAY_NS)
    wanted = SCOPES if scopes == "all" else [item.strip() for item in scopes.split(",")]
    bound = [] if accounts is None else [item.strip() for item in accounts.split(",")]
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    print(_keys(config).make(name, wanted, key_id, secret, expires_ns, bound))
    errors.print("Keep it now: it is not shown again. Send it as 'Authorization: Bearer KEY'.")


def list_keys(*, config: Path | None = None) -> None:
    """List all keys, without their secrets.

    Parameters
    ----------
    config
        settings file
    """
    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "scopes", "accounts", "made", "good until"):
        table.add_column(column)
    now_ns = time.time_ns()
    for key in _keys(config).all():
        made = format_time(key.created_ns)[:19]
        accounts = ", ".join(key.accounts) or "all"
        scopes = ", ".join(key.scopes)
        table.add_row(key.key_id, key.name, scopes, accounts, made, _until(key, now_ns))
    console.print(table)


def revoke(key: str, *, config: Path | None = None) -> None:
    """End a key for ever; its sessions and WebSockets end with it.

    Parameters
    ----------
    key
        name or id
    config
        settings file
    """
    found = _keys(config).revoke(key)
    console.print(f"revoked {found.name} ({found.key_id})", markup=False)


def _keys(config: Path | None) -> KeyFile:
    return key_file(Settings() if config is None else load_settings(config))


def _until(key: ApiKey, now_ns: int) -> str:
    if key.revoked_ns:
        return f"revoked at {format_time(key.revoked_ns)[:19]}"
    if not key.expires_ns:
        return "for ever"
    return format_time(key.expires_ns)[:19] + ("" if key.is_good(now_ns) else " (over)")
