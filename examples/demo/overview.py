"""Overview image of the demo training: training samples, loss curve and a generated portrait.

python -m examples.demo.overview runs/demo
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from hifimodel import console
from hifimodel.errors import ConfigError

WIDTH_PX, GAP_PX, GROUND = 1000, 16, "white"
COLUMNS = 4
"""Reference, landmarks, target and generated portrait, as in the sample grids."""


def overview(run: Path) -> Image.Image:
    """Compose the last sample grid, a generated portrait with its landmark image, and the loss curve.

    Raises:
        ConfigError: the run lacks one of these files.
    """
    grids = sorted((run / "samples").glob("step-*.png"))
    missing = [name for name in ("loss.png", "portrait.png", "landmarks.png") if not (run / name).exists()]
    if missing or not grids:
        raise ConfigError(f"{run}: {', '.join(missing) or 'a sample grid'} is missing; run `make train-demo`")
    side = (WIDTH_PX - (COLUMNS - 1) * GAP_PX) // COLUMNS
    generated = [_scaled(run / name, side) for name in ("landmarks.png", "portrait.png")]
    rows = [[_scaled(grids[-1], WIDTH_PX)], generated, [_scaled(run / "loss.png", WIDTH_PX)]]
    height = sum(row[0].height for row in rows) + GAP_PX * (len(rows) - 1)
    page = Image.new("RGB", (WIDTH_PX, height), GROUND)
    y = 0
    for row in rows:
        for column, image in enumerate(row):
            page.paste(image, (column * (side + GAP_PX), y))
        y += row[0].height + GAP_PX
    return page


def _scaled(path: Path, width_px: int) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((width_px, round(image.height * width_px / image.width)))


def main() -> None:
    """Write ``RUN/overview.png`` and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo.overview", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("run", type=Path, help="folder of a training run with a generated portrait")
    sys.exit(console.exit_code_of(lambda: _write(parser.parse_args().run)))


def _write(run: Path) -> int:
    overview(run).save(run / "overview.png")
    console.write(run / "overview.png")
    return 0


if __name__ == "__main__":
    main()
