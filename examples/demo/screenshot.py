"""Picture of the README: the report of a small dataset of NASA's public-domain portrait of Eileen Collins.

python -m examples.demo.screenshot docs/report.png
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageFilter

from examples.demo import photos
from hifidata.config.recipe import load_recipe
from hifidata.run.run import RunOptions, run

NAME, WIDTH_PX, HEIGHT_PX = "Eileen_Collins", 1200, 2280  # the height shows two contact sheets
LOOKS = (photos.LAWN, photos.ROOM, photos.EVENING, photos.STARS, photos.BRICKS, photos.CLOSE, photos.CURTAIN)
BLURS_PX, BRIGHTNESSES = (1.9, 2.1, 2.5, 3.0), (0.25, 0.15)
RECIPE = Path(__file__).parents[2] / "pipelines" / "folder.yaml"


def write_photos(folder: Path) -> None:
    """Write portraits, and copies of them that are blurred, dark, marked or shrunk."""
    images = [Image.fromarray(photos.take(NAME, look)) for look in LOOKS]
    variants = images[:5]
    variants += [image.filter(ImageFilter.GaussianBlur(px)) for image, px in zip(images, BLURS_PX, strict=False)]
    variants += [image.point(lambda v, b=b: b * v) for image, b in zip(images[5:], BRIGHTNESSES, strict=True)]
    variants.append(images[0].resize((440, 485)))
    folder.mkdir(parents=True)
    stamp = next(photo.encode for photo in photos.PHOTOS if photo.path == f"{NAME}/text_on_face.jpg")
    for number, image in enumerate(variants, 1):
        image.save(folder / f"{number:02}.jpg", quality=92)
    for number, image in enumerate(images[5:], 1):
        (folder / f"marked_{number}.jpg").write_bytes(stamp(np.asarray(image)))


def main() -> None:
    """Make the dataset, and write the screenshot of its report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("--browser", default="chromium", help="command of Chromium or Chrome")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_photos(Path(folder, "photos", NAME))
        recipe = load_recipe(RECIPE, [f"source.path={folder}/photos", "name=Eileen Collins", "executor.kind=local"])
        report = run(recipe, RunOptions(Path(folder, "out")), lambda progress: None).report
        flags = f"--headless --no-sandbox --hide-scrollbars --window-size={WIDTH_PX},{HEIGHT_PX}".split()
        subprocess.run([arguments.browser, *flags, "--screenshot=shot.png", report.as_uri()], check=True, cwd=folder)
        shot = Image.open(Path(folder, "shot.png")).convert("RGB")
        shot.quantize(255).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
