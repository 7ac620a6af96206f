"""The report says where more failed than the recipe allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hifidata.report.budget import budget
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
def test_candidates_are_over_where_more_than_the_allowed_share_failed(failed: int, is_over: bool) -> None:
    assert budget(totals(failed), {"recipe": {"failures": {"max_share": 0.05}}}).candidates_over is is_over


@pytest.mark.parametrize(
    ("stand_ins", "is_over"),
    [({}, False), ({"timeout": 2}, False), ({"timeout": 2, "empty": 1}, True), ({"refused": 50}, False)],
)
def test_captions_count_over_what_is_kept_and_a_refusal_is_an_answer(stand_ins: dict[str, int], is_over: bool) -> None:
    run = {"recipe": {"failures": {"max_share": 0.05}}, "caption_stand_ins": stand_ins}
    assert budget(totals(0), run).captions_over is is_over


def test_a_run_without_a_recipe_is_over_no_budget() -> None:
    assert not budget(totals(50), {}).candidates_over


def test_a_banner_names_the_share_and_the_setting_and_goes_where_the_recipe_allows_as_much(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    folder, run = dataset
    n = run["counts"]["candidates"]
    assert "Over the failure budget" not in render_report(folder, run)
    run["recipe"] = {**run["recipe"], "failures": {"max_share": 0.001}}
    page = words_of(render_report(folder, run))
    assert f"of {n} candidates failed (" in page
    assert "the recipe allows 0.1% (<code>failures.max_share</code>). Such a run ends with exit code 3" in page
    assert "<dt>Failed, allowed 0.1%</dt>" in page


def test_missing_captions_have_a_banner_of_their_own(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    run["caption_stand_ins"] = {"timeout": run["counts"]["kept"]}
    kept = run["counts"]["kept"]
    assert f"the captioner gave nothing usable for {kept} of {kept} kept pictures" in words_of(
        render_report(folder, run)
    )
