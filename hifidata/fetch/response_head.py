"""Read heads of responses that are odd but clear, as browsers and curl do. aiohttp's parser refuses them.

Strict parsers protect connections that several clients share: an odd head could smuggle a second response. Here a
connection carries one request at a time, and it is closed after a response with an odd head.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEAD_BYTES = 128 * 1024
"""Limit of status line and headers together."""

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"(http/(1\.[01])|icy)[ \t]+(\d{3})(?:[ \t]+(.*))?", re.IGNORECASE | re.DOTALL)
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(rb"\+?\d{1,18}")
_NOT_IN_VALUE = re.compile(rb"[\x00\r]")

Field = tuple[bytes, bytes]


def normalise_head(head: bytes) -> tuple[bytes, bool]:
    """Return a head in the form that RFC 9112 asks for, and whether it was odd.

    Lines without a valid field name are left out, as curl does. Equal lengths are stated once. With ``Transfer-Encoding:
    chunked``, a length is left out (RFC 9112, section 6.3). A head whose body has no clear end is returned as it is, for
    the parser to refuse.

    Args:
        head: status line and headers with their blank line.
    """
    first, *lines = [line.removesuffix(b"\r") for line in head.strip(b"\r\n").split(b"\n")]
    status = _STATUS_LINE.fullmatch(first)
    fields, n_odd = _fields(lines)
    length, is_odd_length = _length(fields)
    if status is None or length is None:
        return head, False
    fields = [field for field in fields if field[0] != b"content-length"] + length
    line = b"HTTP/%s %s %s" % (status[2] or b"1.0", status[3], status[4] or b"")
    plain = b"\r\n".join([line, *(b"%s: %s" % field for field in fields), b"", b""])
    return plain, is_odd_length or n_odd > 0 or not first.startswith(b"HTTP")


def _fields(lines: Sequence[bytes]) -> tuple[list[Field], int]:
    """Return names in lower case with their values, and the number of lines that no strict parser takes for a field."""
    fields: list[Field | None] = []
    n_odd = 0
    for line in lines:
        written, colon, value = line.partition(b":")
        name = written.rstrip(b" \t").lower()
        if line[:1] in (b" ", b"\t"):  # the value of the line before goes on
            if fields and (before := fields[-1]) is not None:
                is_value = not _NOT_IN_VALUE.search(line)
                fields[-1] = (before[0], before[1] + b" " + line.strip()) if is_value else None
                n_odd += not is_value
        elif colon and _NAME.fullmatch(name) and not _NOT_IN_VALUE.search(value):
            fields.append((name, value.strip()))
            n_odd += len(name) < len(written)
        else:
            fields.append(None)
            n_odd += 1
    return [field for field in fields if field is not None], n_odd


def _length(fields: Sequence[Field]) -> tuple[list[Field] | None, bool]:
    """Return the field that states the body's length, none for a chunked or open body; None where the fields disagree."""
    stated = [value for name, value in fields if name == b"content-length"]
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if codings:
        return ([] if codings == [b"chunked"] or not stated else None), bool(stated)
    lengths = {part.strip() for value in stated for part in value.split(b",")}
    if not lengths:
        return [], False
    if not all(map(_LENGTH.fullmatch, lengths)) or len(set(map(int, lengths))) > 1:
        return None, False
    length = b"%d" % int(lengths.pop())
    return [(b"content-length", length)], stated != [length]


class TolerantResponseHandler(ResponseHandler):
    """aiohttp's protocol of a connection. It normalises the head of each response before the parser sees it."""

    _is_in_head = False

    def set_response_params(self, **params: Any) -> None:
        """Expect the head of the next response."""
        self._head = bytearray()
        self._is_in_head = True
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Hold a head back until it is complete, and pass the body on."""
        if not self._is_in_head:
            super().data_received(data)
            return
        self.start_timeout()
        searched = max(0, len(self._head) - 2)
        self._head += data
        ready = b""  # with the start of the body, because the parser reports its errors better in one piece
        while self._is_in_head and (end := _HEAD_END.search(self._head, searched)):
            head, searched = bytes(self._head[: end.end()]), 0
            del self._head[: end.end()]
            plain, is_odd = normalise_head(head)
            ready += plain
            self._is_in_head = not head.strip() or _INTERIM.match(plain) is not None
            if is_odd:
                self.force_close()
        if not self._is_in_head or not _may_be_head(self._head):
            ready, self._head, self._is_in_head = ready + self._head, bytearray(), False
        if ready:
            super().data_received(ready)
        if len(self._head) > MAX_HEAD_BYTES and self.transport is not None:
            self.set_exception(HttpProcessingError(message=f"a head of more than {MAX_HEAD_BYTES} bytes"))
            self.transport.close()


def _may_be_head(data: bytearray) -> bool:
    start = bytes(data[:64]).lstrip()[:4].lower()
    return b"http".startswith(start) or b"icy ".startswith(start)


class TolerantConnector(aiohttp.TCPConnector):
    """A connector whose connections are read by ``TolerantResponseHandler``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        handler: type[ResponseHandler] = TolerantResponseHandler
        self._factory = partial(handler, loop=self._loop)
