"""Shards made by code with the real writer: people of flat-coloured squares, every picture told apart by its caption."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.store.shards import members_of
from hifimodel.data import Batch, DataConfig

SIDE_PX = 256
TEMPLATE_68 = np.stack([np.linspace(60, 190, 68), 128 + 40 * np.sin(np.arange(68))], axis=1).astype(np.float32)
KPS_PX = np.array([[100, 100], [156, 100], [128, 130], [105, 160], [151, 160]], np.float32)
"""In the stored picture."""
CORNER, SCALE = np.array([20.0, 30.0]), 2.0
"""Where the cut began in the photo, and stored pixels per photo pixel."""


def person_id(number: int) -> str:
    """A well-formed identity id."""
    return f"{number:016x}"


def in_photo(points: NDArray[np.float32]) -> list[float]:
    """Points of the stored picture in the photo it was cut from."""
    flat: list[float] = ((points + 0.5) / SCALE - 0.5 + CORNER).ravel().tolist()
    return flat


def picture(number: int, image: int) -> NDArray[np.uint8]:
    """A grey square with a face-sized patch whose colour tells person and picture, and dots at the five points."""
    rgb = np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)
    rgb[64:192, 64:192] = (40 + 7 * number % 200, 40 + 13 * image % 200, 60)
    for x, y in KPS_PX.astype(int):
        cv2.circle(rgb, (int(x), int(y)), 3, (255, 255, 255), -1)
    return rgb


def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """Encoded."""
    return bytes(cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1])


def sample(number: int, image: int) -> tuple[str, dict[str, bytes]]:
    """(key, members) as hifidata writes them."""
    x1, y1, x2, y2 = in_photo(np.array([[64, 64], [192, 192]], np.float32))
    row = {
        "image_id": f"{number}-{image}", "identity_id": person_id(number), "width_px": 300, "height_px": 320,
        "crop_x1_px": 20, "crop_y1_px": 30, "crop_x2_px": 148, "crop_y2_px": 158,
        "face_x1_px": x1, "face_y1_px": y1, "face_x2_px": x2, "face_y2_px": y2, "face_kps": in_photo(KPS_PX),
        "caption": f"person {number} picture {image}", "embedding": np.eye(8)[number % 8] , "embedding_model": "made_up",
        "portrait_landmarks": (TEMPLATE_68 + np.float32(number + image / 100)).ravel(),
    }  # fmt: skip
    return f"{person_id(number)}_{image:04d}", members_of(row, jpeg(picture(number, image)))


def person(number: int, n_images: int) -> list[tuple[str, dict[str, bytes]]]:
    """All samples of an identity."""
    return [sample(number, image) for image in range(n_images)]


def paint(target_lm, target_face3d, ref_lm, ref_face3d, source_px, size_px):  # type: ignore[no-untyped-def]
    """Instead of drawing: the first landmarks of target and reference as two pixels, so that a test can read them."""
    rgb = np.zeros((size_px, size_px, 3), np.uint8)
    for column, points in enumerate((target_lm, ref_lm)):
        value = round(float(points[0, 0] - TEMPLATE_68[0, 0]) * 100)
        rgb[0, column] = (value // 100 % 256, value % 100, source_px // 8)
    return rgb


def quick(shards: object, **settings: object) -> DataConfig:
    """Small pictures, one epoch."""
    defaults: dict[str, object] = {"size_px": 64, "batch_size": 1, "epochs": 1, "clip_px": 32}
    return DataConfig(shards, **(defaults | settings))  # type: ignore[arg-type]


def same(first: Batch, second: Batch) -> bool:
    """Whether two batches are equal bit for bit, the position included."""
    one, two = vars(first), vars(second)
    return all(value.equal(two[name]) if hasattr(value, "equal") else value == two[name] for name, value in one.items())
