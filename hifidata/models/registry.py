"""The registry of models: names in a recipe, classes, files, default thresholds and their origin.

Only ``load`` imports the class of a model.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hifidata.core.base_config import BaseConfig, validate
from hifidata.core.errors import RecipeError, WeightsError
from hifidata.core.extensions import MODELS, entry_points, load_class
from hifidata.core.suggest import suggestion
from hifidata.models import custom_file
from hifidata.models.checked import CheckedModel
from hifidata.models.config import ModelFileConfig
from hifidata.models.protocols import Description, Faces, GenderAge, OcclusionAnswer, TextRegions
from hifidata.models.requirements import OPENAI, PADDLE, PADDLEOCR, SPANDREL, TRANSFORMERS
from hifidata.models.spec import ModelSpec, spec_of
from hifidata.weights.catalogue import CATALOGUE, Weight
from hifidata.weights.find import find_weight
from hifidata.weights.messages import right_file

_INSIGHTFACE = "InsightFace weights: non-commercial research only"
_TUNED = "tuned on half of the people of a private test set, see docs/quality.md"
_PAPER_SIMILARITY = (
    "0.7: paper, section 3.4, for InsightFace; k is not in the paper. `hifidata calibrate` fits 0.7 to the data. "
    "Method density: the pair limit is mobilefacenet's, not measured"
)
DENSITY_LIMITS: Mapping[str, Mapping[str, float]] = {
    "dlib_resnet": {"min_pair_similarity": 0.92, "min_similarity": 0.95},
    "mobilefacenet": {"min_pair_similarity": 0.44, "min_similarity": 0.54},
    "sface": {"min_pair_similarity": 0.45, "min_similarity": 0.57},
    "arcface": {"min_pair_similarity": 0.44, "min_similarity": 0.7},
    "arcface_glintr100": {"min_pair_similarity": 0.44, "min_similarity": 0.7},
}
"""Default limits of an embedder for ``verify.method: density``, chosen on half A, see docs/quality.md. ArcFace was not measured:
its pair limit is mobilefacenet's, its centre limit the paper's."""

MAX_SECOND_GROUP = 0.65
"""Default of ``verify.max_second_group`` for method density."""

DETECTORS: Mapping[str, ModelSpec] = {
    "dlib_mmod": ModelSpec(
        "hifidata.models.detect.dlib:DlibMmodDetector",
        "CC0-1.0; 68-point predictor trained on iBUG 300-W: research only",
        thresholds_from="0.0: dlib's own threshold",
        commercial=False,
        landmarks="gives",
    ),
    "dlib_hog": ModelSpec(
        "hifidata.models.detect.dlib:DlibDetector",
        "CC0-1.0; 68-point predictor trained on iBUG 300-W: research only",
        thresholds_from="0.0: dlib's own threshold; docs/quality.md measures lower ones",
        commercial=False,
        landmarks="gives",
    ),
    "retinaface": ModelSpec(
        "hifidata.models.detect.scrfd:RetinaFace",
        _INSIGHTFACE,
        thresholds_from="0.5: insightface's own threshold; the paper gives none",
        files=("det_10g",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "scrfd_2.5g": ModelSpec(
        "hifidata.models.detect.scrfd:Scrfd2G",
        _INSIGHTFACE,
        thresholds_from="0.55: at 0.5 it detects a face in an image without faces, see docs/quality.md",
        files=("scrfd_2.5g",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "scrfd_500m": ModelSpec(
        "hifidata.models.detect.scrfd:Scrfd500M",
        _INSIGHTFACE,
        thresholds_from="0.55: at 0.5 it detects a second face in 2 of 279 portraits of a private test set",
        files=("scrfd_500m",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "retinaface_mnet": ModelSpec(
        "hifidata.models.detect.retinaface_mnet:RetinaFaceMnet",
        "BSD-2-Clause / MIT; trained on WIDER FACE",
        thresholds_from="0.8: detects a second face in 2 of 279 portraits of a private test set; at 0.5 in 10",
        files=("retinaface_mnet025",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
    "yunet": ModelSpec(
        "hifidata.models.detect.yunet:YuNet",
        "MIT; trained on WIDER FACE",
        thresholds_from="0.8: detects 277 of 279 portraits of a private test set and no face in 14 images without faces; "
        "at 0.75 it detects faces in three backgrounds",
        files=("yunet",),
        max_score=1,
        uses_onnx_runtime=True,
    ),
}
EMBEDDERS: Mapping[str, ModelSpec] = {
    "dlib_resnet": ModelSpec(
        "hifidata.models.detect.dlib:DlibEmbedder",
        "CC0-1.0",
        {"k": 2, "min_similarity": 0.93},
        _TUNED,
        commercial=True,
        landmarks="needs",
    ),
    "arcface": ModelSpec(
        "hifidata.models.embed.arcface:ArcFace", _INSIGHTFACE, {"k": 2, "min_similarity": 0.7}, _PAPER_SIMILARITY,
        ("w600k_r50",), takes_config=True, uses_onnx_runtime=True),
    "arcface_glintr100": ModelSpec(
        "hifidata.models.embed.arcface:ArcFaceGlint", _INSIGHTFACE, {"k": 2, "min_similarity": 0.7}, _PAPER_SIMILARITY,
        ("glintr100",), takes_config=True, uses_onnx_runtime=True),
    "mobilefacenet": ModelSpec(
        "hifidata.models.embed.arcface:MobileFaceNet", "Apache-2.0 repository; trained on MS-Celeb-1M (withdrawn): research only",
        {"k": 2, "min_similarity": 0.35}, _TUNED,
        ("mobilefacenet",), takes_config=True, uses_onnx_runtime=True),
    "sface": ModelSpec(
        "hifidata.models.embed.arcface:SFace", "Apache-2.0; trained on a set like MS-Celeb-1M (withdrawn)",
        {"k": 2, "min_similarity": 0.40},
        "0.40: pairs of strangers have at most 0.36 in 63 photos of a private test set; k as for the other models",
        ("sface",), takes_config=True, uses_onnx_runtime=True),
}  # fmt: skip
SCORERS: Mapping[str, ModelSpec] = {
    "iso29794": ModelSpec(
        "hifidata.models.quality.iso29794:IsoQuality",
        "Apache-2.0 (ours)",
        {"min_score": 0.60},
        "see docs/quality.md; the paper's 0.45 is for ModelScope FQA",
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
        "0.5: lower limit of good faces on the model's page; not measured here",
        ("ediffiqa_t",),
        uses_onnx_runtime=True,
    ),
    "lightqnet": ModelSpec(
        "hifidata.models.quality.lightqnet:LightQNet",
        "MIT",
        {"min_score": 0.55},
        "keeps 98 % of the usable faces of half of the people of a private test set; almost blind to blur, see docs/quality.md",
        ("lightqnet",),
    ),
}
_TEXT_LIMITS = (
    "0.01 of the face, 2 characters{}: tuned with rapidocr{}; see docs/quality.md; the paper gives no thresholds"
)
RECOGNIZERS: Mapping[str, ModelSpec] = {
    "rapidocr": ModelSpec(
        "hifidata.models.text.rapidocr:RapidOcrText", "Apache-2.0 (PP-OCRv6)", {"min_text_score": 0.25}, _TEXT_LIMITS.format(", score 0.25", ""),
        commercial=True, uses_onnx_runtime=True),
    "rapidocr_craft": ModelSpec(
        "hifidata.models.text.craft:RapidOcrCraft", "Apache-2.0 (PP-OCRv6), MIT (CRAFT)", {"min_text_score": 0.6},
        _TEXT_LIMITS.format("", "; score 0.6: tuned with rapidocr_craft"),
        ("craft",), uses_onnx_runtime=True),
    "paddleocr": ModelSpec(
        "hifidata.models.text.paddleocr:PaddleOcrText", "Apache-2.0 (PP-OCRv6)", {"min_text_score": 0.25}, _TEXT_LIMITS.format(", score 0.25", ""),
        ("paddleocr_det", "paddleocr_rec"),
        extra=PADDLEOCR,
    ),
}  # fmt: skip
CAPTIONERS: Mapping[str, ModelSpec] = {
    "attributes": ModelSpec("hifidata.models.caption.attributes:AttributeCaptioner", "Apache-2.0 (ours)", commercial=True),
    "sidecar": ModelSpec("hifidata.models.caption.sidecar:SidecarCaptioner", "licence of your texts", commercial=True, takes_config=True),
    "openai": ModelSpec(
        "hifidata.models.caption.openai:OpenAiCaptioner", "licence of the server's model", takes_config=True, extra=OPENAI
    ),
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
    "age_gender": ModelSpec(
        "hifidata.models.attributes.age_gender:DlibAgeGender",
        "CC0-1.0 (dlib-models)",
        files=("dlib_age", "dlib_gender"),
        uses_onnx_runtime=True,
    ),
}
_GFPGAN = "Apache-2.0 with non-commercial parts (NVIDIA StyleGAN2, DFDNet)"
_TERMS = "terms: hand and microphone are from the paper (section 3.4), the others are ours"
OCCLUSION_CHECKERS: Mapping[str, ModelSpec] = {
    "hands": ModelSpec(
        "hifidata.models.occlusion.hands:HandsAtFace",
        "Apache-2.0 (MediaPipe)",
        {"min_score": 0.5},
        _TUNED,
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
_MIN_COSINE = "0.85: ours; the paper gives none"
RESTORERS: Mapping[str, ModelSpec] = {
    "gfpgan": ModelSpec("hifidata.models.restore.gfpgan:Gfpgan", _GFPGAN, thresholds_from=_MIN_COSINE, files=("gfpgan_onnx",), uses_onnx_runtime=True),
    "gfpgan_pth": ModelSpec(
        "hifidata.models.restore.gfpgan:GfpganTorch", _GFPGAN, thresholds_from=_MIN_COSINE, files=("gfpgan_pth",),
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
    "yunet": "hifidata.models.runtime.float_graph:plain_float_any_size",
    "sface": "hifidata.models.runtime.float_graph:plain_float",
}
"""Catalogue entries that are converted from other files, and the converting function as ``module:function``."""
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
METHODS: Mapping[str, tuple[str, int]] = {
    "detect": ("detect", 1),
    "quality": ("score", 4),
    "watermark": ("find", 1),
    "occlusion": ("check", 2),
    "restore": ("restore", 1),
    "matting": ("matte", 1),
    "verify": ("embed", 3),
    "caption": ("describe", 1),
    "face3d": ("fit", 3),
    "attributes": ("estimate", 3),
}
"""By stage: the method that a model must have, and its number of arguments. ``models.protocols`` describes them."""

RESULTS: Mapping[str, type] = {
    "detect": Faces,
    "quality": Mapping,
    "watermark": TextRegions,
    "occlusion": OcclusionAnswer,
    "restore": np.ndarray,
    "matting": np.ndarray,
    "verify": np.ndarray,
    "caption": Description,
    "attributes": GenderAge,
}
"""By stage: the type that the method returns, or returns for each image. Results of other packages are checked."""


def find(stage: str, model: str) -> ModelSpec:
    """Return the spec of a model of hifidata, or of a class or entry point of another package. Raises RecipeError."""
    table = BY_STAGE[stage]
    if model in table:
        return table[model]
    if ":" not in model and model not in entry_points(MODELS):
        installed = entry_points(MODELS)
        close = difflib.get_close_matches(model, [*table, *installed], n=1, cutoff=0.7)
        known = f"known: {', '.join(sorted(table))}, entry points: {', '.join(sorted(installed)) or 'none'}, or package.module:Class"
        hint = f"; did you mean {close[0]}?" if close else ""
        raise RecipeError(f"{stage}.model: unknown model {model!r}; {known}{hint}")
    return _extension(stage, model)


@cache
def _extension(stage: str, model: str) -> ModelSpec:
    key = f"{stage}.model"
    return spec_of(load_class(model, MODELS, key), *METHODS[stage], key)


def load(stage: str, model: str, section: Any = None) -> Any:
    """Import a model's class and construct it. The constructor reads the model files.

    Args:
        stage: recipe section of the model.
        model: name in the registry, ``package.module:Class``, or an entry point.
        section: content of the section, for models with settings or with the user's own files.

    Raises:
        RecipeError: the model does not exist or does not fit the stage.
        WeightsError: a file is missing or is not the expected file.
    """
    spec = find(stage, model)
    own = custom_file.checked_file(stage, section) if isinstance(section, ModelFileConfig) else None
    arguments: list[Any] = [own] if own else custom_paths(spec, section)
    arguments = arguments or [find_weight(weight) for weight in spec.weights]
    if spec.takes_config:
        arguments.append(section)
    if spec.options is not None:
        arguments.append(_options_of(stage, spec.options, section))
    try:
        loaded = _imported(spec.path)(*arguments)
    except WeightsError as error:
        if own:  # the model's remedy is for catalogue files
            remedy = f"name a file that fits {model}, or set {stage}.file to null"
            raise WeightsError(f"{stage}.file: {error}".replace(right_file(own), remedy)) from error
        raise
    if own and isinstance(section, ModelFileConfig):
        loaded.name = custom_file.name_of(model, section)
    if spec.origin is not None and stage in RESULTS:
        return CheckedModel(loaded, spec.path, METHODS[stage][0], RESULTS[stage])
    return loaded


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _options_of(stage: str, kind: type[BaseConfig], section: Any) -> BaseConfig:
    """Validate a section's ``options`` with the model's own Config. Raises RecipeError."""
    return validate(kind, getattr(section, "options", {}), "", RecipeError, section=f"{stage}.options")


def make(name: str, source: Path) -> bytes:
    """Convert the source file of a catalogue entry; returns the bytes of the entry's file. Raises WeightsError."""
    made: bytes = _imported(MADE_FILES[name])(source)
    return made


def catalogue() -> Mapping[str, Weight]:
    """Return all model files by name: the weights catalogue and the entries that the registry's specs declare."""
    declared = (weight for table in BY_STAGE.values() for spec in table.values() for weight in spec.weights)
    return {**CATALOGUE, **{weight.name: weight for weight in declared}}


def needed_by(name: str) -> list[str]:
    """List the models that load a file, as ``stage:model``."""
    return [
        f"{stage}:{model}"
        for stage, table in BY_STAGE.items()
        for model, spec in table.items()
        if name in (weight.name for weight in spec.weights)
    ]


def files_of_model(name: str) -> list[Weight] | None:
    """Return the catalogue entries of the models with this name, in any stage; None where there is no such model."""
    specs = [table[name] for table in BY_STAGE.values() if name in table]
    return [weight for spec in specs for weight in spec.weights] if specs else None


def custom_paths(spec: ModelSpec, section: Any) -> list[Path]:
    """Return the paths of the user's own model files in the order of the model's files; empty without ``folder``."""
    named = getattr(section, "folder", None)
    if named is None:
        return []
    folder = Path(named).expanduser()
    if len(spec.weights) == 1 and spec.weights[0].is_folder:
        return [folder]
    return [folder / weight.file for weight in spec.weights]


def chosen(stage: str, section: Any) -> ModelSpec | None:
    """Return the spec of the model in a recipe's section; without catalogue files if the section names the user's files.

    Raises:
        RecipeError: the model does not exist, a threshold is above its highest score, or the section sets a key that does
            not belong to the model.
    """
    if section.model is None:
        return None
    spec = find(stage, section.model)
    for key in spec.defaults or {}:
        if key not in type(section).model_fields:
            hint = suggestion(key, type(section).model_fields)
            raise RecipeError(f"{stage}.model: {spec.path}: defaults: {stage} has no setting {key!r}; {hint}")
    if getattr(section, "method", None) == "density":
        spec = replace(spec, defaults=_density_defaults(spec, section))
    if spec.options is not None:
        _options_of(stage, spec.options, section)
    elif getattr(section, "options", None):
        raise RecipeError(f"{stage}.options: model {section.model} has no options; remove them")
    if spec.max_score is not None and section.min_score > spec.max_score:
        raise RecipeError(
            f"{stage}.min_score: got {section.min_score:g}, but the highest score of {section.model} is {spec.max_score:g}, so "
            f"all faces would be dropped; set {stage}.min_score to at most {spec.max_score:g}"
        )
    if getattr(section, "normalisation", None) and not (section.file and spec.takes_config):
        raise RecipeError(
            f"{stage}.normalisation: needs your own file of an ArcFace network; set {stage}.file, and {stage}.model to one of "
            f"{', '.join(n for n, s in BY_STAGE[stage].items() if s.takes_config)}, or set {stage}.normalisation to null"
        )
    if getattr(section, "file", None) is not None:
        if len(spec.files) != 1:
            fitting = ", ".join(name for name, other in BY_STAGE[stage].items() if len(other.files) == 1)
            raise RecipeError(
                f"{stage}.file: model {section.model} reads no model file; set {stage}.model to one of {fitting}"
            )
        origin = custom_file.thresholds_from(stage, spec.defaults or {}, section)
        return replace(spec, files=(), commercial=None, licence=custom_file.LICENCE, thresholds_from=origin)
    folder = getattr(section, "folder", None)
    if folder is None:
        return spec
    if not spec.files:
        raise RecipeError(f"{stage}.folder: model {section.model} reads no model files; set {stage}.folder to null")
    return replace(spec, files=(), commercial=None, licence=f"licence of the files in {folder}")


def _density_defaults(spec: ModelSpec, section: Any) -> Mapping[str, float | int]:
    """Return the values for null keys of ``verify``. A model of another package may have both limits among its defaults."""
    limits = DENSITY_LIMITS.get(section.model, spec.defaults or {})
    for key in ("min_pair_similarity", "min_similarity"):
        if getattr(section, key) is None and key not in limits:
            raise RecipeError(
                f"verify.{key}: model {section.model} has no default for verify.method density; set verify.{key}, or set "
                "verify.method to paper"
            )
    return {"max_second_group": MAX_SECOND_GROUP, **limits}


def check_landmarks(models: Mapping[str, str], stored_from: str | None) -> None:
    """Check that the detector gives 68 landmarks if a model or setting needs them.

    Args:
        models: model name by stage, for stages that run.
        stored_from: ``landmarks.model``; None: landmarks are not stored.

    Raises:
        RecipeError: the message names the key, the detector and the models that fit.
    """
    if find("detect", models["detect"]).landmarks == "gives":
        return
    givers = ", ".join(name for name, spec in DETECTORS.items() if spec.landmarks == "gives")
    for stage, model in models.items():
        if find(stage, model).landmarks == "needs":
            others = ", ".join(name for name, spec in BY_STAGE[stage].items() if spec.landmarks != "needs")
            raise RecipeError(
                f"{stage}.model: {model} needs 68 landmarks, which detect.model {models['detect']} does not give; "
                f"set detect.model to one of {givers}, or {stage}.model to {f'one of {others}' if others else 'null'}"
            )
    if stored_from == "detector":
        raise RecipeError(
            f"landmarks.model: detector needs 68 landmarks, which detect.model {models['detect']} does not give; set "
            f"landmarks.model to face3d and face3d.model to one of {', '.join(FACE3D_MODELS)}, or landmarks.model to null. "
            "hifimodel cannot be trained on a dataset without landmarks"
        )
