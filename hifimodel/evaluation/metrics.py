"""The metrics of one generated image, compared with its references and its target.

Source: paper section 4.1, evaluation metrics. As in the paper, numbers are multiplied by 100. The paper does not state the pose
components, or whether RMSE is per image; here it is, and ``ABOUT`` defines the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hifimodel.evaluation.faces import Face

CLIP, EXPRESSION, POSE, FID, COPY_PASTE = "CLIP_f", "Exp", "Pose", "FID", "Copy-paste"
ABOUT: Mapping[str, str] = {
    "Sim_f": "higher is better; mean cosine of recogniser embeddings, generated face against all references, x 100",
    CLIP: "higher is better; mean cosine of CLIP's projected image features of face crops, against all references, x 100",
    EXPRESSION: "lower is better; root mean square difference of expression numbers, generated against target",
    POSE: "lower is better; root mean square difference of head pose numbers, generated against target, x 100",
    FID: "lower is better; Frechet distance of Inception features, whole generated images against real images",
    COPY_PASTE: "0: pose, expression and light of the target; 100: those of the nearest reference",
}
EXPRESSION_UNITS: Mapping[str, tuple[float, str]] = {
    "tddfa": (100.0, "10 coefficients of 3DDFA's basis, x 100"),
    "deca": (100.0, "50 FLAME coefficients, x 100"),
    "points": (1.0, "136 displacements of 68 landmarks seen from the front, mm"),
}
"""Factor and unit per landmark backend. Numbers of different backends are not comparable."""
POSE_UNITS: Mapping[str, str] = {"deca": "3 numbers of the head and 3 of the jaw, axis-angle in radians"}
DEFAULT_POSE_UNITS = "yaw, pitch and roll in radians"


@dataclass(frozen=True)
class Spread:
    """Usual distances between two photos of an identity: means over all pairs of a target and its reference.

    Attributes:
        by_factor: for ``pose``, ``expression`` and ``light``, without factors that could not be measured.
    """

    by_factor: Mapping[str, float]


def image_scores(
    face: Face, target: Face | None, references: Sequence[Face], spread: Spread, expression_factor: float = 100.0
) -> dict[str, float]:
    """Return every column but FID for one image; NaN if a face or a model is missing.

    Args:
        face: of the generated image.
        target: of the target photo.
        references: of the references with a face.
        spread: see ``copy_paste``.
        expression_factor: see ``EXPRESSION_UNITS``.
    """
    scores = {
        f"Sim_f {name}": 100 * _mean_cosine(embedding, [reference.embeddings[name] for reference in references])
        for name, embedding in face.embeddings.items()
    }
    scores[CLIP] = 100 * _mean_cosine(face.clip, [reference.clip for reference in references])
    apart = {} if target is None else distances(face, target)
    scores[EXPRESSION] = expression_factor * apart.get("expression", np.nan)
    scores[POSE] = 100 * apart.get("pose", np.nan)
    scores[COPY_PASTE] = np.nan if target is None else 100 * copy_paste(face, target, references, spread)
    return scores


def copy_paste(face: Face, target: Face, references: Sequence[Face], spread: Spread) -> float:
    """Return whether an image looks like the target or like one of the references.

    The distance of two faces is the mean, over pose, expression and light, of the root mean square difference divided by the
    usual difference between two photos of an identity in this set (``spread``). With t the distance to the target and r the
    distance to the *nearest* reference, the index is t / (t + r): 0 for the look of the target, 1 for a copied reference, 0.5
    for equal distances. An unrelated face is above 0.5 if there are several references, since the nearest of several is nearer
    than the single target. Identity has no influence.

    Returns:
        0 to 1; NaN without references, and if target and reference look the same.
    """
    if not references or not spread.by_factor:
        return float("nan")
    to_target = _look_distance(face, target, spread)
    to_nearest = min(_look_distance(face, reference, spread) for reference in references)
    total = to_target + to_nearest
    return to_target / total if total > 0 else float("nan")


def spread_of(pairs: Sequence[tuple[Face, Face]]) -> Spread:
    """Return the usual distances, without factors that never differ."""
    found: dict[str, list[float]] = {}
    for first, second in pairs:
        for factor, distance in distances(first, second).items():
            found.setdefault(factor, []).append(distance)
    means = {factor: float(np.mean(values)) for factor, values in found.items()}
    return Spread({factor: mean for factor, mean in means.items() if mean > 0})


def distances(first: Face, second: Face) -> dict[str, float]:
    """Return root mean square differences: ``pose`` (radians), ``expression`` (units of the model), ``light`` (stops).

    Factors that one of the faces lacks are left out.
    """
    found = {"light": rms(first.light - second.light)}
    if first.pose_rad is not None and second.pose_rad is not None:
        turned = (first.pose_rad - second.pose_rad + np.pi) % (2 * np.pi) - np.pi  # at most half a turn
        found["pose"] = rms(turned)
    if first.expression is not None and second.expression is not None:
        found["expression"] = rms(first.expression - second.expression)
    return found


def rms(differences: NDArray[np.float64]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(differences))))


def _look_distance(first: Face, second: Face, spread: Spread) -> float:
    apart = distances(first, second)
    shares = [apart[factor] / usual for factor, usual in spread.by_factor.items() if factor in apart]
    return float(np.mean(shares)) if shares else float("nan")


def _mean_cosine(vector: NDArray[np.float32] | None, others: Sequence[NDArray[np.float32] | None]) -> float:
    """Return the mean cosine of unit vectors; NaN without vectors to compare."""
    known = [other for other in others if other is not None]
    if vector is None or not known:
        return float("nan")
    return float(np.mean([float(np.dot(vector.astype(np.float64), other)) for other in known]))
