"""Settings of the web app, all with defaults for one person on one machine."""

from __future__ import annotations

import msgspec

BACKTESTS_WAITING_MAX = 32
"""Most backtests and comparisons that run or wait at a time."""


class WebSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the app can be told; times in seconds, sizes in bytes.

    ``mode`` is the banner of the page: paper or replay. ``autonomy_mode`` and
    ``approval_timeout_s`` are what the run started with; changes are records. ``allowed_hosts``:
    names by which a browser may address the app, ``*`` for any; a page of another site cannot
    reach a loopback server through a name of its own then. ``backtests_max``: those that run, wait
    or are on their way at a time. ``strangers_max``: WebSockets of one
    address that have not said who they are.
    """

    mode: str = "paper"
    is_paper_trading: bool = True
    autonomy_mode: str = "AUTOMATIC"
    approval_timeout_s: float = 300.0
    default_account_id: str = "paper"
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    receipt_timeout_s: float = 1.0
    backtest_timeout_s: float = 60.0
    backtests_max: int = BACKTESTS_WAITING_MAX
    body_max_bytes: int = 262_144
    body_timeout_s: float = 10.0
    history_max: int = 10_000
    clients_max: int = 1_000
    strangers_max: int = 100
    auth_timeout_s: float = 5.0
    heartbeat_s: float = 5.0
    stall_timeout_s: float = 30.0
    join_max_s: float = 0.005
    inbound_max_bytes: int = 65_536
    inbound_ops_per_s: float = 20.0
    inbound_ops_burst: int = 40
    outbox_max_frames: int = 8_192
    outbox_max_bytes: int = 8_388_608
    conflate_after_frames: int = 512
    goodbye_timeout_s: float = 2.0
