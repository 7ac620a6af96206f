"""Where model files lie on this machine, and whether they are the right ones. Downloads nothing.

Two places are searched: the folder of ``HIFI_WEIGHTS`` (or the recipe's ``weights.folder``), which is used as it is and
never written to, with its sub-folders; then the cache that ``hifidata weights pull`` fills.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hifidata.errors import WeightsError
from hifidata.store.atomic import write_bytes
from hifidata.weights.catalogue import FileState, Hub, Weight, entry
from hifidata.weights.contents import CHECKS, problem_of
from hifidata.weights.pins import Pin, read_pins

FOLDER_VARIABLE = "HIFI_WEIGHTS"
CACHE_VARIABLE = "HIFI_WEIGHTS_CACHE"
REMEMBERED_BYTES = 64 * 2**20
"""Files from this size on are hashed once per change, not once per worker."""
_HASH_CHUNK_BYTES = 1 << 20

_recipe_folder: ContextVar[Path | None] = ContextVar("recipe_folder", default=None)

State = Literal["present", "missing", "altered", "unpinned"]


@dataclass(frozen=True)
class Found:
    """What is known about an entry on this machine.

    Attributes:
        state: ``unpinned`` is present, but no hash is known to hold it against.
        path: the file or folder, right or altered; None where it is missing.
        problem: what is wrong with it, in words; "" where nothing is.
    """

    state: State
    path: Path | None = None
    problem: str = ""


def find(name: str) -> Path:
    """The verified file (or folder) of a catalogue entry.

    Args:
        name: catalogue entry, for example ``det_10g``.

    Raises:
        WeightsError: the name is not in the catalogue, or the file is missing or is not what it must be; one line that
            names the file, the places looked at and the command that gets it.
    """
    weight = entry(name)
    found = look(weight)
    if found.path is None:
        raise WeightsError(missing_message(weight))
    if found.state == "altered":
        raise WeightsError(f"weights {name}: {found.path} {found.problem}; {remedy(weight, found.path)}")
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
    """What the parts of an entry must be, by path inside its folder ("" is a file itself); empty where nobody knows."""
    if isinstance(weight.origin, Hub) and weight.origin.files:
        return weight.origin.files
    if weight.sha256 is not None and not weight.is_folder:
        return {"": FileState(weight.n_bytes, weight.sha256)}
    return pin.files if pin else {}


def wrong_kind(weight: Weight, path: Path) -> str:
    """What is wrong where a folder lies in a file's place, or a file in a folder's; "" where nothing is."""
    if not path.exists() or path.is_dir() == weight.is_folder:
        return ""
    return "is a file, expected a folder" if weight.is_folder else "is a folder, expected a file"


def _unsound(weight: Weight, path: Path) -> str:
    """What is visibly wrong with the contents of an entry; "" where nothing is."""
    if not weight.is_folder:
        return unreadable(path)
    parts = sorted(part for part in path.rglob("*") if part.is_file() and part.suffix in CHECKS)
    problems = (f"{part.relative_to(path).as_posix()}: {problem}" for part in parts if (problem := unreadable(part)))
    return next(problems, "") or _gap(path)


def unreadable(path: Path) -> str:
    """``problem_of`` a file, that it cannot be opened included; "" where there is none."""
    try:
        return problem_of(path, path.suffix)
    except FileNotFoundError:
        return ""  # that it is missing is said elsewhere
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _gap(folder: Path) -> str:
    """What a model folder that nobody pinned visibly lacks: parts that its own index names."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            parts = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return f"{index.name}: cannot be read"
        missing = sorted(part for part in parts if not (folder / part).is_file())
        if missing:
            return f"lacks {', '.join(missing)}"
    return "" if any(folder.iterdir()) else "is empty"


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


def places() -> list[Path]:
    """Folders to search, in order."""
    return [folder for folder in (offline_folder(), cache_folder()) if folder is not None]


def offline_folder() -> Path | None:
    """The folder that the recipe (or ``--weights``) names, else that of ``HIFI_WEIGHTS``; used as it is."""
    named = os.environ.get(FOLDER_VARIABLE)
    return _recipe_folder.get() or (Path(named).expanduser() if named else None)


def cache_folder() -> Path:
    """Where downloads go: ``HIFI_WEIGHTS_CACHE``, or this platform's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "hifidata" / "weights"


@contextmanager
def searching(folder: str | Path | None) -> Iterator[None]:
    """Inside the block, ``find`` searches this folder first; None changes nothing."""
    token = _recipe_folder.set(Path(folder).expanduser() if folder else _recipe_folder.get())
    try:
        yield
    finally:
        _recipe_folder.reset(token)


def missing_message(weight: Weight) -> str:
    """One line: the file, every place looked at, and the command that gets it."""
    offline = offline_folder()
    gone = offline is not None and not offline.is_dir()
    looked = " nor in ".join(f"{folder}{' (no such folder)' * (gone and folder == offline)}" for folder in places())
    named = "" if offline else f"; or set {FOLDER_VARIABLE} to a folder that holds it"
    if weight.origin is None:
        return (
            f"weights {weight.name}: {weight.file} is not in {looked}; no public address is known for it, bring a copy"
            f" with sha256 {weight.sha256 or 'unknown'}{named}"
        )
    return f"weights {weight.name}: {weight.file} is not in {looked}; run `hifidata weights pull {weight.name}`{named}"


def remedy(weight: Weight, path: Path) -> str:
    """What to do about an altered file, in words."""
    command = f"run `hifidata weights pull {weight.name}`" if weight.origin else "bring the right one"
    if not path.is_relative_to(cache_folder()):
        return f"replace it, or {command}"
    return (
        f"{command}, which replaces it"
        if weight.origin and not wrong_kind(weight, path)
        else f"remove it and {command}"
    )


def _candidates(folder: Path, weight: Weight) -> list[Path]:
    """Copies of an entry in a folder and its sub-folders, nearest first."""
    if not folder.is_dir():
        return []
    return sorted(folder.rglob(weight.file), key=lambda path: (len(path.parts), path))
