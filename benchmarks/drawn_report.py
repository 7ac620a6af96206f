"""Results of `benchmarks.drawn_text`: tables, and contact sheets of the missed texts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.lettering import Lettering
from hifidata.models.protocols import RgbU8

FAINT_LEVELS = 25.0
"""Letters with a lower contrast do not count. It is a tenth of the range, in the channel with the largest change."""

CLEAR_LEVELS, CLEAR_FONT_PX = 40.0, 12.0
"""Text with at least this contrast and font height is clearly visible and has its own row."""

THUMBNAIL_PX = 220


@dataclass(frozen=True)
class Trial:
    """One drawn text, and the stage's result.

    Attributes:
        contrast: change of the face by the letters, in levels; None if they do not touch it.
        read: counted texts.
        seen_u8: region of the image that the stage searches.
    """

    name: str
    half: str
    what: Lettering
    face_px: float
    contrast: float | None
    read: str | None
    overlap: float
    is_dropped: bool
    seen_u8: RgbU8

    @property
    def counts(self) -> bool:
        """Whether the stage must find the text."""
        return self.contrast is not None and self.contrast >= FAINT_LEVELS

    @property
    def is_clear(self) -> bool:
        """Whether the text is clearly visible."""
        return self.counts and (self.contrast or 0) >= CLEAR_LEVELS and self.what.size * self.face_px >= CLEAR_FONT_PX


def wilson(n_found: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share by Wilson's formula."""
    if not n:
        return 0.0, 1.0
    z, share = 1.96, n_found / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(middle - spread, 0.0), min(middle + spread, 1.0)


def interval(n_found: int, n: int) -> str:
    """Return ``wilson`` as text."""
    low, high = wilson(n_found, n)
    return f"{low:.1%}-{high:.1%}"


def band(value: float, edges: Sequence[float], unit: str = "") -> str:
    """Return the band of a value, for example "16-40 levels"."""
    number = min(max(np.searchsorted(edges, value, side="right") - 1, 0), len(edges) - 2)
    return f"{edges[number]:g}-{edges[number + 1]:g}{unit}"


GROUPINGS: Mapping[str, Callable[[Trial], str | None]] = {
    "style": lambda trial: trial.what.style,
    "script (words)": lambda trial: trial.what.script if trial.what.style == "word" else None,
    "opacity": lambda trial: band(trial.what.opacity, (0.35, 0.5, 0.7, 1.0)),
    "size, % of the face's width": lambda trial: band(100 * trial.what.size, (8, 12, 20, 30, 40)),
    "font height, px": lambda trial: band(trial.what.size * trial.face_px, (6, 12, 20, 40, 400)),
    "face width, px": lambda trial: band(trial.face_px, (60, 120, 240, 4000)),
    "rotation": lambda trial: band(abs(trial.what.turn_deg), (0, 1, 15, 30, 45), " deg"),
    "contrast": lambda trial: band(trial.contrast or 0.0, (FAINT_LEVELS, 40, 60, 100, 255), " levels"),
    "colour": lambda trial: "#{:02x}{:02x}{:02x}".format(*trial.what.colour_rgb),
    "font (Latin and Cyrillic)": lambda trial: (
        trial.what.font.name if trial.what.script in ("Latin", "Cyrillic") else None
    ),
}


def share(trials: Sequence[Trial]) -> str:
    """Return the share of dropped trials, for example "94.1% of 321 (91.0%-96.2%)"."""
    n_found = sum(trial.is_dropped for trial in trials)
    return f"{n_found / len(trials):.1%} of {len(trials)} ({interval(n_found, len(trials))})" if trials else "none"


def shares(trials: Iterable[Trial], halves: Sequence[str]) -> list[str]:
    """Return ``share`` for each half."""
    every = list(trials)
    return [share([trial for trial in every if trial.half == half]) for half in halves]


def recall_table(trials: Sequence[Trial], halves: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """Yield rows (what, share of each half). Texts that need not be found have their own rows."""
    kinds: Mapping[str, Callable[[Trial], bool]] = {
        "text on the face: found": lambda trial: trial.counts,
        f"   of these, {CLEAR_LEVELS:g} levels or more, font of {CLEAR_FONT_PX:g} px or more": lambda trial: (
            trial.is_clear
        ),
        f"changes the face by under {FAINT_LEVELS:g} levels: found": lambda trial: (
            trial.contrast is not None and not trial.counts
        ),
        "beside the face, not touching it: dropped": lambda trial: trial.contrast is None,
    }
    for title, belongs in kinds.items():
        yield title, *shares(filter(belongs, trials), halves)


def group_table(trials: Iterable[Trial], halves: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """Yield rows (grouping, group, share of each half) for texts that must be found."""
    counted = [trial for trial in trials if trial.counts]
    for title, group_of in GROUPINGS.items():
        groups = defaultdict[str, list[Trial]](list)
        for trial in counted:
            if (group := group_of(trial)) is not None:
                groups[group].append(trial)
        for group in sorted(groups, key=_lower_edge):
            yield title, group, *shares(groups[group], halves)


def _lower_edge(group: str) -> tuple[float, str]:
    return (float(group.split("-")[0]) if group[0].isdigit() else 0.0), group


def contact_sheets(trials: Iterable[Trial], folder: Path, halves: Sequence[str]) -> None:
    """Write one image per half with all misses: the region, the drawn text and the recognised text."""
    folder.mkdir(parents=True, exist_ok=True)
    font = ImageFont.load_default(size=11)
    missed = [trial for trial in trials if trial.counts and not trial.is_dropped]
    for half in halves:
        own = [trial for trial in missed if trial.half == half]
        n_columns, cell_height = 7, THUMBNAIL_PX + 45
        sheet = Image.new("RGB", (n_columns * THUMBNAIL_PX, max(1, math.ceil(len(own) / n_columns)) * cell_height))
        for number, trial in enumerate(own):
            left, top = number % n_columns * THUMBNAIL_PX, number // n_columns * cell_height
            region = Image.fromarray(trial.seen_u8)
            region.thumbnail((THUMBNAIL_PX - 4, THUMBNAIL_PX - 4))
            sheet.paste(region, (left, top))
            what = trial.what
            words = (
                f"{what.style} {what.script} {what.opacity:.2f} size {what.size:.2f} {what.turn_deg:.0f} deg\n"
                f"contrast {trial.contrast:.0f}, face {trial.face_px:.0f} px, {trial.overlap:.3f}\n{trial.name}"
            )
            ImageDraw.Draw(sheet).text((left, top + THUMBNAIL_PX), words, fill="white", font=font)
        sheet.save(folder / f"missed-{half}.png")
