"""Where strategies come from: built in, an entry point, or ``file.py:Class``."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.strategy.builtin import BUILTIN
from infra.strategies import known_strategies, resolve_strategy
from schemas.errors import ConfigError, MillraceError, NotFoundError

GOOD = """
from millrace import Strategy, parameter


class Mine(Strategy):
    length: int = parameter(5, minimum=1)


class Helper:
    pass


constant = 3
"""


def _file(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _refused(spec: str) -> MillraceError:
    with pytest.raises(MillraceError) as caught:
        resolve_strategy(spec)
    assert caught.value.field == "strategy"
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


# ---- names


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_built_in_strategy_is_found_by_its_name(name: str) -> None:
    assert resolve_strategy(name) == (name, BUILTIN[name], "")


def test_unknown_name_is_refused_with_all_names_that_are_known() -> None:
    error = _refused("moonshot")
    assert isinstance(error, NotFoundError)
    assert error.value == "moonshot"
    assert all(name in error.remedy for name in BUILTIN)
    assert "file.py:Class" in error.remedy


# ---- files


def test_class_of_a_file_is_found_with_the_hash_of_its_source(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD)
    name, cls, source_hash = resolve_strategy(f"{path}:Mine")
    assert (name, list(cls.parameters)) == ("Mine", ["quantity", "weight", "length"])
    _file(tmp_path, GOOD + "# a comment\n")
    assert resolve_strategy(f"{path}:Mine")[2] != source_hash
    other = _file(tmp_path, GOOD, "other_name.py")
    assert resolve_strategy(f"{other}:Mine")[2] == source_hash


def test_class_need_not_be_named_if_there_is_one_only(tmp_path: Path) -> None:
    assert resolve_strategy(str(_file(tmp_path, GOOD)))[0] == "Mine"


def test_file_with_two_classes_and_none_named_is_refused_with_both(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD + "\n\nclass Second(Mine):\n    pass\n")
    assert "Mine, Second" in _refused(str(path)).remedy
    assert resolve_strategy(f"{path}:Second")[0] == "Second"


def test_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    error = _refused(f"{tmp_path}/nowhere.py:Mine")
    assert error.value == f"{tmp_path}/nowhere.py"
    assert "no such strategy file" in error.message


def test_folder_that_is_named_like_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").mkdir()
    assert "no such strategy file" in _refused(f"{tmp_path}/mine.py:Mine").message


def test_missing_class_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    error = _refused(f"{_file(tmp_path, GOOD)}:Nine")
    assert "Nine" in error.message
    assert error.remedy == "it has Mine"


@pytest.mark.parametrize("name", ["Helper", "constant", "Strategy"])
def test_what_is_no_strategy_of_the_file_is_refused(tmp_path: Path, name: str) -> None:
    assert _refused(f"{_file(tmp_path, GOOD)}:{name}").remedy == "it has Mine"


def test_file_without_strategies_is_refused_with_the_base_to_derive_from(tmp_path: Path) -> None:
    assert "millrace.Strategy" in _refused(str(_file(tmp_path, "x = 1\n"))).remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("from millrace import Strategie\n", "ImportError"),
        ("class Mine(\n", "SyntaxError"),
        ("x = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
    ],
)
def test_file_that_does_not_load_is_refused_with_its_own_error_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = _file(tmp_path, text)
    error = _refused(f"{path}:Mine")
    assert isinstance(error, ConfigError)
    assert words in error.message
    assert error.value == str(path)


def test_file_that_was_mended_loads_the_second_time(tmp_path: Path) -> None:
    path = _file(tmp_path, "import no_such_package\n")
    _refused(f"{path}:Mine")
    _file(tmp_path, GOOD)
    assert resolve_strategy(f"{path}:Mine")[0] == "Mine"


# ---- entry points


def _plugin(folder: Path, lines: str) -> None:
    """Write a package with the entry points ``lines`` as an installer would."""
    _file(folder, GOOD, "plugin_module.py")
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[millrace.strategies]\n{lines}\n")


def test_entry_point_is_a_name_like_the_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plugin(tmp_path, "mine = plugin_module:Mine\nbreakout = plugin_module:Mine")
    monkeypatch.syspath_prepend(tmp_path)
    known = known_strategies()
    assert (known["mine"].__name__, known["breakout"]) == ("Mine", BUILTIN["breakout"])
    assert resolve_strategy("mine")[1] is known["mine"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_module:Mine", "No module named 'no_such_module'"),
        ("plugin_module:Nine", "Nine"),
        ("plugin_module:Helper", "derived from millrace.Strategy"),
        ("plugin_module:constant", "derived from millrace.Strategy"),
    ],
)
def test_entry_point_that_does_not_load_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    _plugin(tmp_path, f"mine = {target}")
    monkeypatch.syspath_prepend(tmp_path)
    error = _refused("mine")
    assert isinstance(error, ConfigError)
    assert "mine" in str(error.value)
    assert words in error.message


def test_broken_entry_point_leaves_the_other_strategies_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plugin(tmp_path, "mine = no_such_module:Mine")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_strategy("breakout")[1] is BUILTIN["breakout"]
