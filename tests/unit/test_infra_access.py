"""On which interfaces the API starts, and what it needs there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.access import access_of, is_loopback
from infra.cli_keys import key_file
from infra.settings import Settings, parse_settings
from schemas.errors import ConfigError, NotFoundError


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILLRACE_DATA_FOLDER", str(tmp_path))
    return tmp_path


def settings_with(**web: Any) -> Settings:
    return parse_settings({"web": web}, "test")


def make_key(settings: Settings) -> None:
    key_file(settings).make("ada", ["read"], "id", "secret")


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.9.9.9", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "desk.lan", "", "localhost.evil")],
)
def test_loopback_is_known_by_its_address(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


def test_loopback_asks_nobody_unless_told_to() -> None:
    assert access_of(Settings(), "127.0.0.1").gate.is_open
    with pytest.raises(ConfigError, match="asks for keys"):
        access_of(settings_with(access="keys"), "127.0.0.1")
    make_key(Settings())
    assert not access_of(settings_with(access="keys"), "127.0.0.1").gate.is_open


def test_another_interface_needs_tls_and_a_key() -> None:
    with pytest.raises(ConfigError, match="needs TLS"):
        access_of(Settings(), "0.0.0.0")
    with pytest.raises(ConfigError, match="certificate and its key"):
        access_of(settings_with(tls_certificate="nothing.pem"), "0.0.0.0")
    proxied = settings_with(behind_proxy=True)
    with pytest.raises(ConfigError, match="asks for keys"):
        access_of(proxied, "0.0.0.0")
    make_key(proxied)
    access = access_of(proxied, "0.0.0.0")
    assert not access.gate.is_open
    assert access.gate.is_secure
    assert access.proxies == ("127.0.0.1",)
    # A proxy on this machine brings strangers to loopback.
    assert not access_of(proxied, "127.0.0.1").gate.is_open


def test_keys_are_listed_without_secrets_and_end_once() -> None:
    keys = key_file(Settings())
    text = keys.make("ada", ["trade", "read"], "id", "secret")
    assert text == "mr_id_secret"
    assert "secret" not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o077 == 0
    (key,) = keys.all()
    assert (key.name, key.scopes) == ("ada", ("read", "trade"))
    with pytest.raises(ConfigError, match="in use"):
        keys.make("ada", ["read"], "id2", "other")
    with pytest.raises(ConfigError, match="no such scope"):
        keys.make("bob", ["fly"], "id2", "other")
    keys.make("desk", ["read"], "id4", "fourth", accounts=["desk", "bench", "desk"])
    assert [key.accounts for key in keys.all()] == [(), ("bench", "desk")]
    for wrong in ("", "two words", "x" * 65, "a\nb"):
        with pytest.raises(ConfigError, match="no account's id"):
            keys.make("bob", ["read"], "id5", "other", accounts=["desk", wrong])
    keys.revoke("ada")
    with pytest.raises(NotFoundError):
        keys.revoke("ada")
    assert keys.make("ada", ["read"], "id3", "third") == "mr_id3_third"
