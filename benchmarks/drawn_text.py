"""`python -m benchmarks.drawn_text`: draws text over faces of real photos, and counts the drops of the watermark stage.

Photos, labels and halves are those of ``benchmarks.quality``. ``--photos`` uses a folder without labels, in which no face
may have text. Photos need one prominent person and a face that is large enough for a crop. The recipe's detector finds the
face box. Then the watermark stage runs on the photo, and on copies with letters over the face. There is one copy for every
script and style of ``benchmarks.lettering``. The stage's verdict counts, so a text region with too little overlap is a miss.
The same seed draws the same letters.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import argparse
import csv
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import lettering
from benchmarks.drawn_report import Trial, contact_sheets, group_table, interval, recall_table
from benchmarks.lettering import SCRIPTS, STYLES, Font, Lettering
from benchmarks.quality import LABELS, ROOT, Label, large_enough, read_labels
from hifidata.cli import console
from hifidata.config.recipe import Recipe, load_recipe
from hifidata.core.errors import IntakeError, UsageError
from hifidata.core.schema import Row, Verdict
from hifidata.image.encode import encode_jpeg
from hifidata.models.protocols import F32, RgbU8
from hifidata.stages.base import Sample, Stage, main_face
from hifidata.stages.detect import Detect
from hifidata.stages.intake import Intake
from hifidata.stages.watermark import Watermark, face_region

SEED = 2024
HALVES = ("A", "B")
UNLABELLED = "photos"
JPEG_QUALITY = 90
WINDOW_MARGIN = 0.5
"""Margin of the window to draw on, as a share of the face box's longer side. It is larger than the stage's region."""


@dataclass(frozen=True)
class Face:
    """A photo that passes the stages before watermark.

    Attributes:
        half: A or B, or ``UNLABELLED``.
        sample: sample of the photo, with the columns of detect.
        around_u8: window around the face.
        box: (4,) face box in ``around_u8``.
        kps: (5, 2) five points of the face in ``around_u8``.
    """

    name: str
    half: str
    sha256: str
    sample: Sample
    around_u8: RgbU8
    box: F32
    kps: F32


class Bench:
    """The recipe's stages intake, detect and watermark."""

    def __init__(self, recipe: Recipe) -> None:
        cv2.setNumThreads(1)
        self.recipe = recipe
        self.seconds = 0.0
        self._intake, self._detect, self._watermark = Intake(recipe), Detect(recipe), Watermark(recipe)

    def labelled(self, assets: Path, labels: Mapping[str, Label]) -> Iterator[Face]:
        """Yield the usable photos of the benchmark, in the order of the index."""
        with (assets / "index.csv").open(encoding="utf-8", newline="") as file:
            paths = [assets / entry["file"] for entry in csv.DictReader(file) if entry["set"].startswith("faces/")]
        for path in paths:
            data = path.read_bytes()
            label = labels.get(hashlib.sha256(data).hexdigest())
            if label is None:
                sys.exit(f"drawn_text: {path}: no label in {LABELS.name}")
            if not label.several_people and (face := self._face(path.name, label.half, data)):
                yield face

    def unlabelled(self, photos: Path) -> Iterator[Face]:
        """Yield the photos of a folder that pass intake and detect, by name; print the others."""
        for path in sorted(path for path in photos.iterdir() if path.is_file()):
            try:
                face = self._face(path.name, UNLABELLED, path.read_bytes())
            except IntakeError as error:
                console.err.print(f"{path.name}: skipped, {error}")
                continue
            if face is None:
                console.err.print(f"{path.name}: skipped, no face that is large enough")
            elif verdict := _derived(self._detect, face.sample.row, self.recipe.detect)[1]:
                console.err.print(f"{path.name}: skipped, {verdict.message}")
            else:
                yield face

    def _face(self, name: str, half: str, data: bytes) -> Face | None:
        sample = self._sample(data)
        for stage in (self._intake, self._detect):
            _measure(stage, sample)
        if sample.row["face_x1_px"] is None or not large_enough(sample.row, self.recipe):
            return None
        face = main_face(sample.row)
        around_u8, box = around(sample.rgb_u8, face.xyxy_px)
        kps = face.kps_px - (face.xyxy_px - box)[:2]
        return Face(name, half, hashlib.sha256(data).hexdigest(), sample, around_u8, box, kps)

    def plain(self, face: Face) -> Row:
        """Run the stage on the photo without letters."""
        return self._judged(face.sample)

    def try_letters(self, face: Face, what: Lettering) -> Trial:
        """Draw the letters, run the stage, and return the result."""
        ink = lettering.ink_of(what, face.around_u8.shape, face.box)
        written = lettering.drawn(face.around_u8, ink, what)
        sample = self._sample(encode_jpeg(written, JPEG_QUALITY))
        edges = dict(zip(("face_x1_px", "face_y1_px", "face_x2_px", "face_y2_px"), map(float, face.box), strict=True))
        sample.row |= {"face_kps": face.kps.ravel().tolist(), **edges}
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
        _ = sample.rgb_u8  # decodes first, because the stage's time does not include decoding
        settings = self.recipe.watermark
        began = time.process_time()
        _measure(self._watermark, sample)
        self.seconds += time.process_time() - began
        row, verdict = _derived(self._watermark, sample.row, settings)
        return row | {"is_dropped": verdict is not None}


def _measure(stage: Stage, sample: Sample) -> None:
    sample.row |= {name: values[0] for name, values in stage.measure([sample]).items()}


def _derived(stage: Stage, row: Row, settings: Any) -> tuple[Row, Verdict | None]:
    """Return the row with the stage's derived columns, and the stage's verdict."""
    row = row | {name: values[0] for name, values in stage.derive([row], settings).items()}
    return row, stage.decide(row, settings)


def around(rgb_u8: RgbU8, box: F32) -> tuple[RgbU8, F32]:
    """Return the window around a face box (4,), and the box in pixels of the window."""
    margin = WINDOW_MARGIN * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    x2, y2 = np.ceil(box[2:] + margin).astype(int)
    return rgb_u8[y1:y2, x1:x2], box - np.array([x1, y1, x1, y1], np.float32)


def letterings(face: Face, fonts: Mapping[str, tuple[Sequence[Font], str]], seed: int) -> Iterator[Lettering]:
    """Yield a word for every script with fonts, and a Latin text for every other style."""
    kinds = [("word", script) for script in SCRIPTS] + [(style, "Latin") for style in STYLES if style != "word"]
    for number, (style, script) in enumerate(kinds):
        usable, _ = fonts[script]
        if usable:
            yield lettering.choose(style, script, usable, (seed, int(face.sha256[:8], 16), number))


def false_alarm_table(plain: Sequence[tuple[Face, Row]], halves: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """Yield rows (half, share of dropped faces without letters), and the file and text of each drop."""
    for half in halves:
        rows = [(face, row) for face, row in plain if face.half == half]
        dropped = [(face, row) for face, row in rows if row["is_dropped"]]
        yield half, f"{len(dropped)} of {len(rows)} ({interval(len(dropped), len(rows))})", None, None
        for face, row in dropped:
            yield None, face.name, row["text_found"], row["text_overlap"]


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawn_text", description="Count missed drawn text.")
    recipe = ROOT / "pipelines" / "paper-cpu-small.yaml"
    parser.add_argument("--recipe", type=Path, metavar="FILE", default=recipe, help=f"default: {recipe.name}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--half", choices=HALVES, help="only this half; settings are tuned on A")
    group.add_argument("--photos", type=Path, metavar="DIR", help="your own photos, with one face and no text each")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help="draw other letters; default: %(default)s")
    parser.add_argument("--misses", type=Path, metavar="DIR", help="folder for contact sheets of the missed texts")
    arguments = parser.parse_args()
    if arguments.seed < 0:
        parser.error(f"--seed: expected 0 or more, got {arguments.seed}")
    if arguments.photos and not arguments.photos.is_dir():
        parser.error(f"--photos: no folder {arguments.photos}")
    return arguments


def main() -> None:
    """Draw texts, run the stage, and print the tables."""
    arguments = options()
    assets = Path(os.environ.get("HIFI_ASSETS", ROOT.parent / "shared" / "assets"))
    if not arguments.photos and not (assets / "index.csv").is_file():
        sys.exit(f"drawn_text: no index.csv in {assets}; set HIFI_ASSETS to the folder with index.csv and faces/")
    if (assets / "weights").is_dir():
        os.environ.setdefault("HIFI_WEIGHTS", str(assets / "weights"))
    try:
        bench = Bench(load_recipe(arguments.recipe, [f"source.path={assets}", *arguments.set]))
    except UsageError as error:
        sys.exit(f"drawn_text: {error}")
    installed = lettering.installed_fonts()
    fonts = {name: lettering.usable_fonts(script, installed) for name, script in SCRIPTS.items()}
    listed = [(name, problem or ", ".join(font.name for font in usable)) for name, (usable, problem) in fonts.items()]
    console.table("fonts", ("script", "fonts"), listed)
    plain, trials = list[tuple[Face, Row]](), list[Trial]()
    photos, half = arguments.photos, arguments.half
    halves = [UNLABELLED] if photos else [half] if half else list(HALVES)
    for face in bench.unlabelled(photos) if photos else bench.labelled(assets, read_labels(LABELS)):
        if face.half in halves:
            plain.append((face, bench.plain(face)))
            face.sample.release(keep_encoded=False)
            trials += [bench.try_letters(face, what) for what in letterings(face, fonts, arguments.seed)]
    console.table("drawn text", ("what", *halves), recall_table(trials, halves))
    console.table("text on the face, found", ("by", "group", *halves), group_table(trials, halves))
    console.table("plain faces dropped", ("half", "dropped", "read", "overlap"), false_alarm_table(plain, halves))
    n = len(plain) + len(trials)
    console.out.print(f"CPU time of the stage: {1000 * bench.seconds / max(n, 1):.0f} ms per image, {n} images")
    if arguments.misses:
        contact_sheets(trials, arguments.misses, halves)


if __name__ == "__main__":
    main()
