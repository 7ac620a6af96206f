"""Google Images through SerpApi and services that speak its dialect; needs ``SERPAPI_API_KEY``."""

from __future__ import annotations

from collections.abc import Iterator

from hifidata.sources.search import fields, licence
from hifidata.sources.search.base import Answer, Client, Hit, SearchFailure

URL = "https://serpapi.com/search.json"
MAX_PAGES = 10


def search(client: Client, query: str, only_open: bool) -> Iterator[Hit]:
    """Pictures that match, up to 100 a page; see ``base.Search``.

    Source: SerpApi's Google Images API; ``tbs=sur:cl`` is Google's filter for Creative Commons licences.
    """
    params: dict[str, str | int] = {"engine": "google_images", "q": query}
    if only_open:
        params["tbs"] = "sur:cl"
    for page in range(MAX_PAGES):
        answer = client.get({**params, "ijn": page}, _check)
        results = fields.objects(answer.get("images_results"))
        for result in results:
            url = fields.web_url(result.get("original"))
            stated = licence.of_url(fields.web_url(result.get("license_details_url")))
            if url is not None and (not only_open or licence.is_open(stated)):
                yield Hit(url, fields.web_url(result.get("link")), stated)
        if not results:
            return


def _check(answer: Answer) -> None:
    # A search without hits carries an error text, too, but counts as a success there.
    status = fields.mapping(answer.get("search_metadata")).get("status")
    if "images_results" not in answer and status != "Success":
        raise SearchFailure(f"serpapi answered {fields.text(answer.get('error')) or 'without results'}", transient=True)
