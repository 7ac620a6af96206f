"""Messages about model files that are missing or wrong: the file, its place, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from hifidata.weights.catalogue import CATALOGUE, Made, Weight
from hifidata.weights.search_path import FOLDER_VARIABLE, cache_folder, offline_folder, search_folders

State = Literal["present", "missing", "altered", "unpinned"]


@dataclass(frozen=True)
class WeightStatus:
    """An entry on this machine.

    Attributes:
        state: ``unpinned`` is present, without a known hash to check it against.
        path: of the file or folder, right or altered; None if it is missing.
        problem: the difference from what is expected, in words; "" for none.
    """

    state: State
    path: Path | None = None
    problem: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the entry cannot be used."""
        return self.state in ("missing", "altered")


def kind_problem(weight: Weight, path: Path) -> str:
    """Return the problem of a folder in the place of a file, or the reverse; "" for none."""
    if not path.exists() or path.is_dir() == weight.is_folder:
        return ""
    return "is a file, expected a folder" if weight.is_folder else "is a folder, expected a file"


def problem_message(weight: Weight, found: WeightStatus) -> str:
    """Return one line: the file, its problem or every searched folder, and the remedy."""
    if found.path is not None:
        return f"weights {weight.name}: {found.path} {found.problem}; {remedy(weight, found.path)}"
    offline = offline_folder()
    named = "" if offline else f"; or set {FOLDER_VARIABLE} to a folder that holds it"
    return f"weights {weight.name}: {weight.file} is not in {search_folders_text()}; {_ways_to_get(weight)}{named}"


def search_folders_text() -> str:
    """Return the searched folders, in words."""
    offline = offline_folder()
    gone = offline is not None and not offline.is_dir()
    return " nor in ".join(
        f"{folder}{' (no such folder)' * (gone and folder == offline)}" for folder in search_folders()
    )


def remedy(weight: Weight, path: Path) -> str:
    """Return the remedy for an altered file, in words."""
    if weight.origin is None and weight.name not in CATALOGUE:
        return "replace the file, or correct the sha256 in the class that declares it"
    if not can_pull(weight):
        return _ways_to_get(weight)
    command = f"run `hifidata weights pull {weight.name}`"
    if not path.is_relative_to(cache_folder()):
        return f"replace it, or {command}"
    return f"remove it and {command}" if kind_problem(weight, path) else f"{command}, which replaces it"


def right_file(path: Path) -> str:
    """Return the remedy where a model cannot use its file: the catalogue's file can be replaced, the user's own cannot."""
    entry = next((weight for weight in CATALOGUE.values() if weight.file == path.name), None)
    if entry is None or not any(path.is_relative_to(folder) for folder in search_folders()):
        return "it is your own, not the catalogue's: name one that fits"
    return f"put the right file in its place (`hifidata weights show {entry.name}` names it)"


def can_pull(weight: Weight) -> bool:
    """Return whether ``hifidata weights pull`` can download or make the entry on this machine, given a network."""
    return weight.origin is not None and not missing_packages(weight)


def _ways_to_get(weight: Weight) -> str:
    if weight.origin is None:
        return (
            f"no public address is known: download it manually into {search_folders()[0]} "
            f"(sha256 {weight.sha256 or 'unknown'}, licence: {weight.licence})"
        )
    command = f"run `hifidata weights pull {weight.name}`"
    if isinstance(weight.origin, Made) and (packages := missing_packages(weight)):
        return f"it is made from {weight.origin.source.file}: `pip install {' '.join(packages)}`, then {command}"
    return command


def missing_packages(weight: Weight) -> list[str]:
    """Return packages that making the entry needs and that are not installed."""
    packages = weight.origin.packages if isinstance(weight.origin, Made) else ()
    return [name for name in packages if find_spec(name) is None]
