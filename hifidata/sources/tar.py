"""Walk the headers of a tar from anywhere, within bounds of time and memory.

``tarfile`` parses the headers. It trusts them: they can make it read gigabytes, run backwards, loop, or raise any exception.
So it reads through a file that bounds the bytes of each member's headers.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from hifidata.core.messages import one_line

MAX_HEADER_BYTES = 2**17
"""Of one member, with its extended headers."""
MAX_MEMBERS = 1_000_000
MAX_GLOBALS = 256
"""Keys of global extended headers. Python copies them for each member."""
_DIGITS = re.compile(rb"[0-9]{1000}")
"""A pattern of tarfile takes quadratic time for them, before Python 3.11.10."""


class DamagedTar(Exception):
    """The tar cannot be read further. The message is the end of a sentence about the tar."""


class _HeaderFile:
    """A file whose reads since ``begin_member`` are bounded. Reads at the end of the file count, too."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self.begin_member()

    def begin_member(self) -> None:
        """Start the count of bytes for the headers of the next member."""
        self._left = MAX_HEADER_BYTES

    def read(self, n: int = -1) -> bytes:
        """Return at most ``n`` bytes. Raises DamagedTar if a member's headers are too long."""
        self._left -= max(n, tarfile.BLOCKSIZE)
        if n < 0 or self._left < 0:
            raise DamagedTar(f"a member's headers are longer than {MAX_HEADER_BYTES} bytes")
        data = self._file.read(n)
        if _DIGITS.search(data):
            raise DamagedTar("a member's headers contain an endless number")
        return data


def walk(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield all members in order; names that are not UTF-8 contain surrogates.

    Raises:
        DamagedTar: the tar is damaged, not a tar, or ends early. The members before were yielded.
    """
    try:
        with open(path, "rb") as file:
            yield from _members(file)
    except DamagedTar:
        raise
    except Exception as error:  # damaged headers raise at least eight kinds in tarfile
        raise DamagedTar(f"not a readable tar: {one_line(error)}") from error


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    n_bytes = os.fstat(file.fileno()).st_size
    headers = _HeaderFile(file)
    with tarfile.open(fileobj=cast(BinaryIO, headers), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        before, n_members = -1, 0
        while True:
            headers.begin_member()
            member = tar.next()
            if member is None:
                break
            tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
            n_members += 1
            if member.offset <= before or member.size < 0 or len(tar.pax_headers) > MAX_GLOBALS:
                raise DamagedTar(f"the header at byte {max(member.offset, 0)} is not valid")
            if n_members > MAX_MEMBERS:
                raise DamagedTar(f"more than {MAX_MEMBERS} members; split the tar")
            before = member.offset
            yield member
            if member.offset_data + member.size > n_bytes:
                raise DamagedTar(f"the file ends inside a member, at byte {n_bytes}; make or download it again")
        _require_end(file, tar.offset)


def _require_end(file: BinaryIO, offset: int) -> None:
    """Check that only zeros follow the last member: tarfile takes any damaged header for the end."""
    file.seek(offset)
    zeros = bytes(2**20)
    while block := file.read(len(zeros)):
        if block != zeros[: len(block)]:
            raise DamagedTar(
                f"the data after byte {offset} are no members; unpack joined tars, or make or download the tar again"
            )
