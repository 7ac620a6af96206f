"""Settings and counts of the loader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifimodel.errors import DataError
from hifimodel.faces.clip_crop import ClipView


@dataclass(frozen=True)
class DataConfig:
    """Settings of the training data.

    Attributes:
        shards: dataset folder, folder of tars, tar, glob pattern, or a list of these.
        size_px: side of the training images.
        batch_size: samples per batch of this rank.
        min_references, max_references: range of N, both included; drawn uniformly.
        text_drop: share of captions that are replaced by ""; drawn per epoch and sample.
        min_images: identities with fewer usable images are skipped and counted.
        seed: all draws depend on it, the epoch and the key of the sample.
        rank, world_size: this process, and the number of processes that share the shards.
        workers: decoding processes; 0 decodes in the calling process.
        epochs: length of the stream; None: endless, as ranks that train together need.
        clip_px: side of the reference crop for CLIP.
        clip_face_margin: side of the CLIP crop over the longer side of the face box.
        matte_u8: grey value of the background of references with ``.alpha.png``.
        landmarks: name of the landmark backend.
        landmarks_weights: folder of its files; None: hifidata's weight folders.
        max_bad_share: a larger share of corrupt samples or damaged shards stops the run.
        window_identities: identities in memory per worker; their samples are shuffled together.
        prefetch_batches: batches that each worker prepares ahead.
        pin_memory: page-locked batches, for a GPU.

    Source: paper section 4.1 (1 target, N of 1 to 4 references, 10 % empty text). Each image of an identity is the target once
    per epoch, which the paper leaves open.
    """

    shards: str | Path | Sequence[str | Path]
    size_px: int = 1024
    batch_size: int = 6
    min_references: int = 1
    max_references: int = 4
    text_drop: float = 0.1
    min_images: int = 5
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    workers: int = 0
    epochs: int | None = None
    clip_px: int = ClipView.side_px
    clip_face_margin: float = ClipView.side_over_face
    matte_u8: int = ClipView.ground_u8
    landmarks: str = "points"
    landmarks_weights: Path | None = None
    max_bad_share: float = 0.05
    window_identities: int = 16
    prefetch_batches: int = 2
    pin_memory: bool = False

    def __post_init__(self) -> None:
        rules = {
            "size_px must be at least 8": self.size_px >= 8,
            "batch_size must be at least 1": self.batch_size >= 1,
            "min_references must be at least 1 and at most max_references": 1
            <= self.min_references
            <= self.max_references,
            "min_images must exceed max_references, which exclude the target": self.min_images > self.max_references,
            "text_drop must be from 0 to 1": 0 <= self.text_drop <= 1,
            "max_bad_share must be from 0 to 1": 0 <= self.max_bad_share <= 1,
            "rank must be from 0 to world_size - 1": 0 <= self.rank < self.world_size,
            "workers must not be negative": self.workers >= 0,
            "window_identities and prefetch_batches must be at least 1": min(
                self.window_identities, self.prefetch_batches
            )
            >= 1,
            "clip_px must be at least 8": self.clip_px >= 8,
            "clip_face_margin must be positive": self.clip_face_margin > 0,
            "matte_u8 must be from 0 to 255": 0 <= self.matte_u8 <= 255,
        }
        broken = [rule for rule, kept in rules.items() if not kept]
        if broken:
            raise DataError(f"DataConfig: {'; '.join(broken)}; got {self._numbers()}")

    @property
    def readers(self) -> int:
        """Number of streams of this rank."""
        return max(1, self.workers)

    def _numbers(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in vars(self).items() if name != "shards")


@dataclass
class Counts:
    """Counts of a stream over all epochs.

    Attributes:
        shards, damaged_shards: tars opened, and tars that are truncated, unreadable or partly overwritten.
        identities, too_few: identities read, and identities skipped with fewer than ``min_images`` usable images.
        samples: images read.
        corrupt: images skipped, by reason.
    """

    shards: int = 0
    damaged_shards: int = 0
    identities: int = 0
    too_few: int = 0
    samples: int = 0
    corrupt: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return vars(self) | {"corrupt": dict(self.corrupt)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counts:
        """Return the inverse of ``as_json``."""
        return cls(**{**data, "corrupt": Counter(data["corrupt"])})

    def set_to(self, data: Mapping[str, Any]) -> None:
        """Replace the values by those of another ``as_json``."""
        vars(self).update(vars(Counts.from_json(data)))

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {number}" for reason, number in self.corrupt.most_common(4))
        return (
            f"{self.shards} shards ({self.damaged_shards} damaged), {self.identities} identities ({self.too_few} with "
            f"too few images), {self.samples} samples ({self.corrupt.total()} corrupt{': ' + reasons if reasons else ''})"
        )
