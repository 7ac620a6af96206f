"""What an evaluation set is: people with a target and references, prompts, seeds; one picture is asked for of each cell.

EVALSET/evalset.json                              written last
EVALSET/pictures/<identity>/target.jpg, reference_1.jpg, ...
PICTURES/<identity>/p00_s0.png                    what a model made of it: prompt 0, seed 0
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hifimodel.errors import DataError

FORMAT_VERSION = 1
SET_FILE = "evalset.json"
SUFFIXES = (".png", ".jpg")
"""Generated pictures may be either; ours are PNG."""
FAILED = "*.failed.json"
"""Notes about cells that could not be made, where their pictures would be."""


@dataclass(frozen=True)
class EvalIdentity:
    """One identity: files of its photos, relative to the set's folder."""

    identity_id: str
    target: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One picture that a model is asked for.

    Attributes:
        prompt_number: place of the prompt in the set, from 0.
    """

    person: EvalIdentity
    prompt_number: int
    prompt: str
    seed: int

    @property
    def name(self) -> str:
        """Path inside a folder of generated pictures, without suffix."""
        return f"{self.person.identity_id}/p{self.prompt_number:02d}_s{self.seed}"

    def find(self, pictures: Path) -> Path | None:
        """The picture of this cell, or None where there is none."""
        paths = (pictures / f"{self.name}{suffix}" for suffix in SUFFIXES)
        return next((path for path in paths if path.is_file()), None)


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set on disk.

    Attributes:
        digest: hex sha256 of its ``evalset.json``, which holds the hashes of its photos.
    """

    folder: Path
    people: tuple[EvalIdentity, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    digest: str

    def cells(self) -> Iterator[Cell]:
        """Prompt by prompt, so that a run that is stopped early has something of every person."""
        for number, prompt in enumerate(self.prompts):
            for seed in self.seeds:
                for person in self.people:
                    yield Cell(person, number, prompt, seed)


def read_evalset(folder: Path) -> EvalSet:
    """Reads a set and looks whether its photos are there.

    Raises:
        DataError: no set, one of another format version, or photos are missing.
    """
    path = folder / SET_FILE
    try:
        data = path.read_bytes()
        stored = json.loads(data)
        version = stored["format_version"]
        people = tuple(_person(entry) for entry in stored["people"])
        prompts, seeds = tuple(map(str, stored["prompts"])), tuple(map(int, stored["seeds"]))
    except FileNotFoundError:
        raise DataError(f"{path}: not there; make a set with `python -m hifimodel.evaluate build`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an evaluation set ({type(error).__name__}: {error}); build it again") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: format version {version}, expected {FORMAT_VERSION}; build the set again")
    photos = [photo for person in people for photo in (person.target, *person.references)]
    missing = [photo for photo in photos if not (folder / photo).is_file()]
    if missing or not people:
        what = f"{len(missing)} photos are missing, the first is {missing[0]}" if missing else "nobody in it"
        raise DataError(f"{path}: {what}; build the set again")
    return EvalSet(folder, people, prompts, seeds, hashlib.sha256(data).hexdigest())


def _person(entry: dict[str, object]) -> EvalIdentity:
    identity_id, photos = str(entry["identity_id"]), entry["photos"]
    if not identity_id.replace("-", "").isalnum() or not isinstance(photos, list) or len(photos) < 2:
        raise ValueError("a person needs an id of letters and digits, a target and a reference")
    target, *references = (str(photo["file"]) for photo in photos)
    return EvalIdentity(identity_id, target, tuple(references))
