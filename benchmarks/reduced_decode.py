"""``detect.reduced_decode``: decode and detection with it over the same without, by the share of pictures that detection drops.

Of the photos as they are those that the detector lets be reduced, and some of all enlarged to 4000 px. CPU time of one thread,
each picture in turns: whole, reduced, and reduced with the whole decode that follows where it passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.overhead import ROUNDS, open_recipe, seconds
from hifidata.core.errors import IntakeError, UsageError
from hifidata.image.decode import Limits, decode
from hifidata.image.encode import encode_jpeg
from hifidata.models import registry
from hifidata.models.protocols import FaceDetector, RgbU8
from hifidata.stages.base import Sample

MODELS = ("dlib_hog", "scrfd_2.5g")
ENLARGED_PX, ENLARGED_QUALITY, EVERY = 4000, 90, 5
DROPPED = (0.0, 0.4, 0.8)


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """(what, measured, goal) lines of the table; one line where a detector's file is not here."""
    cv2.setNumThreads(1)
    files = [path.read_bytes() for path in sorted(photos.rglob("*")) if path.is_file()]
    enlarged = [_enlarged(data) for data in files[::EVERY]]
    for model in MODELS:
        try:
            detector = registry.load("detect", model, open_recipe("folder", photos).detect)
        except UsageError as error:
            yield model, str(error), ""
            continue
        yield from _lines(f"{model}, photos", detector, [data for data in files if _is_reduced(data, detector)])
        yield from _lines(f"{model}, enlarged to {ENLARGED_PX} px", detector, enlarged)


def _lines(name: str, detector: FaceDetector, files: Sequence[bytes]) -> Iterator[tuple[str, str, str]]:
    if not files:
        yield f"{name}: none is large enough", "not measured", ""
        return
    whole_s, dropped_s, passed_s = np.sum([_seconds(data, detector) for data in files], axis=0)
    ratios = [f"{(share * dropped_s + (1 - share) * passed_s) / whole_s:.2f}" for share in DROPPED]
    shares = ", ".join(f"{share:.0%}" for share in DROPPED)
    yield f"{name} ({len(files)}): reduced over whole where detection drops {shares}", ", ".join(ratios), ""
    needed = (passed_s - whole_s) / (passed_s - dropped_s)
    yield (
        "   pays from this share of drops on",
        "any" if needed <= 0 else "none" if needed >= 1 else f"{needed:.0%}",
        "",
    )


def _seconds(data: bytes, detector: FaceDetector) -> list[float]:
    """Of CPU time: decode and detection whole; reduced, for a picture that is dropped; reduced, for one that passes."""

    def looked(look_px: int | None, passes: bool) -> RgbU8:
        sample = Sample({}, lambda: data, Limits(), 1024, look_px)
        detector.detect([sample.look.rgb_u8])
        return sample.rgb_u8 if passes else sample.look.rgb_u8

    turns = ((None, True), (detector.looks_at_px, False), (detector.looks_at_px, True))
    rounds = [[seconds(lambda turn=turn: looked(*turn))[1][1] for turn in turns] for _ in range(ROUNDS)]
    return [float(least) for least in np.min(rounds, axis=0)]


def _is_reduced(data: bytes, detector: FaceDetector) -> bool:
    try:
        return decode(data, Limits(), detector.looks_at_px).reduced_by > 1
    except IntakeError:
        return False


def _enlarged(data: bytes) -> bytes:
    rgb_u8 = decode(data, Limits()).rgb_u8
    size_wh = [side * ENLARGED_PX // max(rgb_u8.shape) for side in rgb_u8.shape[1::-1]]
    picture = cv2.resize(rgb_u8, size_wh, interpolation=cv2.INTER_CUBIC)
    return encode_jpeg(np.asarray(picture, np.uint8), ENLARGED_QUALITY)
