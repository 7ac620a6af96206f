"""The failure budget: how much failed, how much the recipe allows, and what to do where it was more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hifidata.core.schema import CAPTION_FAULTS
from hifidata.report.statistics import Totals


@dataclass(frozen=True)
class Budget:
    """What counts against the budget. A run that is over it ends with exit code 3.

    Attributes:
        max_share: ``failures.max_share`` of the recipe; None where no recipe is known.
        caption_faults: kept portraits whose caption a server, or its model, failed to give.
    """

    max_share: float | None
    failed: int
    candidates: int
    caption_faults: int
    kept: int

    @property
    def candidates_over(self) -> bool:
        """More candidates failed than the recipe allows."""
        return self.max_share is not None and self.failed > self.max_share * self.candidates

    @property
    def captions_over(self) -> bool:
        """More captions are missing than the recipe allows."""
        return self.max_share is not None and self.caption_faults > self.max_share * self.kept


def budget(totals: Totals, run: Mapping[str, Any]) -> Budget:
    """The budget of a run, judged as the run itself judges it.

    Args:
        totals: counts of the manifest.
        run: the run record; ``recipe`` and ``caption_stand_ins`` are looked at.
    """
    share = ((run.get("recipe") or {}).get("failures") or {}).get("max_share")
    stand_ins = run.get("caption_stand_ins") or {}
    faults = sum(stand_ins.get(str(problem), 0) for problem in CAPTION_FAULTS)
    return Budget(
        float(share) if isinstance(share, int | float) else None, totals.failed, totals.candidates, faults, totals.kept
    )
