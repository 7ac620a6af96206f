"""Brave Image Search: an index of its own; needs ``BRAVE_API_KEY``, states no licences."""

from __future__ import annotations

from collections.abc import Iterator

from hifidata.sources.search import fields
from hifidata.sources.search.base import Client, Hit, SearchFailure

URL = "https://api.search.brave.com/res/v1/images/search"
MAX_RESULTS = 200


def search(client: Client, query: str, only_open: bool) -> Iterator[Hit]:
    """Pictures that match, at most 200: there is one page; see ``base.Search``.

    Names are not spell-checked: the corrected one would be somebody else.

    Source: Brave Search API, image search.
    """
    answer = client.get({"q": query, "count": MAX_RESULTS, "spellcheck": "false"})
    if not isinstance(answer.get("results"), list):
        raise SearchFailure("brave answered without results")
    for result in fields.objects(answer["results"]):
        url = fields.web_url(fields.mapping(result.get("properties")).get("url"))
        if url is not None and not only_open:
            yield Hit(url, landing_page_uri=fields.web_url(result.get("url")))
