"""Any tar is listed, or refused in one line, within bounds of time and memory."""

from __future__ import annotations

import json
import os
import random
import struct
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hifidata.core.errors import IntakeError, SourceError
from hifidata.core.schema import Candidate
from hifidata.sources.shards import ShardsSource
from tests.fuzz.bounded import damaged, fuzz, require_one_line

JPEG = b"\xff\xd8\xff\xe0" + bytes(200)
BLOCK = tarfile.BLOCKSIZE
VALUES = (
    b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b'"\\ud800"', b'"' + b"x" * 600_000 + b'"', b"1e999", b"NaN", b"{}", b"[]",
    b"null", b"true", b'"0123456789abcdef"', b"-1", b'"\\u0000\\u202e\\u001b[31m"', b"\xff\xfe", b'""', b'"ann"',
)  # fmt: skip
RECORDS = (
    "size=-1", "size=-1024", "size=99999999999999999999999999", "size=x", "path=" + "n" * 600_000, "path=\udcff.jpg", "path=",
    "linkpath=a.jpg", "hdrcharset=BINARY", "hdrcharset=" + "1" * 9000, "GNU.sparse.major=1", "GNU.sparse.minor=0",
    "GNU.sparse.map=" + "0," * 50_000, "GNU.sparse.realsize=99999999999999", "GNU.sparse.name=x.jpg", "GNU.sparse.numblocks=9",
    "GNU.sparse.offset=-1", "mtime=nan", "mtime=" + "9" * 5000, "uid=-5", "=", "a",
)  # fmt: skip
KINDS = (*tarfile.SUPPORTED_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, b"V", b"\xff")


def header(name: bytes, size: int = 0, kind: bytes = tarfile.REGTYPE, size_field: bytes = b"") -> bytes:
    """Return a USTAR header whose checksum is right."""
    field = size_field or f"{size:011o}".encode()
    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s", name, b"", b"", b"", field, b"0", b" " * 8, kind, b"", b"ustar\x0000"
    )
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + f"{sum(block):06o}\0 ".encode() + block[156:]


def member(name: bytes, data: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(data), kind) + data + bytes(-len(data) % BLOCK)


def pax(*records: str, kind: bytes = tarfile.XHDTYPE) -> bytes:
    lines = []
    for record in records:
        text = record.encode("utf-8", "surrogateescape")
        size = len(text) + 2
        while len(f"{size} ".encode() + text + b"\n") != size:
            size += 1
        lines.append(f"{size} ".encode() + text + b"\n")
    return member(b"pax", b"".join(lines), kind)


def list_and_read(path: Path) -> list[Candidate]:
    """List a tar and read its images. Any other exception fails the test."""
    source = ShardsSource(str(path), "person", with_captions=True)
    try:
        tasks = list(source.identities())
    except SourceError as error:
        require_one_line(error)
        return []
    candidates = [candidate for task in tasks for candidate in task.candidates]
    for task in tasks:
        assert len({c.relative_path for c in task.candidates}) == len(task.candidates)
        json.dumps([task.identity_name, source.notes], ensure_ascii=False).encode()
    for candidate in candidates:
        json.dumps([candidate.source_uri, candidate.relative_path, dict(candidate.facts)], ensure_ascii=False).encode()
        if "status" not in candidate.facts:
            source.caption(candidate)
            with suppress(IntakeError):
                source.read(candidate)
    return candidates


def any_tar(rng: random.Random, folder: Path) -> None:
    """Make a tar of odd parts, damage it in half of the rounds, and list it."""
    data = b""
    for number in range(rng.randrange(1, 12)):
        name = rng.choice((b"%d.jpg", b"%d.json", b"./%d.png", b"._%d.jpg", b"\xff%d.jpg", b"%d", b"../%d.jpg")) % (
            number // 2
        )
        content = rng.choice((JPEG, b"", b'{"person": ' + rng.choice(VALUES) + b"}", rng.choice(VALUES)))
        match rng.randrange(6):
            case 0:
                data += pax(
                    *rng.choices(RECORDS, k=rng.randrange(1, 4)), kind=rng.choice((tarfile.XHDTYPE, tarfile.XGLTYPE))
                )
                data += member(name, content)
            case 1:
                data += member(name, content, rng.choice(KINDS))
            case 2:
                size = rng.choice(
                    (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777", b"-1", b"x", b"\x80" + bytes(10) + b"\x09")
                )
                data += header(name, kind=rng.choice(KINDS), size_field=size)
            case _:
                data += member(name, content)
    data += bytes(2 * BLOCK)
    path = folder / "0.tar"
    path.write_bytes(damaged(rng, data, (b"\0" * BLOCK, data[:BLOCK])) if rng.random() < 0.5 else data)
    list_and_read(path)


def sparse_file(path: Path, data: bytes, size: int) -> None:
    path.write_bytes(data)
    os.truncate(path, size)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "extended header of 3 GB": lambda path: sparse_file(path, header(b"pax", 3 * 10**9, tarfile.XHDTYPE), 4 * 10**9),
    "long name of 3 GB": lambda path: sparse_file(path, header(b"n", 3 * 10**9, tarfile.GNUTYPE_LONGNAME), 4 * 10**9),
    "sparse map without end": lambda path: sparse_file(
        path, pax("GNU.sparse.major=1", "GNU.sparse.minor=0") + member(b"a.jpg", b"999999999\n1\n2\n"), 3 * 10**9
    ),
    "old sparse map without end": lambda path: path.write_bytes(
        header(b"a.jpg", 0, tarfile.GNUTYPE_SPARSE)[:482] + b"\1" * 30 + b"\1" * 512 * 5000
    ),
    "backwards": lambda path: path.write_bytes(member(b"a.jpg", JPEG) + pax("size=-4096") + member(b"b.jpg", JPEG)),
    "size of 27 digits": lambda path: path.write_bytes(pax("size=" + "9" * 27) + member(b"a.jpg", JPEG)),
    "chain of extended headers": lambda path: path.write_bytes(pax("a=b") * 5000 + member(b"a.jpg", JPEG)),
    "chain of long names": lambda path: path.write_bytes(member(b"n", b"x", tarfile.GNUTYPE_LONGNAME) * 5000),
    "many global keys": lambda path: path.write_bytes(
        b"".join(pax(*(f"k{n}.{m}=v" for m in range(2000)), kind=tarfile.XGLTYPE) + member(b"a", b"") for n in range(300))
    ),
    "digits": lambda path: path.write_bytes(member(b"pax", b"1" * 100_000, tarfile.XHDTYPE) + member(b"a.jpg", JPEG)),
    "one name, many times": lambda path: path.write_bytes(
        (member(b"a.jpg", b"") + member(b"a.json", b'{"person": "ann"}')) * 2_000 + bytes(2 * BLOCK)
    ),
    "names of dots": lambda path: path.write_bytes((pax("path=" + "." * 4000) + member(b"a", JPEG)) * 500),
    "json values": lambda path: path.write_bytes(
        b"".join(member(b"%d.jpg" % n, JPEG) + member(b"%d.json" % n, b'{"person":' + v + b"}") for n, v in enumerate(VALUES))
    ),
    "only zeros": lambda path: sparse_file(path, b"", 10**8),
    "empty": lambda path: path.write_bytes(b""),
}  # fmt: skip


def hostile_tars(rng: random.Random, folder: Path) -> None:
    """List each tar of ``HOSTILE``."""
    for number, (name, make) in enumerate(HOSTILE.items()):
        print(name, flush=True)
        path = folder / f"{number}.tar"
        make(path)
        list_and_read(path)
        path.unlink()


def test_any_tar_is_listed_or_refused() -> None:
    fuzz(any_tar, 150)


def test_hostile_tars_are_listed_or_refused() -> None:
    fuzz(hostile_tars, 1)


def test_the_parts_make_a_valid_tar(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(
        pax("path=x/a.jpg") + member(b"a", JPEG) + member(b"x/a.json", b'{"person": "ann"}') + bytes(1024)
    )
    (candidate,) = list_and_read(tmp_path / "0.tar")
    assert not candidate.facts
    with tarfile.open(tmp_path / "0.tar") as tar:
        assert tar.extractfile("x/a.jpg").read() == JPEG  # type: ignore[union-attr]
