"""The members of one image, checked and converted to pixels of the stored image."""

from __future__ import annotations

import io
import json
import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hifidata.models.face3d.base import kps_of
from hifidata.models.protocols import F32
from hifimodel.data.shards import require_version
from hifimodel.faces.clip_crop import scaled_points

N_LANDMARKS = 68
MAX_SIDE_PX = 8192
MAX_ARRAY_BYTES = 2**20
MAX_COORDINATE_PX = 1e7
"""Larger than any photo; sums and products of such numbers still fit float32."""
MAX_NORM_ERROR = 0.01
"""Embeddings of shards have L2 norm 1; after storage as float16 the error is smaller than this."""
UNNAMED = "unnamed"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
UNREADABLE_ARRAY = (
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,  # also NotImplementedError and RecursionError
    SyntaxError,
    EOFError,
    OSError,
    MemoryError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)
"""Errors of numpy and zipfile for damaged bytes: they pass numbers and text of a header to constructors unchecked."""


class CorruptSample(Exception):
    """A member is missing or damaged; the message is the counted reason, a few words without values."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A usable image.

    Attributes:
        jpeg: encoded square image.
        alpha_png: encoded matte, or None.
        matting_model: model of the matte; ``UNNAMED`` if the sample does not name it, None without a matte.
        embedding: (d2,) float32.
        landmarks_px: (68, 2) float32, pixels of the stored image; the centre of the first pixel is (0, 0).
        face3d: arrays of a 3D face model, or None.
        kps_px: (5, 2) float32: eyes, nose tip, mouth corners; pixels of the stored image.
        face_xyxy_px: (4,) float32 edges of the face box; those of the whole image are 0 and ``side_px``.
        side_px: side of the stored image.
        original_hw_px: size of the photo.
        crop_yx_px: corner of the crop in the photo, after the resize of the crop.
    """

    key: str
    jpeg: bytes
    alpha_png: bytes | None
    matting_model: str | None
    caption: str
    embedding: F32
    embedding_model: str
    landmarks_px: F32
    face3d: Mapping[str, Any] | None
    kps_px: F32
    face_xyxy_px: F32
    side_px: int
    original_hw_px: tuple[float, float]
    crop_yx_px: tuple[float, float]


def parse_sample(key: str, members: Mapping[str, bytes]) -> Sample:
    """Check and read all members but the pixels.

    Args:
        key: of the sample, for errors.
        members: bytes by suffix.

    Raises:
        CorruptSample: a member is missing, truncated or invalid.
        DataError: the sample has another format version.
    """
    for suffix in ("json", "jpg", "txt", "embedding.npy", "landmarks.npy"):
        if suffix not in members:
            raise CorruptSample(f"{suffix} missing")
    facts = _facts(key, members["json"])
    if facts.get("matting_model") and "alpha.png" not in members:
        raise CorruptSample("alpha.png missing")
    side_px = _side_px(members["jpg"])
    if "alpha.png" in members:
        _require_alpha(members["alpha.png"], side_px)
    landmarks_px = _array(members, "landmarks.npy")
    embedding = _array(members, "embedding.npy")
    if landmarks_px.shape != (N_LANDMARKS, 2) or embedding.ndim != 1 or not embedding.size:
        raise CorruptSample("npy of another shape")
    if abs(float(np.linalg.norm(embedding.astype(np.float64))) - 1) > MAX_NORM_ERROR:
        raise CorruptSample("embedding.npy not of norm 1")
    _require_near(landmarks_px, side_px)
    corner, scale = _window(facts, side_px)
    box = _numbers(facts, "face_x1_px", "face_y1_px", "face_x2_px", "face_y2_px").reshape(2, 2)
    face_xyxy_px = ((box - corner) * scale).astype(np.float32).ravel()
    kps = facts.get("face_kps")
    kps_px = kps_of(landmarks_px) if kps is None else scaled_points(_points(kps), scale, corner)
    _require_near(kps_px, side_px)
    _require_near(face_xyxy_px, side_px)
    return Sample(
        key=key,
        jpeg=members["jpg"],
        alpha_png=members.get("alpha.png"),
        matting_model=str(facts.get("matting_model") or UNNAMED) if "alpha.png" in members else None,
        caption=_caption(members["txt"]),
        embedding=embedding,
        embedding_model=str(facts.get("embedding_model")),
        landmarks_px=landmarks_px,
        face3d=_face3d(members),
        kps_px=kps_px,
        face_xyxy_px=face_xyxy_px,
        side_px=side_px,
        original_hw_px=(float(facts["height_px"]), float(facts["width_px"])),
        crop_yx_px=(float(corner[1]) * scale, float(corner[0]) * scale),
    )


def _facts(key: str, data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise CorruptSample("json unreadable") from error
    if not isinstance(facts, dict):
        raise CorruptSample("json is no object")
    require_version(facts.get("format_version"), f"sample {key}")
    return facts


def _caption(data: bytes) -> str:
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise CorruptSample("txt is not UTF-8") from error


def _side_px(jpeg: bytes) -> int:
    if not jpeg.startswith(JPEG_START) or not jpeg.endswith(JPEG_END):
        raise CorruptSample("jpg cut off")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
                width_px, height_px = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise CorruptSample("jpg header unreadable") from error
    if width_px != height_px or width_px > MAX_SIDE_PX:
        raise CorruptSample("jpg not square" if width_px != height_px else "jpg too large")
    return int(width_px)


def _require_alpha(png: bytes, side_px: int) -> None:
    """Check the header of a matte, before a decoder reserves memory for the size that it promises."""
    if not png.startswith(PNG_START):
        raise CorruptSample("alpha.png is no PNG")
    if png[16:24] != struct.pack(">II", side_px, side_px):
        raise CorruptSample("alpha.png of another size")


def _array(members: Mapping[str, bytes], suffix: str) -> F32:
    data = members[suffix]
    try:
        if len(data) > MAX_ARRAY_BYTES:
            raise ValueError("too large")
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if loaded.dtype.kind not in "fiu":
            raise ValueError(f"dtype {loaded.dtype}")
        with np.errstate(over="ignore"):  # too large for float32: infinite
            array = np.asarray(loaded, np.float32)
    except UNREADABLE_ARRAY as error:
        raise CorruptSample(f"{suffix} unreadable") from error
    if not np.isfinite(array).all():
        raise CorruptSample(f"{suffix} not finite")
    return array


def _face3d(members: Mapping[str, bytes]) -> dict[str, Any] | None:
    data = members.get("face3d.npz")
    if data is None:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_ARRAY_BYTES:
                raise ValueError("too large")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            face = {name: np.asarray(arrays[name]) for name in arrays.files}
            if any(array.dtype.kind not in "fiuU" for array in face.values()):
                raise ValueError("neither numbers nor text")
    except UNREADABLE_ARRAY as error:
        raise CorruptSample("face3d.npz unreadable") from error
    return face


def _numbers(facts: Mapping[str, Any], *names: str) -> NDArray[np.float64]:
    values = [facts.get(name) for name in names]
    # Compared without conversion: a JSON integer can exceed the range of floats.
    if not all(isinstance(value, (int, float)) and abs(value) <= MAX_COORDINATE_PX for value in values):
        raise CorruptSample("json lacks numbers")
    return np.array(values, np.float64)


def _points(values: Any) -> NDArray[np.float64]:
    try:
        points = np.asarray(values, np.float64).reshape(5, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptSample("json lacks numbers") from error
    if not (np.abs(points) <= MAX_COORDINATE_PX).all():
        raise CorruptSample("json lacks numbers")
    return points


def _window(facts: Mapping[str, Any], side_px: int) -> tuple[NDArray[np.float64], float]:
    """Return the corner of the crop in the photo, and stored pixels per photo pixel."""
    x1, y1, x2, width_px, height_px = _numbers(facts, "crop_x1_px", "crop_y1_px", "crop_x2_px", "width_px", "height_px")
    if x2 - x1 < 1 or min(width_px, height_px) < 1:
        raise CorruptSample("json of an empty crop")
    return np.array([x1, y1]), float(side_px / (x2 - x1))


def _require_near(points_px: F32, side_px: int) -> None:
    if points_px.min() < -side_px or points_px.max() > 2 * side_px:
        raise CorruptSample("face far outside the image")
