"""`python -m benchmarks.quality`: runs a recipe over labelled photos and counts its mistakes.

The photos lie under $HIFI_ASSETS (or ../shared/assets beside the checkout) as ``faces/``, with an ``index.csv`` that names
each photo's person where its folder or file name does. ``quality_labels.csv`` holds what a human eye says about each, by
the sha256 of its bytes. What the words mean and how the labels were made: docs/quality.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hifidata.cli import console
from hifidata.config.recipe import Recipe, load_recipe
from hifidata.core.reasons import Reason
from hifidata.core.schema import Row, Status
from hifidata.run.replay import Replay, replay
from hifidata.run.run import RunOptions, run
from hifidata.store.fragments import read_rows

ROOT = Path(__file__).resolve().parent.parent
LABELS = Path(__file__).with_name("quality_labels.csv")
RAW_SET = "faces/sports-raw"

CELLS = {("A", True): "A raw", ("A", False): "A other", ("B", True): "B raw", ("B", False): "B other"}
"""Columns of the tables: half of the people, and whether their photos are raw search results."""

KEEP_KINDS = ("another person", "several people", "not usable", "text on face", "nobody's folder")
REPEATS = ("near_duplicate", "duplicate_bytes")  # a label of one photo cannot judge them


@dataclass(frozen=True)
class Label:
    """What the eye says about one photo, and which half of the people it belongs to.

    Attributes:
        half: A, on which thresholds were tuned, or B.
        several_people: more than one person with a prominent face.
        right_person: whether the largest face is the folder's person; None where the folder is nobody's.
        usable: sharp, lit, both eyes in view, nothing held before the face.
        text_on_face: lettering lies over the face.
    """

    half: str
    several_people: bool
    right_person: bool | None
    usable: bool
    text_on_face: bool

    @property
    def flaw(self) -> str | None:
        """The first reason why the photo must not be kept; None for one that should be."""
        if self.right_person is False:
            return "another person"
        if self.several_people:
            return "several people"
        if not self.usable:
            return "not usable"
        return "text on face" if self.text_on_face else None


@dataclass(frozen=True)
class Judged:
    """A manifest row beside its label; ``is_raw``: from the uncleaned search results."""

    row: Row
    label: Label
    is_raw: bool

    @property
    def cell(self) -> tuple[str, bool]:
        """The column of the tables it is counted in."""
        return self.label.half, self.is_raw

    @property
    def kept(self) -> bool:
        """As the run decided."""
        return bool(self.row["status"] == Status.KEPT)

    @property
    def flaw_if_kept(self) -> str | None:
        """Why keeping it is wrong: its flaw, or that nobody can say whose face it is."""
        return self.label.flaw or ("nobody's folder" if self.label.right_person is None else None)


def read_labels(path: Path) -> dict[str, Label]:
    """Labels by content sha256."""
    truth = {"yes": True, "no": False}
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["sha256"]: Label(
                half=row["half"],
                several_people=truth[row["several_people"]],
                right_person=truth.get(row["right_person"]),
                usable=truth[row["usable"]],
                text_on_face=truth[row["text_on_face"]],
            )
            for row in csv.DictReader(file)
        }


def copy_people(assets: Path, target: Path) -> set[str]:
    """Copies faces/ as one sub-folder per person; returns the people of the raw set.

    Photos of nobody in particular share a folder per set: they can show intake and detection, not identity.
    """
    raw: set[str] = set()
    with (assets / "index.csv").open(encoding="utf-8", newline="") as file:
        for entry in csv.DictReader(file):
            if not entry["set"].startswith("faces/"):
                continue
            name = entry["identity"].rpartition("/")[2] or f"unlabelled-{entry['set'].rpartition('/')[2]}"
            if entry["set"] == RAW_SET:
                raw.add(name)
            (target / name).mkdir(parents=True, exist_ok=True)
            # The source does not follow links that lead out of it; the mtime goes along so that a kept dataset resumes.
            shutil.copy2(assets / entry["file"], target / name)
    return raw


def judge(rows: Sequence[Row], labels: Mapping[str, Label], raw: set[str]) -> list[Judged]:
    """Joins the manifest with the labels; photos without one end the program."""
    if unknown := [row["source_uri"] for row in rows if row["content_sha256"] not in labels]:
        sys.exit(f"quality: {len(unknown)} photos have no label in {LABELS.name}, for example {unknown[0]}")
    return [Judged(row, labels[row["content_sha256"]], row["identity_name"] in raw) for row in rows]


def large_enough(row: Row, recipe: Recipe) -> bool:
    """Whether the face meets the size rules; true where no face was found, since its size is not known."""
    if row["face_x1_px"] is None:
        return True
    width, height = row["face_x2_px"] - row["face_x1_px"], row["face_y2_px"] - row["face_y1_px"]
    side = max(round(max(width, height) * recipe.crop.side_over_face), recipe.crop.min_side_px)
    side = min(side, row["width_px"], row["height_px"])
    return bool(side >= recipe.crop.min_side_px and width * height / side**2 > recipe.crop.min_face_share)


def wrong_drops(judged: Sequence[Judged], recipe: Recipe) -> list[Judged]:
    """Dropped although usable, the right person, alone and large enough.

    A person with too few pictures counts only where the other wrong drops took the missing ones.
    """
    lost, too_few = list[Judged](), list[Judged]()
    for item in judged:
        is_nobodys = item.label.right_person is None and item.row["stage"] == "verify"
        if item.kept or item.label.flaw or is_nobodys or not large_enough(item.row, recipe):
            continue
        if item.row["reason"] == "identity_too_small":
            too_few.append(item)
        elif item.row["reason"] not in REPEATS:
            lost.append(item)
    good = Counter(item.row["identity_id"] for item in [*lost, *too_few])
    return lost + [item for item in too_few if good[item.row["identity_id"]] >= recipe.verify.min_images]


def rates_table(judged: Sequence[Judged], recipe: Recipe) -> Iterator[tuple[object, ...]]:
    """(half, kept, another person's kept, several or no faces kept, wrong drops of what should be kept)."""
    lost = wrong_drops(judged, recipe)
    for half in "AB":
        kept = [item for item in judged if item.kept and item.label.half == half]
        others = sum(item.label.right_person is not True for item in kept)
        crowds = sum(item.label.several_people for item in kept)
        n_lost = sum(item.label.half == half for item in lost)
        n_good = n_lost + sum(item.flaw_if_kept is None for item in kept)
        yield half, len(kept), _share(others, len(kept)), crowds, _share(n_lost, n_good)


def _share(n: int, of: int) -> str:
    return f"{n} of {of} ({n / max(of, 1):.1%})"


def keeps_table(judged: Sequence[Judged]) -> Iterator[tuple[object, ...]]:
    """(photos, candidates, kept, wrong keeps by kind)."""
    for cell, title in CELLS.items():
        here = [item for item in judged if item.cell == cell]
        kept = [item for item in here if item.kept]
        flaws = Counter(item.flaw_if_kept for item in kept)
        yield title, len(here), len(kept), *(flaws[kind] for kind in KEEP_KINDS)


def drops_table(judged: Sequence[Judged], recipe: Recipe) -> Iterator[tuple[object, ...]]:
    """(reason, "wrong of all" for each cell)."""
    wrong = Counter((item.row["reason"], item.cell) for item in wrong_drops(judged, recipe))
    dropped = Counter((item.row["reason"], item.cell) for item in judged if not item.kept)
    for reason in map(str, Reason):
        counts = [(wrong[reason, cell], dropped[reason, cell]) for cell in CELLS]
        if any(n_dropped for _, n_dropped in counts):
            yield reason, *(f"{n_wrong} of {n_dropped}" if n_dropped else "" for n_wrong, n_dropped in counts)


def rule_table(judged: Sequence[Judged], recipe: Recipe, strict: Replay) -> Iterator[tuple[object, ...]]:
    """The strict rule against the recipe's, on the raw set: what passes as one face, and what is kept in the end."""
    kept_now = {item.row["image_id"] for item in judged if item.kept}
    kept_strict = (kept_now - set(strict.newly_dropped)) | set(strict.newly_kept)
    rules = ((0.0, kept_strict), (recipe.detect.other_face_min_area_ratio, kept_now))
    for half, (ratio, kept) in product("AB", rules):
        here = [item for item in judged if item.cell == (half, True)]
        n_faces = [sum(area >= ratio for area in item.row["face_areas_rel"] or ()) for item in here]
        one = [item.label for item, n in zip(here, n_faces, strict=True) if n == 1]
        several = [item.label for item, n in zip(here, n_faces, strict=True) if n > 1]
        keeps = [item for item in here if item.row["image_id"] in kept]
        yield (
            *(half, ratio, len(one), sum(label.several_people for label in one)),
            *(len(several), sum(label.flaw is None for label in several)),
            *(len(keeps), sum(item.flaw_if_kept is not None for item in keeps)),
        )


def mistakes(judged: Sequence[Judged], recipe: Recipe) -> Iterator[tuple[object, ...]]:
    """One line per mistake, to look at it."""
    for item in judged:
        if item.kept and item.flaw_if_kept:
            yield "kept", item.label.half, item.flaw_if_kept, None, Path(item.row["source_uri"]).name
    for item in wrong_drops(judged, recipe):
        row = item.row
        yield "dropped", item.label.half, row["reason"], row["score"], Path(row["source_uri"]).name


def print_tables(judged: Sequence[Judged], recipe: Recipe, strict: Replay, with_mistakes: bool) -> None:
    """Everything on stdout."""
    rates = ("half", "kept", "another person", "several or no faces", "wrong drops of what should be kept")
    console.table(f"{recipe.name}: rates", rates, rates_table(judged, recipe))
    console.table("wrong keeps", ("photos", "in", "kept", *KEEP_KINDS), keeps_table(judged))
    console.table("wrong drops of all drops", ("reason", *CELLS.values()), drops_table(judged, recipe))
    title = f"other_face_min_area_ratio, raw search; {len(strict.unknown)} photos unknown without a run"
    columns = ("half", "ratio", "one face", "in truth several", "several", "in truth one", "kept", "wrong keeps")
    console.table(title, columns, rule_table(judged, recipe, strict))
    if with_mistakes:
        console.table("mistakes", ("was", "half", "why", "score", "file"), mistakes(judged, recipe))


def main() -> None:
    """Copies the photos, runs the recipe, prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Counts wrong keeps and drops.")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave photos and dataset there, to look at its report"
    )
    parser.add_argument("--mistakes", action="store_true", help="also list every mistake by file name")
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", default=ROOT / "pipelines" / "folder.yaml", help="default: folder.yaml"
    )
    arguments = parser.parse_args()
    assets = Path(os.environ.get("HIFI_ASSETS", ROOT.parent / "shared" / "assets"))
    if not (assets / "index.csv").is_file():
        sys.exit(f"quality: no index.csv in {assets}; set HIFI_ASSETS to the folder that holds it and faces/")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        raw = copy_people(assets, folder / "photos")
        overrides = [f"source.path={folder / 'photos'}", "executor.kind=local"]
        recipe = load_recipe(arguments.recipe, overrides)
        with console.RunDisplay() as display:
            run(recipe, RunOptions(folder / "dataset"), display.update)
        rows = read_rows(folder / "dataset" / "manifests" / "images.parquet")
        strict = replay(folder / "dataset", ["detect.other_face_min_area_ratio=0.0"])
        print_tables(judge(rows, read_labels(LABELS), raw), recipe, strict, arguments.mistakes)


if __name__ == "__main__":
    main()
