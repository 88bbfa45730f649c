"""docs/websocket.md: its examples are what the code reads and writes, and none is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from web.frames import REQUESTS, Request
from web.server_frames import AnyServerFrame

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "websocket.md").read_text()
SERVER = msgspec.json.Decoder(AnyServerFrame)


def examples(kind: str) -> list[str]:
    """Return the examples of one side."""
    return re.findall(rf"```json {kind}\n(.*?)\n```", TEXT, re.DOTALL)


@pytest.mark.parametrize("text", examples("client"))
def test_request_can_be_read(text: str) -> None:
    REQUESTS.decode(text)


@pytest.mark.parametrize("text", examples("server"))
def test_frame_has_all_fields_and_no_other(text: str) -> None:
    frame = SERVER.decode(text)
    optional = {"cursor"} if json.loads(text)["op"] == "error" else set()

    assert {*frame.__struct_encode_fields__, "op"} - optional == set(json.loads(text))


@pytest.mark.parametrize(
    ("kind", "union"), [("client", Request), ("server", AnyServerFrame)], ids=["client", "server"]
)
def test_every_frame_has_an_example(kind: str, union: Any) -> None:
    tags = {struct.__struct_config__.tag for struct in get_args(union)}

    assert {json.loads(text)["op"] for text in examples(kind)} == tags


def test_every_code_is_explained() -> None:
    source = "".join(
        (Path(__file__).resolve().parents[2] / "web" / name).read_text()
        for name in ("connection.py", "subscription.py")
    )
    codes = set(re.findall(r'SubscriptionError\("(\w+)"', source))
    codes |= set(re.findall(r'self\._error\([^,]+, "(\w+)"', source))

    assert {code for code in codes if f"`{code}`" not in TEXT} == set()
    assert len(codes) >= 8
