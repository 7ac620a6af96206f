"""The report shows when more candidates failed than the recipe allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hifidata.report.budget import failure_budget
from hifidata.report.html import render_report
from hifidata.report.statistics import Totals


def words_of(html: str) -> str:
    return " ".join(html.split())


def totals(failed: int) -> Totals:
    return Totals(
        identities=1,
        identities_kept=1,
        candidates=100,
        kept=50,
        dropped=50 - failed,
        failed=failed,
        shards=1,
        shard_bytes=1,
    )


@pytest.mark.parametrize(("failed", "is_over"), [(0, False), (5, False), (6, True)])
def test_candidates_are_over_the_budget_if_more_than_the_allowed_share_failed(failed: int, is_over: bool) -> None:
    assert failure_budget(totals(failed), {"recipe": {"failures": {"max_share": 0.05}}}).candidates_over is is_over


@pytest.mark.parametrize(
    ("stand_ins", "is_over"),
    [({}, False), ({"timeout": 2}, False), ({"timeout": 2, "empty": 1}, True), ({"refused": 50}, False)],
)
def test_missing_captions_count_against_kept_images_and_a_refusal_does_not_count(
    stand_ins: dict[str, int], is_over: bool
) -> None:
    run = {"recipe": {"failures": {"max_share": 0.05}}, "caption_stand_ins": stand_ins}
    assert failure_budget(totals(0), run).captions_over is is_over


def test_a_run_without_a_recipe_has_no_budget() -> None:
    assert not failure_budget(totals(50), {}).candidates_over


def test_a_banner_over_the_budget_names_the_share_and_the_setting(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    folder, run = dataset
    n = run["counts"]["candidates"]
    assert "Over the failure budget" not in render_report(folder, run)
    run["recipe"] = {**run["recipe"], "failures": {"max_share": 0.001}}
    page = words_of(render_report(folder, run))
    assert f"of {n} candidates failed (" in page
    assert "the recipe allows 0.1% (<code>failures.max_share</code>). The run ends with exit code 3" in page
    assert "<dt>Failed, allowed 0.1%</dt>" in page


def test_missing_captions_have_their_own_banner(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    run["caption_stand_ins"] = {"timeout": run["counts"]["kept"]}
    kept = run["counts"]["kept"]
    assert f"the caption model failed for {kept} of {kept} kept images" in words_of(render_report(folder, run))
