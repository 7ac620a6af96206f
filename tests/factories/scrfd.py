"""SCRFD 2.5G, the detector whose five points the landmark tests compare with; test equipment, reads the shared assets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from hifidata.models.protocols import Faces, RgbU8

INPUT_PX, STRIDES, ANCHORS, MIN_SCORE, MAX_OVERLAP = 640, (8, 16, 32), 2, 0.5, 0.4


class Scrfd:
    """Largest face first; a picture in which nothing is found is searched again with a border (faces that fill it)."""

    name = "scrfd_2.5g"

    def __init__(self, weights: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: RgbU8) -> Faces:
        for border_share in (0.0, 0.5):
            border_px = round(border_share * max(picture.shape[:2]))
            padded = cv2.copyMakeBorder(picture, *[border_px] * 4, cv2.BORDER_CONSTANT)
            boxes, scores, kps = self._search(padded)
            if len(scores):
                break
        order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
        return Faces(boxes[order] - border_px, scores[order], kps[order] - border_px, None)

    def _search(self, picture: RgbU8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scale = INPUT_PX / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas = np.zeros((INPUT_PX, INPUT_PX, 3), np.float32)
        canvas[: small.shape[0], : small.shape[1]] = small
        outputs = self._session.run(None, {"input.1": ((canvas - 127.5) / 128).transpose(2, 0, 1)[None]})
        found = [self._at_stride(stride, *outputs[level::3]) for level, stride in enumerate(STRIDES)]
        boxes, scores, kps = (np.concatenate(part).astype(np.float32) for part in zip(*found, strict=True))
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        keep = cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), MIN_SCORE, MAX_OVERLAP)
        keep = np.asarray(keep, np.int64).ravel()
        return boxes[keep] / scale, scores[keep], kps[keep] / scale

    @staticmethod
    def _at_stride(stride: int, scores: np.ndarray, edges: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
        cells = np.arange(INPUT_PX // stride) * stride
        centres = np.repeat(np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2), ANCHORS, axis=0)
        keep = scores[:, 0] >= MIN_SCORE
        centres, edges, points = centres[keep], edges[keep] * stride, points[keep].reshape(-1, 5, 2) * stride
        boxes = np.concatenate([centres - edges[:, :2], centres + edges[:, 2:]], axis=1)
        return boxes, scores[keep, 0], points + centres[:, None]
