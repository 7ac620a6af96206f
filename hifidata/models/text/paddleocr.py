"""Text on a face region, found and read by PaddleOCR itself, as in the paper.

The package pins versions of NumPy, OpenCV and PyYAML that break the rest, so the watermark stage gets a worker group with
an environment of its own, see ``pipelines/paper.yaml``. There it runs its models on ONNX Runtime: the ``paddlepaddle`` wheel,
which shares no process with torch and whose oneDNN kernels fail on these models in 3.3, is not needed.

Source: paper, section 3.4; PP-OCR, arXiv:2009.09941. How it is used: ``text_lines``, as for ``rapidocr``.
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
    looks_at,
    reading_of,
    regions_of,
)
from hifidata.weights.messages import right_file

MODEL_FILES = ("inference.onnx", "inference.yml")
READ_AT_ONCE = 8
_REFUSALS: tuple[type[Exception], ...] = (*ORT_ERRORS, cv2.error, RuntimeError, ValueError)
_BAD_MODEL: tuple[type[Exception], ...] = (*_REFUSALS, KeyError, TypeError, AssertionError, OSError)
THREADS = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}  # workers are processes, one per core


class PaddleOcrText:
    """PaddleOCR's text detection and recognition on CPU, one thread.

    Args:
        detector: folder of a text detection model in PaddleOCR's layout: ``inference.onnx`` and ``inference.yml``.
        recognizer: folder of a text recognition model, likewise.

    Raises:
        UsageError: paddleocr does not load here.
        WeightsError: a folder is not complete, or PaddleOCR does not take it.
    """

    name = "paddleocr"

    def __init__(self, detector: Path, recognizer: Path) -> None:
        names = [_model_name(folder) for folder in (detector, recognizer)]
        os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"  # else it asks the network for models it has
        try:
            from paddleocr import TextDetection, TextRecognition
        except (ImportError, RuntimeError, AttributeError) as error:  # the last: with a NumPy it was not built for
            raise UsageError(
                f"watermark.model paddleocr: the package does not load here ({' '.join(str(error).split())}); "
                f"{PADDLEOCR.remedy}"
            ) from error
        engine: dict[str, Any] = {"device": "cpu", "engine": "onnxruntime", "engine_config": THREADS}
        try:
            # Sizes are decided here, so that its own limits must never change them.
            self._detector: Any = TextDetection(
                model_name=names[0], model_dir=str(detector), limit_side_len=MIN_SIDE_PX, limit_type="min",
                thresh=PIXEL_THRESHOLD, box_thresh=MIN_BOX_SCORE, **engine,
            )  # fmt: skip
            self._recognizer: Any = TextRecognition(model_name=names[1], model_dir=str(recognizer), **engine)
        except _BAD_MODEL as error:
            raise WeightsError(
                f"{detector}, {recognizer}: PaddleOCR does not take them: {' '.join(str(error).split())[:300]}; "
                f"{right_file(detector)}"
            ) from error

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """One ``TextRegions`` per picture, every line with its certainty: the caller decides what counts.

        Args:
            pictures: face regions; a margin around the face box helps.

        Raises:
            ModelError: PaddleOCR refused a picture.
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
        for look in looks_at(bgr):
            (found,) = self._detector.predict([look.bgr], batch_size=1)
            lines += lines_of(look, list(found["dt_polys"]), list(found["dt_scores"]))
        return lines

    def _read(self, bgr: RgbU8, lines: Sequence[Line]) -> list[str]:
        if not lines:
            return []
        cuts = [cut_line(bgr, quad) for quad, _ in lines]
        read = self._recognizer.predict(cuts, batch_size=READ_AT_ONCE)
        return [reading_of(result["rec_text"], float(result["rec_score"])) for result in read]


def _model_name(folder: Path) -> str:
    """What PaddleOCR calls the model, from its own file. Raises WeightsError where the folder is not complete."""
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise WeightsError(f"{folder}: {' and '.join(missing)} not found; {right_file(folder)}")
    try:
        return str(yaml.safe_load((folder / MODEL_FILES[1]).read_text(encoding="utf-8"))["Global"]["model_name"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / MODEL_FILES[1]}: names no model (Global.model_name): {error!r:.200}") from error
