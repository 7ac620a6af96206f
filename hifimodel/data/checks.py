"""Comparison of shards with dataset.json: a flipped bit in an image or an embedding would be trained on in silence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel

from hifidata.core.files import file_sha256
from hifidata.core.json_file import Count, read_object
from hifimodel.errors import DataError

logger = logging.getLogger(__name__)
UNKNOWN, RIGHT, ALTERED = 0, 1, 2


class ShardEntry(BaseModel):
    """A shard in dataset.json."""

    path: str
    bytes: Count
    sha256: str


class ShardList(BaseModel):
    """The part of dataset.json that training reads."""

    shards: list[ShardEntry] = []


class ShardChecks:
    """Compares shards with the size and sha256 in dataset.json, each once for all readers that share the object.

    Shards without a dataset.json, such as copied tars, are not compared.

    Args:
        shards: paths of tars.
        is_shared: readers run in several processes.

    Raises:
        DataError: dataset.json is damaged, or does not list a tar in ``shards/``.
    """

    def __init__(self, shards: Sequence[Path], is_shared: bool = False) -> None:
        self._expected = _expected(shards)
        self._places = {path: place for place, path in enumerate(self._expected)}
        self._verdicts = torch.zeros(len(self._places), dtype=torch.uint8)
        if is_shared:
            self._verdicts.share_memory_()

    def is_altered(self, shard: Path) -> bool:
        """Return whether a tar differs from dataset.json; the first call per tar reads all of it."""
        if shard not in self._places:
            return False
        place = self._places[shard]
        if self._verdicts[place] == UNKNOWN:
            entry = self._expected[shard]
            try:
                is_right = shard.stat().st_size == entry.bytes and file_sha256(shard) == entry.sha256
            except OSError:  # counted by the reader of the tar
                return False
            self._verdicts[place] = RIGHT if is_right else ALTERED
            if not is_right:
                logger.warning("%s: is skipped: its sha256 differs from dataset.json; copy it again", shard)
        return bool(self._verdicts[place] == ALTERED)


def _expected(shards: Sequence[Path]) -> dict[Path, ShardEntry]:
    """Return the entries of the tars that a dataset.json lists."""
    expected: dict[Path, ShardEntry] = {}
    for root in sorted({parent for path in shards for parent in list(path.parents)[:3]}):
        listed = _listed(root)
        inside = [path for path in shards if listed and path.is_relative_to(root / "shards")]
        if unlisted := [path for path in inside if path not in listed]:
            raise DataError(f"{unlisted[0]}: is not in {root / 'dataset.json'}; remove it, or run the recipe again")
        expected |= {path: listed[path] for path in inside}
    return expected


def _listed(root: Path) -> dict[Path, ShardEntry]:
    path = root / "dataset.json"
    try:
        content = read_object(path, ShardList)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); copy it again, or run the recipe again") from error
    return {root / entry.path: entry for entry in ShardList.model_validate(content).shards}
