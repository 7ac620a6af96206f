"""Face restoration. Source: paper, section 3.4: GFPGAN.

A restorer invents detail and may change the identity. So the portrait's face is embedded before and after restoration. If
the two embeddings differ too much, the unrestored portrait is kept. The stage ``verify`` has used the unrestored face.
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
    """Replaces the portrait if the restored face has the same identity. It drops no image.

    This stage alone applies its threshold in ``measure``. The threshold selects the pixels to write, and a replay has no
    pixels.
    """

    name = "restore"
    title = "Restoration"
    does = "Faces are restored by a model, which invents part of the pixels."
    not_run = "Faces were not restored: the recipe sets no model. The portraits have the sharpness of their originals."
    columns = (
        Column("restored", "bool", "whether the portrait's face was restored"),
        Column("restore_cosine", "float32", "similarity of the face before and after restoration", "cosine"),
        Column("restore_model", "string", "restoration model"),
        Column("restore_message", "string", "reason for which a restoration was not used"),
    )

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._restorer: Restorer = registry.load("restore", str(recipe.restore.model))
        self._embedder: FaceEmbedder = registry.load("verify", str(recipe.verify.model), recipe.verify)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Restore the portraits; return the cosine of each face before and after, and the problem of unused restorations."""
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
        """Return the cosine of the face in both portraits, and the problem of the restoration, or None."""
        reference = self._embed(before, face)
        try:
            cosine = float(np.float32(reference @ self._embed(after, face)))
        except ModelError as error:
            return None, f"the restored face cannot be embedded: {error}"
        floor = self.recipe.restore.min_cosine
        if cosine < floor:
            return cosine, f"the cosine of the face before and after is {cosine:.3f}, the recipe requires {floor:.3f}"
        return cosine, None

    def _embed(self, portrait: RgbU8, face: MainFace) -> F32:
        embeddings: F32 = self._embedder.embed([portrait], [face.kps_px], [face.landmarks_px])
        return np.asarray(embeddings[0], np.float32)

    def _face_in_portrait(self, sample: Sample) -> MainFace:
        """Return the main face in portrait pixels."""
        face, output_px = main_face(sample.row), self.recipe.crop.output_px
        corners_px, kps_px = (
            map_points(points, sample.window, output_px) for points in (face.xyxy_px.reshape(2, 2), face.kps_px)
        )
        landmarks_px = face.landmarks_px
        if landmarks_px is not None:
            landmarks_px = map_points(landmarks_px, sample.window, output_px)
        return MainFace(corners_px.ravel(), kps_px, landmarks_px)


def flaw_of(restored: F32, expected: tuple[int, ...]) -> str | None:
    """Return the problem of a restorer's output, or None if it is an image of the expected shape."""
    if restored.shape != expected:
        return f"the model returned an array of shape {restored.shape}, expected {expected}"
    if not np.isfinite(restored).all():
        return "the model returned NaN or infinite pixels"
    return None
