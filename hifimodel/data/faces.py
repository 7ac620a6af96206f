"""Decoding of stored images and mattes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.models.protocols import RgbU8
from hifimodel.data.sample import CorruptSample

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV flag of each of ``hifimodel.faces.clip_crop.REDUCTIONS``."""


def decode_jpeg(data: bytes, factor: int = 1) -> RgbU8:
    """Decode to (H / factor, W / factor, 3) uint8 sRGB. Raises CorruptSample if the bytes are not an image."""
    flags = REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise CorruptSample("jpg undecodable") from error
    if bgr is None:
        raise CorruptSample("jpg undecodable")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def decode_alpha(data: bytes) -> NDArray[np.uint8]:
    """Decode to (H, W) uint8 opacity of the person. Raises CorruptSample if the bytes are not a matte."""
    alpha = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if alpha is None or alpha.dtype != np.uint8:
        raise CorruptSample("alpha.png undecodable")
    return np.asarray(alpha if alpha.ndim == 2 else alpha[..., -1], np.uint8)
