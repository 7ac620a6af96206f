"""Prints every ratio. Needs a folder of test photos: $HIFI_ASSETS, or ../shared/assets beside the checkout."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks import crawl, pipeline
from hifidata import console


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__).parse_args()
    root = Path(__file__).resolve().parent.parent
    photos = Path(os.environ.get("HIFI_ASSETS", root.parent / "shared" / "assets")) / "faces" / "sports-raw"
    if not photos.is_dir():
        sys.exit(
            f"make bench: no photos at {photos}; set HIFI_ASSETS to a folder with faces/sports-raw/<person>/<photo>"
        )
    columns = ("what", "measured", "goal")
    console.table("local pipeline, all figures are ratios", columns, pipeline.rows(photos))
    console.table("crawl, all figures are ratios", columns, crawl.rows(photos))


if __name__ == "__main__":
    main()
