"""PaddleOCR for tests: its package in an environment of its own, and models in its folder layout.

The networks are the PP-OCRv6 files that the ``rapidocr`` package carries; the ``inference.yml`` beside them is ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hifidata.weights.catalogue import entry
from tests.factories.environment import environment

PACKAGES = ("paddleocr==3.7.0", "onnxruntime>=1.19")


def ocr_environment(folder: Path) -> Path:
    """Python of an environment that has PaddleOCR with its own NumPy and OpenCV before everything that we run on."""
    return environment(folder, *PACKAGES)


def ocr_models(folder: Path) -> Path:
    """For ``watermark.folder``: both models in PaddleOCR's layout, made from what rapidocr carries."""
    import onnxruntime as ort
    import rapidocr

    carried = Path(rapidocr.__file__).parent / "models"
    files = {"paddleocr_det": "PP-OCRv6_det_small.onnx", "paddleocr_rec": "PP-OCRv6_rec_small.onnx"}
    if not all((carried / file).is_file() for file in files.values()):
        pytest.skip("this version of rapidocr does not carry PP-OCRv6 small")
    session = ort.InferenceSession(str(carried / files["paddleocr_rec"]), providers=["CPUExecutionProvider"])
    characters = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    decode = {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}
    normalise = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "hwc", "scale": "1./255."}
    settings = {
        "paddleocr_det": {
            "Global": {"model_name": "PP-OCRv6_small_det"},
            "PreProcess": {
                "transform_ops": [
                    decode, {"DetResizeForTest": {"resize_long": 960}}, {"NormalizeImage": normalise}, {"ToCHWImage": None}
                ]
            },
            "PostProcess": {
                "name": "DBPostProcess", "thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5
            },
        },
        "paddleocr_rec": {
            "Global": {"model_name": "PP-OCRv6_small_rec"},
            "PreProcess": {"transform_ops": [decode, {"RecResizeImg": {"image_shape": [3, 48, 320]}}]},
            "PostProcess": {"name": "CTCLabelDecode", "character_dict": [c for c in characters if c]},
        },
    }  # fmt: skip
    for name, file in files.items():
        model = folder / entry(name).file
        model.mkdir(parents=True)
        (model / "inference.onnx").symlink_to(carried / file)
        text = yaml.safe_dump(settings[name], allow_unicode=True)
        (model / "inference.yml").write_text(text, encoding="utf-8")
    return folder
