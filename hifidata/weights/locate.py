"""Where model files lie on this machine, and whether they are the right ones. Downloads nothing.

Two places are searched: the folder of ``HIFI_WEIGHTS`` (or the recipe's ``weights.folder``), which is used as it is and
never written to, with its sub-folders; then the cache that ``hifidata weights pull`` fills.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hifidata.errors import WeightsError
from hifidata.weights.catalogue import Weight, entry
from hifidata.weights.pins import FileState, Pin, read_pins

FOLDER_VARIABLE = "HIFI_WEIGHTS"
CACHE_VARIABLE = "HIFI_WEIGHTS_CACHE"
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
        raise WeightsError(f"weights {name}: {found.path} {found.problem}; {_remedy(weight, found.path)}")
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
    """Holds one file or folder against the catalogue, or against its pin where the catalogue has no hash."""
    if weight.is_folder:
        if pin is None:
            return Found("unpinned", path)
        parts = {path / name: state for name, state in pin.files.items()}
    elif weight.sha256 is not None:
        parts = {path: FileState(weight.n_bytes or path.stat().st_size, weight.sha256)}
    elif pin is not None:
        parts = {path: pin.files[""]}
    else:
        return Found("unpinned", path)
    for part, state in parts.items():
        problem = _difference(part, state, fresh)
        if problem:
            return Found("altered", path, f"{part.relative_to(path)}: {problem}" if weight.is_folder else problem)
    return Found("present", path)


def _difference(path: Path, expected: FileState, fresh: bool) -> str:
    """What is wrong with a file; "" where nothing is."""
    try:
        stat = path.stat()
        if stat.st_size != expected.n_bytes:
            return f"has {stat.st_size} bytes, expected {expected.n_bytes}"
        got = sha256_of(path)
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


def places() -> list[Path]:
    """Folders to search, in order."""
    return [folder for folder in (offline_folder(), cache_folder()) if folder is not None]


def offline_folder() -> Path | None:
    """The folder that the recipe or ``HIFI_WEIGHTS`` names; used as it is. The environment wins: it is this machine's."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else _recipe_folder.get()


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
    looked = " nor in ".join(str(folder) for folder in places())
    named = "" if offline_folder() else f"; or set {FOLDER_VARIABLE} to a folder that holds it"
    if weight.origin is None:
        return (
            f"weights {weight.name}: {weight.file} is not in {looked}; no public address is known for it, bring a copy"
            f" with sha256 {weight.sha256 or 'unknown'}{named}"
        )
    return f"weights {weight.name}: {weight.file} is not in {looked}; run `hifidata weights pull {weight.name}`{named}"


def _remedy(weight: Weight, path: Path) -> str:
    command = f"run `hifidata weights pull {weight.name}`" if weight.origin else "bring the right one"
    return f"remove it and {command}" if path.is_relative_to(cache_folder()) else f"replace it, or {command}"


def _candidates(folder: Path, weight: Weight) -> list[Path]:
    """Copies of an entry in a folder and its sub-folders, nearest first."""
    if not folder.is_dir():
        return []
    matches = [path for path in folder.rglob(weight.file) if path.is_dir() == weight.is_folder]
    return sorted(matches, key=lambda path: (len(path.parts), path))
