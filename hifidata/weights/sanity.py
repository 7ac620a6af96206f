"""Checks that a file without a known hash has the format of its suffix: a login page is not a model.

It reads the outer structure only: the fields of a graph, the directory of an archive. A backend checks the rest when it
opens the file.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

_HEAD_BYTES = 512
_GRAPH, _OPERATOR_SETS = 7, 8
_NODES = 1
_TENSORFLOW_FIELDS = {_NODES, 2, 3, 4}
"""Nodes, library, and two fields of versions."""
_MOST_BYTES = 2**31
"""Limit of a protobuf message, and of a field."""
_FIXED_BYTES = {1: 8, 5: 4}
"""Size of a protobuf field's value by wire type, of the types that have one."""


def problem_of(path: Path, suffix: str) -> str:
    """Return the visible problem of a model file, in words; "" for none.

    Args:
        path: of the file, which may still have a temporary name.
        suffix: of its final name.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "is empty"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file it stands for"
    return CHECKS[suffix](path) if suffix in CHECKS else ""


def _of_onnx(path: Path) -> str:
    """Return the problem of an ONNX file: it is one protobuf message with a graph and operator sets among its fields."""
    problem, fields = _message(path, "ONNX graph")
    return problem or ("" if {_GRAPH, _OPERATOR_SETS} <= fields else "is no complete ONNX graph")


def _of_paddle(path: Path) -> str:
    """Return the problem of a Paddle program: it is one protobuf message."""
    return _message(path, "Paddle program")[0]


def _of_tensorflow(path: Path) -> str:
    """Return the problem of a frozen TensorFlow graph: it is one message of nodes; OpenCV crashes on many other files."""
    problem, fields = _message(path, "TensorFlow graph")
    return problem or ("" if {_NODES} <= fields <= _TENSORFLOW_FIELDS else "is no TensorFlow graph")


def _message(path: Path, kind: str) -> tuple[str, set[int]]:
    """Return the problem of a file that must be one protobuf message, whose last field ends with the file; and its field numbers."""
    n_bytes = path.stat().st_size
    fields: set[int] = set()
    try:
        with open(path, "rb") as file:
            while file.tell() < n_bytes:
                fields.add(_skip_field(file))
            if file.tell() > n_bytes:
                raise EOFError
    except EOFError:
        return f"is no {kind}, or cut off after {n_bytes} bytes", fields
    except ValueError:
        return f"is no {kind}", fields
    return "", fields


def _skip_field(file: IO[bytes]) -> int:
    """Seek to the end of the protobuf field that begins here; returns its number. Raises ValueError, EOFError."""
    number, wire_type = divmod(_varint(file), 8)
    if number == 0 or wire_type not in (0, 2, *_FIXED_BYTES):
        raise ValueError
    n_bytes = _FIXED_BYTES.get(wire_type) or _varint(file)  # for wire type 0, that is the value
    if wire_type != 0:
        if n_bytes > _MOST_BYTES:
            raise ValueError
        file.seek(n_bytes, os.SEEK_CUR)
    return number


def _varint(file: IO[bytes]) -> int:
    """Read a number with seven bits per byte. Raises EOFError if the file ends in it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            break
    return value


def _of_zip(path: Path) -> str:
    return "" if zipfile.is_zipfile(path) else "is no complete zip archive"


def _of_torch(path: Path) -> str:
    with open(path, "rb") as file:
        is_pickle = file.read(1) == b"\x80"  # the format before torch 1.6
    return "" if is_pickle or zipfile.is_zipfile(path) else "is no complete torch file"


def _of_safetensors(path: Path) -> str:
    """Return the problem of a safetensors file: 8 bytes hold the length of the header, which holds the last tensor's end."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header: Any = json.loads(file.read(length)) if length < path.stat().st_size else None
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return "is no safetensors file"
    expected = 8 + length + max(ends, default=0)
    got = path.stat().st_size
    return "" if got == expected else f"has {got} bytes, its header says {expected}"


def _of_json(path: Path) -> str:
    text = path.read_bytes().strip()
    return "" if text[:1] + text[-1:] in (b"{}", b"[]") else "is no complete JSON"


CHECKS: Mapping[str, Callable[[Path], str]] = {
    ".onnx": _of_onnx,
    ".pdmodel": _of_paddle,
    ".pb": _of_tensorflow,
    ".npz": _of_zip,
    ".zip": _of_zip,
    ".pth": _of_torch,
    ".pt": _of_torch,
    ".safetensors": _of_safetensors,
    ".json": _of_json,
}
"""By suffix. Only the first bytes of other files are checked."""
