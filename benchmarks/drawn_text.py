"""`python -m benchmarks.drawn_text`: draws text over the faces of real photos and counts what the watermark stage drops.

Photos, labels and halves are those of ``benchmarks.quality``. Of the photos with one prominent person and a face large
enough for a crop, the recipe's detector gives the box; the recipe's watermark stage is then run on the photo as it is and
on a JPEG of it with letters over the face, once for every script and manner of ``benchmarks.lettering``. What counts is
the stage's verdict, so a reading that covers too little of the face is a miss. Every run draws the same.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import argparse
import csv
import hashlib
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks import lettering
from benchmarks.lettering import MANNERS, SCRIPTS, Font, Lettering
from benchmarks.quality import LABELS, ROOT, Label, large_enough, read_labels
from hifidata import console
from hifidata.backends.base import F32, RgbU8
from hifidata.errors import HifiError
from hifidata.image.encode import encode_jpeg
from hifidata.recipe import Recipe, load_recipe
from hifidata.schema import Row
from hifidata.stages.base import Sample, Stage, main_face
from hifidata.stages.detect import Detect
from hifidata.stages.intake import Intake
from hifidata.stages.watermark import Watermark, face_region

SEED = 2024
JPEG_QUALITY = 90
WINDOW_GROWN_BY = 0.5
"""Letters are drawn on the face box grown by this share of its longer side: more than the stage looks at."""

INVISIBLE_LEVELS = 25.0
"""Letters that change the face by less than a tenth of the range, in the channel that changes most, count as invisible: by
eye, half of the texts that do so on photos of A cannot be made out at 200 px."""

CLEAR_LEVELS, CLEAR_FONT_PX = 40.0, 12.0
"""Of what must be found, the part that has a row of its own because nobody would miss it."""

HALVES = ("A", "B")
THUMBNAIL_PX = 220


@dataclass(frozen=True)
class Face:
    """A photo that the pipeline would hand to the stage.

    Attributes:
        sample: the photo, detected.
        around_u8: the picture around the face.
        box: (4,) the face box in ``around_u8``.
    """

    name: str
    half: str
    sha256: str
    sample: Sample
    around_u8: RgbU8
    box: F32


@dataclass(frozen=True)
class Trial:
    """One drawn text and what became of it.

    Attributes:
        contrast: levels by which the letters change the face; None where they do not touch it.
        read: what counted as text.
        seen_u8: the region that the stage looked at.
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
        """Whether it must be found."""
        return self.contrast is not None and self.contrast >= INVISIBLE_LEVELS

    @property
    def is_clear(self) -> bool:
        """Whether nobody would miss it."""
        return self.counts and (self.contrast or 0) >= CLEAR_LEVELS and self.what.size * self.face_px >= CLEAR_FONT_PX


class Bench:
    """The recipe's stages around the watermark, as the pipeline would call them."""

    def __init__(self, recipe: Recipe) -> None:
        cv2.setNumThreads(1)
        self.recipe = recipe
        self.seconds = 0.0
        self._intake, self._detect, self._watermark = Intake(recipe), Detect(recipe), Watermark(recipe)

    def faces(self, assets: Path, labels: Mapping[str, Label]) -> Iterator[Face]:
        """Every photo that counts, in the order of the index."""
        with (assets / "index.csv").open(encoding="utf-8", newline="") as file:
            paths = [assets / entry["file"] for entry in csv.DictReader(file) if entry["set"].startswith("faces/")]
        for path in paths:
            data = path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            label = labels.get(sha256)
            if label is None:
                sys.exit(f"drawn_text: {path} has no label in {LABELS.name}")
            if label.several_people:
                continue
            sample = self._sample(data)
            for stage in (self._intake, self._detect):
                _measure(stage, sample)
            if sample.row["face_x1_px"] is None or not large_enough(sample.row, self.recipe):
                continue
            around_u8, box = around(sample.rgb_u8, main_face(sample.row).xyxy_px)
            yield Face(path.name, label.half, sha256, sample, around_u8, box)

    def plain(self, face: Face) -> Row:
        """What the stage says about the photo as it is."""
        return self._judged(face.sample)

    def try_letters(self, face: Face, what: Lettering) -> Trial:
        """Draws, runs the stage, and says what became of it."""
        ink = lettering.ink_of(what, face.around_u8.shape, face.box)
        written = lettering.drawn(face.around_u8, ink, what)
        sample = self._sample(encode_jpeg(written, JPEG_QUALITY))
        edges = dict(zip(("face_x1_px", "face_y1_px", "face_x2_px", "face_y2_px"), map(float, face.box), strict=True))
        sample.row |= {"face_kps": face.sample.row["face_kps"], **edges}
        row = self._judged(sample)
        return Trial(
            name=face.name,
            half=face.half,
            what=what,
            face_px=float(face.box[2] - face.box[0]),
            contrast=lettering.contrast_levels(face.around_u8, written, ink, face.box),
            read=row["text_found"],
            overlap=row["text_overlap"],
            is_dropped=row["is_dropped"],
            seen_u8=face_region(written, face.box)[0],
        )

    def _sample(self, data: bytes) -> Sample:
        return Sample({}, lambda: data, self.recipe.intake.limits, self.recipe.crop.output_px)

    def _judged(self, sample: Sample) -> Row:
        _ = sample.rgb_u8  # decoding is not the stage's time
        settings = self.recipe.watermark
        began = time.process_time()
        _measure(self._watermark, sample)
        self.seconds += time.process_time() - began
        derived = self._watermark.derive([sample.row], settings)
        row = sample.row | {name: values[0] for name, values in derived.items()}
        return row | {"is_dropped": self._watermark.decide(row, settings) is not None}


def _measure(stage: Stage, sample: Sample) -> None:
    sample.row |= {name: values[0] for name, values in stage.measure([sample]).items()}


def around(rgb_u8: RgbU8, box: F32) -> tuple[RgbU8, F32]:
    """The picture around a face box (4,), and the box in it."""
    grow = WINDOW_GROWN_BY * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = np.maximum(np.floor(box[:2] - grow), 0).astype(int)
    x2, y2 = np.ceil(box[2:] + grow).astype(int)
    return rgb_u8[y1:y2, x1:x2], box - np.array([x1, y1, x1, y1], np.float32)


def letterings(face: Face, fonts: Mapping[str, Sequence[Font]]) -> Iterator[Lettering]:
    """A word in every script, and one of every other manner in Latin."""
    kinds = [("word", script) for script in SCRIPTS] + [(manner, "Latin") for manner in MANNERS if manner != "word"]
    for number, (manner, script) in enumerate(kinds):
        if fonts[script]:
            yield lettering.choose(manner, script, fonts[script], (SEED, int(face.sha256[:8], 16), number))


def wilson(n_found: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's formula."""
    if not n:
        return 0.0, 1.0
    z, share = 1.96, n_found / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - spread, middle + spread


def band(value: float, edges: Sequence[float], unit: str = "") -> str:
    """The band between two edges that a value lies in, for example "16-40 levels"."""
    number = min(max(np.searchsorted(edges, value, side="right") - 1, 0), len(edges) - 2)
    return f"{edges[number]:g}-{edges[number + 1]:g}{unit}"


GROUPINGS: Mapping[str, Callable[[Trial], str | None]] = {
    "manner": lambda trial: trial.what.manner,
    "script (words)": lambda trial: trial.what.script if trial.what.manner == "word" else None,
    "opacity": lambda trial: band(trial.what.opacity, (0.35, 0.5, 0.7, 1.0)),
    "size, % of the face's width": lambda trial: band(100 * trial.what.size, (8, 12, 20, 30, 40)),
    "font height, px": lambda trial: band(trial.what.size * trial.face_px, (6, 12, 20, 40, 400)),
    "rotation": lambda trial: band(abs(trial.what.turn_deg), (0, 1, 15, 30, 45), " deg"),
    "contrast": lambda trial: band(trial.contrast or 0.0, (INVISIBLE_LEVELS, 40, 60, 100, 255), " levels"),
    "colour": lambda trial: "#{:02x}{:02x}{:02x}".format(*trial.what.colour_rgb),
    "font (Latin and Cyrillic)": lambda trial: (
        trial.what.font.name if trial.what.script in ("Latin", "Cyrillic") else None
    ),
}


def share(trials: Sequence[Trial]) -> str:
    """ "94.1 % of 321 (91.0-96.2)": how many were dropped."""
    n_found = sum(trial.is_dropped for trial in trials)
    low, high = wilson(n_found, len(trials))
    return f"{n_found / len(trials):.1%} of {len(trials)} ({low:.1%}-{high:.1%})" if trials else "none"


def recall_table(trials: Iterable[Trial]) -> Iterator[tuple[object, ...]]:
    """(what, half A, half B); what need not be found has rows of its own."""
    all_trials = list(trials)
    kinds: Mapping[str, Callable[[Trial], bool]] = {
        "text on the face: found": lambda trial: trial.counts,
        f"   of it, {CLEAR_LEVELS:g} levels or more and a font of {CLEAR_FONT_PX:g} px or more": lambda trial: trial.is_clear,
        f"changes the face by under {INVISIBLE_LEVELS:g} levels: found": lambda trial: (
            trial.contrast is not None and not trial.counts
        ),
        "beside the face, none of it on it: dropped": lambda trial: trial.contrast is None,
    }
    for title, belongs in kinds.items():
        yield title, *(share([trial for trial in all_trials if trial.half == half and belongs(trial)]) for half in HALVES)


def group_table(trials: Iterable[Trial]) -> Iterator[tuple[object, ...]]:
    """(grouping, group, half A, half B) of the text that must be found."""
    counted = [trial for trial in trials if trial.counts]
    for title, group_of in GROUPINGS.items():
        groups = defaultdict[str, list[Trial]](list)
        for trial in counted:
            if (group := group_of(trial)) is not None:
                groups[group].append(trial)
        for group in sorted(groups, key=lambda name: (float(name.split("-")[0]), "") if name[0].isdigit() else (0, name)):
            yield title, group, *(share([trial for trial in groups[group] if trial.half == half]) for half in HALVES)


def false_alarm_table(plain: Sequence[tuple[Face, Row]]) -> Iterator[tuple[object, ...]]:
    """(half, share of plain faces dropped, file and reading of each)."""
    for half in HALVES:
        rows = [(face, row) for face, row in plain if face.half == half]
        dropped = [(face, row) for face, row in rows if row["is_dropped"]]
        low, high = wilson(len(dropped), len(rows))
        yield half, f"{len(dropped)} of {len(rows)} ({low:.1%}-{high:.1%})", None, None
        for face, row in dropped:
            yield None, face.name, row["text_found"], row["text_overlap"]


def contact_sheets(trials: Iterable[Trial], folder: Path) -> None:
    """One picture per half with every miss: the region, what was drawn, and what was read."""
    folder.mkdir(parents=True, exist_ok=True)
    font = ImageFont.load_default(size=11)
    missed = [trial for trial in trials if trial.counts and not trial.is_dropped]
    for half in HALVES:
        own = [trial for trial in missed if trial.half == half]
        n_columns, cell_height = 7, THUMBNAIL_PX + 45
        sheet = Image.new("RGB", (n_columns * THUMBNAIL_PX, max(1, math.ceil(len(own) / n_columns)) * cell_height))
        for number, trial in enumerate(own):
            left, top = number % n_columns * THUMBNAIL_PX, number // n_columns * cell_height
            picture = Image.fromarray(trial.seen_u8)
            picture.thumbnail((THUMBNAIL_PX - 4, THUMBNAIL_PX - 4))
            sheet.paste(picture, (left, top))
            what = trial.what
            words = (
                f"{what.manner} {what.script} {what.opacity:.2f} size {what.size:.2f} {what.turn_deg:.0f} deg\n"
                f"contrast {trial.contrast:.0f}, face {trial.face_px:.0f} px, {trial.overlap:.3f}\n{trial.name}"
            )
            ImageDraw.Draw(sheet).text((left, top + THUMBNAIL_PX), words, fill="white", font=font)
        sheet.save(folder / f"missed-{half}.png")


def main() -> None:
    """Draws, counts, prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawn_text", description="Counts missed drawn text.")
    parser.add_argument("--misses", type=Path, metavar="DIR", help="write the missed faces there, one picture per half")
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", default=ROOT / "pipelines" / "paper-cpu-small.yaml",
        help="default: paper-cpu-small.yaml",
    )  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of the recipe")
    parser.add_argument("--half", choices=HALVES, help="this half only: settings are chosen on A")
    arguments = parser.parse_args()
    assets = Path(os.environ.get("HIFI_ASSETS", ROOT.parent / "shared" / "assets"))
    if not (assets / "index.csv").is_file():
        sys.exit(f"drawn_text: no index.csv in {assets}; set HIFI_ASSETS to the folder that holds it and faces/")
    try:
        bench = Bench(load_recipe(arguments.recipe, arguments.set))
    except HifiError as error:
        sys.exit(f"drawn_text: {error}")
    installed = lettering.installed_fonts()
    usable = {name: lettering.usable_fonts(script, installed) for name, script in SCRIPTS.items()}
    columns = ("script", "fonts")
    found = [(name, why and f"not measured: {why}" or ", ".join(f.name for f in fonts)) for name, (fonts, why) in usable.items()]
    console.table("fonts", columns, found)
    labels = {key: label for key, label in read_labels(LABELS).items()}
    plain, trials = list[tuple[Face, Row]](), list[Trial]()
    for face in bench.faces(assets, labels):
        if arguments.half not in (None, face.half):
            continue
        plain.append((face, bench.plain(face)))
        face.sample.release(keep_encoded=False)
        trials += [
            bench.try_letters(face, what) for what in letterings(face, {name: fonts for name, (fonts, _) in usable.items()})
        ]
    console.table("drawn text", ("what", *HALVES), recall_table(trials))
    console.table("text on the face, found", ("by", "group", *HALVES), group_table(trials))
    console.table("plain faces dropped", ("half", "dropped", "read", "overlap"), false_alarm_table(plain))
    n_pictures = len(plain) + len(trials)
    console.out.print(f"CPU time of the stage: {1000 * bench.seconds / max(n_pictures, 1):.0f} ms for each of {n_pictures} pictures")
    if arguments.misses:
        contact_sheets(trials, arguments.misses)


if __name__ == "__main__":
    main()
