"""Text on a face region with the PP-OCRv6 small models of the ``rapidocr`` package.

Input: BGR uint8 regions. Output of the detector: quads and scores; of the recogniser: text and confidence.

Source: PP-OCR, arXiv:2009.09941; https://github.com/RapidAI/RapidOCR. Our use: passes and filters of ``lines``, PaddleOCR's
normalisation, and no denormal weights on the CPU.
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
    passes_of,
    reading_of,
    regions_of,
)

_PARAMS = {
    "Global.use_cls": False,
    "Global.log_level": "critical",
    "Global.text_score": 0.0,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Det.limit_side_len": 32,  # with "min", this prevents a resize by the package
    "Det.limit_type": "min",
    "Det.mean": [0.485, 0.456, 0.406],  # as in PaddleOCR; the package's 0.5 finds less text
    "Det.std": [0.229, 0.224, 0.225],
    "Det.use_dilation": False,  # as in PaddleOCR
    "Det.thresh": PIXEL_THRESHOLD,
    "Det.box_thresh": MIN_BOX_SCORE,
}
_ON_CUDA = {"EngineConfig.onnxruntime.use_cuda": True} | {
    f"EngineConfig.onnxruntime.cuda_ep_cfg.{option}": value for option, value in device.CUDA_OPTIONS.items()
}


class RapidOcrText:
    """Finds and reads text with PP-OCR, in one thread."""

    name = "rapidocr"

    def __init__(self) -> None:
        self._engine = RapidOCR(params=_PARAMS | ({} if device.session_providers() == [device.CPU] else _ON_CUDA))
        for network in (self._engine.text_det, self._engine.text_rec):
            device.check_provider(network.session.session, self.name)
        detector: Any = self._engine.text_det
        detector.sorted_boxes = _unsorted
        detector.mean, detector.std = np.float32(detector.mean), np.float32(detector.std)  # lists would give float64
        if device.session_providers() == [device.CPU]:
            detector.session.session = _without_denormals(detector.session.session)

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """Find the text of each image. All lines are returned; the caller applies a threshold to their scores.

        Args:
            pictures: face regions, with a margin around the face box.

        Raises:
            ModelError: ONNX Runtime or OpenCV failed on an image.
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
        for detector_pass in passes_of(bgr):
            found: Any = self._engine.text_det(detector_pass.bgr)
            if found.boxes is not None:
                lines += lines_of(detector_pass, found.boxes, found.scores)
        return lines

    def _read(self, bgr: RgbU8, line: Line) -> str:
        result: Any = self._engine(cut_line(bgr, line[0]), use_det=False, use_cls=False, use_rec=True)
        return reading_of(result.txts[0], float(result.scores[0])) if result.txts else UNREAD


def _unsorted(quads_px: Any) -> Any:
    """Keep the order of the boxes: rapidocr's ``sorted_boxes`` sorts the boxes, but not their scores."""
    return quads_px


def _without_denormals(session: ort.InferenceSession) -> ort.InferenceSession:
    """Open the network again with zeros instead of denormal float32 weights.

    Half of the weights of two layers are denormal. Intel processors are 100 times slower for such numbers, so this reduces the
    detector's time to a third. A test checks that the results do not change.
    """
    model = onnx.load(session._model_path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.raw_data:
            values = np.frombuffer(tensor.raw_data, np.float32)
            tensor.raw_data = np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values).tobytes()
    return ort.InferenceSession(model.SerializeToString(), session.get_session_options(), providers=[device.CPU])
