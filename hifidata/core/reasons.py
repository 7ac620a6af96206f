"""Reasons against a candidate: the code for the manifest, the texts for the report, and the compared number.

Each package declares the reasons that it uses: ``sources.reasons``, ``fetch.reasons``, ``image.reasons`` and every stage.
``hifidata.stages.table`` lists all reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAX_LABEL = 18
"""Characters that fit under a thumbnail."""

Drops = Literal["below", "up to", "above", "at or above"]


@dataclass(frozen=True)
class Limit:
    """A compared number and the recipe key of its limit.

    Attributes:
        column: manifest column of the compared number.
        drops: side of the limit on which a candidate is dropped.
        setting: recipe key of the limit, such as ``quality.min_score``.
        label: name of the number in charts.
        unit: text after the number; empty for ratios.
    """

    column: str
    drops: Drops
    setting: str
    label: str
    unit: str = ""


class Reason(str):
    """A code of the manifest's ``reason`` column. A reason equals its code, so it can be compared with strings in rows.

    Args:
        code: lower case, words joined by underscores; unique among all reasons.
        label: caption of a thumbnail, at most 18 characters.
        sentence: explanation for the report.
        failed: True for candidates that could not be judged: status failed, counted by the failure budget. False for
            candidates that were judged and dropped.
        limit: compared number and its limit, if the reason has one.
    """

    label: str
    sentence: str
    failed: bool
    limit: Limit | None

    def __new__(
        cls, code: str, label: str = "", sentence: str = "", *, failed: bool = False, limit: Limit | None = None
    ) -> Reason:
        """Make a reason from the arguments of the class."""
        reason = super().__new__(cls, code)
        reason.label = label or code.replace("_", " ").capitalize()
        reason.sentence = sentence
        reason.failed = failed
        reason.limit = limit
        return reason


def by_code(reasons: Iterable[Reason]) -> dict[str, Reason]:
    """Return reasons by code, in the given order."""
    return {str(reason): reason for reason in reasons}


MODEL_ERROR = Reason("model_error", "Model error", "A model failed on this image, so it was not judged.", failed=True)
"""The reason of a ``ModelError`` in any stage."""
