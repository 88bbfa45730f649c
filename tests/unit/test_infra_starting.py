"""What a run refuses before it begins a session's folder, which would hold to what was wrong."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from infra.demo import run_demo
from infra.serve import run_engine
from infra.settings import Settings, SourceSettings, WebAccess
from schemas.errors import ConfigError
from tests.generated import trades, universe, write_csv

_OPEN = WebAccess()


@pytest.fixture(name="port")
def fixture_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def start(tmp_path: Path, port: int, web: WebAccess = _OPEN) -> Path:
    """Start a run that is refused; return the folder that it would have had."""
    data = write_csv(tmp_path / "gen.csv", trades(universe(), 10, days=1))
    settings = Settings(source=SourceSettings(data=str(data)), web=web)
    folder = tmp_path / "run"
    run_engine(settings, port=port, folder=folder, console=Console(file=io.StringIO()))
    return folder


def test_run_on_a_taken_port_leaves_no_folder(tmp_path: Path, port: int) -> None:
    with pytest.raises(ConfigError, match="cannot listen") as caught:
        start(tmp_path, port)

    assert caught.value.value == f"127.0.0.1:{port}"
    assert not (tmp_path / "run").exists()


def test_run_with_a_certificate_that_is_none_leaves_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("nothing")
    web = WebAccess(tls_certificate=str(file), tls_key=str(file))

    with pytest.raises(ConfigError, match="cannot be used"):
        start(tmp_path, 0, web)

    assert not (tmp_path / "run").exists()


def test_demo_on_a_taken_port_leaves_the_last_session_where_it_is(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_DATA_FOLDER", str(tmp_path))
    last = tmp_path / "runs" / "demo" / "journal"
    last.mkdir(parents=True)

    with pytest.raises(ConfigError, match="cannot listen"):
        run_demo(
            is_exiting=True,
            speed=0.0,
            port=port,
            strategy="momentum_crossover",
            console=Console(file=io.StringIO()),
        )

    assert last.is_dir()
    assert [item.name for item in (tmp_path / "runs").iterdir()] == ["demo"]
