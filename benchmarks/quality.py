"""`python -m benchmarks.quality`: runs a recipe on labelled photos and counts its mistakes.

The photos are in ``faces/`` under $HIFI_ASSETS (default: ../shared/assets beside the checkout). ``index.csv`` there names the
person of each photo, if known. ``quality_labels.csv`` contains a human label for each photo, by the sha256 of its bytes.
docs/quality.md explains the labels. ``--mixtures`` draws folders of several people instead, see ``benchmarks.mixtures``.
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

from benchmarks import mixtures
from hifidata.cli import console
from hifidata.config.recipe import Recipe, apply_overrides, load_recipe, resolve
from hifidata.core.schema import Row, Status
from hifidata.run.replay import Replay, replay
from hifidata.run.run import RunOptions, run
from hifidata.stages.table import REASONS
from hifidata.store.fragments import read_rows

ROOT = Path(__file__).resolve().parent.parent
LABELS = Path(__file__).with_name("quality_labels.csv")
RAW_SET = "faces/sports-raw"

CELLS = {("A", True): "A raw", ("A", False): "A other", ("B", True): "B raw", ("B", False): "B other"}
"""Columns of the tables, by half of the persons and by whether the photos are raw search results."""

KEEP_KINDS = ("another person", "several people", "not usable", "text on face", "unknown person")
REPEATS = ("near_duplicate", "duplicate_bytes")  # a label of a single photo cannot judge copies


@dataclass(frozen=True)
class Label:
    """Human label of a photo.

    Attributes:
        half: half of the persons: A, on which thresholds were tuned, or B.
        several_people: whether several persons have a prominent face.
        right_person: whether the largest face is the folder's person; None for a folder without a person.
        usable: whether the face is sharp, well lit and unobstructed, with both eyes visible.
        text_on_face: whether text covers part of the face.
    """

    half: str
    several_people: bool
    right_person: bool | None
    usable: bool
    text_on_face: bool

    @property
    def flaw(self) -> str | None:
        """The first reason against keeping the photo; None if it should be kept."""
        if self.right_person is False:
            return "another person"
        if self.several_people:
            return "several people"
        if not self.usable:
            return "not usable"
        return "text on face" if self.text_on_face else None


@dataclass(frozen=True)
class Judged:
    """A manifest row with its label.

    Attributes:
        is_raw: whether the photo is from the raw search results.
    """

    row: Row
    label: Label
    is_raw: bool

    @property
    def cell(self) -> tuple[str, bool]:
        """Column of the tables that counts this photo."""
        return self.label.half, self.is_raw

    @property
    def kept(self) -> bool:
        """Whether the run kept the photo."""
        return bool(self.row["status"] == Status.KEPT)

    @property
    def flaw_if_kept(self) -> str | None:
        """The mistake of keeping the photo: its flaw, or an unknown person; None if keeping it is right."""
        return self.label.flaw or ("unknown person" if self.label.right_person is None else None)


def read_labels(path: Path) -> dict[str, Label]:
    """Read the labels by content sha256."""
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


def copy_photos(assets: Path, target: Path) -> set[str]:
    """Copy faces/ as one sub-folder per person, and return the persons of the raw set.

    Photos of unknown persons share one folder per set. They measure intake and detection, but not verification.
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
            # Copies, because the source follows no links to other folders. With the mtime, a kept dataset can be resumed.
            shutil.copy2(assets / entry["file"], target / name)
    return raw


def judge(rows: Sequence[Row], labels: Mapping[str, Label], raw: set[str]) -> list[Judged]:
    """Join the manifest with the labels. A photo without a label ends the program."""
    if unknown := [row["source_uri"] for row in rows if row["content_sha256"] not in labels]:
        sys.exit(f"quality: {len(unknown)} photos have no label in {LABELS.name}, for example {unknown[0]}")
    return [Judged(row, labels[row["content_sha256"]], row["identity_name"] in raw) for row in rows]


def large_enough(row: Row, recipe: Recipe) -> bool:
    """Return whether the face meets the size rules; True without a detected face, because its size is unknown."""
    if row["face_x1_px"] is None:
        return True
    width, height = row["face_x2_px"] - row["face_x1_px"], row["face_y2_px"] - row["face_y1_px"]
    side = max(round(max(width, height) * recipe.crop.side_over_face), recipe.crop.min_side_px)
    side = min(side, row["width_px"], row["height_px"])
    return bool(side >= recipe.crop.min_side_px and width * height / side**2 > recipe.crop.min_face_share)


def wrong_drops(judged: Sequence[Judged], recipe: Recipe) -> list[Judged]:
    """Return the wrongly dropped photos: usable, of the right person alone, and large enough.

    Photos of an identity with too few images count only if other wrong drops caused the lack of images.
    """
    lost, too_few = list[Judged](), list[Judged]()
    for item in judged:
        is_unknown = item.label.right_person is None and item.row["stage"] == "verify"
        if item.kept or item.label.flaw or is_unknown or not large_enough(item.row, recipe):
            continue
        if item.row["reason"] == "identity_too_small":
            too_few.append(item)
        elif item.row["reason"] not in REPEATS:
            lost.append(item)
    good = Counter(item.row["identity_id"] for item in [*lost, *too_few])
    return lost + [item for item in too_few if good[item.row["identity_id"]] >= recipe.verify.min_images]


def rates_table(judged: Sequence[Judged], recipe: Recipe) -> Iterator[tuple[object, ...]]:
    """Yield rows (half, kept, kept of another person, kept with several persons, wrong drops of good photos)."""
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
    """Yield rows (photos, candidates, kept, wrong keeps by kind)."""
    for cell, title in CELLS.items():
        photos = [item for item in judged if item.cell == cell]
        kept = [item for item in photos if item.kept]
        flaws = Counter(item.flaw_if_kept for item in kept)
        yield title, len(photos), len(kept), *(flaws[kind] for kind in KEEP_KINDS)


def drops_table(judged: Sequence[Judged], recipe: Recipe) -> Iterator[tuple[object, ...]]:
    """Yield rows (reason, "wrong of all" for each cell)."""
    wrong = Counter((item.row["reason"], item.cell) for item in wrong_drops(judged, recipe))
    dropped = Counter((item.row["reason"], item.cell) for item in judged if not item.kept)
    for reason in REASONS:
        counts = [(wrong[reason, cell], dropped[reason, cell]) for cell in CELLS]
        if any(n_dropped for _, n_dropped in counts):
            yield reason, *(f"{n_wrong} of {n_dropped}" if n_dropped else "" for n_wrong, n_dropped in counts)


def rule_table(judged: Sequence[Judged], recipe: Recipe, strict: Replay) -> Iterator[tuple[object, ...]]:
    """Yield rows that compare the strict rule for faces with the recipe's rule on the raw set."""
    kept_now = {item.row["image_id"] for item in judged if item.kept}
    kept_strict = (kept_now - set(strict.newly_dropped)) | set(strict.newly_kept)
    rules = ((0.0, kept_strict), (recipe.detect.other_face_min_area_ratio, kept_now))
    for half, (ratio, kept) in product("AB", rules):
        photos = [item for item in judged if item.cell == (half, True)]
        n_faces = [sum(area >= ratio for area in item.row["face_areas_rel"] or ()) for item in photos]
        one = [item.label for item, n in zip(photos, n_faces, strict=True) if n == 1]
        several = [item.label for item, n in zip(photos, n_faces, strict=True) if n > 1]
        keeps = [item for item in photos if item.row["image_id"] in kept]
        yield (
            *(half, ratio, len(one), sum(label.several_people for label in one)),
            *(len(several), sum(label.flaw is None for label in several)),
            *(len(keeps), sum(item.flaw_if_kept is not None for item in keeps)),
        )


def mistakes(judged: Sequence[Judged], recipe: Recipe) -> Iterator[tuple[object, ...]]:
    """Yield one row per mistake."""
    for item in judged:
        if item.kept and item.flaw_if_kept:
            yield "kept", item.label.half, item.flaw_if_kept, None, Path(item.row["source_uri"]).name
    for item in wrong_drops(judged, recipe):
        row = item.row
        yield "dropped", item.label.half, row["reason"], row["score"], Path(row["source_uri"]).name


def print_tables(judged: Sequence[Judged], recipe: Recipe, strict: Replay, with_mistakes: bool) -> None:
    """Print all tables to stdout."""
    rates = ("half", "kept", "another person", "several persons", "wrong drops of good photos")
    console.table(f"{recipe.name}: rates", rates, rates_table(judged, recipe))
    console.table("wrong keeps", ("photos", "in", "kept", *KEEP_KINDS), keeps_table(judged))
    console.table("wrong drops of all drops", ("reason", *CELLS.values()), drops_table(judged, recipe))
    title = f"other_face_min_area_ratio, raw search; {len(strict.unknown)} photos undecided by the replay"
    columns = ("half", "ratio", "one face", "truly several", "several", "truly one", "kept", "wrong keeps")
    console.table(title, columns, rule_table(judged, recipe, strict))
    if with_mistakes:
        console.table("mistakes", ("was", "half", "why", "score", "file"), mistakes(judged, recipe))


def print_mixtures(rows: Sequence[Row], recipe: Recipe, overrides: Sequence[str], step: float) -> None:
    """Print what both methods of ``verify`` keep of folders of several people, and the choice of the limits on half A."""
    labels = read_labels(LABELS)
    columns = ("draws", "mixed", "strangers kept", "refused", "too few", "smaller person", "photos lost")
    configs = {}
    for method in ("paper", "density"):
        null = [f"verify.{key}=null" for key in ("k", "min_similarity", "min_pair_similarity", "max_second_group")]
        own = overrides if method == "density" else ()  # the limits of one method do not fit the other
        data = apply_overrides(recipe.model_dump(mode="json"), [*null, *own, f"verify.method={method}"])
        configs[method] = resolve(data, "mixtures").verify.model_copy(update={"min_images": 5})
    for half in "AB":
        photos = mixtures.photos_of(rows, lambda row, half=half: _is_good(labels[row["content_sha256"]], half))
        title = f"{recipe.verify.model}, half {half}: {sum(map(len, photos.values()))} photos of {len(photos)} people"
        folders = mixtures.folders_of(photos)
        console.table(title, ("method", "case", *columns), mixtures.mixtures_table(folders, configs))
        if half == "A":
            limits = mixtures.limits_table(folders, configs["density"], step)
            console.table(f"{title}: limits, all cases", ("pair", "centre", *columns), limits)


def _is_good(label: Label, half: str) -> bool:
    return label.half == half and label.flaw is None and label.right_person is True


def main() -> None:
    """Copy the photos, run the recipe, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Count wrong keeps and drops.")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep photos and dataset in this folder")
    parser.add_argument("--mistakes", action="store_true", help="also list all mistakes by file name")
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", default=ROOT / "pipelines" / "folder.yaml", help="default: folder.yaml"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of the recipe")
    parser.add_argument("--mixtures", action="store_true", help="draw folders of several people, for the stage verify")
    parser.add_argument("--step", type=float, default=0.02, help="step of the limits that --mixtures tries on half A")
    arguments = parser.parse_args()
    assets = Path(os.environ.get("HIFI_ASSETS", ROOT.parent / "shared" / "assets"))
    if not (assets / "index.csv").is_file():
        sys.exit(f"quality: no index.csv in {assets}; set HIFI_ASSETS to the folder with index.csv and faces/")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        raw = copy_photos(assets, folder / "photos")
        overrides = [f"source.path={folder / 'photos'}", "executor.kind=local"]
        overrides += (*mixtures.EMBEDDINGS_ONLY, *arguments.set) if arguments.mixtures else arguments.set
        recipe = load_recipe(arguments.recipe, overrides)
        with console.RunDisplay() as display:
            run(recipe, RunOptions(folder / "dataset"), display.update)
        rows = read_rows(folder / "dataset" / "manifests" / "images.parquet")
        if arguments.mixtures:
            print_mixtures(rows, recipe, arguments.set, arguments.step)
            return
        strict = replay(folder / "dataset", ["detect.other_face_min_area_ratio=0.0"])
        print_tables(judge(rows, read_labels(LABELS), raw), recipe, strict, arguments.mistakes)


if __name__ == "__main__":
    main()
