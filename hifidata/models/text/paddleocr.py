"""Text on a face region with the PaddleOCR package, as in the paper.

Input: BGR uint8 regions. Output of the detector: quads and scores; of the recogniser: text and confidence.

The package pins versions of NumPy, OpenCV and PyYAML that conflict with the other packages. Therefore the watermark stage needs
its own worker group and environment, see ``pipelines/paper.yaml``. The models run on ONNX Runtime instead of ``paddlepaddle``.
``paddlepaddle`` cannot share a process with torch, and its oneDNN kernels in version 3.3 fail on these models.

Source: paper, section 3.4; PP-OCR, arXiv:2009.09941. Our use: passes and filters of ``lines``, as for ``rapidocr``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from hifidata.core.errors import ModelError, UsageError, WeightsError
from hifidata.models.protocols import RgbU8, TextRegions
from hifidata.models.requirements import PADDLEOCR
from hifidata.models.runtime.onnx import ORT_ERRORS
from hifidata.models.text.lines import (
    MIN_BOX_SCORE,
    MIN_SIDE_PX,
    PIXEL_THRESHOLD,
    Line,
    cut_line,
    lines_of,
    passes_of,
    reading_of,
    regions_of,
)
from hifidata.weights.messages import right_file

MODEL_FILES = ("inference.onnx", "inference.yml")
READ_AT_ONCE = 8
_REFUSALS: tuple[type[Exception], ...] = (*ORT_ERRORS, cv2.error, RuntimeError, ValueError)
_BAD_MODEL: tuple[type[Exception], ...] = (*_REFUSALS, KeyError, TypeError, AssertionError, OSError)
THREADS = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
"""One thread, because workers are processes, one per core."""


class PaddleOcrText:
    """Finds and reads text with PaddleOCR, on the CPU in one thread.

    Args:
        detector: folder of a text detection model with ``inference.onnx`` and ``inference.yml``.
        recognizer: folder of a text recognition model with the same files.

    Raises:
        UsageError: paddleocr cannot be imported.
        WeightsError: a folder is not complete, or PaddleOCR cannot read it.
    """

    name = "paddleocr"

    def __init__(self, detector: Path, recognizer: Path) -> None:
        names = [_model_name(folder) for folder in (detector, recognizer)]
        os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"  # otherwise it connects to model hosts
        try:
            from paddleocr import TextDetection, TextRecognition
        except (ImportError, RuntimeError, AttributeError) as error:  # AttributeError: an incompatible NumPy
            raise UsageError(
                f"watermark.model: paddleocr cannot be imported ({' '.join(str(error).split())}); {PADDLEOCR.remedy}"
            ) from error
        engine: dict[str, Any] = {"device": "cpu", "engine": "onnxruntime", "engine_config": THREADS}
        try:
            # These limits prevent a resize by PaddleOCR; the sizes are those of lines.PASSES.
            self._detector: Any = TextDetection(
                model_name=names[0], model_dir=str(detector), limit_side_len=MIN_SIDE_PX, limit_type="min",
                thresh=PIXEL_THRESHOLD, box_thresh=MIN_BOX_SCORE, **engine,
            )  # fmt: skip
            self._recognizer: Any = TextRecognition(model_name=names[1], model_dir=str(recognizer), **engine)
        except _BAD_MODEL as error:
            raise WeightsError(
                f"{detector}, {recognizer}: PaddleOCR cannot read these models: {' '.join(str(error).split())[:300]}; "
                f"{right_file(detector)}"
            ) from error

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """Find the text of each image. All lines are returned; the caller applies a threshold to their scores.

        Args:
            pictures: face regions, with a margin around the face box.

        Raises:
            ModelError: PaddleOCR failed on an image.
        """
        return [self._find_one(picture) for picture in pictures]

    def _find_one(self, picture: RgbU8) -> TextRegions:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        try:
            lines = self._detect(bgr)
            readings = self._read(bgr, lines)
        except _REFUSALS as error:
            raise ModelError(f"{self.name}: refused a region of shape {picture.shape}: {error}") from error
        return regions_of(lines, readings)

    def _detect(self, bgr: RgbU8) -> list[Line]:
        lines: list[Line] = []
        for detector_pass in passes_of(bgr):
            (found,) = self._detector.predict([detector_pass.bgr], batch_size=1)
            lines += lines_of(detector_pass, list(found["dt_polys"]), list(found["dt_scores"]))
        return lines

    def _read(self, bgr: RgbU8, lines: Sequence[Line]) -> list[str]:
        if not lines:
            return []
        cuts = [cut_line(bgr, quad) for quad, _ in lines]
        read = self._recognizer.predict(cuts, batch_size=READ_AT_ONCE)
        return [reading_of(result["rec_text"], float(result["rec_score"])) for result in read]


def _model_name(folder: Path) -> str:
    """Read PaddleOCR's name of the model from ``inference.yml``. Raises WeightsError if the folder is not complete."""
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise WeightsError(f"{folder}: {' and '.join(missing)} not found; {right_file(folder)}")
    try:
        return str(yaml.safe_load((folder / MODEL_FILES[1]).read_text(encoding="utf-8"))["Global"]["model_name"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder / MODEL_FILES[1]}: the key Global.model_name cannot be read ({error!r:.200}); {right_file(folder)}"
        ) from error
