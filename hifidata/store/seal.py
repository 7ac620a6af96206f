"""A sha256 inside a Parquet file, over all of its bytes: the format has checksums of pages only.

The metadata of the file hold 128 hex digits: the sha256 of the bytes before the footer, and the sha256 of the footer. The
second one is computed with zeros in its own place. So a reader of the footer needs no other bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO

SEAL_KEY = b"hifidata.sha256"
EMPTY_SEAL = "0" * 128
_SEAL = re.compile(re.escape(SEAL_KEY) + rb"\x18\x80\x01([0-9a-f]{64})([0-9a-f]{64})")  # Thrift: type and length
_NO_DIGEST = b"0" * 64
_TAIL_BYTES = 8  # length of the footer, and PAR1


def seal(data: memoryview | bytes) -> bytearray:
    """Return the bytes of a Parquet file with its seal in place of ``EMPTY_SEAL``, the value of ``SEAL_KEY``."""
    sealed = bytearray(data)
    start = len(sealed) - _TAIL_BYTES - int.from_bytes(sealed[-_TAIL_BYTES:-4], "little")
    found = list(_SEAL.finditer(sealed, start))[-1]
    sealed[found.start(1) : found.end(1)] = hashlib.sha256(memoryview(sealed)[:start]).hexdigest().encode()
    sealed[found.start(2) : found.end(2)] = hashlib.sha256(memoryview(sealed)[start:]).hexdigest().encode()
    return sealed


def require_seal(path: Path, whole: bool = False) -> bool:
    """Compare a Parquet file with its seal.

    Args:
        path: the file.
        whole: compare all bytes, not only the footer.

    Returns:
        Whether the file has a seal. Manifests, and fragments of earlier versions, have none.

    Raises:
        ValueError: the bytes differ from the seal, or the file is no Parquet file.
        OSError: the file cannot be read.
    """
    if path.is_dir():  # a manifest that was converted to part files
        return False
    with open(path, "rb") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, n_bytes - _TAIL_BYTES))
        n_footer = int.from_bytes(file.read(4), "little") + _TAIL_BYTES
        if n_footer > n_bytes:
            raise ValueError("no Parquet footer")
        file.seek(n_bytes - n_footer)
        footer = bytearray(file.read(n_footer))
        if not (found := list(_SEAL.finditer(footer))):
            return False
        body, digest = found[-1].groups()
        footer[found[-1].start(2) : found[-1].end(2)] = _NO_DIGEST
        if hashlib.sha256(footer).hexdigest().encode() != digest:
            raise ValueError("the footer differs from its sha256")
        if whole and _digest(file, n_bytes - n_footer) != body:
            raise ValueError("the rows differ from their sha256")
    return True


def _digest(file: BinaryIO, n_bytes: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while n_bytes and (block := file.read(min(n_bytes, 2**20))):
        digest.update(block)
        n_bytes -= len(block)
    return digest.hexdigest().encode()
