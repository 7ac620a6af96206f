"""Where model files lie on this machine, and whether they are the right ones. Downloads nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from hifidata.core.errors import WeightsError
from hifidata.core.files import write_bytes
from hifidata.weights.catalogue import FileState, Hub, Made, Weight, entry
from hifidata.weights.messages import Found, wrong_kind, wrong_message
from hifidata.weights.pins import Pin, read_pins
from hifidata.weights.sanity import problem_of
from hifidata.weights.search_path import cache_folder, places

REMEMBERED_BYTES = 64 * 2**20
"""Files from this size on are hashed once per change, not once per worker."""
_HASH_CHUNK_BYTES = 1 << 20


def find_weight(name: str | Weight) -> Path:
    """The verified file (or folder) of a catalogue entry.

    Args:
        name: catalogue entry, for example ``det_10g``; or the entry itself, which need not be in the catalogue.

    Raises:
        WeightsError: the name is not in the catalogue, or the file is missing or is not what it must be; one line that
            names the file, the places looked at and the command that gets it.
    """
    weight = entry(name) if isinstance(name, str) else name
    found = look(weight)
    if found.path is None or found.is_wrong:
        raise WeightsError(wrong_message(weight, found))
    return found.path


def look(weight: Weight, fresh: bool = False) -> Found:
    """Looks for an entry: the first copy that is right, else the first that is not, else ``missing``.

    Args:
        weight: catalogue entry.
        fresh: hash the bytes even where the same unchanged file was hashed before.
    """
    wrong: Found | None = None
    for folder in places():
        pin = read_pins(folder).get(weight.name)
        for path in _candidates(folder, weight):
            found = check(weight, path, pin, fresh)
            if found.state != "altered":
                return found
            wrong = wrong or found
    return wrong or Found("missing")


def check(weight: Weight, path: Path, pin: Pin | None, fresh: bool = False) -> Found:
    """Holds one file or folder against the catalogue, or against its pin where the catalogue has no hash.

    A file that nobody published a hash for must also be what its suffix says: the first download may have been something
    else.
    """
    if problem := wrong_kind(weight, path):
        return Found("altered", path, problem)
    parts = expected_files(weight, pin)
    for name, state in parts.items():
        problem = _difference(path / name, state, fresh)  # path / "" is path
        if problem:
            return Found("altered", path, f"{name}: {problem}" if name else problem)
    if not expected_files(weight, None) and (problem := _unsound(weight, path)):
        return Found("altered", path, f"{problem} (it was pinned as it came)" if parts else problem)
    return Found("present" if parts else "unpinned", path)


def expected_files(weight: Weight, pin: Pin | None) -> Mapping[str, FileState]:
    """What the parts of an entry must be, by path inside its folder ("" is a file itself); empty where nobody knows.

    Of a file that was made here, that is what was made: another version of a package may round a number differently.
    """
    if isinstance(weight.origin, Hub) and weight.origin.files:
        return weight.origin.files
    if isinstance(weight.origin, Made) and pin:
        return pin.files
    if weight.sha256 is not None and not weight.is_folder:
        return {"": FileState(weight.n_bytes, weight.sha256)}
    return pin.files if pin else {}


def _unsound(weight: Weight, path: Path) -> str:
    """What is visibly wrong with the contents of an entry; "" where nothing is."""
    if not weight.is_folder:
        return unreadable(path)
    problems = (f"{part.relative_to(path).as_posix()}: {said}" for part in _parts(path) if (said := unreadable(part)))
    return next(problems, "") or _gap(weight, path)


def _parts(folder: Path) -> Iterator[Path]:
    """The files of a model folder in order, without what a version control system or a file manager left in it."""
    for part in sorted(folder.rglob("*")):
        if part.is_file() and not any(name.startswith(".") for name in part.relative_to(folder).parts):
            yield part


def unreadable(path: Path) -> str:
    """``problem_of`` a file, that it cannot be opened included; "" where there is none."""
    try:
        return problem_of(path, path.suffix)
    except FileNotFoundError:
        return ""  # that it is missing is said elsewhere
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _gap(weight: Weight, folder: Path) -> str:
    """What a model folder visibly lacks: parts that the catalogue or its own index names."""
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
    lacking = [name for name in weight.parts if not (folder / name).is_file()]
    return f"lacks {' and '.join(lacking)}" if lacking else ""


def _difference(path: Path, expected: FileState, fresh: bool) -> str:
    """What is wrong with a file; "" where nothing is."""
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
    """The hash of a large file, noted in the cache: every worker asks for it, and reading 16 GB takes a while.

    The note holds for as long as the file's size and time of change do; ``weights verify`` does not believe it.
    """
    stat = path.stat()
    stamp = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    note = cache_folder() / ".hashed" / hashlib.sha256(stamp.encode()).hexdigest()[:32]
    if note.is_file():
        return note.read_text(encoding="ascii")
    got = sha256_of(path)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write_bytes(note, got.encode())
    return got


def _candidates(folder: Path, weight: Weight) -> list[Path]:
    """Copies of an entry in a folder and its sub-folders, nearest first."""
    if not folder.is_dir():
        return []
    return sorted(folder.rglob(weight.file), key=lambda path: (len(path.parts), path))
