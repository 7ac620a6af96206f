"""Columns and reasons of the crawl. ``hifidata.run.crawl`` downloads the candidates."""

from __future__ import annotations

from hifidata.config.recipe import Recipe
from hifidata.core.schema import Column
from hifidata.fetch.reasons import FETCH_REASONS
from hifidata.sources.reasons import LIST_REASONS, SEARCH_REASONS
from hifidata.stages.base import Stage


class Fetch(Stage):
    """Declares columns and reasons only: candidates are fetched before a worker processes them."""

    name = "fetch"
    title = "Download"
    does = "Images are downloaded from the listed URLs, if the sites allow it."
    not_run = "No image was downloaded: the source contains the images."
    columns = (
        Column("fetched_at", "string", "UTC time of the download, ISO 8601"),
        Column("http_status", "int32", "HTTP status of the last response"),
        Column("final_url", "string", "last requested URL, after redirects"),
        Column("attempts", "int32", "tries that sent a request; 0 if the URL was refused before the first request"),
        Column("retryable", "bool", "whether a later run may succeed; true only for failed downloads"),
        Column("etag", "string", "ETag of the download, for a conditional request"),
        Column("last_modified", "string", "Last-Modified of the download, for a conditional request"),
        Column("queued_s", "float32", "wait for robots.txt, for the rate limit of the host and between tries"),
        Column(
            "connect_s",
            "float32",
            "DNS lookup, connection and TLS of the last request; 0 if the connection was reused",
        ),
        Column("response_s", "float32", "time from the last request to the headers of its response"),
    )
    reasons = (*LIST_REASONS, *SEARCH_REASONS, *FETCH_REASONS)

    @classmethod
    def runs(cls, recipe: Recipe) -> bool:
        """Return whether the source lists URLs or names."""
        return recipe.source.is_remote
