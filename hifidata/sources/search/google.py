"""Google Programmable Search; needs ``GOOGLE_API_KEY`` and the engine's id in ``GOOGLE_CSE_ID``, states no licences.

Google accepts no new customers for this API and ends it on 1 January 2027.
"""

from __future__ import annotations

from collections.abc import Iterator

from hifidata.sources.search import fields
from hifidata.sources.search.base import Client, Hit

URL = "https://www.googleapis.com/customsearch/v1"
PAGE_SIZE = 10
MAX_RESULTS = 100


def search(client: Client, query: str, only_open: bool) -> Iterator[Hit]:
    """Yield at most 100 images, with one request of the daily quota for ten; see ``base.Search``.

    Source: Custom Search JSON API v1, ``cse.list`` with ``searchType=image``.
    """
    for start in range(1, MAX_RESULTS, PAGE_SIZE):
        response = client.get({"q": query, "searchType": "image", "num": PAGE_SIZE, "start": start})
        items = fields.objects(response.get("items"))
        for item in items:
            url = fields.web_url(item.get("link"))
            if url is not None and not only_open and fields.is_image_type(item.get("mime")):
                yield Hit(url, landing_page_uri=fields.web_url(fields.mapping(item.get("image")).get("contextLink")))
        if not items or not fields.mapping(response.get("queries")).get("nextPage"):
            return
