"""What is said of a model file that is missing or wrong: what, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from hifidata.weights.catalogue import CATALOGUE, Made, Weight
from hifidata.weights.search_path import FOLDER_VARIABLE, cache_folder, offline_folder, places

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

    @property
    def is_wrong(self) -> bool:
        """Whether it cannot be used as it is."""
        return self.state in ("missing", "altered")


def wrong_kind(weight: Weight, path: Path) -> str:
    """What is wrong where a folder lies in a file's place, or a file in a folder's; "" where nothing is."""
    if not path.exists() or path.is_dir() == weight.is_folder:
        return ""
    return "is a file, expected a folder" if weight.is_folder else "is a folder, expected a file"


def wrong_message(weight: Weight, found: Found) -> str:
    """One line: the file, what is wrong with it or every place looked at, and what to do."""
    if found.path is not None:
        return f"weights {weight.name}: {found.path} {found.problem}; {remedy(weight, found.path)}"
    offline = offline_folder()
    named = "" if offline else f"; or set {FOLDER_VARIABLE} to a folder that holds it"
    return f"weights {weight.name}: {weight.file} is not in {looked_in()}; {_ways_to_get(weight)}{named}"


def looked_in() -> str:
    """The folders that were searched, in words."""
    offline = offline_folder()
    gone = offline is not None and not offline.is_dir()
    return " nor in ".join(f"{folder}{' (no such folder)' * (gone and folder == offline)}" for folder in places())


def remedy(weight: Weight, path: Path) -> str:
    """What to do about an altered file, in words."""
    if not can_pull(weight):
        return _ways_to_get(weight)
    command = f"run `hifidata weights pull {weight.name}`"
    if not path.is_relative_to(cache_folder()):
        return f"replace it, or {command}"
    return f"remove it and {command}" if wrong_kind(weight, path) else f"{command}, which replaces it"


def right_file(path: Path) -> str:
    """What to do where a model finds that its file is damaged or another one: that depends on whose file it is."""
    theirs = next((weight for weight in CATALOGUE.values() if weight.file == path.name), None)
    if theirs is None or not any(path.is_relative_to(folder) for folder in places()):
        return "it is your own, not the catalogue's: name one that fits"
    return f"put the right file in its place (`hifidata weights show {theirs.name}` names it)"


def can_pull(weight: Weight) -> bool:
    """Whether ``hifidata weights pull`` can bring it on this machine, given a network."""
    return weight.origin is not None and not lacking(weight)


def _ways_to_get(weight: Weight) -> str:
    if weight.origin is None:
        return (
            f"no public address is known for it, bring a copy with sha256 {weight.sha256 or 'unknown'} into "
            f"{places()[0]} (licence: {weight.licence})"
        )
    command = f"run `hifidata weights pull {weight.name}`"
    if isinstance(weight.origin, Made) and (packages := lacking(weight)):
        return f"it is made from {weight.origin.source.file}: `pip install {' '.join(packages)}`, then {command}"
    return command


def lacking(weight: Weight) -> list[str]:
    """Packages that making it takes and that are not installed."""
    packages = weight.origin.packages if isinstance(weight.origin, Made) else ()
    return [name for name in packages if find_spec(name) is None]
