"""Read a response body within its size limit and check that it is an image."""

from __future__ import annotations

import zlib

import aiohttp

from hifidata.fetch.headers import Headers
from hifidata.fetch.reasons import BAD_RESPONSE, INCOMPLETE_BODY, TOO_LARGE
from hifidata.fetch.result import FetchFailure
from hifidata.image.headers.sniff import NO_PICTURE, sniff
from hifidata.image.reasons import EMPTY_FILE, NOT_IMAGE

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_INFLATABLE = frozenset({"gzip", "x-gzip", "deflate"})


class _Plain:
    def feed(self, piece: bytes, limit: int) -> bytes:
        return piece

    def finish(self) -> None:
        """Check nothing."""


class _Inflater:
    """Decode one gzip, zlib or raw deflate stream. Data after its end is refused: image servers send none.

    Args:
        may_be_raw: the label is ``deflate``, which some servers take for a stream without zlib's header.
    """

    def __init__(self, may_be_raw: bool) -> None:
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._may_be_raw = may_be_raw
        self._start = b""

    def feed(self, piece: bytes, limit: int) -> bytes:
        """Return at most ``limit`` + 1 bytes: enough to detect that the limit is exceeded."""
        if self._may_be_raw:
            piece = self._start = self._start + piece
            if len(piece) < 2:
                return b""
            self._may_be_raw = False
            if piece[0] & 15 != 8 or int.from_bytes(piece[:2], "big") % 31:  # RFC 1950, section 2.2
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = self._stream.decompress(piece, limit + 1)
        except zlib.error as error:
            raise FetchFailure(BAD_RESPONSE, f"content-encoding: {error}") from error
        if self._stream.unused_data:
            raise FetchFailure(BAD_RESPONSE, "content-encoding: data after the end of the stream")
        return data

    def finish(self) -> None:
        if not self._stream.eof:
            raise FetchFailure(INCOMPLETE_BODY, "content-encoding: the stream has no end")


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the whole decoded body.

    Raises:
        FetchFailure: ``too_large``, before any byte is read if Content-Length says so; ``incomplete_body``;
            ``bad_response`` for a content encoding other than gzip and deflate.
    """
    announced = response.content_length
    if announced is not None and announced > max_bytes:
        raise FetchFailure(TOO_LARGE, f"{announced} bytes announced, the limit is {max_bytes}")
    decoder = _decoder(response.headers)
    pieces: list[bytes] = []
    n_received = n_decoded = 0
    async for piece in response.content.iter_any():
        n_received += len(piece)
        decoded = decoder.feed(piece, max_bytes - n_decoded)
        n_decoded += len(decoded)
        if n_received > max_bytes or n_decoded > max_bytes:
            raise FetchFailure(TOO_LARGE, f"more than {max_bytes} bytes")
        pieces.append(decoded)
    decoder.finish()
    return b"".join(pieces)


async def read_start(response: aiohttp.ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
    """Return the first ``max_bytes`` of the decoded body, and whether there were more."""
    decoder = _decoder(response.headers)
    data = bytearray()
    async for piece in response.content.iter_any():
        data += decoder.feed(piece, max_bytes - len(data))
        if len(data) > max_bytes:
            return bytes(data[:max_bytes]), True
    decoder.finish()
    return bytes(data), False


def _decoder(headers: Headers) -> _Plain | _Inflater:
    """Ignore labels that are not a compression, such as ``binary`` and ``utf-8``."""
    labels = ",".join(headers.getall("content-encoding", ())).lower().split(",")
    layers = [label.strip() for label in labels if label.strip() in _COMPRESSIONS]
    if not layers:
        return _Plain()
    if len(layers) > 1 or layers[0] not in _INFLATABLE:
        message = f"content-encoding {', '.join(layers)[:80]}, requested was identity"
        raise FetchFailure(BAD_RESPONSE, message)
    return _Inflater(may_be_raw=layers[0] == "deflate")


def check_image(content: bytes) -> None:
    """Check the first bytes; the server's Content-Type is ignored.

    Raises:
        FetchFailure: ``empty_file`` or ``not_image``.
    """
    if not content:
        raise FetchFailure(EMPTY_FILE, "the body is empty")
    kind = sniff(content)
    if kind is None or kind in NO_PICTURE:
        raise FetchFailure(NOT_IMAGE, f"got {kind or 'unknown bytes'}, expected an image")
