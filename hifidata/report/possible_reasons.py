"""Reasons that are possible in a run, given its source, its settings and the stages that ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hifidata.core.reasons import Reason
from hifidata.fetch.reasons import (
    CRAWL_DELAY_TOO_LONG,
    FETCH_REASONS,
    HASH_MISMATCH,
    OPTED_OUT,
    PLACEHOLDER,
    ROBOTS_DISALLOWED,
    ROBOTS_UNREACHABLE,
)
from hifidata.image.reasons import ANIMATED
from hifidata.report.statistics import stages_not_run
from hifidata.report.words import Vocabulary
from hifidata.sources.reasons import BAD_ROW, LIST_REASONS, LOCAL_REASONS, NO_PERSON_FOLDER, SEARCH_REASONS
from hifidata.stages.caption import NO_CAPTION
from hifidata.stages.detect import FACE_MISMATCH
from hifidata.stages.fetch import Fetch
from hifidata.stages.verify import SEVERAL_PEOPLE

OF_SOURCE: Mapping[str, frozenset[Reason]] = {
    "url_table": frozenset(FETCH_REASONS) | set(LIST_REASONS),
    "imdb_face": frozenset(FETCH_REASONS) | set(LIST_REASONS),
    "names": frozenset(FETCH_REASONS) | set(SEARCH_REASONS),
    "folder": frozenset({NO_PERSON_FOLDER}),
    "shards": frozenset({BAD_ROW}),
}
"""Reasons of lists and downloads by kind of source."""


def possible_reasons(run: Mapping[str, Any], words: Vocabulary) -> frozenset[Reason]:
    """Return the reasons that this run can give. Without information in the run record, a reason counts as possible."""
    recipe = run.get("recipe") or {}
    impossible = {reason for stage in stages_not_run(run, words) for reason in words.stage(stage).reasons}
    kind = str((recipe.get("source") or {}).get("kind"))
    if kind in OF_SOURCE:
        impossible = (impossible | {*Fetch.reasons, *LOCAL_REASONS}) - OF_SOURCE[kind]
    return frozenset(words.reasons.values()) - impossible - _switched_off(recipe)


def _switched_off(recipe: Mapping[str, Any]) -> frozenset[Reason]:
    """Return the reasons whose setting is off."""
    fetch, columns = recipe.get("fetch") or {}, (recipe.get("source") or {}).get("columns") or {}
    kind = (recipe.get("source") or {}).get("kind")
    is_off = {
        ROBOTS_DISALLOWED: fetch.get("obey_robots") is False,
        ROBOTS_UNREACHABLE: fetch.get("obey_robots") is False,
        CRAWL_DELAY_TOO_LONG: fetch.get("obey_robots") is False,
        OPTED_OUT: fetch.get("respect_opt_out") is False,
        PLACEHOLDER: not fetch.get("placeholder_sha256", True),
        HASH_MISMATCH: kind is not None and not columns.get("sha256"),
        FACE_MISMATCH: kind not in (None, "imdb_face") and not columns.get("face"),
        ANIMATED: (recipe.get("intake") or {}).get("animated") == "first",
        SEVERAL_PEOPLE: bool(recipe) and (recipe.get("verify") or {}).get("method", "paper") != "density",
        NO_CAPTION: (recipe.get("caption") or {}).get("on_error", "fail") != "fail",
    }
    return frozenset(reason for reason, off in is_off.items() if off)
