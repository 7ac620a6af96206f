"""Face restoration. Paper, section 3.4: GFPGAN.

A restorer invents detail, and may invent another face. So the portrait's face is embedded before and after, and where the
two differ too much the unrestored portrait stays. Identity itself was verified before, on the face as it was photographed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hifidata.config.recipe import Recipe
from hifidata.core.errors import ModelError
from hifidata.core.schema import Column, Row
from hifidata.image.crop import map_points
from hifidata.image.ffhq_align import align_ffhq, paste_back
from hifidata.models import registry
from hifidata.models.protocols import F32, FaceEmbedder, Restorer, RgbU8
from hifidata.stages.base import Columns, MainFace, Sample, Stage, main_face


class Restore(Stage):
    """Replaces the portrait where the restored face is still this person. Drops nothing.

    The one stage whose threshold is applied while measuring: which pixels are written follows from it, and a replay
    could not bring the others back.
    """

    name = "restore"
    title = "Restoration"
    does = "Faces are restored by a model; pixels of the output are then partly its invention."
    not_run = "Faces were not restored: no model was set in the recipe. The output has the sharpness of its sources."
    columns = (
        Column("restored", "bool", "whether the pixels were restored"),
        Column("restore_cosine", "float32", "similarity of the face before and after restoration", "cosine"),
        Column("restore_model", "string", "restorer"),
        Column("restore_message", "string", "cause where a restoration was not used"),
    )

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._restorer: Restorer = registry.load("restore", str(recipe.restore.model))
        self._embedder: FaceEmbedder = registry.load("verify", str(recipe.verify.model), recipe.verify)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Whether the portrait is restored, the cosine of its face before and after, and why a restoration was not used."""
        rows = [self._restore(sample) for sample in samples]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _restore(self, sample: Sample) -> Row:
        portrait, face = sample.portrait_u8, self._face_in_portrait(sample)
        aligned = align_ffhq(portrait, face.kps_px)
        restored = self._restorer.restore([aligned.rgb_u8])[0]
        cosine: float | None = None
        problem = flaw_of(restored, aligned.rgb_u8.shape)
        if problem is None:
            candidate = paste_back(portrait, restored, aligned.matrix)
            cosine, problem = self._compare(portrait, candidate, face)
            if problem is None:
                sample.replace_portrait(candidate)
        message = None if problem is None else f"restoration not used: {problem}"
        return {
            "restored": problem is None,
            "restore_cosine": cosine,
            "restore_model": self._restorer.name,
            "restore_message": message,
        }

    def _compare(self, before: RgbU8, after: RgbU8, face: MainFace) -> tuple[float | None, str | None]:
        """Cosine of the face in both portraits, and what speaks against the restoration."""
        reference = self._embed(before, face)
        try:
            cosine = float(np.float32(reference @ self._embed(after, face)))
        except ModelError as error:
            return None, f"the restored face cannot be embedded: {error}"
        floor = self.recipe.restore.min_cosine
        if cosine < floor:
            return cosine, f"the face's cosine before and after is {cosine:.3f}, the recipe asks for {floor:.3f}"
        return cosine, None

    def _embed(self, portrait: RgbU8, face: MainFace) -> F32:
        embeddings: F32 = self._embedder.embed([portrait], [face.kps_px], [face.landmarks_px])
        return np.asarray(embeddings[0], np.float32)

    def _face_in_portrait(self, sample: Sample) -> MainFace:
        """The main face in pixels of the portrait."""
        face, output_px = main_face(sample.row), self.recipe.crop.output_px
        corners_px, kps_px = (
            map_points(points, sample.window, output_px) for points in (face.xyxy_px.reshape(2, 2), face.kps_px)
        )
        landmarks_px = face.landmarks_px
        if landmarks_px is not None:
            landmarks_px = map_points(landmarks_px, sample.window, output_px)
        return MainFace(corners_px.ravel(), kps_px, landmarks_px)


def flaw_of(restored: F32, expected: tuple[int, ...]) -> str | None:
    """Why a restorer's output is no picture of the expected shape; None where it is one."""
    if restored.shape != expected:
        return f"the model gave an array of shape {restored.shape}, expected {expected}"
    if not np.isfinite(restored).all():
        return "the model gave NaN or infinite pixels"
    return None
