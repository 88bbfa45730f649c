"""Which modules the compiled order path consists of."""

from __future__ import annotations

from pathlib import Path

from infra.compiled import sources

ROOT = Path(__file__).resolve().parents[2]


def test_the_order_path_is_compiled() -> None:
    found = sources(ROOT)
    for module in (
        "agents/account/gate.py",
        "agents/account/stage.py",
        "agents/venue/paper_venue.py",
        "agents/runners/engine.py",
        "schemas/values.py",
    ):
        assert module in found, f"{module} defines a struct now: move it, or orders get slower"


def test_modules_with_structs_stay_interpreted() -> None:
    for module in sources(ROOT):
        assert "(msgspec.Struct" not in (ROOT / module).read_text(), module
