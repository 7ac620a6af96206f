"""Brave Image Search: needs ``BRAVE_API_KEY``, states no licences."""

from __future__ import annotations

from collections.abc import Iterator

from hifidata.sources.search import fields
from hifidata.sources.search.base import Client, Hit, SearchFailure

URL = "https://api.search.brave.com/res/v1/images/search"
MAX_RESULTS = 200


def search(client: Client, query: str, only_open: bool) -> Iterator[Hit]:
    """Yield at most 200 images, from the only page; see ``base.Search``.

    The spelling correction is off, because a corrected name would be another person.

    Source: Brave Search API, image search.
    """
    response = client.get({"q": query, "count": MAX_RESULTS, "spellcheck": "false"})
    if not isinstance(response.get("results"), list):
        raise SearchFailure("brave answered without results")
    for result in fields.objects(response["results"]):
        url = fields.web_url(fields.mapping(result.get("properties")).get("url"))
        if url is not None and not only_open:
            yield Hit(url, landing_page_uri=fields.web_url(result.get("url")))
