"""Face verification: find the images that show the identity.

Source: paper, section 3.4: k-means over the embeddings of an ID group. The centre of the largest cluster is the target
embedding; only images with a similarity above 0.7 are saved. Appendix A: groups of fewer than five images are excluded.
Our addition: the method ``density``, because the largest cluster may hold several people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hifidata.config.sections import VerifyConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict, as_float32
from hifidata.stages.base import Columns, Stage
from hifidata.stages.density import find_groups, target_embedding

N_INIT = 10  # restarts of k-means; with random_state fixed the result depends on the embeddings alone


OTHER_PERSON = Reason(
    "other_person",
    "Other person",
    "The face is not similar enough to the centre of the identity's largest group.",
    limit=Limit("similarity", "below", "verify.min_similarity", "similarity"),
)
IDENTITY_TOO_SMALL = Reason(
    "identity_too_small",
    "Too few left",
    "The image passed, but the identity has fewer matching images than verify.min_images.",
)
SEVERAL_PEOPLE = Reason(
    "several_people",
    "Several people",
    "The images of the identity form two groups of similar size, so it is unclear which group is meant. All are dropped.",
    limit=Limit("second_group_ratio", "at or above", "verify.max_second_group", "second group over first group"),
)


class Verify(Stage):
    """Finds the largest group among the embeddings of all alive images of an identity, by k-means or by density."""

    name = "verify"
    title = "Same person"
    does = "Face embeddings are grouped per identity; images far from the centre of the largest group are dropped."
    not_run = "Identity was not verified: the recipe sets no model."
    columns = (
        Column(
            "cluster",
            "int32",
            "group within the identity; 0 is the largest. Method paper: k-means cluster. Method density: 0 the images that "
            "agree with the medoid, 1 the second group, -1 no group",
        ),
        Column("similarity", "float32", "similarity to the centre of group 0", "cosine"),
        Column("n_matching", "int32", "number of images of the identity whose similarity is above the limit"),
        Column("n_second_group", "int32", "method density: number of images in the second group, which do not match"),
        Column("second_group_ratio", "float32", "method density: n_second_group over n_matching"),
    )
    reasons = (OTHER_PERSON, SEVERAL_PEOPLE, IDENTITY_TOO_SMALL)
    scope = "identity"
    required_columns = ("embedding",)
    replayable = ("method", "k", "min_similarity", "min_pair_similarity", "max_second_group", "min_images")

    @staticmethod
    def derive(rows: Sequence[Row], config: VerifyConfig) -> Columns:
        """Compute each row's group (0 is the largest), its cosine to the group's centre, and the sizes of the groups."""
        if not rows:
            return {}
        embeddings = np.stack([np.asarray(row["embedding"], np.float32) for row in rows])
        if config.method == "density":
            return _by_density(embeddings, config)
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
        """Drop images of another person, and all images of an identity with two groups or too few matching images."""
        similarity, floor = row["similarity"], config.min_similarity
        ratio = row.get("second_group_ratio") if config.method == "density" else None
        if ratio is not None and ratio >= config.max_second_group:
            message = (
                f"{row['n_matching']} images of the identity agree, and a second group has {row['n_second_group']}; if one "
                "person is meant, move the other's images to another identity"
            )
            return Verdict(SEVERAL_PEOPLE, ratio, config.max_second_group, message)
        if floor is not None and not similarity > floor:
            message = f"similarity {similarity:.3f} to the identity, the recipe requires more than {floor:.3f}"
            return Verdict(OTHER_PERSON, similarity, floor, message)
        if row["n_matching"] < config.min_images:
            message = f"the identity has {row['n_matching']} matching images, the recipe requires {config.min_images}"
            return Verdict(IDENTITY_TOO_SMALL, row["n_matching"], config.min_images, message)
        return None


def _by_density(embeddings: NDArray[np.float32], config: VerifyConfig) -> Columns:
    if config.min_similarity is None or config.min_pair_similarity is None:
        raise ValueError("verify.method density needs min_similarity and min_pair_similarity")  # resolve() fills them
    groups = find_groups(embeddings, config.min_pair_similarity, config.min_similarity)
    n = len(embeddings)
    return {
        "cluster": groups.labels.tolist(),
        "similarity": groups.similarities.tolist(),
        "n_matching": [groups.n_matching] * n,
        "n_second_group": [groups.n_second] * n,
        "second_group_ratio": [as_float32(groups.n_second / max(groups.n_matching, 1))] * n,
    }


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
