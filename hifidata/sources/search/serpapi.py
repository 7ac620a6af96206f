"""Google Images through SerpApi and compatible services; needs ``SERPAPI_API_KEY``."""

from __future__ import annotations

from collections.abc import Iterator

from hifidata.sources.search import fields, licence
from hifidata.sources.search.base import Client, Hit, JsonObject, SearchFailure

URL = "https://serpapi.com/search.json"
MAX_PAGES = 10


def search(client: Client, query: str, only_open: bool) -> Iterator[Hit]:
    """Yield images, up to 100 a page; see ``base.Search``.

    Source: SerpApi's Google Images API; ``tbs=sur:cl`` is Google's filter for Creative Commons licences.
    """
    params: dict[str, str | int] = {"engine": "google_images", "q": query}
    if only_open:
        params["tbs"] = "sur:cl"
    for page in range(MAX_PAGES):
        response = client.get({**params, "ijn": page}, _check)
        results = fields.objects(response.get("images_results"))
        for result in results:
            url = fields.web_url(result.get("original"))
            stated = licence.from_url(fields.web_url(result.get("license_details_url")))
            if url is not None and (not only_open or licence.is_open(stated)):
                yield Hit(url, fields.web_url(result.get("link")), stated)
        if not results:
            return


def _check(response: JsonObject) -> None:
    # A search without hits has an error text, too, but its status is Success.
    status = fields.mapping(response.get("search_metadata")).get("status")
    if "images_results" not in response and status != "Success":
        error = fields.text(response.get("error")) or "without results"
        raise SearchFailure(f"serpapi answered {error}", transient=True)
