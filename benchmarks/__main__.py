"""Print ratios that are measured in one run on this machine, for all sections or the named sections.

pipeline, paper and crawl need photos: faces/sports-raw/<person>/<photo> under $HIFI_ASSETS (default: ../shared/assets
beside the checkout). paper and batching need model files under $HIFI_WEIGHTS (default: weights/ beside faces/). loader
and training need shards. A section without its inputs prints one line.
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
    """A module of this package with a function ``rows``.

    Attributes:
        title: title of the table.
        input: argument of ``rows``.
    """

    title: str
    input: Literal["photos", "shards", "nothing"]


SECTIONS = {
    "pipeline": Section("folder.yaml, all figures are ratios", "photos"),
    "paper": Section("paper-cpu-small.yaml, all figures are ratios", "photos"),
    "batching": Section("time per image", "nothing"),
    "crawl": Section("all figures are ratios", "photos"),
    "loader": Section("training batches", "shards"),
    "training": Section("tiny preset", "shards"),
}


def main() -> None:
    """Parse the arguments, and print one table per section."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(SECTIONS)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of {names}; default: all")
    parser.add_argument("--shards", default=str(DEMO) if DEMO.is_dir() else "", help="default: datasets/demo")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {', '.join(unknown)}; expected {names}")
    assets = Path(os.environ.get("HIFI_ASSETS", ROOT.parent / "shared" / "assets"))
    if (assets / "weights").is_dir():
        os.environ.setdefault("HIFI_WEIGHTS", str(assets / "weights"))
    for name in options.sections or SECTIONS:
        title = f"{name}: {SECTIONS[name].title}"
        console.table(title, ("what", "measured", "goal"), _rows(name, assets / "faces" / "sports-raw", options.shards))


def _rows(name: str, photos: Path, shards: str) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of a section, or one row that names its missing input."""
    kind = SECTIONS[name].input
    missing = _no_photos(photos) if kind == "photos" else _no_training(shards) if kind == "shards" else ""
    if missing:
        yield missing, "not measured", ""
        return
    inputs: dict[str, tuple[object, ...]] = {"photos": (photos,), "shards": (shards,), "nothing": ()}
    try:
        yield from import_module(f"benchmarks.{name}").rows(*inputs[kind])
    except HifiError as error:
        yield str(error), "not measured", ""


def _no_photos(photos: Path) -> str:
    if photos.is_dir():
        return ""
    return f"no photos at {photos}: set HIFI_ASSETS to a folder with faces/sports-raw/<person>/<photo>"


def _no_training(shards: str) -> str:
    if any(find_spec(package) is None for package in MODEL_PACKAGES):
        return "no packages for training: run `pip install '.[model]'`"
    return "" if shards else "no shards: run `make dataset`, or pass --shards"


if __name__ == "__main__":
    main()
