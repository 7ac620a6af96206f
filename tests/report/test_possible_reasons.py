"""The report lists as not occurred only the reasons that were possible."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hifidata.config.sources import SOURCE_KINDS
from hifidata.core.reasons import Reason
from hifidata.report.html import render_report
from hifidata.report.possible_reasons import OF_SOURCE
from hifidata.report.possible_reasons import possible_reasons as possible
from hifidata.report.words import vocabulary
from hifidata.sources.reasons import LOCAL_REASONS
from hifidata.stages.fetch import Fetch
from hifidata.stages.table import REASONS


def run_of(kind: str, **recipe: Any) -> dict[str, Any]:
    source = recipe.pop("source", {})
    return {"recipe": {"source": {"kind": kind, **source}, **recipe}, "stages": [], "not_checked": []}


def possible_reasons(run: dict[str, Any]) -> frozenset[Reason]:
    return possible(run, vocabulary(run))


def test_every_reason_of_the_crawl_belongs_to_a_source() -> None:
    assert frozenset().union(*OF_SOURCE.values()) == {*Fetch.reasons, *LOCAL_REASONS}
    assert set(OF_SOURCE) == set(SOURCE_KINDS)


def test_only_crawled_sources_give_reasons_of_the_crawl() -> None:
    crawled = {"timeout", "opted_out", "bad_url", "robots_disallowed"}
    for kind in ("folder", "shards"):
        assert not possible_reasons(run_of(kind)) & (crawled | {"duplicate_url", "no_hits", "hash_mismatch"})
    assert "bad_row" in possible_reasons(run_of("shards")) - possible_reasons(run_of("folder"))
    assert "no_person_folder" in possible_reasons(run_of("folder")) - possible_reasons(run_of("url_table"))
    assert possible_reasons(run_of("names")) >= crawled | {"no_hits"}
    assert possible_reasons(run_of("url_table")) >= crawled | {"bad_row"}
    assert not possible_reasons(run_of("url_table")) & {"no_hits", "hash_mismatch", "face_mismatch"}
    with_columns = run_of("url_table", source={"columns": {"sha256": "sha256", "face": {"box": ["rect"]}}})
    assert possible_reasons(with_columns) >= {"hash_mismatch", "face_mismatch"}
    assert "face_mismatch" in possible_reasons(run_of("imdb_face"))


@pytest.mark.parametrize(
    ("section", "setting", "reason"),
    [
        ("fetch", {"obey_robots": False}, "robots_unreachable"),
        ("fetch", {"respect_opt_out": False}, "opted_out"),
        ("fetch", {"placeholder_sha256": []}, "placeholder"),
        ("intake", {"animated": "first"}, "animated"),
        ("caption", {"on_error": "attributes"}, "no_caption"),
    ],
)
def test_a_reason_is_impossible_if_its_setting_is_off(section: str, setting: dict[str, Any], reason: Reason) -> None:
    assert reason in possible_reasons(run_of("url_table"))
    assert reason not in possible_reasons(run_of("url_table", **{section: setting}))


def test_without_a_run_record_all_reasons_are_possible() -> None:
    assert possible_reasons({}) == set(REASONS.values())


def test_the_report_of_a_folder_lists_no_reasons_of_downloads_or_of_stages_that_did_not_run(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    unused = re.findall(r"Reasons that did not occur: ([^.]*)\.", render_report(*dataset))[0].split(", ")
    assert "not an image" in unused
    assert not {"timeout", "opted out", "no hits", "face covered"} & set(unused)
