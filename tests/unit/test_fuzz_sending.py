"""What the fuzz run takes for the answer to a request."""

from __future__ import annotations

from tests.simulation.fuzz.sending import ResponseReader

_FIRST = b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\ncontent-length: 2\r\n\r\n{}"
_SECOND = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 7\r\n\r\n[1,2,3]"


def test_a_second_response_in_the_same_bytes_is_no_part_of_the_answer() -> None:
    reader = ResponseReader(has_no_body=False)

    reader.feed(_FIRST + _SECOND)

    assert reader.is_done
    assert (reader.status, bytes(reader.body)) == (405, b"{}")
    assert reader.headers == {"allow": "GET", "content-length": "2"}


def test_an_interim_response_is_not_the_answer() -> None:
    reader = ResponseReader(has_no_body=False)

    reader.feed(b"HTTP/1.1 100 Continue\r\n\r\n" + _SECOND)

    assert reader.is_done
    assert (reader.status, bytes(reader.body)) == (400, b"[1,2,3]")
