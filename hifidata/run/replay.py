"""Replay: decides a dataset again with other thresholds, from stored numbers. It runs no model and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifidata.config.recipe import Recipe, apply_overrides, changes, resolve
from hifidata.core.errors import DatasetError, RecipeError, SampleError
from hifidata.core.schema import Row, Status
from hifidata.run.extension_guard import guarded
from hifidata.stages.base import Stage
from hifidata.stages.table import stages_of
from hifidata.store.layout import DatasetFolder
from hifidata.store.rows import identity_groups

JUDGEMENT = ("status", "stage", "reason", "score", "threshold", "message", "shard", "key")
UNJUDGED = ("fetch", "intake")
"""Stages whose verdicts depend on no stored number. A replay keeps these verdicts."""

UNKNOWN = "unknown"
DEPENDENT = "dependent"


@dataclass
class Replay:
    """Result of a replay.

    Attributes:
        n_candidates: number of replayed rows.
        kept_before, kept_after: images kept in the dataset, and images certainly kept with the new settings.
        newly_kept, newly_dropped: image ids; with the reason for dropped images.
        reasons_before, reasons_after: counts by reason.
        unknown: image ids that pass now but were never measured by the next stage, with the name of that stage. Only a
            run can decide them.
        dependent: image ids that a stage judges together with unknown images of the same identity, with its name.
        changes: changed settings.
    """

    n_candidates: int = 0
    kept_before: int = 0
    kept_after: int = 0
    newly_kept: list[str] = field(default_factory=list)
    newly_dropped: dict[str, str] = field(default_factory=dict)
    reasons_before: Counter[str] = field(default_factory=Counter)
    reasons_after: Counter[str] = field(default_factory=Counter)
    unknown: dict[str, str] = field(default_factory=dict)
    dependent: dict[str, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    @property
    def unknown_by_stage(self) -> Counter[str]:
        """Number of unknown images by stage."""
        return Counter(self.unknown.values())


def replay(out: Path, overrides: Sequence[str]) -> Replay:
    """Decide a dataset again with ``section.key=value`` overrides.

    Raises:
        DatasetError: ``out`` is not a dataset.
        RecipeError: an override is wrong, or affects a measurement and so needs a new run.
    """
    folder = DatasetFolder(out)
    old = folder.read_run()["recipe"]
    try:
        resolve(old, where="recipe")
    except RecipeError as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{folder.run_json}: no recipe that this version can replay ({reason}); run it again"
        ) from error
    recipe = resolve(apply_overrides(_without_defaults_of_method(old, overrides), overrides), where="replay")
    stages = stages_of(recipe)
    result = Replay(changes=changes(old, recipe))
    _refuse_unmeasured(result.changes, stages)
    for rows in identity_groups(folder):
        _replay_identity(rows, recipe, stages, result)
    return result


def _without_defaults_of_method(old: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the recorded recipe; if an override sets ``verify.method``, without the limits of the earlier method."""
    if not any(override.startswith("verify.method=") for override in overrides):
        return dict(old)
    limits = dict.fromkeys(("k", "min_similarity", "min_pair_similarity", "max_second_group"))
    return {**old, "verify": {**old["verify"], **limits}}


def _refuse_unmeasured(changes: Sequence[str], stages: Sequence[type[Stage]]) -> None:
    replayable = {f"{stage.name}.{key}" for stage in stages for key in stage.replayable}
    for change in changes:
        key = change.partition(":")[0]
        if key not in replayable:
            raise RecipeError(
                f"replay: {key} affects measurements, so stored numbers are not sufficient; run the recipe on a new folder. "
                f"Replayable keys: {', '.join(sorted(replayable))}"
            )


def _replay_identity(stored: Sequence[Row], recipe: Recipe, stages: Sequence[type[Stage]], result: Replay) -> None:
    fresh = [{name: value for name, value in row.items() if name not in JUDGEMENT} for row in stored]
    for row, before in zip(fresh, stored, strict=True):
        if before["status"] == Status.FAILED or before["stage"] in UNJUDGED:
            row |= {"status": before["status"], "reason": before["reason"]}
    for stage in stages:
        if stage.scope == "identity" and any(row.get("status") == UNKNOWN for row in fresh):
            for row in fresh:
                if row.get("status") is None:
                    row |= {"status": DEPENDENT, "stage": stage.name}
        if stage.runs(recipe):
            _replay_stage(guarded(stage, recipe), [row for row in fresh if row.get("status") is None], recipe)
    for row, before in zip(fresh, stored, strict=True):
        _count(row, before, result)


def _replay_stage(stage: type[Stage], rows: list[Row], recipe: Recipe) -> None:
    known = []
    for row in rows:
        if any(row.get(column) is None for column in stage.required_columns):
            row |= {"status": UNKNOWN, "stage": stage.name}
        else:
            known.append(row)
    checked = guarded(stage, recipe)
    # An error of code of another package costs one row, or the identity's rows. Own stages derive all rows in one call.
    parts = [[row] for row in known] if checked is not stage and stage.scope == "image" else [known] if known else []
    for part in parts:
        try:
            _derive_and_decide(checked, part, recipe)
        except SampleError as error:
            for row in part:
                row |= {"status": str(Status.FAILED), "reason": str(error.reason)}


def _derive_and_decide(stage: type[Stage], rows: list[Row], recipe: Recipe) -> None:
    config = stage.config(recipe)
    for name, values in stage.derive(rows, config).items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    for row in rows:
        verdict = stage.decide(row, config)
        if verdict is not None:
            row |= {"status": str(Status.DROPPED), "reason": str(verdict.reason)}


def _count(row: dict[str, Any], before: Row, result: Replay) -> None:
    was_kept = before["status"] == Status.KEPT
    status = row.get("status")
    result.n_candidates += 1
    result.kept_before += was_kept
    if before["reason"]:
        result.reasons_before[before["reason"]] += 1
    if status is None:
        result.kept_after += 1
        if not was_kept:
            result.newly_kept.append(row["image_id"])
    elif status == UNKNOWN:
        result.unknown[row["image_id"]] = row["stage"]
    elif status == DEPENDENT:
        result.dependent[row["image_id"]] = row["stage"]
    else:
        result.reasons_after[row["reason"]] += 1
        if was_kept:
            result.newly_dropped[row["image_id"]] = row["reason"]
