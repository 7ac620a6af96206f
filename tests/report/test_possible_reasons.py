"""Only what could have happened is said not to have happened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hifidata.config.recipe import STAGE_NAMES
from hifidata.config.sections import SOURCE_KINDS
from hifidata.core.schema import Reason
from hifidata.report.html import render_report
from hifidata.report.possible_reasons import OF_SOURCE, OF_STAGE, possible_reasons


def run_of(kind: str, **recipe: Any) -> dict[str, Any]:
    source = recipe.pop("source", {})
    return {"recipe": {"source": {"kind": kind, **source}, **recipe}, "stages": [], "not_checked": []}


def test_every_reason_belongs_to_a_source_or_a_stage_or_to_any_model() -> None:
    assert frozenset().union(*OF_SOURCE.values(), *OF_STAGE.values()) == set(Reason) - {Reason.MODEL_ERROR}
    assert set(OF_SOURCE) == set(SOURCE_KINDS)
    assert set(OF_STAGE) <= set(STAGE_NAMES)


def test_a_folder_is_not_crawled_and_a_list_is() -> None:
    crawled = {Reason.TIMEOUT, Reason.OPTED_OUT, Reason.BAD_URL, Reason.ROBOTS_DISALLOWED}
    for kind in ("folder", "shards"):
        assert not possible_reasons(run_of(kind)) & (crawled | {Reason.BAD_ROW, Reason.NO_HITS, Reason.HASH_MISMATCH})
    assert possible_reasons(run_of("names")) >= crawled | {Reason.NO_HITS}
    assert possible_reasons(run_of("url_table")) >= crawled | {Reason.BAD_ROW}
    assert not possible_reasons(run_of("url_table")) & {Reason.NO_HITS, Reason.HASH_MISMATCH, Reason.FACE_MISMATCH}
    with_columns = run_of("url_table", source={"columns": {"sha256": "sha256", "face": {"box": ["rect"]}}})
    assert possible_reasons(with_columns) >= {Reason.HASH_MISMATCH, Reason.FACE_MISMATCH}
    assert Reason.FACE_MISMATCH in possible_reasons(run_of("imdb_face"))


@pytest.mark.parametrize(
    ("section", "setting", "reason"),
    [
        ("fetch", {"obey_robots": False}, Reason.ROBOTS_UNREACHABLE),
        ("fetch", {"respect_opt_out": False}, Reason.OPTED_OUT),
        ("fetch", {"placeholder_sha256": []}, Reason.PLACEHOLDER),
        ("intake", {"animated": "first"}, Reason.ANIMATED),
        ("caption", {"on_error": "attributes"}, Reason.NO_CAPTION),
    ],
)
def test_what_a_setting_switches_off_is_impossible(section: str, setting: dict[str, Any], reason: Reason) -> None:
    assert reason in possible_reasons(run_of("url_table"))
    assert reason not in possible_reasons(run_of("url_table", **{section: setting}))


def test_a_silent_run_record_rules_nothing_out() -> None:
    assert possible_reasons({}) == set(Reason)


def test_the_report_of_a_folder_speaks_of_no_downloads_and_of_no_stage_that_did_not_run(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    idle = re.findall(r"Nothing ended for: ([^.]*)\.", render_report(*dataset))[0].split(", ")
    assert "not a picture" in idle
    assert not {"timeout", "opted out", "no hits", "face covered"} & set(idle)
