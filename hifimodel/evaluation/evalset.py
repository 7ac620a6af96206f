"""An evaluation set: identities with a target and references, prompts and seeds. A model generates one image per cell.

EVALSET/evalset.json                              written last
EVALSET/pictures/<identity>/target.jpg, reference_1.jpg, ...
PICTURES/<identity>/p00_s0.png                    generated for prompt 0 and seed 0
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
"""Formats of generated images; hifimodel writes PNG."""
FAILED = "*.failed.json"
"""Records of failed cells, beside the images."""


@dataclass(frozen=True)
class EvalIdentity:
    """An identity: files of its photos, relative to the folder of the set."""

    identity_id: str
    target: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """An image to generate.

    Attributes:
        prompt_number: index of the prompt in the set.
    """

    identity: EvalIdentity
    prompt_number: int
    prompt: str
    seed: int

    @property
    def name(self) -> str:
        """Path in a folder of generated images, without suffix."""
        return f"{self.identity.identity_id}/p{self.prompt_number:02d}_s{self.seed}"

    def find(self, pictures: Path) -> Path | None:
        """Return the image of the cell, or None."""
        paths = (pictures / f"{self.name}{suffix}" for suffix in SUFFIXES)
        return next((path for path in paths if path.is_file()), None)


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set on disk.

    Attributes:
        digest: hex sha256 of ``evalset.json``, which contains the hashes of the photos.
    """

    folder: Path
    identities: tuple[EvalIdentity, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    digest: str

    def cells(self) -> Iterator[Cell]:
        """Yield cells prompt by prompt, so that a stopped run has images of every identity."""
        for number, prompt in enumerate(self.prompts):
            for seed in self.seeds:
                for identity in self.identities:
                    yield Cell(identity, number, prompt, seed)


def read_evalset(folder: Path) -> EvalSet:
    """Read a set and check that its photos exist.

    Raises:
        DataError: no set, another format version, or missing photos.
    """
    path = folder / SET_FILE
    try:
        data = path.read_bytes()
        stored = json.loads(data)
        version = stored["format_version"]
        identities = tuple(_identity(entry) for entry in stored["people"])
        prompts, seeds = tuple(map(str, stored["prompts"])), tuple(map(int, stored["seeds"]))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; make a set with `python -m hifimodel.evaluate build`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an evaluation set ({type(error).__name__}: {error}); build it again") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: format version {version}, expected {FORMAT_VERSION}; build the set again")
    photos = [photo for identity in identities for photo in (identity.target, *identity.references)]
    missing = [photo for photo in photos if not (folder / photo).is_file()]
    if missing or not identities:
        what = f"{len(missing)} photos are missing, the first is {missing[0]}" if missing else "no identities"
        raise DataError(f"{path}: {what}; build the set again")
    return EvalSet(folder, identities, prompts, seeds, hashlib.sha256(data).hexdigest())


def _identity(entry: dict[str, object]) -> EvalIdentity:
    identity_id, photos = str(entry["identity_id"]), entry["photos"]
    if not identity_id.replace("-", "").isalnum() or not isinstance(photos, list) or len(photos) < 2:
        raise ValueError("an identity needs an id of letters and digits, a target and a reference")
    target, *references = (str(photo["file"]) for photo in photos)
    return EvalIdentity(identity_id, target, tuple(references))
