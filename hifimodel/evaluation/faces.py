"""Measurements of one image: identity, CLIP features, expression, pose and light of the face."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import ModelError, RecipeError, WeightsError
from hifidata.image.align import norm_crop
from hifidata.models import registry
from hifidata.models.face3d.base import kps_of
from hifidata.models.protocols import F32, FaceDetector, FaceEmbedder, RgbU8
from hifimodel.errors import ConfigError
from hifimodel.evaluation.clip import load_clip
from hifimodel.evaluation.fid import load_inception
from hifimodel.faces.clip_crop import ClipView, clip_view
from hifimodel.landmarks import BACKENDS, LandmarkBackend, LandmarkError, load_backend
from hifimodel.landmarks.face_statistics import mean_face_mm

if TYPE_CHECKING:
    from hifidata.models.detect.dlib import LandmarkPredictor

F64 = NDArray[np.float64]
LIGHT_CELLS, LIGHT_MARGIN_PX = 4, 16
LIGHT_FLOOR = 8.0
"""Added to a luma of 0 to 255, so that black is five stops below white instead of infinitely many."""


@dataclass(frozen=True)
class InstrumentSettings:
    """The models of the measurements.

    Attributes:
        recognisers: embedders of hifidata; ``arcface`` is the paper's. The recogniser that a model was trained with
            overestimates its similarity, so use another one too.
        detector: face detector of hifidata.
        face3d: landmark backend that gives expression and pose; ``deca`` is the paper's.
        face3d_folder: its files; None: hifidata's weight folders.
        clip: folder of a CLIP model in transformers' layout.
        inception: file of FID's network.
    """

    recognisers: tuple[str, ...] = ("arcface", "dlib_resnet")
    detector: str = "dlib_hog"
    face3d: str = "tddfa"
    face3d_folder: Path | None = None
    clip: Path | None = None
    inception: Path | None = None


@dataclass(frozen=True)
class Face:
    """The measurements of a face.

    Attributes:
        embeddings: by recogniser, (d,) with L2 norm 1.
        clip: (d,) with L2 norm 1, or None.
        expression: (n,) of the 3D face model, or None.
        pose_rad: yaw, pitch and roll in radians; with ``deca`` its six pose numbers, of which the last three are the jaw's.
        light: (16,) brightness in stops, over a 4 x 4 grid of the aligned face.
    """

    embeddings: Mapping[str, F32]
    clip: F32 | None
    expression: F64 | None
    pose_rad: F64 | None
    light: F64


@dataclass(frozen=True)
class MeasuredImage:
    """The measurements of an image; ``face`` is None if no face was found."""

    face: Face | None
    inception: F32 | None


@dataclass(frozen=True)
class Instruments:
    """The loaded models.

    Attributes:
        missing: reason per column that cannot be measured.
    """

    detector: FaceDetector
    recognisers: Mapping[str, FaceEmbedder]
    face3d: LandmarkBackend | None = None
    clip: Callable[[RgbU8], F32] | None = None
    inception: Callable[[RgbU8], F32] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def measure(self, rgb_u8: RgbU8) -> MeasuredImage:
        """Measure an image (H, W, 3) uint8. Of several faces, the largest counts."""
        inception = None if self.inception is None else self.inception(rgb_u8)
        try:
            return MeasuredImage(self._face(rgb_u8), inception)
        except (ModelError, LandmarkError):  # points that do not span a face
            return MeasuredImage(None, inception)

    def _face(self, rgb_u8: RgbU8) -> Face | None:
        faces = self.detector.detect([rgb_u8])[0]
        if not len(faces.scores):
            return None
        box, kps_px = faces.xyxy_px[0], faces.kps_px[0]
        landmarks_px = self._predictor.predict(rgb_u8, box) if faces.landmarks_px is None else faces.landmarks_px[0]
        aligned = norm_crop(rgb_u8, kps_px)
        embeddings = {
            name: model.embed([rgb_u8], [kps_px], [landmarks_px])[0] for name, model in self.recognisers.items()
        }
        shape = None if self.face3d is None else self.face3d.encode(rgb_u8, kps_px, landmarks_px)
        pose = None
        if self.face3d is not None and shape is not None:
            own = shape.pose if shape.model == "deca" else np.deg2rad(self.face3d.angles_deg(shape))
            pose = np.asarray(own, np.float64)
        crop = clip_view(rgb_u8, box, ClipView())[0]
        return Face(
            embeddings,
            None if self.clip is None else self.clip(crop),
            None if shape is None or not shape.expression.size else shape.expression.astype(np.float64),
            pose,
            light_stops(aligned),
        )

    @cached_property
    def _predictor(self) -> LandmarkPredictor:
        """Landmarks for detectors of five points: some recognisers align by 68 landmarks."""
        from hifidata.models.detect.dlib import LandmarkPredictor

        return LandmarkPredictor()


def light_stops(aligned_rgb_u8: RgbU8) -> F64:
    """Return (16,) log2 of the mean luma per cell of a 4 x 4 grid over an aligned face (112, 112, 3), without its border."""
    luma = cv2.cvtColor(np.ascontiguousarray(aligned_rgb_u8), cv2.COLOR_RGB2GRAY).astype(np.float64)
    inner = luma[LIGHT_MARGIN_PX:-LIGHT_MARGIN_PX, LIGHT_MARGIN_PX:-LIGHT_MARGIN_PX]  # (80, 80)
    cell_px = inner.shape[0] // LIGHT_CELLS
    cells = inner.reshape(LIGHT_CELLS, cell_px, LIGHT_CELLS, cell_px).mean(axis=(1, 3))
    return np.asarray(np.log2(cells + LIGHT_FLOOR).ravel())


def load_instruments(settings: InstrumentSettings) -> Instruments:
    """Load the models; ``missing`` names those without weights.

    Raises:
        ConfigError: a name is unknown.
        WeightsError: a given file or folder has other contents.
    """
    for stage, names in (("detect", [settings.detector]), ("verify", settings.recognisers)):
        for name in names:
            try:
                registry.find(stage, name)
            except RecipeError as error:
                raise ConfigError(f"evaluate: {error}") from error
    if settings.face3d not in BACKENDS:
        raise ConfigError(f"--face3d {settings.face3d}: unknown; known: {', '.join(BACKENDS)}")
    missing: dict[str, str] = {}
    recognisers = {}
    for name in settings.recognisers:
        try:
            recognisers[name] = registry.load("verify", name)
        except WeightsError as error:
            missing[f"Sim_f {name}"] = f"no {name} weights ({error})"
    face3d = None
    try:
        face3d = _tried(load_backend(settings.face3d, settings.face3d_folder))
    except (WeightsError, LandmarkError) as error:
        if settings.face3d_folder is not None:
            raise WeightsError(f"--face3d-weights: {error}") from error
        why = f"no {settings.face3d} weights ({error}); or use --face3d points, which needs none"
        missing |= dict.fromkeys(("Exp", "Pose"), why)
    if settings.clip is None:
        missing["CLIP_f"] = "no CLIP weights (name the folder of a CLIP model with --clip)"
    if settings.inception is None:
        missing["FID"] = "no Inception weights (name inception-2015-12-05.pt with --inception)"
    return Instruments(
        registry.load("detect", settings.detector),
        recognisers,
        face3d,
        None if settings.clip is None else load_clip(settings.clip),
        None if settings.inception is None else load_inception(settings.inception),
        missing,
    )


def _tried(face3d: LandmarkBackend) -> LandmarkBackend:
    """Return the backend after a fit to a black image, which loads its network: a missing file is an error now."""
    points = (mean_face_mm()[:, :2] * (1, -1) + 150).astype(np.float32)  # (68, 2), the face about 300 px wide
    face3d.encode(np.zeros((300, 300, 3), np.uint8), kps_of(points), points)
    return face3d
