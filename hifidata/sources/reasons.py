"""Why a row of a list, or a search for a name, gave no picture."""

from __future__ import annotations

from hifidata.core.reasons import Reason

BAD_ROW = Reason("bad_row", "Unreadable row", "The row has no identity or no URL.", failed=True)
DUPLICATE_URL = Reason("duplicate_url", "Listed twice", "The list has this URL for this identity a second time.")
NO_HITS = Reason("no_hits", "No hits", "The search engine found no picture for this name.")
SEARCH_ERROR = Reason(
    "search_error", "Search failed", "The search engine could not be reached, or did not answer.", failed=True
)

LIST_REASONS = (BAD_ROW, DUPLICATE_URL)
SEARCH_REASONS = (NO_HITS, SEARCH_ERROR)
