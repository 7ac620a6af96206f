"""Text on a face region, found and read by the PP-OCR models that the ``rapidocr`` package carries.

Source: PP-OCR, arXiv:2009.09941; the models here are PP-OCRv6 small. How it is used: ``text_lines``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from rapidocr import RapidOCR
from rapidocr.inference_engine.onnxruntime.main import ONNXRuntimeError

from hifidata.core.errors import ModelError
from hifidata.models.protocols import RgbU8, TextRegions
from hifidata.models.runtime import device
from hifidata.models.text.lines import (
    MIN_BOX_SCORE,
    PIXEL_THRESHOLD,
    UNREAD,
    Line,
    cut_line,
    lines_of,
    looks_at,
    reading_of,
    regions_of,
)

_PARAMS = {
    "Global.use_cls": False,
    "Global.log_level": "critical",
    "Global.text_score": 0.0,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Det.limit_side_len": 32,  # never enlarge: sizes are decided here
    "Det.limit_type": "min",
    "Det.mean": [0.485, 0.456, 0.406],  # as PaddleOCR feeds these files; the package's 0.5 finds less
    "Det.std": [0.229, 0.224, 0.225],
    "Det.use_dilation": False,  # likewise
    "Det.thresh": PIXEL_THRESHOLD,
    "Det.box_thresh": MIN_BOX_SCORE,
}
_ON_CUDA = {"EngineConfig.onnxruntime.use_cuda": True} | {
    f"EngineConfig.onnxruntime.cuda_ep_cfg.{option}": value for option, value in device.CUDA_OPTIONS.items()
}


class RapidOcrText:
    """PP-OCR text detection and recognition, one thread; where it computes: ``providers``."""

    name = "rapidocr"

    def __init__(self) -> None:
        self._engine = RapidOCR(params=_PARAMS | ({} if device.wanted() == [device.CPU] else _ON_CUDA))
        for network in (self._engine.text_det, self._engine.text_rec):
            device.check(network.session.session, self.name)
        detector: Any = self._engine.text_det
        detector.sorted_boxes = _as_found
        detector.mean, detector.std = np.float32(detector.mean), np.float32(detector.std)  # lists would make it float64
        if device.wanted() == [device.CPU]:
            detector.session.session = _without_denormals(detector.session.session)

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """One ``TextRegions`` per picture, every line with its certainty: the caller decides what counts.

        Args:
            pictures: face regions; a margin around the face box helps.

        Raises:
            ModelError: onnxruntime or OpenCV refused a picture.
        """
        return [self._find_one(picture) for picture in pictures]

    def _find_one(self, picture: RgbU8) -> TextRegions:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        try:
            lines = self._detect(bgr)
            readings = [self._read(bgr, line) for line in lines]
        except (cv2.error, ONNXRuntimeError) as error:
            raise ModelError(f"{self.name}: refused a region of shape {picture.shape}: {error}") from error
        return regions_of(lines, readings)

    def _detect(self, bgr: RgbU8) -> list[Line]:
        lines: list[Line] = []
        for look in looks_at(bgr):
            found: Any = self._engine.text_det(look.bgr)
            if found.boxes is not None:
                lines += lines_of(look, found.boxes, found.scores)
        return lines

    def _read(self, bgr: RgbU8, line: Line) -> str:
        result: Any = self._engine(cut_line(bgr, line[0]), use_det=False, use_cls=False, use_rec=True)
        return reading_of(result.txts[0], float(result.scores[0])) if result.txts else UNREAD


def _as_found(quads_px: Any) -> Any:
    """In place of rapidocr's sorting by position, which leaves the scores behind: they would belong to other boxes."""
    return quads_px


def _without_denormals(session: ort.InferenceSession) -> ort.InferenceSession:
    """The same network with zeros for weights too small for float32's normal form.

    Half of the weights of two layers are such numbers, for which Intel's processors take a hundred times as long: without them
    the detector needs a third of the time. What it finds stays the same, a test says.
    """
    model = onnx.load(session._model_path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.raw_data:
            values = np.frombuffer(tensor.raw_data, np.float32)
            tensor.raw_data = np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values).tobytes()
    return ort.InferenceSession(model.SerializeToString(), session.get_session_options(), providers=[device.CPU])
