"""Spoils requests: values, JSON texts, paths, queries, headers and methods."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from tests.simulation.fuzz.shapes import Object, Operation, Shapes

BODY_MAX = 262_144
"""What the app takes; larger bodies are refused."""

_DEEP = 3_000


class Token(bytes):
    """JSON text that is written as it is."""

    __slots__ = ()


JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**400,
    0.1, -0.0, 5e-324, 1e308, Token(b"1e999"), Token(b"-1e999"), Token(b"NaN"), Token(b"Infinity"),
    Token(b"-Infinity"), Token(b"1" * 5_000), Token(b"0." + b"3" * 5_000), Token(b"1e-9999999"),
    Token(b"1e9999999"), Token(b"01"), Token(b"0x10"), Token(b"1_000"),
    "", " ", "0", "-1", "1e5", "NaN", "nan", "sNaN", "Infinity", "-inf", "1E+999999999", "null",
    "true", "1" * 5_000, "\x00", "a\x00b", "\r\nX: y", "a" * 70_000, "\u202etxt", "\U0001f4a5" * 50,
    "é" * 300, "٣", "' OR 1=1 --", "'; DROP TABLE orders; --", "../../etc/passwd", "%00", "%s%n",
    "${7*7}", "{{7*7}}", "<script>alert(1)</script>", "2013-13-45T99:99:99Z",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "2013-10-07T14:00:00.123456789Z", "2013-10-07T14:00:00+99:99",
    "orders.events.v1:999999999999999999", "orders.events.v1/999999:0", "market.events.v1:0",
    "system.snapshots.v1:1", Token(b'"\\ud800"'), Token(b'"\\udc00\\ud800"'), Token(b'"\xff\xfe"'),
    Token(b'"\xed\xa0\x80"'), Token(b"[" * _DEEP + b"]" * _DEEP),
    Token(b'{"a":' * _DEEP + b"1" + b"}" * _DEEP),
    [], [[]], [None], Object(), Object([("", None)]), [0] * 2_000,
)  # fmt: skip
"""What stands where something else was meant."""

_METHODS = ("HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "PATCH", "DELETE", "POST", "GET", "PURGE",
            "get", "PROPFIND", "BREW", "G\x00T")  # fmt: skip

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"host", b"evil.example"), (b"host", b""), (b"host", b"localhost:99999999"),
    (b"host", b"127.0.0.1\x00"), (b"origin", b"http://evil.example"), (b"origin", b"null"),
    (b"origin", b"http://localhost\xff"), (b"authorization", b"Bearer mr_no_no"),
    (b"authorization", b"Bearer " + b"\xff" * 50), (b"authorization", b"Basic !!!"),
    (b"authorization", b"Bearer"), (b"x-api-key", b"mr_" + b"_" * 3000),
    (b"x-api-key", b"\xe4\xb8"), (b"cookie", b"millrace=" + b"x" * 4000),
    (b"cookie", b'millrace="\\377'), (b"cookie", b";;;=;\xff=\xff"),
    (b"cookie", b"millrace=x; millrace=y; $Version=1"), (b"content-type", b"text/xml"),
    (b"content-type", b"multipart/form-data; boundary="),
    (b"content-type", b"application/json; charset=utf-16"), (b"content-encoding", b"gzip"),
    (b"accept", b"text/html"), (b"accept", b"\xff/*;q=nan"), (b"accept-encoding", b"br;q=9"),
    (b"range", b"bytes=0-99999999999999999999"), (b"range", b"bytes=-1"),
    (b"if-modified-since", b"yesterday"), (b"expect", b"100-continue"),
    (b"expect", b"the worst"), (b"upgrade", b"websocket"), (b"upgrade", b"h2c"),
    (b"connection", b"upgrade, close, keep-alive"), (b"x-forwarded-for", b"1.2.3.4, \xff"),
    (b"x-csrf-token", b"\xff\x00"), (b"forwarded", b"for=_"),
    (b"x-http-method-override", b"DELETE"), (b"x-big", b"y" * 60_000),
    (b"x-huge", b"y" * 90_000), (b"x-\xff", b"1"), (b"transfer-encoding", b"identity"),
    (b"te", b"trailers"), (b"content-length", b"5"), (b"content-length", b"-1"),
    (b"content-length", b"9" * 30), (b"transfer-encoding", b"chunked, gzip"),
    (b"transfer-encoding", b"chunked"), (b"sec-websocket-key", b"x"),
    (b"sec-websocket-version", b"99"),
)  # fmt: skip
"""Headers that lie, that are too large, or that ask for what is not there."""


class Message(NamedTuple):
    """A request to be sent.

    ``operation`` is whose rules its answer must keep, None where the path or method is spoiled.
    ``is_sound``: its framing is that of HTTP, so it must be answered. ``how`` names what was done.
    """

    operation: Operation | None
    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_sound: bool
    how: str

    def head(self) -> bytes:
        """Return request line and headers."""
        names = {name for name, _ in self.headers}
        headers = list(self.headers)
        if b"host" not in names:
            headers.insert(0, (b"host", b"127.0.0.1"))
        is_framed = b"content-length" in names or b"transfer-encoding" in names
        if not is_framed and (self.body or self.method in ("POST", "PUT", "PATCH")):
            headers.append((b"content-length", str(len(self.body)).encode()))
        lines = [b"%b: %b\r\n" % item for item in headers]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (
            self.method.encode(), self.target, b"".join(lines)
        )  # fmt: skip

    def wire(self) -> bytes:
        """Return the whole request."""
        return self.head() + self.body


def dump(node: Any) -> bytes:
    """Return a value as JSON, tokens as they are."""
    if isinstance(node, Token):
        return bytes(node)
    if isinstance(node, Object):
        return b"{" + b",".join(dump(key) + b":" + dump(value) for key, value in node) + b"}"
    if isinstance(node, list):
        return b"[" + b",".join(map(dump, node)) + b"]"
    if isinstance(node, int) and not isinstance(node, bool):
        return str(node).encode()
    return msgspec.json.encode(node)


class Spoiler:
    """Makes requests for operations, most of them spoiled somewhere."""

    def __init__(self, shapes: Shapes, rng: random.Random) -> None:
        self._shapes = shapes
        self._rng = rng
        self._ways: tuple[tuple[Callable[[Message], Message], float], ...] = (
            (self._junk_query, 6), (self._junk_path, 3), (self._headers, 4), (self._method, 1),
            (self._broken_target, 1),
        )  # fmt: skip

    def message(self, operation: Operation) -> Message:
        """Return a request for an operation: one in five as it should be."""
        rng = self._rng
        path = quote(self._shapes.path(operation), safe="/:")
        pairs = self._shapes.query(operation)
        is_spoiled = rng.random() < 0.8
        body, how = b"", "plain"
        if operation.body is not None:
            tree = self._shapes.body(operation)
            if is_spoiled and rng.random() < 0.6:
                body, how = self._spoiled_body(tree)
            else:
                body = dump(tree)
        query = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
        target = (path + ("?" + query if query else "")).encode()
        headers = ((b"content-type", b"application/json"),) if body else ()
        made = Message(operation, operation.method, target, headers, body, True, how)
        if is_spoiled and (how == "plain" or rng.random() < 0.15):
            ways, weights = zip(*self._ways, strict=True)
            made = rng.choices(ways, weights)[0](made)
        return made

    # ---- bodies

    def _spoiled_body(self, tree: Any) -> tuple[bytes, str]:
        rng = self._rng
        if rng.random() < 0.6:
            for _ in range(rng.choice((1, 1, 2, 3))):
                tree = self.spoiled(tree)
            return dump(tree), "body values"
        return self._spoiled_text(dump(tree)), "body text"

    def spoiled(self, tree: Any) -> Any:
        """Return a tree with one thing in it changed."""
        rng = self._rng
        if isinstance(tree, Object) and tree and rng.random() < 0.9:
            return self._spoiled_object(tree)
        if isinstance(tree, list) and tree and not isinstance(tree, Object) and rng.random() < 0.7:
            at = rng.randrange(len(tree))
            return [*tree[:at], self.spoiled(tree[at]), *tree[at + 1 :]]
        if isinstance(tree, (int, float)) and not isinstance(tree, bool) and rng.random() < 0.3:
            digits = f"{tree}e30".encode()
            return rng.choice((-tree, str(tree), Token(digits), [tree], Token(b"-" + digits)))
        return rng.choice(JUNK)

    def _spoiled_object(self, tree: Object) -> Object:
        rng = self._rng
        at = rng.randrange(len(tree))
        name, value = tree[at]
        act = rng.choices(("value", "drop", "twice", "unknown", "rename"), (8, 2, 2, 1, 1))[0]
        if act == "value":
            return Object([*tree[:at], (name, self.spoiled(value)), *tree[at + 1 :]])
        if act == "drop":
            return Object([*tree[:at], *tree[at + 1 :]])
        if act == "twice":
            return Object([*tree, (name, rng.choice((value, rng.choice(JUNK))))])
        if act == "unknown":
            return Object([*tree, (rng.choice(("", "__proto__", "x" * 9000, "\x00")), value)])
        return Object([*tree[:at], (name.upper() + "\u0000", value), *tree[at + 1 :]])

    def _spoiled_text(self, text: bytes) -> bytes:
        rng = self._rng
        at = rng.randrange(len(text) + 1)
        return rng.choice((
            lambda: text[:at],
            lambda: text[:at] + bytes(rng.choices(range(256), k=3)) + text[at:],
            lambda: text[:at] + b"\x00" + text[at:],
            lambda: text[:at] + b"\xff\xfe\xed\xa0\x80" + text[at:],
            lambda: text + text,
            lambda: b"\xef\xbb\xbf" + text,
            lambda: text.decode(errors="replace").encode("utf-16"),
            lambda: b"",
            lambda: b"null",
            lambda: b"[" * 100_000,
            lambda: b'{"a":' * 50_000,
            lambda: b" " * (BODY_MAX - 10) + text,
            lambda: text + b" " * (2 * BODY_MAX),
            lambda: b"\x1f\x8b\x08" + text,
            lambda: text.replace(b'"', b"'"),
            lambda: text[:-1] + b"," + text[-1:],
        ))()  # fmt: skip

    # ---- the rest

    def _junk_query(self, made: Message) -> Message:
        rng, operation = self._rng, made.operation
        known = [
            p["name"] for p in (operation.parameters if operation else ()) if p["in"] == "query"
        ]
        # Another instant is read from the whole journal: dear, so asked for seldom.
        cheap = [name for name in known if name not in ("run_id", "as_of")]
        known = known if rng.random() < 0.05 else cheap
        name = rng.choice([*known, *known, "unknown", "", "\x00"])
        junk = self.spoiled("") if rng.random() < 0.9 else ""
        value = junk if isinstance(junk, str) else dump(junk).decode("latin-1")
        joint = b"&" if b"?" in made.target else b"?"
        text = quote(name[:3000]).encode() + b"=" + quote(value[:3000], safe="").encode()
        again = joint + text if rng.random() < 0.1 else b""
        return made._replace(
            target=made.target + joint + text + again.replace(b"?", b"&"), how="query"
        )

    def _junk_path(self, made: Message) -> Message:
        rng = self._rng
        path, _, query = made.target.partition(b"?")
        parts = path.split(b"/")
        at = rng.randrange(1, len(parts))
        junk = rng.choice([item for item in JUNK if isinstance(item, str)])
        parts[at] = quote(junk[:2000], safe="").encode()
        target = b"/".join(parts) + (b"?" + query if query else b"")
        return made._replace(operation=None, target=target or b"/", how="path")

    def _broken_target(self, made: Message) -> Message:
        rng = self._rng
        target = rng.choice((
            made.target + b"?" + b"a" * 60_000, b"/" + b"x" * 70_000, made.target + b"\x00",
            b"//" + made.target, made.target + b"%", made.target + b"%zz%ff%fe", b"*", b"http://evil/x",
            b"/static/../../pyproject.toml", b"/static/%2e%2e/%2e%2e/etc/passwd", b"/ws", b"/docs/",
            made.target + b"#x", made.target + b"?" + b"&".join(b"a%d=1" % n for n in range(2_000)),
            b"/static/", b"/static/\xff", b"/\xc3\xa9", made.target + b"/", made.target.upper(),
        ))  # fmt: skip
        return made._replace(operation=None, target=target, is_sound=False, how="target")

    def _headers(self, made: Message) -> Message:
        rng = self._rng
        added = tuple(rng.choice(_HEADERS) for _ in range(rng.choice((1, 1, 2, 4))))
        names = {name for name, _ in added}
        kept = tuple(item for item in made.headers if item[0] not in names)
        return made._replace(operation=None, headers=kept + added, is_sound=False, how="headers")

    def _method(self, made: Message) -> Message:
        method = self._rng.choice(_METHODS)
        is_sound = method.isalpha() and method.isupper() and method not in ("CONNECT", "BREW")
        return made._replace(operation=None, method=method, is_sound=is_sound, how="method")
