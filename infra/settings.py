"""Settings: one TOML file, every key of it known, typed and explained where it is wrong.

``millrace run --config FILE`` reads it; ``millrace config show`` prints what holds. ``EXAMPLE`` is
the commented file that ``millrace config example`` writes. Of the environment only
MILLRACE_DATA_FOLDER is read here, and what the settings of Kafka and of the database say.
"""

from __future__ import annotations

import os
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from agents.runners.live_feed import LATENESS_S
from agents.strategy.parameters import ParameterValue
from agents.venue.config import Fee, Latency, NoFee, NoSlippage, Slippage, VenueConfig
from infra.amounts import check_numbers
from infra.database.settings import DatabaseSettings
from infra.kafka.settings import KafkaSettings
from infra.settings_checks import check_keys, unfit
from schemas.enums import AccountKind, AutonomyMode
from schemas.errors import ConfigError
from schemas.risk import LimitSet


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run lives and how it is served; backtests are kept so many days, 0 for ever."""

    folder: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    snapshot_interval_s: float = 10.0
    sync_interval_s: float = 1.0
    retention_days: float = 0.0


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where market data comes from: a recording at ``speed`` times real time, or a live feed.

    Empty ``data`` is the bundled recording "demo", unless ``feed`` names an adapter, which gets
    ``options``. Records of a feed may be ``lateness_s`` on their way.
    """

    data: str = ""
    symbols: tuple[str, ...] = ()
    speed: float = 1.0
    feed: str = ""
    options: dict[str, Any] = {}
    lateness_s: float = LATENESS_S


class WebAccess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may use the API, and how it is reached.

    ``access`` "auto" asks for keys on every interface but loopback, "keys" everywhere.
    ``behind_proxy``: a proxy in front of us speaks TLS with the clients; only ``proxies`` are
    believed who the client is. ``allowed_hosts``: further names by which browsers reach us.
    """

    access: Literal["auto", "keys"] = "auto"
    keys_file: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    behind_proxy: bool = False
    proxies: tuple[str, ...] = ("127.0.0.1",)
    allowed_hosts: tuple[str, ...] = ()
    requests_per_s: float = 50.0
    requests_burst: int = 200


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A paper account."""

    account_id: str = "paper"
    kind: AccountKind = AccountKind.REG_T
    base_currency: str = "USD"
    cash: Decimal = Decimal(100000)
    calendar: str = ""


class RiskSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who lets orders go, and the limits of everything (``limits.global`` and narrower scopes)."""

    autonomy: AutonomyMode = AutonomyMode.AUTOMATIC
    approval_timeout_s: float = 300.0
    limits: LimitSet = LimitSet()


class VenueSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The paper venue; ``execution_data`` "auto" takes quotes, else trades, else bars."""

    execution_data: str = "auto"
    limit_fill: str = "touch"
    participation: Decimal | None = None
    slippage: Slippage = NoSlippage()
    fee: Fee = NoFee()
    latency: Latency = Latency()


class MarketSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bars to build, indicators to publish, and how often positions are marked."""

    intervals: tuple[str, ...] = ("1m",)
    indicators: tuple[str, ...] = ()
    mark_interval_s: float = 60.0
    snapshot_interval_s: float = 3600.0


class StrategySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One strategy; ``on`` "auto" takes trades if there are any, else quotes, else bars.

    Empty ``account`` is the one of the table ``[account]``.
    """

    name: str
    strategy_id: str = ""
    account: str = ""
    symbols: tuple[str, ...] = ()
    on: str = "auto"
    capital: Decimal | None = None
    parameters: dict[str, ParameterValue] = {}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a run; ``accounts`` are those beside ``account``."""

    run: RunSettings = RunSettings()
    web: WebAccess = WebAccess()
    source: SourceSettings = SourceSettings()
    account: AccountSettings = AccountSettings()
    accounts: tuple[AccountSettings, ...] = ()
    risk: RiskSettings = RiskSettings()
    venue: VenueSettings = VenueSettings()
    market: MarketSettings = MarketSettings()
    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    strategies: tuple[StrategySettings, ...] = ()
    seed: int = 0


def data_folder() -> Path:
    """Return the folder under which runs are kept.

    MILLRACE_DATA_FOLDER, or ``data`` in the present folder.
    """
    return Path(os.environ.get("MILLRACE_DATA_FOLDER") or "data")


def load_settings(path: Path) -> Settings:
    """Read settings from a TOML file.

    Raises ConfigError that names the file, the key and the remedy.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            "there is no such settings file",
            field="config",
            value=str(path),
            remedy="`millrace config example` prints one to begin with",
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"the settings file cannot be read: {error}",
            field="config",
            value=str(path),
            remedy="mend the file",
        ) from error
    return parse_settings(raw, str(path))


def parse_settings(raw: dict[str, Any], origin: str) -> Settings:
    """Return settings from plain values.

    Raises ConfigError for an unknown key or a value that does not fit.
    """
    check_keys(raw, Settings, origin, "")
    try:
        settings = msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise unfit(error, raw, Settings, origin, "") from error
    check_numbers(settings)
    return settings


def parse_venue(table: dict[str, Any], origin: str = "the request") -> VenueSettings:
    """Return the venue's settings from a table of ``origin``, the defaults for an empty one.

    Raises ConfigError that names the setting as ``venue.fee.rate``.
    """
    check_keys({"venue": table}, Settings, origin, "")
    try:
        venue = msgspec.convert(table, VenueSettings, strict=False)
    except msgspec.ValidationError as error:
        raise unfit(error, table, VenueSettings, origin, "venue") from error
    check_numbers(venue, "venue.")
    data = "trade" if venue.execution_data == "auto" else venue.execution_data
    # Its own checks are those that would end the run.
    VenueConfig(execution_data=data, limit_fill=venue.limit_fill, participation=venue.participation)
    return venue


def parse_limits(table: dict[str, Any], origin: str) -> LimitSet:
    """Return limits from a table of ``origin``.

    Raises ConfigError that names the setting as ``risk.limits.max_position``.
    """
    check_keys(table, LimitSet, origin, "risk.limits.")
    try:
        limits = msgspec.convert(table, LimitSet, strict=False)
    except msgspec.ValidationError as error:
        raise unfit(error, table, LimitSet, origin, "risk.limits") from error
    check_numbers(limits, "risk.limits.")
    return limits


def with_venue(settings: Settings, text: str) -> Settings:
    """Return settings with the venue that a JSON object describes, the same for an empty text."""
    if not text:
        return settings
    table = _table_of(text, "venue", '{"fee": {"type": "per_share", "rate": 0.005}}')
    return msgspec.structs.replace(settings, venue=parse_venue(table, "--venue"))


def with_limits(settings: Settings, text: str) -> Settings:
    """Return settings with the limits that a JSON object describes, the same for an empty text."""
    if not text:
        return settings
    limits = parse_limits(_table_of(text, "limits", '{"max_position": 500}'), "--limits")
    risk: RiskSettings = msgspec.structs.replace(settings.risk, limits=limits)
    return msgspec.structs.replace(settings, risk=risk)


def _table_of(text: str, option: str, example: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"this is no JSON object: {error}",
            field=option,
            value=text[:100],
            remedy=f"write {example}",
        ) from error


EXAMPLE = """\
# Millrace: settings of a run. Every key is optional; the defaults stand in brackets.

seed = 0                       # [0] feeds models that draw numbers (latency jitter)

[run]
port = 8000                    # [8000] HTTP and WebSocket; loopback only
snapshot_interval_s = 10       # [10] how often the state is saved at most, for a quick restart
sync_interval_s = 1            # [1] what a power cut may lose; a killed process loses nothing
retention_days = 0             # [0] how long finished backtests are kept; 0 for ever

[web]
access = "auto"                # ["auto"] keys on every interface but loopback; "keys" everywhere
# keys_file = "keys.json"      # [in the data folder] written by `millrace keys make`
# tls_certificate = "web.pem"  # needed, with tls_key, on every interface but loopback
# tls_key = "web-key.pem"
# behind_proxy = true          # [false] instead: a proxy speaks TLS in front of us
# proxies = ["127.0.0.1"]      # ["127.0.0.1"] whose word on the client's address counts
# allowed_hosts = ["desk.lan"] # [none] names by which browsers reach us, besides loopback's
requests_per_s = 50            # [50] of one key; requests_burst [200] at once

[source]
data = "demo"                  # ["demo"] a bundled set, a file, an imported folder, a run
symbols = ["IBM"]              # [all]
speed = 60                     # [1] times real time

# A live feed in the place of a recording; see docs/feeds.md. Leave out data and speed then.
# [source]
# feed = "jsonl"               # a built-in one, an entry point, or path/to/file.py:Class
# symbols = ["IBM"]            # [all that it serves]
# lateness_s = 1               # [1] how long a record may be on its way before time goes on
# [source.options]             # what the adapter takes; these are of jsonl
# host = "127.0.0.1"           # ["127.0.0.1"] where the program listens that sends the records
# port = 7001
# instruments = ["IBM", { symbol = "BTCUSD", venue = "XXXX", price_increment = "0.1" }]
# kinds = ["trade", "quote"]   # ["trade", "quote"] what it sends; "bar/1m" for bars

[account]
account_id = "paper"           # ["paper"]
kind = "REG_T"                 # ["REG_T"] or "CASH"
base_currency = "USD"          # ["USD"]
cash = "100000"                # ["100000"]
calendar = "XNYS"              # [UTC days] whose days the daily loss is counted by

# [[accounts]]                 # further accounts, with the keys of [account]
# account_id = "second"

[risk]
autonomy = "AUTOMATIC"         # ["AUTOMATIC"], "SEMI_AUTOMATIC" (a person approves), "OBSERVE_ONLY"

[risk.limits]                  # every limit is optional; the strictest of all scopes holds
max_quantity = "5000"
max_notional = "250000"
max_position = "5000"
price_collar = "0.05"          # limit and stop prices within 5 % of the price decided on
stale_after_s = 300            # in the market's time: a replay at 60 x real time passes it in 5 s
max_order_rate = 10
order_rate_window_s = 1
max_daily_loss = "5000"
max_drawdown = "0.2"

[venue]
execution_data = "auto"        # ["auto"] quotes where there are any, else trades, else bars
limit_fill = "touch"           # ["touch"] or "through"
participation = "0.1"          # [no bound] share of an event's size that orders may take
fee = { type = "per_share", rate = "0.005", minimum = "1" }   # none, basis_points, maker_taker
slippage = { type = "ticks", ticks = 100 }     # a cent, of 0.0001; none, basis_points, spread_share
latency = { submit_ns = 5000000, cancel_ns = 5000000 }         # [0] from command to effect

[market]
intervals = ["1m", "5m"]       # ["1m"] out of 1s 5s 1m 5m 15m 1h 1d
indicators = ["sma:20@1m"]     # [none] published on market.indicators
mark_interval_s = 60           # [60] equity is marked once in each

[kafka]                        # for topics, workers and whatever else reads or writes Kafka
bootstrap = "127.0.0.1:9092"   # ["127.0.0.1:9092"] or MILLRACE_KAFKA_BOOTSTRAP; several with commas
protocol = "PLAINTEXT"         # ["PLAINTEXT"] SSL, SASL_PLAINTEXT, SASL_SSL
# mechanism = "SCRAM-SHA-512"  # ["SCRAM-SHA-512"] SCRAM-SHA-256, PLAIN
# username = "millrace"
# password_file = "secret.txt" # or MILLRACE_KAFKA_PASSWORD
# ca_file = "ca.pem"           # [the system's authorities]
# certificate_file = "me.pem"  # a client's own certificate
# key_file = "me.key"          # and its key
request_timeout_s = 8          # [8] how long an answer of Kafka may take, 6 to 300
replication = 1                # [1] 3 in production
min_in_sync_replicas = 1       # [1] 2 in production
run = "kafka"                  # ["kafka"] names the session on the cluster, and consumer groups
kinds = ["trade", "quote"]     # ["trade", "quote"] market data that come; "bar/1m" for bars
# kinds_of = { SPY = ["trade"] }  # of single instruments: where no quotes come, trades fill orders
snapshot_interval_s = 10       # [10] how often a worker saves the state of its parts
stall_timeout_s = 60           # [60] a worker that gets nowhere for so long ends with the reason

[database]                     # where history is kept; without a DSN in an embedded PostgreSQL
enabled = true                 # [true]
# dsn = "postgresql://millrace@db.example:5432/millrace"  # without a password
# dsn_file = "dsn.txt"         # a DSN with its password, or MILLRACE_DATABASE_DSN
readers_max = 8                # [8] connections for queries
writers_max = 4                # [4] connections for sinks and upkeep
statement_timeout_s = 5        # [5] the longest query
write_timeout_s = 60           # [60] the longest statement of a sink
# [database.keep_days]         # [for ever] by table and the time of its records
# quotes = 30

[[strategies]]
name = "momentum_crossover"    # a built-in one, an entry point, or path/to/file.py:Class
strategy_id = "cross"          # [the name]
account = "paper"              # [that of the table account]
symbols = ["IBM"]              # [all of the source]
on = "1m"                      # ["auto"] trade, quote, or an interval
capital = "50000"              # [an equal share of the account's cash]
parameters = { fast = 10, slow = 30 }
"""
"""A commented settings file with every key."""
