"""Wikimedia Commons: no key, licence and author of every file, one request at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hifidata.sources.search import fields
from hifidata.sources.search.base import Client, Hit, JsonObject, SearchFailure

URL = "https://commons.wikimedia.org/w/api.php"
PAGE_SIZE = 50
MAX_REQUESTS = 40
_PARAMS: Mapping[str, str | int] = {
    "action": "query", "format": "json", "formatversion": 2, "maxlag": 5,
    "generator": "search", "gsrnamespace": 6, "gsrlimit": PAGE_SIZE,
    "prop": "imageinfo", "iiprop": "url|mime|extmetadata",
    "iiextmetadatafilter": "LicenseShortName|UsageTerms|Artist|NonFree", "iiextmetadatalanguage": "en",
}  # fmt: skip
_TRANSIENT = ("maxlag", "ratelimited", "readonly", "cirrussearch-", "internal_api_error")


def search(client: Client, query: str, only_open: bool) -> Iterator[Hit]:
    """Yield matching files in the site's order; see ``base.Search``.

    With ``filetype:bitmap`` the server excludes SVG, PDF and video; the MIME type excludes the rest (TIFF, XCF).

    Source: MediaWiki Action API, ``list=search`` as a generator and ``prop=imageinfo``.
    """
    continuation: Mapping[str, str | int] = {}
    batch: dict[str, dict[str, Any]] = {}
    for _ in range(MAX_REQUESTS):
        response = client.get({**_PARAMS, "gsrsearch": f"filetype:bitmap {query}", **continuation}, _check)
        for page in fields.objects(fields.mapping(response.get("query")).get("pages")):
            batch.setdefault(str(page.get("pageid")), {}).update(page)
        before, continuation = continuation, _continuation(response)
        is_last = not continuation or continuation == before
        # A long response may be split: the next part adds the missing imageinfo of a file.
        if is_last or response.get("batchcomplete"):
            for page in sorted(batch.values(), key=_rank):
                hit = _hit(page)
                if hit is not None and (hit.licence or not only_open):
                    yield hit
            batch = {}
        if is_last:
            return


def _hit(page: Mapping[str, Any]) -> Hit | None:
    info = next(iter(fields.objects(page.get("imageinfo"))), {})
    url = fields.web_url(info.get("url"))
    if url is None or not fields.is_image_type(info.get("mime")):
        return None
    about = fields.mapping(info.get("extmetadata"))

    def stated(name: str) -> str | None:
        return fields.without_tags(fields.mapping(about.get(name)).get("value"))

    # By its rules, every file on Commons has a free licence or is in the public domain. Files with the NonFree mark are
    # the exception.
    licence = None if stated("NonFree") else stated("LicenseShortName") or stated("UsageTerms")
    return Hit(
        url=url.partition("?")[0],  # the rest is a tracking parameter of the API, which would hide duplicates
        landing_page_uri=fields.web_url(info.get("descriptionurl")),
        licence=licence,
        author=stated("Artist"),
    )


def _continuation(response: JsonObject) -> Mapping[str, str | int]:
    """Return the parameters of the next request; none after the last one."""
    given = fields.mapping(response.get("continue")).items()
    return {name: value for name, value in given if isinstance(value, (str, int)) and name not in _PARAMS}


def _rank(page: Mapping[str, Any]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else 2**31


def _check(response: JsonObject) -> None:
    error = fields.mapping(response.get("error"))
    if error:
        code = fields.text(error.get("code")) or "an error"
        message = f"wikimedia_commons answered {code}: {fields.text(error.get('info')) or 'no reason given'}"
        raise SearchFailure(message, transient=code.startswith(_TRANSIENT))
