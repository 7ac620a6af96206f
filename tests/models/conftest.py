"""Pictures and models that the backend tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from hifidata.models.detect.dlib import DlibDetector
from hifidata.models.protocols import Faces, RgbU8


@pytest.fixture(scope="session")
def read_picture() -> Callable[[Path], RgbU8]:
    """Reads oriented RGB pixels, as the pipeline would hand them over."""

    def read(path: Path) -> RgbU8:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

    return read


@pytest.fixture(scope="session")
def detector() -> DlibDetector:
    return DlibDetector()


@pytest.fixture(scope="session")
def astronaut() -> RgbU8:
    """512 x 512 public-domain portrait with one face about 100 px wide."""
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="session")
def people(demo_photos: Path, read_picture: Callable[[Path], RgbU8]) -> dict[str, list[RgbU8]]:
    """Two portraits of each of the demo's seven people, with another framing, light and backdrop."""
    from examples.demo.photos import PEOPLE

    files = {name: sorted((demo_photos / name).glob("portrait_*.jpg"))[:2] for name in PEOPLE}
    return {name: [read_picture(path) for path in paths] for name, paths in files.items()}


@pytest.fixture(scope="session")
def real_photos(people: dict[str, list[RgbU8]], astronaut: RgbU8) -> list[RgbU8]:
    """A group photo of six people, the astronaut, and a portrait of each of the demo's people."""
    from examples.demo import photos

    return [photos.take("", photos.GROUP), astronaut, *(portraits[0] for portraits in people.values())]


@pytest.fixture(scope="session")
def astronaut_face(detector: DlibDetector, astronaut: RgbU8) -> Faces:
    return detector.detect([astronaut])[0]


@pytest.fixture(scope="session")
def portraits(assets: Path, detector: DlibDetector, read_picture: Callable[[Path], RgbU8]) -> list[tuple[RgbU8, Faces]]:
    """Eight real portraits of one person with one large face each."""
    folder = assets / "faces" / "human-samples"
    pictures = [read_picture(folder / f"stock-emotions-a-{i}.jpg") for i in range(1, 9)]
    return list(zip(pictures, detector.detect(pictures), strict=True))
