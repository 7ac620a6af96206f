"""The crawl, as the manifest sees it: what a source lists and a download gives. ``hifidata.run.crawl`` does the work."""

from __future__ import annotations

from hifidata.config.recipe import Recipe
from hifidata.core.schema import Column
from hifidata.fetch.reasons import FETCH_REASONS
from hifidata.sources.reasons import LIST_REASONS, SEARCH_REASONS
from hifidata.stages.base import Stage


class Fetch(Stage):
    """Declares columns and reasons only: candidates are fetched before any worker sees them."""

    name = "fetch"
    title = "Download"
    does = "Pictures are downloaded from the URLs of the list, where the sites allow it."
    not_run = "Nothing was downloaded: the source holds the pictures."
    columns = (
        Column("fetched_at", "string", "UTC time of the download, ISO 8601"),
        Column("http_status", "int32", "status of the last answer"),
        Column("final_url", "string", "last URL that answered, after redirects"),
        Column("attempts", "int32", "tries that sent a request; 0 where the URL was refused before"),
        Column("retryable", "bool", "whether a later run may succeed; true only where the download failed"),
        Column("etag", "string", "ETag of the download, for a conditional request"),
        Column("last_modified", "string", "Last-Modified of the download, for a conditional request"),
        Column("queued_s", "float32", "wait for robots.txt, for the rate limit of the host and between tries"),
        Column(
            "connect_s",
            "float32",
            "name lookup, connection and TLS of the last request; 0 where a connection was reused",
        ),
        Column("response_s", "float32", "time from the last request to the headers of its answer"),
    )
    reasons = (*LIST_REASONS, *SEARCH_REASONS, *FETCH_REASONS)

    @classmethod
    def runs(cls, recipe: Recipe) -> bool:
        """Where the source lists URLs or names."""
        return recipe.source.is_remote
