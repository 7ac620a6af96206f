"""Face verification: find the images that show the identity.

Source: paper, section 3.4: k-means over the embeddings of an ID group. The centre of the largest cluster is the target
embedding; only images with a similarity above 0.7 are saved. Appendix A: groups of fewer than five images are excluded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hifidata.config.sections import VerifyConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.stages.base import Columns, Stage

N_INIT = 10  # restarts of k-means; with random_state fixed the result depends on the embeddings alone


OTHER_PERSON = Reason(
    "other_person",
    "Other person",
    "The face is not similar enough to the centre of the identity's largest cluster.",
    limit=Limit("similarity", "below", "verify.min_similarity", "similarity"),
)
IDENTITY_TOO_SMALL = Reason(
    "identity_too_small",
    "Too few left",
    "The image passed, but the identity has fewer matching images than verify.min_images.",
)


class Verify(Stage):
    """k-means over the embeddings of all alive images of an identity."""

    name = "verify"
    title = "Same person"
    does = "Face embeddings are clustered per identity; images far from the centre of the largest cluster are dropped."
    not_run = "Identity was not verified: the recipe sets no model."
    columns = (
        Column("cluster", "int32", "k-means cluster within the identity; 0 is the largest"),
        Column("similarity", "float32", "similarity to the centre of the largest cluster", "cosine"),
        Column("n_matching", "int32", "number of images of the identity whose similarity is above the limit"),
    )
    reasons = (OTHER_PERSON, IDENTITY_TOO_SMALL)
    scope = "identity"
    required_columns = ("embedding",)
    replayable = ("k", "min_similarity", "min_images")

    @staticmethod
    def derive(rows: Sequence[Row], config: VerifyConfig) -> Columns:
        """Compute each row's cluster (0 is the largest), its cosine to the target, and the number of matching rows."""
        if not rows:
            return {"cluster": [], "similarity": [], "n_matching": []}
        embeddings = np.stack([np.asarray(row["embedding"], np.float32) for row in rows])
        labels = cluster(embeddings, config.k or 1)
        target = target_embedding(embeddings[labels == 0])
        similarities = (embeddings @ target).astype(np.float32)
        floor = -2.0 if config.min_similarity is None else config.min_similarity
        n_matching = sum(similarity > floor for similarity in similarities.tolist())
        return {
            "cluster": labels.tolist(),
            "similarity": similarities.tolist(),
            "n_matching": [n_matching] * len(rows),
        }

    @staticmethod
    def decide(row: Mapping[str, Any], config: VerifyConfig) -> Verdict | None:
        """Drop images of another person, and all images of an identity with too few matching images."""
        similarity, floor = row["similarity"], config.min_similarity
        if floor is not None and not similarity > floor:
            message = f"similarity {similarity:.3f} to the identity, the recipe requires more than {floor:.3f}"
            return Verdict(OTHER_PERSON, similarity, floor, message)
        if row["n_matching"] < config.min_images:
            message = f"the identity has {row['n_matching']} matching images, the recipe requires {config.min_images}"
            return Verdict(IDENTITY_TOO_SMALL, row["n_matching"], config.min_images, message)
        return None


def cluster(embeddings: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Run k-means and return labels (n,) sorted by size: 0 is the largest cluster.

    Of clusters with equal size, the cluster with the earliest row is first.

    Args:
        embeddings: (n, d) float32, L2 norm 1.
        k: number of clusters; at most the number of distinct rows is used.
    """
    k = min(k, len(np.unique(embeddings, axis=0)))
    if k == 1:
        return np.zeros(len(embeddings), np.int32)
    from sklearn.cluster import KMeans  # its import takes half the start time of every command

    # With several threads, the order of a sum, and so its last bit, would depend on the machine's load.
    with threadpool_limits(1):
        labels = KMeans(n_clusters=k, n_init=N_INIT, random_state=0).fit_predict(embeddings)
    sizes = np.bincount(labels, minlength=k)
    first_row = np.array([np.flatnonzero(labels == c)[0] for c in range(k)])
    rank = np.empty(k, np.int32)
    rank[np.lexsort((first_row, -sizes))] = np.arange(k, dtype=np.int32)
    renumbered: NDArray[np.int32] = rank[labels]
    return renumbered


def target_embedding(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the centre of a cluster's members (m, d), scaled to L2 norm 1: (d,) float32."""
    centre = members.astype(np.float64).mean(axis=0)
    target: NDArray[np.float32] = (centre / max(float(np.linalg.norm(centre)), 1e-12)).astype(np.float32)
    return target
