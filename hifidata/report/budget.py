"""The failure budget of a run: the share of failures and the share that the recipe allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hifidata.core.schema import CAPTION_FAULTS
from hifidata.report.statistics import Totals


@dataclass(frozen=True)
class FailureBudget:
    """Counts that are compared with the budget. A run over the budget ends with exit code 3.

    Attributes:
        max_share: ``failures.max_share`` of the recipe; None without a recipe.
        failed: failed candidates.
        caption_faults: kept images without a full caption because the server or its model failed.
        kept: kept images.
    """

    max_share: float | None
    failed: int
    candidates: int
    caption_faults: int
    kept: int

    @property
    def candidates_over(self) -> bool:
        """Whether more candidates failed than the recipe allows."""
        return self.max_share is not None and self.failed > self.max_share * self.candidates

    @property
    def captions_over(self) -> bool:
        """Whether more captions are missing than the recipe allows."""
        return self.max_share is not None and self.caption_faults > self.max_share * self.kept


def failure_budget(totals: Totals, run: Mapping[str, Any]) -> FailureBudget:
    """Compute the failure budget as the run computes it for its exit code.

    Args:
        totals: counts of the manifest.
        run: the run record, with the keys ``recipe`` and ``caption_stand_ins``.
    """
    share = ((run.get("recipe") or {}).get("failures") or {}).get("max_share")
    stand_ins = run.get("caption_stand_ins") or {}
    faults = sum(stand_ins.get(str(problem), 0) for problem in CAPTION_FAULTS)
    return FailureBudget(
        float(share) if isinstance(share, int | float) else None, totals.failed, totals.candidates, faults, totals.kept
    )
