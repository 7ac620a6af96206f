"""`python -m benchmarks.drawn_text`: draws text over the faces of real photos and counts what the watermark stage drops.

Photos, labels and halves are those of ``benchmarks.quality``, or a folder without labels (``--photos``), in which no face
may have text on it. Of the photos with one prominent person and a face large enough for a crop, the recipe's detector
gives the box; the recipe's watermark stage is then run on the photo as it is and
on a JPEG of it with letters over the face, once for every script and manner of ``benchmarks.lettering``. What counts is
the stage's verdict, so a reading that covers too little of the face is a miss. Every run with one seed draws the same.
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
from benchmarks.lettering import MANNERS, SCRIPTS, Font, Lettering
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
WINDOW_GROWN_BY = 0.5
"""Letters are drawn on the face box grown by this share of its longer side: more than the stage looks at."""


@dataclass(frozen=True)
class Face:
    """A photo that the pipeline would hand to the stage.

    Attributes:
        half: A or B, or ``UNLABELLED``.
        sample: the photo, detected.
        around_u8: the picture around the face.
        box: (4,) the face box in ``around_u8``.
        kps: (5, 2) the face's points in ``around_u8``.
    """

    name: str
    half: str
    sha256: str
    sample: Sample
    around_u8: RgbU8
    box: F32
    kps: F32


class Bench:
    """The recipe's stages around the watermark, as the pipeline would call them."""

    def __init__(self, recipe: Recipe) -> None:
        cv2.setNumThreads(1)
        self.recipe = recipe
        self.seconds = 0.0
        self._intake, self._detect, self._watermark = Intake(recipe), Detect(recipe), Watermark(recipe)

    def labelled(self, assets: Path, labels: Mapping[str, Label]) -> Iterator[Face]:
        """Every photo of the benchmark that counts, in the order of the index."""
        with (assets / "index.csv").open(encoding="utf-8", newline="") as file:
            paths = [assets / entry["file"] for entry in csv.DictReader(file) if entry["set"].startswith("faces/")]
        for path in paths:
            data = path.read_bytes()
            label = labels.get(hashlib.sha256(data).hexdigest())
            if label is None:
                sys.exit(f"drawn_text: {path} has no label in {LABELS.name}")
            if not label.several_people and (face := self._face(path.name, label.half, data)):
                yield face

    def unlabelled(self, photos: Path) -> Iterator[Face]:
        """Every photo of a folder that intake and detection let pass, by name; the others are said."""
        for path in sorted(path for path in photos.iterdir() if path.is_file()):
            try:
                face = self._face(path.name, UNLABELLED, path.read_bytes())
            except IntakeError as error:
                console.err.print(f"{path.name}: left out, {error}")
                continue
            if face is None:
                console.err.print(f"{path.name}: left out, no face that is large enough")
            elif verdict := _derived(self._detect, face.sample.row, self.recipe.detect)[1]:
                console.err.print(f"{path.name}: left out, {verdict.message}")
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
        """What the stage says about the photo as it is."""
        return self._judged(face.sample)

    def try_letters(self, face: Face, what: Lettering) -> Trial:
        """Draws, runs the stage, and says what became of it."""
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
        _ = sample.rgb_u8  # decoding is not the stage's time
        settings = self.recipe.watermark
        began = time.process_time()
        _measure(self._watermark, sample)
        self.seconds += time.process_time() - began
        row, verdict = _derived(self._watermark, sample.row, settings)
        return row | {"is_dropped": verdict is not None}


def _measure(stage: Stage, sample: Sample) -> None:
    sample.row |= {name: values[0] for name, values in stage.measure([sample]).items()}


def _derived(stage: Stage, row: Row, settings: Any) -> tuple[Row, Verdict | None]:
    """The row with the stage's derived columns, and what the stage decides."""
    row = row | {name: values[0] for name, values in stage.derive([row], settings).items()}
    return row, stage.decide(row, settings)


def around(rgb_u8: RgbU8, box: F32) -> tuple[RgbU8, F32]:
    """The picture around a face box (4,), and the box in it."""
    grow = WINDOW_GROWN_BY * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = np.maximum(np.floor(box[:2] - grow), 0).astype(int)
    x2, y2 = np.ceil(box[2:] + grow).astype(int)
    return rgb_u8[y1:y2, x1:x2], box - np.array([x1, y1, x1, y1], np.float32)


def letterings(face: Face, fonts: Mapping[str, tuple[Sequence[Font], str]], seed: int) -> Iterator[Lettering]:
    """A word in every script that has fonts, and one of every other manner in Latin."""
    kinds = [("word", script) for script in SCRIPTS] + [(manner, "Latin") for manner in MANNERS if manner != "word"]
    for number, (manner, script) in enumerate(kinds):
        usable, _ = fonts[script]
        if usable:
            yield lettering.choose(manner, script, usable, (seed, int(face.sha256[:8], 16), number))


def false_alarm_table(plain: Sequence[tuple[Face, Row]], halves: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """(half, share of plain faces dropped, file and reading of each)."""
    for half in halves:
        rows = [(face, row) for face, row in plain if face.half == half]
        dropped = [(face, row) for face, row in rows if row["is_dropped"]]
        yield half, f"{len(dropped)} of {len(rows)} ({interval(len(dropped), len(rows))})", None, None
        for face, row in dropped:
            yield None, face.name, row["text_found"], row["text_overlap"]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawn_text", description="Counts missed drawn text.")
    recipe = ROOT / "pipelines" / "paper-cpu-small.yaml"
    parser.add_argument("--recipe", type=Path, metavar="FILE", default=recipe, help=f"default: {recipe.name}")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of the recipe"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--half", choices=HALVES, help="this half only: settings are chosen on A")
    which.add_argument("--photos", type=Path, metavar="DIR", help="photos of your own, one face each, no text on any")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help="draw other letters; default: %(default)s")
    parser.add_argument("--misses", type=Path, metavar="DIR", help="write the missed faces there, a picture per column")
    asked = parser.parse_args()
    if asked.seed < 0:
        parser.error("--seed: 0 or more")
    if asked.photos and not asked.photos.is_dir():
        parser.error(f"--photos: no folder {asked.photos}")
    return asked


def main() -> None:
    """Draws, counts, prints the tables."""
    asked = options()
    assets = Path(os.environ.get("HIFI_ASSETS", ROOT.parent / "shared" / "assets"))
    if not asked.photos and not (assets / "index.csv").is_file():
        sys.exit(f"drawn_text: no index.csv in {assets}; set HIFI_ASSETS to the folder that holds it and faces/")
    if (assets / "weights").is_dir():
        os.environ.setdefault("HIFI_WEIGHTS", str(assets / "weights"))
    try:
        bench = Bench(load_recipe(asked.recipe, [f"source.path={assets}", *asked.set]))
    except UsageError as error:
        sys.exit(f"drawn_text: {error}")
    installed = lettering.installed_fonts()
    fonts = {name: lettering.usable_fonts(script, installed) for name, script in SCRIPTS.items()}
    named = [(name, why or ", ".join(font.name for font in usable)) for name, (usable, why) in fonts.items()]
    console.table("fonts", ("script", "drawn with"), named)
    plain, trials = list[tuple[Face, Row]](), list[Trial]()
    halves = [UNLABELLED] if asked.photos else [asked.half] if asked.half else list(HALVES)
    for face in bench.unlabelled(asked.photos) if asked.photos else bench.labelled(assets, read_labels(LABELS)):
        if face.half in halves:
            plain.append((face, bench.plain(face)))
            face.sample.release(keep_encoded=False)
            trials += [bench.try_letters(face, what) for what in letterings(face, fonts, asked.seed)]
    console.table("drawn text", ("what", *halves), recall_table(trials, halves))
    console.table("text on the face, found", ("by", "group", *halves), group_table(trials, halves))
    console.table("plain faces dropped", ("half", "dropped", "read", "overlap"), false_alarm_table(plain, halves))
    n = len(plain) + len(trials)
    console.out.print(f"CPU time of the stage: {1000 * bench.seconds / max(n, 1):.0f} ms for each of {n} pictures")
    if asked.misses:
        contact_sheets(trials, asked.misses, halves)


if __name__ == "__main__":
    main()
