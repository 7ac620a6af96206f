"""A complete run of ``pipelines/imdb_face.yaml`` without internet: a list in IMDb-Face's format for a folder of photos.

    python -m benchmarks.imdb_face PHOTOS OUT        # PHOTOS/<person>/<photo>

The list contains each photo with the box of its largest detected face. As in the real list, the box refers to another image
size. Every tenth box is deliberately wrong. The photos are served on loopback and fetched from there.
"""

from __future__ import annotations

import csv
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

from hifidata.cli.console import RunDisplay, print_stage_table
from hifidata.config.recipe import load_recipe
from hifidata.core.errors import IntakeError
from hifidata.image.decode import Limits, decode
from hifidata.models import registry
from hifidata.models.protocols import FaceDetector
from hifidata.run.run import RunOptions, run

LISTED_HEIGHT_PX = 500
WRONG_EVERY = 10
RECIPE = Path(__file__).resolve().parent.parent / "pipelines" / "imdb_face.yaml"


class _Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder."""

    def log_message(self, format: str, *args: object) -> None:
        """Print no line per request."""


def write_list(photos: Path, site: str, path: Path) -> int:
    """Write the list, and return the number of deliberately wrong boxes."""
    detector = registry.load("detect", "dlib_hog")
    n_wrong = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("name", "index", "image", "rect", "height width", "url"))
        for number, photo in enumerate(sorted(photo for photo in photos.rglob("*") if photo.is_file())):
            relative = photo.relative_to(photos)
            box, height, width = _listed_box(detector, photo)
            if number % WRONG_EVERY == 0:
                box, n_wrong = (0, 0, 12, 12), n_wrong + 1
            url = f"{site}/{quote(relative.as_posix())}"
            name = relative.parts[0]
            rows.writerow((name, f"nm{name}", photo.name, " ".join(map(str, box)), f"{height} {width}", url))
    return n_wrong


def _listed_box(detector: FaceDetector, photo: Path) -> tuple[tuple[int, ...], int, int]:
    """Return (box, height, width) in the list's image size; without a face, a box in the middle."""
    try:
        rgb_u8 = decode(photo.read_bytes(), Limits()).rgb_u8
    except IntakeError:
        return (100, 100, 200, 200), LISTED_HEIGHT_PX, LISTED_HEIGHT_PX
    scale = LISTED_HEIGHT_PX / rgb_u8.shape[0]
    height, width = LISTED_HEIGHT_PX, round(rgb_u8.shape[1] * scale)
    (faces,) = detector.detect([rgb_u8])
    if not len(faces.xyxy_px):
        return (width // 4, height // 4, width * 3 // 4, height * 3 // 4), height, width
    return tuple(round(float(edge) * scale) for edge in faces.xyxy_px[0]), height, width


def main(photos: Path, out: Path) -> None:
    """Serve the photos, write the list, run the recipe, and print the stage table."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(photos)))
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    out.mkdir(parents=True, exist_ok=True)
    table = out / "list.csv"
    n_wrong = write_list(photos, f"http://127.0.0.1:{server.server_address[1]}", table)
    loopback = (
        "fetch.allow_private=[127.0.0.1]",
        "fetch.delay_s=0",
        "fetch.slowdown=0",
        "fetch.connections_per_host=8",
    )
    recipe = load_recipe(RECIPE, [f"source.path={table}", *loopback])
    with RunDisplay() as display:
        result = run(recipe, RunOptions(out / "dataset"), display.update)
    print_stage_table(result.dataset)
    sys.stdout.write(f"{n_wrong} boxes of the list are deliberately wrong; report: {result.report}\n")
    server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
