"""Reasons why a row of a table, a file, or a search for a name, gave no image."""

from __future__ import annotations

from hifidata.core.reasons import Reason

BAD_ROW = Reason(
    "bad_row",
    "Unreadable row",
    "The row or sample has no identity, no URL, or content that cannot be read.",
    failed=True,
)
NO_PERSON_FOLDER = Reason(
    "no_person_folder", "No person folder", "The image lies in no folder of a person.", failed=True
)
DUPLICATE_URL = Reason("duplicate_url", "Listed twice", "The table already has this URL for this identity.")
NO_HITS = Reason("no_hits", "No hits", "The search engine found no image for this name.")
SEARCH_ERROR = Reason(
    "search_error", "Search failed", "The search engine was unreachable, or returned an error.", failed=True
)

LIST_REASONS = (BAD_ROW, DUPLICATE_URL)
SEARCH_REASONS = (NO_HITS, SEARCH_ERROR)
LOCAL_REASONS = (BAD_ROW, NO_PERSON_FOLDER)
