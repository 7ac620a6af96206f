"""Which reasons a run could have given at all: those of its kind of source and of the stages that ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hifidata.core.schema import Reason
from hifidata.report.statistics import stages_not_run

LISTS, NAMES, FILES = ("url_table", "imdb_face"), ("names",), ("folder", "shards")

_CRAWL = frozenset(
    {
        Reason.BAD_URL, Reason.BAD_SCHEME, Reason.BLOCKED_ADDRESS, Reason.BAD_REDIRECT, Reason.TOO_MANY_REDIRECTS,
        Reason.TLS_DOWNGRADE, Reason.ROBOTS_DISALLOWED, Reason.ROBOTS_UNREACHABLE, Reason.CRAWL_DELAY_TOO_LONG,
        Reason.OPTED_OUT, Reason.UNKNOWN_HOST, Reason.DNS_ERROR, Reason.CONNECT_ERROR, Reason.TLS_ERROR, Reason.TIMEOUT,
        Reason.HOST_STOPPED, Reason.HTTP_4XX, Reason.HTTP_5XX, Reason.RATE_LIMITED, Reason.BAD_RESPONSE, Reason.TOO_LARGE,
        Reason.INCOMPLETE_BODY, Reason.PLACEHOLDER, Reason.HASH_MISMATCH,
    }
)  # fmt: skip

OF_SOURCE: Mapping[str, frozenset[Reason]] = {
    **dict.fromkeys(LISTS, _CRAWL | {Reason.BAD_ROW, Reason.DUPLICATE_URL}),
    **dict.fromkeys(NAMES, _CRAWL | {Reason.NO_HITS, Reason.SEARCH_ERROR}),
    **dict.fromkeys(FILES, frozenset()),
}
"""What only some kinds of sources give."""

OF_STAGE: Mapping[str, frozenset[Reason]] = {
    "intake": frozenset(
        {
            Reason.EMPTY_FILE, Reason.UNREADABLE_FILE, Reason.TOO_MANY_BYTES, Reason.NOT_IMAGE, Reason.FORMAT_NOT_ALLOWED,
            Reason.TOO_MANY_PIXELS, Reason.TOO_SMALL, Reason.BAD_ASPECT, Reason.TRUNCATED, Reason.CORRUPT, Reason.ANIMATED,
        }
    ),
    "detect": frozenset({Reason.NO_FACE, Reason.SEVERAL_FACES, Reason.FACE_CUT_OFF, Reason.FACE_MISMATCH}),
    "crop": frozenset({Reason.FACE_SHARE_TOO_LOW, Reason.CROP_TOO_SMALL}),
    "quality": frozenset({Reason.LOW_QUALITY}),
    "watermark": frozenset({Reason.TEXT_ON_FACE}),
    "occlusion": frozenset({Reason.OCCLUDED}),
    "dedup": frozenset({Reason.DUPLICATE_BYTES, Reason.NEAR_DUPLICATE}),
    "verify": frozenset({Reason.OTHER_PERSON, Reason.IDENTITY_TOO_SMALL}),
    "caption": frozenset({Reason.NO_CAPTION}),
}  # fmt: skip
"""What only one stage gives."""


def possible_reasons(run: Mapping[str, Any]) -> frozenset[Reason]:
    """What could have ended a picture in this run; where the run record is silent, more rather than less."""
    impossible: set[Reason] = set()
    for stage in stages_not_run(run):
        impossible |= OF_STAGE.get(stage, frozenset())
    recipe = run.get("recipe") or {}
    kind = str((recipe.get("source") or {}).get("kind"))
    if kind in OF_SOURCE:
        impossible |= {reason for reasons in OF_SOURCE.values() for reason in reasons} - OF_SOURCE[kind]
    return frozenset(Reason) - impossible - _switched_off(recipe)


def _switched_off(recipe: Mapping[str, Any]) -> frozenset[Reason]:
    """Reasons whose setting is off."""
    fetch, columns = recipe.get("fetch") or {}, (recipe.get("source") or {}).get("columns") or {}
    kind = (recipe.get("source") or {}).get("kind")
    is_off = {
        Reason.ROBOTS_DISALLOWED: fetch.get("obey_robots") is False,
        Reason.ROBOTS_UNREACHABLE: fetch.get("obey_robots") is False,
        Reason.CRAWL_DELAY_TOO_LONG: fetch.get("obey_robots") is False,
        Reason.OPTED_OUT: fetch.get("respect_opt_out") is False,
        Reason.PLACEHOLDER: not fetch.get("placeholder_sha256", True),
        Reason.HASH_MISMATCH: kind is not None and not columns.get("sha256"),
        Reason.FACE_MISMATCH: kind not in (None, "imdb_face") and not columns.get("face"),
        Reason.ANIMATED: (recipe.get("intake") or {}).get("animated") == "first",
        Reason.NO_CAPTION: (recipe.get("caption") or {}).get("on_error", "fail") != "fail",
    }
    return frozenset(reason for reason, off in is_off.items() if off)
