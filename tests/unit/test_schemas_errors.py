"""The line that a person sees says which field is meant, and that can be read again."""

from __future__ import annotations

from schemas.errors import ConfigError, StorageError, field_in, parts_of


def test_field_of_an_error_is_read_out_of_its_line() -> None:
    line = str(ConfigError("the fast one must be shorter", field="fast", value=200, remedy="mend"))

    assert line == "the fast one must be shorter (fast=200); mend"
    assert field_in(line, ("slow", "fast")) == "fast"


def test_error_is_taken_apart_again_where_its_line_names_field_and_value() -> None:
    line = str(ConfigError("it is too long", field="name", value="a'); b", remedy="mend"))

    assert parts_of(line, "name", "a'); b") == ("it is too long", "mend")
    assert parts_of(line, "name", "other") == (line, "")
    assert parts_of(str(ConfigError("no", field="x", value=1)), "x", 1) == ("no", "")


def test_line_without_such_a_field_is_about_none() -> None:
    assert field_in(str(StorageError("the disk is full")), ("fast",)) == ""
    assert field_in("faster (fastest=1)", ("fast",)) == ""
