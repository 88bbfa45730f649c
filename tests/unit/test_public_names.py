"""The facade `millrace`: its list of public names is complete and sorted."""

from __future__ import annotations

import types

import millrace


def public_names() -> set[str]:
    """Return the names that the facade defines for its users."""
    return {
        name
        for name, value in vars(millrace).items()
        if not name.startswith("_")
        and not (isinstance(value, types.ModuleType) and not is_ours(value))
        and value is not annotations
    }


def is_ours(module: types.ModuleType) -> bool:
    """Return whether the facade hands out the module itself, as it does ``indicators``."""
    return module.__name__.startswith("agents.")


def test_public_names_are_sorted() -> None:
    assert list(millrace.__all__) == sorted(millrace.__all__)


def test_public_names_are_complete_and_exist() -> None:
    assert set(millrace.__all__) == public_names()


def test_public_names_explain_themselves() -> None:
    silent = [
        name
        for name in millrace.__all__
        if callable(value := getattr(millrace, name)) and not value.__doc__
    ]

    assert silent == []
