"""Face embeddings, by which people are told apart. The model half of verification: it needs pixels, ``verify`` needs none."""

from __future__ import annotations

from collections.abc import Sequence

from hifidata.config.recipe import Recipe
from hifidata.core.schema import Column
from hifidata.models import registry
from hifidata.models.protocols import FaceEmbedder
from hifidata.stages.base import Columns, Sample, Stage, main_face


class Embed(Stage):
    """Embeds the main face, before any restoration. Drops nothing."""

    name = "embed"
    section = "verify"
    title = "Embedding"
    does = "An embedding of the face is computed, by which people are told apart."
    not_run = "Faces were not embedded: no model was set in the recipe."
    columns = (
        Column("embedding", "list<float32>", "identity embedding, L2 norm 1 (biometric data)"),
        Column("embedding_model", "string", "embedder"),
    )
    needs = ("embedding",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._embedder: FaceEmbedder = registry.load("verify", str(recipe.verify.model), recipe.verify)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """(d,) float32 embeddings with L2 norm 1, of the unrestored face."""
        faces = [main_face(sample.row) for sample in samples]
        embeddings = self._embedder.embed(
            [sample.rgb_u8 for sample in samples],
            [face.kps_px for face in faces],
            [face.landmarks_px for face in faces],
        )
        return {"embedding": list(embeddings), "embedding_model": [self._embedder.name] * len(samples)}
