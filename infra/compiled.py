"""Compiles the order path with mypyc: ``python -m infra.compiled build/compiled``.

The sources stay plain Python and run as such everywhere. Where a C compiler is at hand, mypyc turns
the modules that an order passes through into extension modules, from the same files, with the same
outputs; orders then take about two thirds of the time. The result is a copy of the packages, used
by putting it first: ``PYTHONPATH=build/compiled millrace backtest ...``. Nothing is compiled in
place, because an extension module beside its source hides every later change of it.

Modules that define structs or enums stay as they are: msgspec reads their annotations, which
compiling erases.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

from schemas.errors import ConfigError, MillraceError

_ROOT = Path(__file__).resolve().parent.parent
_COPIED = ("schemas", "streams", "agents", "web", "infra", "millrace.py")
_COMPILED = (
    "schemas/values.py",
    "schemas/identifiers.py",
    "agents/domain/order_state.py",
    "agents/account",
    "agents/venue",
    "agents/strategy/instance.py",
    "agents/strategy/plan.py",
    "agents/strategy/stage.py",
    "agents/runners/engine.py",
)
_KEPT_BASES = {"Struct", "StrEnum", "IntEnum", "Enum", "Protocol"}
_SETTINGS = "[mypy]\nfollow_imports = silent\n"


def sources(root: Path) -> list[str]:
    """Return the modules that can be compiled, as paths relative to ``root``."""
    named = [root / name for name in _COMPILED]
    modules = [m for path in named for m in (sorted(path.glob("*.py")) or [path])]
    return [
        module.relative_to(root).as_posix()
        for module in modules
        if module.name != "__init__.py" and _is_plain(module)
    ]


def _is_plain(module: Path) -> bool:
    """Return whether no class of a module is of a kind that must stay interpreted."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ClassDef):
            names = {base.attr for base in node.bases if isinstance(base, ast.Attribute)}
            names |= {base.id for base in node.bases if isinstance(base, ast.Name)}
            if names & _KEPT_BASES:
                return False
    return True


def compile_into(folder: Path) -> list[str]:
    """Make the compiled copy in ``folder``, replacing one that is there; return what was compiled.

    Raises ConfigError when mypyc, setuptools or a C compiler is missing, or a module does not
    compile.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in _COPIED:
        if (_ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(_ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(_ROOT / name, folder / name)
    modules = sources(folder)
    (folder / "mypy.ini").write_text(_SETTINGS)
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own files
        [sys.executable, "-m", "mypyc", *modules],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        raise ConfigError(
            f"the order path was not compiled: {lines[-1]}",
            field="folder",
            value=str(folder),
            remedy="install a C compiler with Python's headers; without them Millrace runs the"
            " same, only slower",
        )
    shutil.rmtree(folder / "build", ignore_errors=True)
    return modules


def main() -> int:
    """Compile into the folder that the command line names; return the exit status."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/compiled")
    try:
        modules = compile_into(folder.resolve())
    except MillraceError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"compiled {len(modules)} modules into {folder}; use them with PYTHONPATH={folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
