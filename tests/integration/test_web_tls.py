"""The API on an interface that others reach: over TLS, with keys, by the command line."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.certificates import Authority
from tests.integration.command_line import Background, environment, millrace, refusal

CONFIG = """\
[run]
host = "{host}"
port = 0

[web]
tls_certificate = "{pem}"
tls_key = "{pem}"

[database]
enabled = false
"""


class Place(NamedTuple):
    """Settings of a server with a certificate, and who vouches for it."""

    config: Path
    authority: Path
    env: dict[str, str]

    def ask(self, port: int, method: str, path: str, key: str = "") -> tuple[int, bytes]:
        """Send one request over TLS; return status and body."""
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    authority = Authority.new("test")
    (tmp_path / "ca.pem").write_bytes(authority.pem())
    pem = tmp_path / "web.pem"
    pem.write_bytes(authority.issue("web"))
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(host="0.0.0.0", pem=pem))
    return Place(
        config, tmp_path / "ca.pem", environment(MILLRACE_DATA_FOLDER=str(tmp_path / "data"))
    )


def test_it_starts_with_keys_alone_and_serves_who_has_one(place: Place, tmp_path: Path) -> None:
    assert "the API asks for keys" in refusal("run", "--config", place.config, env=place.env)
    made = millrace("keys", "make", "ada", "--scopes", "read", env=place.env)
    key = made.stdout.strip()
    assert re.fullmatch(r"mr_[0-9a-f]+_[\w-]{43}", key)
    with Background(tmp_path / "log", "run", "--config", place.config, env=place.env) as run:
        run.until("serving https://")
        port = int(re.search(r"https://0\.0\.0\.0:(\d+)", run.said())[1])  # type: ignore[index]
        status, body = place.ask(port, "GET", "/api/portfolio")
        assert (status, json.loads(body)["code"]) == (401, "key_missing")
        assert place.ask(port, "GET", "/api/portfolio", key)[0] == 200
        assert place.ask(port, "DELETE", "/api/orders", key)[0] == 403
        assert place.ask(port, "GET", "/login")[0] == 200
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as plain:
            plain.request("GET", "/api/portfolio")
            with pytest.raises((OSError, http.client.HTTPException)):
                plain.getresponse()
        made = millrace("keys", "make", "bob", "--accounts", "desk", env=place.env)
        assert place.ask(port, "GET", "/api/portfolio/paper", made.stdout.strip())[0] == 404
        assert place.ask(port, "GET", "/api/risk", made.stdout.strip())[0] == 403
        listed = millrace("keys", "list", env=place.env).stdout
        assert re.search(r"ada +read +all +", listed)
        assert re.search(r"bob +read +desk +", listed)
        assert millrace("keys", "revoke", "ada", env=place.env).returncode == 0
        assert _refused(place, port, key)
        assert key not in run.said()
        assert run.interrupt() == 0


def _refused(place: Place, port: int, key: str) -> bool:
    """Ask until the key is refused; the file of keys is looked at once a second."""
    return any(place.ask(port, "GET", "/api/portfolio", key)[0] == 401 for _ in range(200))


def test_other_interfaces_are_refused_without_tls(place: Place, tmp_path: Path) -> None:
    config = tmp_path / "plain.toml"
    config.write_text('[run]\nhost = "0.0.0.0"\n')
    line = refusal("run", "--config", config, env=place.env)
    assert "needs TLS" in line
    assert "run.host='0.0.0.0'" in line


def test_a_key_that_is_no_key_of_the_certificate_is_refused(place: Place, tmp_path: Path) -> None:
    millrace("keys", "make", "ada", env=place.env)
    (tmp_path / "web.pem").write_text("-----BEGIN NONSENSE-----\n")
    assert "cannot be used" in refusal("run", "--config", place.config, env=place.env)
