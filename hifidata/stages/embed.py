"""Face embeddings, for verification. This stage needs pixels; the stage ``verify`` needs none."""

from __future__ import annotations

from collections.abc import Sequence

from hifidata.config.recipe import Recipe
from hifidata.core.schema import Column
from hifidata.models import registry
from hifidata.models.protocols import FaceEmbedder
from hifidata.stages.base import Columns, Sample, Stage, main_face


class Embed(Stage):
    """Embeds the main face of the unrestored image. It drops no image."""

    name = "embed"
    section = "verify"
    title = "Embedding"
    does = "An embedding of the face is computed, to compare identities."
    not_run = "Faces were not embedded: the recipe sets no model."
    columns = (
        Column("embedding", "list<float32>", "identity embedding, L2 norm 1 (biometric data)"),
        Column("embedding_model", "string", "face embedder"),
    )
    required_columns = ("embedding",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._embedder: FaceEmbedder = registry.load("verify", str(recipe.verify.model), recipe.verify)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Embed the unrestored faces: (d,) float32 with L2 norm 1 per sample."""
        faces = [main_face(sample.row) for sample in samples]
        embeddings = self._embedder.embed(
            [sample.rgb_u8 for sample in samples],
            [face.kps_px for face in faces],
            [face.landmarks_px for face in faces],
        )
        return {"embedding": list(embeddings), "embedding_model": [self._embedder.name] * len(samples)}
