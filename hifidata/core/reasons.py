"""Why a candidate was not kept: a reason's code in the manifest, its words, and the number it was judged by.

Reasons are declared where they are given: ``sources.reasons``, ``fetch.reasons``, ``image.reasons``, and each stage its own.
``hifidata.stages.declared`` lists them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAX_LABEL = 18
"""Characters that fit under a thumbnail."""


@dataclass(frozen=True)
class Limit:
    """The number that decides, and the recipe's limit for it.

    Attributes:
        column: manifest column that is compared.
        drops: side of the limit on which a candidate is dropped.
        setting: recipe key of the limit, such as ``quality.min_score``.
        label: the number in words, for charts.
        unit: written after the number; empty for ratios.
    """

    column: str
    drops: Literal["below", "up to", "above", "at or above"]
    setting: str
    label: str
    unit: str = ""


class Reason(str):
    """A code of the manifest's ``reason`` column. Equal to its code, so rows that hold strings compare with it.

    Args:
        code: lower case, words joined by underscores; unique among all reasons.
        label: at most 18 characters, for a thumbnail's caption.
        sentence: what happened to the candidate.
        failed: whether it means "could not be judged" (status failed, counted by the failure budget) instead of "judged and
            dropped".
        limit: the number that was compared, where one was.
    """

    label: str
    sentence: str
    failed: bool
    limit: Limit | None

    def __new__(
        cls, code: str, label: str = "", sentence: str = "", *, failed: bool = False, limit: Limit | None = None
    ) -> Reason:
        """See the class."""
        reason = super().__new__(cls, code)
        reason.label = label or code.replace("_", " ").capitalize()
        reason.sentence = sentence
        reason.failed = failed
        reason.limit = limit
        return reason


def by_code(reasons: Iterable[Reason]) -> dict[str, Reason]:
    """Reasons by their code, in order."""
    return {str(reason): reason for reason in reasons}


MODEL_ERROR = Reason("model_error", "Model error", "A model failed on this picture, so it was not judged.", failed=True)
"""Any stage may give it."""
