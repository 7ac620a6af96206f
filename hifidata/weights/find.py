"""Finds model files on this machine and checks them. Downloads nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from hifidata.core.errors import WeightsError
from hifidata.core.files import write_bytes
from hifidata.weights.catalogue import FileState, Hub, Made, Weight, entry
from hifidata.weights.messages import WeightStatus, kind_problem, problem_message
from hifidata.weights.pins import Pin, read_pins
from hifidata.weights.sanity import problem_of
from hifidata.weights.search_path import cache_folder, search_folders

REMEMBERED_BYTES = 64 * 2**20
"""Files of this size or more are hashed once per change, not once per worker."""
_HASH_CHUNK_BYTES = 1 << 20


def find_weight(name: str | Weight) -> Path:
    """Return the verified file (or folder) of a catalogue entry.

    Args:
        name: of a catalogue entry, such as ``det_10g``; or an entry, which need not be in the catalogue.

    Raises:
        WeightsError: the name is not in the catalogue, or the file is missing or altered. One line that names the file,
            the searched folders and the command that downloads it.
    """
    weight = entry(name) if isinstance(name, str) else name
    found = status_of(weight)
    if found.path is None or found.is_wrong:
        raise WeightsError(problem_message(weight, found))
    return found.path


def status_of(weight: Weight, fresh: bool = False) -> WeightStatus:
    """Search for an entry: the first right copy, else the first altered one, else ``missing``.

    Args:
        weight: catalogue entry.
        fresh: hash the bytes even where the unchanged file was hashed before.
    """
    wrong: WeightStatus | None = None
    for folder in search_folders():
        pin = read_pins(folder).get(weight.name)
        for path in _candidates(folder, weight):
            found = check(weight, path, pin, fresh)
            if found.state != "altered":
                return found
            wrong = wrong or found
    return wrong or WeightStatus("missing")


def check(weight: Weight, path: Path, pin: Pin | None, fresh: bool = False) -> WeightStatus:
    """Check one file or folder against the catalogue, or against its pin where the catalogue has no hash.

    A file without a published hash must also have the format of its suffix: its first download may have been another file.
    """
    if problem := kind_problem(weight, path):
        return WeightStatus("altered", path, problem)
    parts = expected_files(weight, pin)
    for name, state in parts.items():
        problem = _difference(path / name, state, fresh)  # path / "" is path
        if problem:
            return WeightStatus("altered", path, f"{name}: {problem}" if name else problem)
    if not expected_files(weight, None) and (problem := _unsound(weight, path)):
        return WeightStatus("altered", path, f"{problem} (it was pinned as it came)" if parts else problem)
    return WeightStatus("present" if parts else "unpinned", path)


def expected_files(weight: Weight, pin: Pin | None) -> Mapping[str, FileState]:
    """Return the expected parts of an entry, by path inside its folder ("" is a file itself); empty where no hash is known.

    A file made here is compared with its pin: another version of a package may round a number differently.
    """
    if isinstance(weight.origin, Hub) and weight.origin.files:
        return weight.origin.files
    if isinstance(weight.origin, Made) and pin:
        return pin.files
    if weight.sha256 is not None and not weight.is_folder:
        return {"": FileState(weight.n_bytes, weight.sha256)}
    return pin.files if pin else {}


def _unsound(weight: Weight, path: Path) -> str:
    """Return the visible problem of an entry's contents; "" for none."""
    if not weight.is_folder:
        return unreadable(path)
    problems = (f"{part.relative_to(path).as_posix()}: {said}" for part in _parts(path) if (said := unreadable(part)))
    return next(problems, "") or _gap(weight, path)


def _parts(folder: Path) -> Iterator[Path]:
    """Return the files of a model folder in order, without hidden ones of version control or a file manager."""
    for part in sorted(folder.rglob("*")):
        if part.is_file() and not any(name.startswith(".") for name in part.relative_to(folder).parts):
            yield part


def unreadable(path: Path) -> str:
    """Return the visible problem of a file, or the reason why it cannot be read; "" for none."""
    try:
        return problem_of(path, path.suffix)
    except FileNotFoundError:
        return ""  # reported elsewhere
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _gap(weight: Weight, folder: Path) -> str:
    """Return the missing parts of a model folder that the catalogue or its own index names, in words; "" for none."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            parts = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return f"{index.name}: cannot be read"
        missing = sorted(part for part in parts if not (folder / part).is_file())
        if missing:
            return f"lacks {', '.join(missing)}"
    if not any(folder.iterdir()):
        return "is empty"
    absent = [name for name in weight.parts if not (folder / name).is_file()]
    return f"lacks {' and '.join(absent)}" if absent else ""


def _difference(path: Path, expected: FileState, fresh: bool) -> str:
    """Return the difference between a file and its expected state, in words; "" for none."""
    try:
        n_bytes = path.stat().st_size
        if expected.n_bytes not in (None, n_bytes):
            return f"has {n_bytes} bytes, expected {expected.n_bytes}"
        got = sha256_of(path) if fresh or n_bytes < REMEMBERED_BYTES else _remembered_sha256(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if got == expected.sha256 else f"has sha256 {got}, expected {expected.sha256}"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _remembered_sha256(path: Path) -> str:
    """Return the hash of a large file, stored in the cache: every worker needs it, and reading 16 GB takes minutes.

    It is valid while the file's size and modification time are the same. ``weights verify`` ignores it.
    """
    stat = path.stat()
    stamp = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    note = cache_folder() / ".hashed" / hashlib.sha256(stamp.encode()).hexdigest()[:32]
    if note.is_file():
        return note.read_text(encoding="ascii")
    got = sha256_of(path)
    with suppress(OSError):  # without a writable cache, every worker hashes
        write_bytes(note, got.encode())
    return got


def _candidates(folder: Path, weight: Weight) -> list[Path]:
    """Return copies of an entry in a folder and its sub-folders, nearest first."""
    if not folder.is_dir():
        return []
    return sorted(folder.rglob(weight.file), key=lambda path: (len(path.parts), path))
