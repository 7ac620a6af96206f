"""One file per model behind a stage; the only place that imports model libraries.

The tables below are the one place that maps a recipe's model name to its class, with the thresholds that belong to that
model and where they come from. Nothing is imported until ``load`` is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hifidata.core.base_config import BaseConfig, validate
from hifidata.core.errors import RecipeError, WeightsError
from hifidata.core.extensions import MODELS, entry_points, load_class
from hifidata.models import custom_file
from hifidata.models.config import ModelFileConfig
from hifidata.models.requirements import PADDLE, PADDLEOCR, SPANDREL, TRANSFORMERS
from hifidata.models.spec import ModelSpec, spec_of
from hifidata.weights.catalogue import CATALOGUE, Weight
from hifidata.weights.find import find_weight
from hifidata.weights.messages import right_file

_INSIGHTFACE = "InsightFace weights: non-commercial research only"
DETECTORS: Mapping[str, ModelSpec] = {
    "dlib_mmod": ModelSpec(
        "hifidata.models.detect.dlib:DlibMmodDetector",
        "CC0-1.0; 68-point predictor trained on iBUG 300-W: research only",
        thresholds_from="0.0: dlib's own cut",
        commercial=False,
        landmarks="gives",
    ),
    "dlib_hog": ModelSpec(
        "hifidata.models.detect.dlib:DlibDetector",
        "CC0-1.0; 68-point predictor trained on iBUG 300-W: research only",
        thresholds_from="0.0: dlib's own cut; lower was measured, see docs/quality.md",
        commercial=False,
        landmarks="gives",
    ),
    "retinaface": ModelSpec(
        "hifidata.models.detect.scrfd:RetinaFace",
        _INSIGHTFACE,
        thresholds_from="0.5: insightface's own cut; the paper names none",
        files=("det_10g",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "scrfd_2.5g": ModelSpec(
        "hifidata.models.detect.scrfd:Scrfd2G",
        _INSIGHTFACE,
        thresholds_from="0.55: at 0.5 it sees a face where there is none, see docs/quality.md",
        files=("scrfd_2.5g",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "scrfd_500m": ModelSpec(
        "hifidata.models.detect.scrfd:Scrfd500M",
        _INSIGHTFACE,
        thresholds_from="0.55: at 0.5 it sees second faces in 2 of 279 portraits of a private test set",
        files=("scrfd_500m",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "retinaface_mnet": ModelSpec(
        "hifidata.models.detect.retinaface_mnet:RetinaFaceMnet",
        "BSD-2-Clause / MIT; trained on WIDER FACE",
        thresholds_from="0.8: at 0.5 ten of 279 portraits of a private test set have a second face, here two",
        files=("retinaface_mnet025",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "yunet": ModelSpec(
        "hifidata.models.detect.yunet:YuNet",
        "BSD-2-Clause / Apache-2.0; trained on WIDER FACE",
        thresholds_from="0.8: finds 279 of 279 portraits of a private test set and nothing in 14 pictures without faces; OpenCV's 0.9 "
        "misses 4",
        files=("yunet",),
        max_score=1,
    ),
}
EMBEDDERS: Mapping[str, ModelSpec] = {
    "dlib_resnet": ModelSpec(
        "hifidata.models.detect.dlib:DlibEmbedder",
        "CC0-1.0",
        {"k": 2, "min_similarity": 0.93},
        "tuned on half of the people of a private test set, see docs/quality.md",
        commercial=True,
        landmarks="needs",
    ),
    "arcface": ModelSpec(
        "hifidata.models.embed.arcface:ArcFace", _INSIGHTFACE, {"k": 2, "min_similarity": 0.7},
        "0.7: paper, section 3.4, for InsightFace; k is not in the paper. `hifidata calibrate` fits 0.7 to the data",
        ("w600k_r50",), takes_config=True, uses_onnx_runtime=True),
    "arcface_glintr100": ModelSpec(
        "hifidata.models.embed.arcface:ArcFaceGlint", _INSIGHTFACE, {"k": 2, "min_similarity": 0.7},
        "0.7: paper, section 3.4, for InsightFace; k is not in the paper. `hifidata calibrate` fits 0.7 to the data",
        ("glintr100",), takes_config=True, uses_onnx_runtime=True),
    "mobilefacenet": ModelSpec(
        "hifidata.models.embed.arcface:MobileFaceNet", "Apache-2.0 repository; trained on MS-Celeb-1M (withdrawn): research only",
        {"k": 2, "min_similarity": 0.35},
        "tuned on half of the people of a private test set, see docs/quality.md",
        ("mobilefacenet",), takes_config=True, uses_onnx_runtime=True),
}  # fmt: skip
SCORERS: Mapping[str, ModelSpec] = {
    "iso29794": ModelSpec(
        "hifidata.models.quality.iso29794:IsoQuality",
        "Apache-2.0 (ours)",
        {"min_score": 0.60},
        "see docs/quality.md; the paper's 0.45 is FQA's",
        commercial=True,
    ),
    "modelscope_fqa": ModelSpec(
        "hifidata.models.quality.fqa:ModelScopeFqa",
        "not stated (ModelScope code: Apache-2.0)",
        {"min_score": 0.45},
        "paper, section 3.4",
        ("fqa",),
        uses_onnx_runtime=True,
    ),
    "ediffiqa": ModelSpec(
        "hifidata.models.quality.ediffiqa:EDifFiqa",
        "CC-BY-4.0",
        {"min_score": 0.5},
        "the model's page puts good faces above 0.5; not measured here",
        ("ediffiqa_t",),
        uses_onnx_runtime=True,
    ),
    "lightqnet": ModelSpec(
        "hifidata.models.quality.lightqnet:LightQNet",
        "MIT",
        {"min_score": 0.55},
        "keeps 98 % of usable faces of half of the people of a private test set; hardly sees blur, see docs/quality.md",
        ("lightqnet",),
    ),
}
_TEXT_LIMITS = "0.01 of the face, 2 characters{}: tuned with rapidocr{}; see docs/quality.md; the paper gives none"
RECOGNIZERS: Mapping[str, ModelSpec] = {
    "rapidocr": ModelSpec(
        "hifidata.models.text.rapidocr:RapidOcrText", "Apache-2.0 (PP-OCRv6)", {"min_text_score": 0.25}, _TEXT_LIMITS.format(", certainty 0.25", ""),
        commercial=True, uses_onnx_runtime=True),
    "rapidocr_craft": ModelSpec(
        "hifidata.models.text.craft:RapidOcrCraft", "Apache-2.0 (PP-OCRv6), MIT (CRAFT)", {"min_text_score": 0.6},
        _TEXT_LIMITS.format("", "; certainty 0.6: on it"),
        ("craft",), uses_onnx_runtime=True),
    "paddleocr": ModelSpec(
        "hifidata.models.text.paddleocr:PaddleOcrText", "Apache-2.0 (PP-OCRv6)", {"min_text_score": 0.25}, _TEXT_LIMITS.format(", certainty 0.25", ""),
        ("paddleocr_det", "paddleocr_rec"),
        extra=PADDLEOCR,
    ),
}  # fmt: skip
CAPTIONERS: Mapping[str, ModelSpec] = {
    "attributes": ModelSpec("hifidata.models.caption.attributes:AttributeCaptioner", "Apache-2.0 (ours)", commercial=True),
    "openai": ModelSpec("hifidata.models.caption.openai:OpenAiCaptioner", "that of the server's model", takes_config=True),
    "vlm": ModelSpec(
        "hifidata.models.caption.vlm:VlmCaptioner", "Apache-2.0 (Qwen3-VL)", files=("qwen3_vl_8b",), takes_config=True, extra=TRANSFORMERS
    ),
}  # fmt: skip
FACE3D_MODELS: Mapping[str, ModelSpec] = {
    "tddfa": ModelSpec(
        "hifidata.models.face3d.tddfa:TddfaFitter",
        "MIT (3DDFA_V2); basis from BFM 2009: academic use only",
        files=(
            "3ddfa_mb05", "3ddfa_mean_std", "3ddfa_bfm_u_base", "3ddfa_bfm_w_shp_base", "3ddfa_bfm_w_exp_base",
        ), uses_onnx_runtime=True),
    "mesh": ModelSpec("hifidata.models.face3d.mesh:MeshFitter", "Apache-2.0 (MediaPipe)", files=("mediapipe_mesh",), uses_onnx_runtime=True),
}  # fmt: skip
ATTRIBUTE_MODELS: Mapping[str, ModelSpec] = {
    "genderage": ModelSpec(
        "hifidata.models.attributes.genderage:InsightGenderAge",
        _INSIGHTFACE,
        files=("genderage",),
        uses_onnx_runtime=True,
    ),
}
_GFPGAN = "Apache-2.0 with non-commercial parts (NVIDIA StyleGAN2, DFDNet)"
_TERMS = "terms: hand and microphone are the paper's (section 3.4), the others ours"
OCCLUSION_CHECKERS: Mapping[str, ModelSpec] = {
    "hands": ModelSpec(
        "hifidata.models.occlusion.hands:HandsAtFace",
        "Apache-2.0 (MediaPipe)",
        {"min_score": 0.5},
        "tuned on half of the people of a private test set, see docs/quality.md",
        ("mediapipe_palm", "mediapipe_hand"), uses_onnx_runtime=True),
    "blip2": ModelSpec(
        "hifidata.models.occlusion.blip2:Blip2Occlusion", "MIT (model card)", thresholds_from=_TERMS, files=("blip2_flan_t5_xl",), takes_config=True,
        extra=TRANSFORMERS,
    ),
    "blip2_opt": ModelSpec(
        "hifidata.models.occlusion.blip2:Blip2Occlusion",
        "MIT (model card); OPT: non-commercial",
        thresholds_from=_TERMS,
        files=("blip2_opt_2.7b",),
        takes_config=True,
        extra=TRANSFORMERS,
    ),
}  # fmt: skip
_FLOOR = "0.85: ours; the paper names no such floor"
RESTORERS: Mapping[str, ModelSpec] = {
    "gfpgan": ModelSpec("hifidata.models.restore.gfpgan:Gfpgan", _GFPGAN, thresholds_from=_FLOOR, files=("gfpgan_onnx",), uses_onnx_runtime=True),
    "gfpgan_pth": ModelSpec(
        "hifidata.models.restore.gfpgan:GfpganTorch", _GFPGAN, thresholds_from=_FLOOR, files=("gfpgan_pth",),
        extra=SPANDREL,
    ),
}  # fmt: skip
MATTERS: Mapping[str, ModelSpec] = {
    "modnet": ModelSpec("hifidata.models.matting.modnet:ModNet", "Apache-2.0", files=("modnet",), uses_onnx_runtime=True),
    "pp_matting": ModelSpec(
        "hifidata.models.matting.pp_matting:PpMatting", "Apache-2.0 (PaddleSeg)", files=("pp_matting",),
        extra=PADDLE,
    ),
    "selfie": ModelSpec("hifidata.models.matting.selfie:SelfieMatting", "Apache-2.0 (MediaPipe)", files=("selfie",)),
}  # fmt: skip
MADE_FILES: Mapping[str, str] = {
    "3ddfa_mb05": "hifidata.models.face3d.tddfa_conversion:network",
    "3ddfa_mean_std": "hifidata.models.face3d.tddfa_conversion:scaling",
}
"""Entries of the weights catalogue that are made here, and ``module:function`` that makes them."""
BY_STAGE: Mapping[str, Mapping[str, ModelSpec]] = {
    "detect": DETECTORS,
    "quality": SCORERS,
    "watermark": RECOGNIZERS,
    "occlusion": OCCLUSION_CHECKERS,
    "restore": RESTORERS,
    "matting": MATTERS,
    "verify": EMBEDDERS,
    "caption": CAPTIONERS,
    "face3d": FACE3D_MODELS,
    "attributes": ATTRIBUTE_MODELS,
}


def find(stage: str, model: str) -> ModelSpec:
    """The spec of a model: one of the tables', or of another package's class or entry point. Raises RecipeError."""
    table = BY_STAGE[stage]
    if model in table:
        return table[model]
    if ":" not in model and model not in entry_points(MODELS):
        known = ", ".join(sorted(table)) or "none yet; leave it null"
        raise RecipeError(f"{stage}.model: unknown model {model!r}; known: {known}, or package.module:Class")
    return _extension(stage, model)


@cache
def _extension(stage: str, model: str) -> ModelSpec:
    key = f"{stage}.model"
    return spec_of(load_class(model, MODELS, key), stage, key)


def load(stage: str, model: str, section: Any = None) -> Any:
    """Imports a model's class and constructs it: this is where its files are read.

    Args:
        stage: recipe section that names the model.
        model: name in the table, ``package.module:Class``, or an entry point.
        section: that section, for models that take settings or files of the user's own.

    Raises:
        RecipeError: the model does not exist or does not fit.
        WeightsError: a file is missing or is not the right one.
    """
    spec = find(stage, model)
    own = custom_file.checked(stage, section) if isinstance(section, ModelFileConfig) else None
    arguments: list[Any] = [own] if own else custom_paths(spec, section)
    arguments = arguments or [find_weight(weight) for weight in spec.weights]
    if spec.takes_config:
        arguments.append(section)
    if spec.options is not None:
        arguments.append(options_of(stage, spec, section))
    try:
        loaded = _imported(spec.path)(*arguments)
    except WeightsError as error:
        if own:  # a file of the catalogue, named where another belongs, is the right one in its place
            remedy = f"name a file that fits {model}, or set {stage}.file to null"
            raise WeightsError(f"{stage}.file: {error}".replace(right_file(own), remedy)) from error
        raise
    if own and isinstance(section, ModelFileConfig):
        loaded.name = custom_file.name_of(model, section)
    return loaded


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def options_of(stage: str, spec: ModelSpec, section: Any) -> BaseConfig:
    """A section's ``options``, checked by the model's own Config. Raises RecipeError."""
    assert spec.options is not None
    return validate(spec.options, getattr(section, "options", {}), "", RecipeError, section=f"{stage}.options")


def make(name: str, source: Path) -> bytes:
    """The file of a catalogue entry, from the file that it is made from. Raises WeightsError."""
    made: bytes = _imported(MADE_FILES[name])(source)
    return made


def catalogue() -> Mapping[str, Weight]:
    """Every model file by name: those of the weights catalogue, and those that a table here declares itself."""
    declared = (weight for table in BY_STAGE.values() for spec in table.values() for weight in spec.weights)
    return {**CATALOGUE, **{weight.name: weight for weight in declared}}


def needed_by(name: str) -> list[str]:
    """``stage:model`` of the models that load a file."""
    return [
        f"{stage}:{model}"
        for stage, table in BY_STAGE.items()
        for model, spec in table.items()
        if name in (weight.name for weight in spec.weights)
    ]


def custom_paths(spec: ModelSpec, section: Any) -> list[Path]:
    """Where a recipe section's own model files lie, in the order of the model's files; empty where it names none."""
    named = getattr(section, "folder", None)
    if named is None:
        return []
    folder = Path(named).expanduser()
    if len(spec.weights) == 1 and spec.weights[0].is_folder:
        return [folder]
    return [folder / weight.file for weight in spec.weights]


def chosen(stage: str, section: Any) -> ModelSpec | None:
    """The spec of the model that a recipe's section names; without catalogue files where the section brings its own.

    Raises:
        RecipeError: the model does not exist, a threshold lies above all its scores, or the section sets a key that the model
            does not take.
    """
    if section.model is None:
        return None
    spec = find(stage, section.model)
    if spec.options is not None:
        options_of(stage, spec, section)
    elif getattr(section, "options", None):
        raise RecipeError(f"{stage}.options: model {section.model} takes none; remove them")
    if spec.max_score is not None and section.min_score > spec.max_score:
        raise RecipeError(
            f"{stage}.min_score: no face would ever count: scores of {section.model} end at {spec.max_score:g}, got "
            f"{section.min_score:g}; set it to at most that"
        )
    if getattr(section, "normalisation", None) and not (section.file and spec.takes_config):
        raise RecipeError(
            f"{stage}.normalisation: belongs to a file of your own for a network of the arcface family; set {stage}.file and "
            f"{stage}.model to one of {', '.join(n for n, s in BY_STAGE[stage].items() if s.takes_config)}, or set it to null"
        )
    if getattr(section, "file", None) is not None:
        if len(spec.files) != 1:
            fitting = ", ".join(name for name, other in BY_STAGE[stage].items() if len(other.files) == 1)
            raise RecipeError(
                f"{stage}.file: model {section.model} reads no model file; set {stage}.model to one of {fitting}"
            )
        origin = custom_file.origin_of(stage, spec.defaults or {}, section)
        return replace(spec, files=(), commercial=None, licence=custom_file.LICENCE, thresholds_from=origin)
    folder = getattr(section, "folder", None)
    if folder is None:
        return spec
    if not spec.files:
        raise RecipeError(f"{stage}.folder: model {section.model} reads no model files; set it to null")
    return replace(spec, files=(), commercial=None, licence=f"that of {folder}")


def check_landmarks(models: Mapping[str, str], stored_from: str | None) -> None:
    """Refuses models and settings that need 68 landmarks behind a detector that gives none.

    Args:
        models: model name by stage, of the stages that run.
        stored_from: ``landmarks.model``; None: no landmarks are stored.

    Raises:
        RecipeError: names what needs them, the detector and what fits.
    """
    if find("detect", models["detect"]).landmarks == "gives":
        return
    givers = ", ".join(name for name, spec in DETECTORS.items() if spec.landmarks == "gives")
    for stage, model in models.items():
        if find(stage, model).landmarks == "needs":
            others = ", ".join(name for name, spec in BY_STAGE[stage].items() if spec.landmarks != "needs")
            raise RecipeError(
                f"{stage}.model: {model} needs 68 landmarks, which detect.model {models['detect']} does not give; "
                f"set detect.model to one of {givers}, or {stage}.model to one of {others}"
            )
    if stored_from == "detector":
        raise RecipeError(
            f"landmarks.model: detector stores 68 landmarks, which detect.model {models['detect']} does not give; set "
            f"landmarks.model to face3d and face3d.model to one of {', '.join(FACE3D_MODELS)}, or landmarks.model to null "
            "for a dataset without landmarks, on which hifimodel cannot be trained"
        )
