"""The demo's result as one picture: what the tiny preset trained on, how its loss fell, and what it makes.

python -m examples.demo.overview runs/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from hifidata.core.errors import HifiError
from hifimodel.errors import ConfigError

WIDTH_PX, GAP_PX, GROUND = 1000, 16, "white"
COLUMNS = 4
"""Reference, landmarks, target, generated, as in the sample grids."""


def overview(run: Path) -> Image.Image:
    """Last sample grid, a portrait with its landmark picture, and the loss, one below the other.

    Raises:
        ConfigError: the run has not got so far.
    """
    grids = sorted((run / "samples").glob("step-*.png"))
    missing = [name for name in ("loss.png", "portrait.png", "landmarks.png") if not (run / name).exists()]
    if missing or not grids:
        raise ConfigError(f"{run}: no {', '.join(missing) or 'sample grid'} in it; run `make train-demo`")
    side = (WIDTH_PX - (COLUMNS - 1) * GAP_PX) // COLUMNS
    generated = [_scaled(run / name, side) for name in ("landmarks.png", "portrait.png")]
    rows = [[_scaled(grids[-1], WIDTH_PX)], generated, [_scaled(run / "loss.png", WIDTH_PX)]]
    height = sum(row[0].height for row in rows) + GAP_PX * (len(rows) - 1)
    page = Image.new("RGB", (WIDTH_PX, height), GROUND)
    y = 0
    for row in rows:
        for column, picture in enumerate(row):
            page.paste(picture, (column * (side + GAP_PX), y))
        y += row[0].height + GAP_PX
    return page


def _scaled(path: Path, width_px: int) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB").resize((width_px, round(picture.height * width_px / picture.width)))


def main() -> None:
    """Writes ``RUN/overview.png`` and prints its path."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo.overview", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("run", type=Path, help="folder of a training run with a generated portrait")
    run: Path = parser.parse_args().run
    try:
        overview(run).save(run / "overview.png")
    except HifiError as error:
        parser.exit(error.exit_code, f"examples.demo.overview: {error}\n")
    print(run / "overview.png")


if __name__ == "__main__":
    main()
