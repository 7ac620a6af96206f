"""One file per model behind a stage; the only place that imports model libraries.

The tables below are the one place that maps a recipe's model name to its class, with the thresholds that belong to that
model and where they come from. Nothing is imported until ``load`` is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hifidata.core.errors import RecipeError, WeightsError
from hifidata.models import custom_file
from hifidata.models.config import ModelFileConfig, ModelFolderConfig
from hifidata.models.requirements import PADDLE, PADDLEOCR, SPANDREL, TRANSFORMERS, Extra
from hifidata.weights.catalogue import entry
from hifidata.weights.find import find_weight
from hifidata.weights.messages import right_file


@dataclass(frozen=True)
class Backend:
    """A model that a recipe can name.

    Attributes:
        path: ``module:Class`` inside this package.
        licence: of the weights.
        defaults: recipe values that belong to this model, for keys the recipe leaves null.
        origin: where those numbers come from; for a model without, the numbers that are in its code or in the recipe's
            defaults.
        weights: entries of the weights catalogue; the class is constructed with their paths, in this order.
        commercial: whether the licence of what a package brings along allows commercial use; entries of the catalogue
            say it for themselves. None: not known.
        landmarks: whether a detector ``gives`` 68 landmarks, or a later model ``needs`` them of it.
        takes_settings: whether the class is given the recipe's section after the paths.
        max_score: the highest score that a detector can give; None: no limit is known.
        extra: packages that it takes and a plain install lacks.
    """

    path: str
    licence: str
    defaults: Mapping[str, float | int] | None = None
    origin: str = ""
    weights: tuple[str, ...] = ()
    commercial: bool | None = None
    landmarks: Literal["gives", "needs"] | None = None
    takes_settings: bool = False
    max_score: float | None = None
    extra: Extra | None = None


_INSIGHTFACE = "InsightFace weights: non-commercial research only"
DETECTORS: Mapping[str, Backend] = {
    "dlib_mmod": Backend(
        "detect.dlib:DlibMmodDetector",
        "CC0-1.0; 68-point predictor trained on iBUG 300-W: research only",
        origin="0.0: dlib's own cut",
        commercial=False,
        landmarks="gives",
    ),
    "dlib_hog": Backend(
        "detect.dlib:DlibDetector",
        "CC0-1.0; 68-point predictor trained on iBUG 300-W: research only",
        origin="0.0: dlib's own cut; lower was measured, see docs/quality.md",
        commercial=False,
        landmarks="gives",
    ),
    "retinaface": Backend(
        "detect.scrfd:RetinaFace",
        _INSIGHTFACE,
        origin="0.5: insightface's own cut; the paper names none",
        weights=("det_10g",),
        max_score=1,
    ),
    "scrfd_2.5g": Backend(
        "detect.scrfd:Scrfd2G",
        _INSIGHTFACE,
        origin="0.55: at 0.5 it sees a face where there is none, see docs/quality.md",
        weights=("scrfd_2.5g",),
        max_score=1,
    ),
    "scrfd_500m": Backend(
        "detect.scrfd:Scrfd500M",
        _INSIGHTFACE,
        origin="0.55: at 0.5 it sees second faces in 2 of 279 portraits of a private test set",
        weights=("scrfd_500m",),
        max_score=1,
    ),
    "retinaface_mnet": Backend(
        "detect.retinaface_mnet:RetinaFaceMnet",
        "BSD-2-Clause / MIT; trained on WIDER FACE",
        origin="0.8: at 0.5 ten of 279 portraits of a private test set have a second face, here two",
        weights=("retinaface_mnet025",),
        max_score=1,
    ),
    "yunet": Backend(
        "detect.yunet:YuNet",
        "BSD-2-Clause / Apache-2.0; trained on WIDER FACE",
        origin="0.8: finds 279 of 279 portraits of a private test set and nothing in 14 pictures without faces; OpenCV's 0.9 "
        "misses 4",
        weights=("yunet",),
        max_score=1,
    ),
}
EMBEDDERS: Mapping[str, Backend] = {
    "dlib_resnet": Backend(
        "detect.dlib:DlibEmbedder",
        "CC0-1.0",
        {"k": 2, "min_similarity": 0.93},
        "tuned on half of the people of a private test set, see docs/quality.md",
        commercial=True,
        landmarks="needs",
    ),
    "arcface": Backend(
        "embed.arcface:ArcFace", _INSIGHTFACE, {"k": 2, "min_similarity": 0.7},
        "0.7: paper, section 3.4, for InsightFace; k is not in the paper. `hifidata calibrate` fits 0.7 to the data",
        ("w600k_r50",), takes_settings=True,
    ),
    "arcface_glintr100": Backend(
        "embed.arcface:ArcFaceGlint", _INSIGHTFACE, {"k": 2, "min_similarity": 0.7},
        "0.7: paper, section 3.4, for InsightFace; k is not in the paper. `hifidata calibrate` fits 0.7 to the data",
        ("glintr100",), takes_settings=True,
    ),
    "mobilefacenet": Backend(
        "embed.arcface:MobileFaceNet", "Apache-2.0 repository; trained on MS-Celeb-1M (withdrawn): research only",
        {"k": 2, "min_similarity": 0.35},
        "tuned on half of the people of a private test set, see docs/quality.md",
        ("mobilefacenet",), takes_settings=True,
    ),
}  # fmt: skip
SCORERS: Mapping[str, Backend] = {
    "iso29794": Backend(
        "quality.iso29794:IsoQuality",
        "Apache-2.0 (ours)",
        {"min_score": 0.60},
        "see docs/quality.md; the paper's 0.45 is FQA's",
        commercial=True,
    ),
    "modelscope_fqa": Backend(
        "quality.fqa:ModelScopeFqa",
        "not stated (ModelScope code: Apache-2.0)",
        {"min_score": 0.45},
        "paper, section 3.4",
        ("fqa",),
    ),
    "ediffiqa": Backend(
        "quality.ediffiqa:EDifFiqa",
        "CC-BY-4.0",
        {"min_score": 0.5},
        "the model's page puts good faces above 0.5; not measured here",
        ("ediffiqa_t",),
    ),
    "lightqnet": Backend(
        "quality.lightqnet:LightQNet",
        "MIT",
        {"min_score": 0.55},
        "keeps 98 % of usable faces of half of the people of a private test set; hardly sees blur, see docs/quality.md",
        ("lightqnet",),
    ),
}
_TEXT_LIMITS = "0.01 of the face, 2 characters{}: tuned with rapidocr{}; see docs/quality.md; the paper gives none"
RECOGNIZERS: Mapping[str, Backend] = {
    "rapidocr": Backend(
        "text.rapidocr:RapidOcrText", "Apache-2.0 (PP-OCRv6)", {"min_text_score": 0.25}, _TEXT_LIMITS.format(", certainty 0.25", ""),
        commercial=True,
    ),
    "rapidocr_craft": Backend(
        "text.craft:RapidOcrCraft", "Apache-2.0 (PP-OCRv6), MIT (CRAFT)", {"min_text_score": 0.6},
        _TEXT_LIMITS.format("", "; certainty 0.6: on it"),
        ("craft",),
    ),
    "paddleocr": Backend(
        "text.paddleocr:PaddleOcrText", "Apache-2.0 (PP-OCRv6)", {"min_text_score": 0.25}, _TEXT_LIMITS.format(", certainty 0.25", ""),
        ("paddleocr_det", "paddleocr_rec"),
        extra=PADDLEOCR,
    ),
}  # fmt: skip
CAPTIONERS: Mapping[str, Backend] = {
    "attributes": Backend("caption.attributes:AttributeCaptioner", "Apache-2.0 (ours)", commercial=True),
    "openai": Backend("caption.openai:OpenAiCaptioner", "that of the server's model", takes_settings=True),
    "vlm": Backend(
        "caption.vlm:VlmCaptioner", "Apache-2.0 (Qwen3-VL)", weights=("qwen3_vl_8b",), takes_settings=True, extra=TRANSFORMERS
    ),
}  # fmt: skip
FACE3D_MODELS: Mapping[str, Backend] = {
    "tddfa": Backend(
        "face3d.tddfa:TddfaFitter",
        "MIT (3DDFA_V2); basis from BFM 2009: academic use only",
        weights=(
            "3ddfa_mb05", "3ddfa_mean_std", "3ddfa_bfm_u_base", "3ddfa_bfm_w_shp_base", "3ddfa_bfm_w_exp_base",
        ),
    ),
    "mesh": Backend("face3d.mesh:MeshFitter", "Apache-2.0 (MediaPipe)", weights=("mediapipe_mesh",)),
}  # fmt: skip
ATTRIBUTE_MODELS: Mapping[str, Backend] = {
    "genderage": Backend("attributes.genderage:InsightGenderAge", _INSIGHTFACE, weights=("genderage",)),
}
_GFPGAN = "Apache-2.0 with non-commercial parts (NVIDIA StyleGAN2, DFDNet)"
_TERMS = "terms: hand and microphone are the paper's (section 3.4), the others ours"
OCCLUSION_CHECKERS: Mapping[str, Backend] = {
    "hands": Backend(
        "occlusion.hands:HandsAtFace",
        "Apache-2.0 (MediaPipe)",
        {"min_score": 0.5},
        "tuned on half of the people of a private test set, see docs/quality.md",
        ("mediapipe_palm", "mediapipe_hand"),
    ),
    "blip2": Backend(
        "occlusion.blip2:Blip2Occlusion", "MIT (model card)", origin=_TERMS, weights=("blip2_flan_t5_xl",), takes_settings=True,
        extra=TRANSFORMERS,
    ),
    "blip2_opt": Backend(
        "occlusion.blip2:Blip2Occlusion",
        "MIT (model card); OPT: non-commercial",
        origin=_TERMS,
        weights=("blip2_opt_2.7b",),
        takes_settings=True,
        extra=TRANSFORMERS,
    ),
}  # fmt: skip
_FLOOR = "0.85: ours; the paper names no such floor"
RESTORERS: Mapping[str, Backend] = {
    "gfpgan": Backend("restore.gfpgan:Gfpgan", _GFPGAN, origin=_FLOOR, weights=("gfpgan_onnx",)),
    "gfpgan_pth": Backend(
        "restore.gfpgan:GfpganTorch", _GFPGAN, origin=_FLOOR, weights=("gfpgan_pth",),
        extra=SPANDREL,
    ),
}  # fmt: skip
MATTERS: Mapping[str, Backend] = {
    "modnet": Backend("matting.modnet:ModNet", "Apache-2.0", weights=("modnet",)),
    "pp_matting": Backend(
        "matting.pp_matting:PpMatting", "Apache-2.0 (PaddleSeg)", weights=("pp_matting",),
        extra=PADDLE,
    ),
    "selfie": Backend("matting.selfie:SelfieMatting", "Apache-2.0 (MediaPipe)", weights=("selfie",)),
}  # fmt: skip
MADE_FILES: Mapping[str, str] = {
    "3ddfa_mb05": "face3d.tddfa_conversion:network",
    "3ddfa_mean_std": "face3d.tddfa_conversion:scaling",
}
"""Entries of the weights catalogue that are made here, and ``module:function`` that makes them."""
BY_STAGE: Mapping[str, Mapping[str, Backend]] = {
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


def find(stage: str, model: str) -> Backend:
    """The table entry. Raises RecipeError with the names that exist."""
    table = BY_STAGE[stage]
    if model not in table:
        known = ", ".join(sorted(table)) or "none yet; leave it null"
        raise RecipeError(f"{stage}.model: unknown model {model!r}; known: {known}")
    return table[model]


def load(stage: str, model: str, settings: ModelFolderConfig | ModelFileConfig | None = None) -> Any:
    """Imports the backend's module and constructs it: this is where weights are read. Raises WeightsError."""
    backend = find(stage, model)
    module, _, name = backend.path.partition(":")
    own = custom_file.checked(stage, settings) if isinstance(settings, ModelFileConfig) else None
    arguments: list[Any] = [own] if own else own_paths(backend, settings)
    arguments = arguments or [find_weight(name) for name in backend.weights]
    if backend.takes_settings:
        arguments.append(settings)
    try:
        loaded = getattr(importlib.import_module(f"hifidata.models.{module}"), name)(*arguments)
    except WeightsError as error:
        if own:  # a file of the catalogue, named where another belongs, is the right one in its place
            remedy = f"name a file that fits {model}, or set {stage}.file to null"
            raise WeightsError(f"{stage}.file: {error}".replace(right_file(own), remedy)) from error
        raise
    if own and isinstance(settings, ModelFileConfig):
        loaded.name = custom_file.name_of(model, settings)
    return loaded


def make(name: str, source: Path) -> bytes:
    """The file of a catalogue entry, from the file that it is made from. Raises WeightsError."""
    module, _, function = MADE_FILES[name].partition(":")
    made: bytes = getattr(importlib.import_module(f"hifidata.models.{module}"), function)(source)
    return made


def own_paths(backend: Backend, settings: Any) -> list[Path]:
    """Where a recipe section's own model files lie, in the order of the backend's entries; empty where it names none."""
    named = getattr(settings, "folder", None)
    if named is None:
        return []
    folder = Path(named).expanduser()
    if len(backend.weights) == 1 and entry(backend.weights[0]).is_folder:
        return [folder]
    return [folder / entry(name).file for name in backend.weights]


def chosen(stage: str, settings: Any) -> Backend | None:
    """The backend that a recipe's section names; one that brings model files of its own needs none of the catalogue.

    Raises:
        RecipeError: the model does not exist, a threshold lies above every score of it, or a folder or file is named for one
            that reads none.
    """
    if settings.model is None:
        return None
    backend = find(stage, settings.model)
    if backend.max_score is not None and settings.min_score > backend.max_score:
        raise RecipeError(
            f"{stage}.min_score: no face would ever count: {settings.model}'s scores end at {backend.max_score:g}, got "
            f"{settings.min_score:g}; set it to at most that"
        )
    if getattr(settings, "normalisation", None) and not (settings.file and backend.takes_settings):
        raise RecipeError(
            f"{stage}.normalisation: is that of a file of your own, for a network of the arcface family; set {stage}.file and "
            f"{stage}.model to one of {', '.join(n for n, b in BY_STAGE[stage].items() if b.takes_settings)}, or it to null"
        )
    if getattr(settings, "file", None) is not None:
        if len(backend.weights) != 1:
            fitting = ", ".join(name for name, other in BY_STAGE[stage].items() if len(other.weights) == 1)
            raise RecipeError(
                f"{stage}.file: model {settings.model} reads no model file; set {stage}.model to one of {fitting}"
            )
        origin = custom_file.origin_of(stage, backend.defaults or {}, settings)
        return replace(backend, weights=(), commercial=None, licence=custom_file.LICENCE, origin=origin)
    folder = getattr(settings, "folder", None)
    if folder is None:
        return backend
    if not backend.weights:
        raise RecipeError(f"{stage}.folder: model {settings.model} reads no model files; set it to null")
    return replace(backend, weights=(), commercial=None, licence=f"that of {folder}")


def check_landmarks(models: Mapping[str, str], stored_from: str | None) -> None:
    """Refuses what needs 68 landmarks behind a detector that gives none: models that align by them, and training.

    Args:
        models: model name by stage, of the stages that run.
        stored_from: whose landmarks the samples get, ``landmarks.model``; None: they get none, on purpose.

    Raises:
        RecipeError: names what needs them, the detector and what fits.
    """
    if find("detect", models["detect"]).landmarks == "gives":
        return
    givers = ", ".join(name for name, backend in DETECTORS.items() if backend.landmarks == "gives")
    for stage, model in models.items():
        if find(stage, model).landmarks == "needs":
            others = ", ".join(name for name, backend in BY_STAGE[stage].items() if backend.landmarks != "needs")
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
