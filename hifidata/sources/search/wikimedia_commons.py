"""Wikimedia Commons: no key, every file with licence and author, requests one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hifidata.sources.search import fields
from hifidata.sources.search.base import Answer, Client, Hit, SearchFailure

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
    """Files that match, as the site ranks them; see ``base.Search``.

    ``filetype:bitmap`` leaves SVG, PDF and video to the server, the MIME type decides about the rest (TIFF, XCF).

    Source: MediaWiki Action API, ``list=search`` as a generator and ``prop=imageinfo``.
    """
    continuation: Mapping[str, str | int] = {}
    batch: dict[str, dict[str, Any]] = {}
    for _ in range(MAX_REQUESTS):
        answer = client.get({**_PARAMS, "gsrsearch": f"filetype:bitmap {query}", **continuation}, _check)
        for page in fields.objects(fields.mapping(answer.get("query")).get("pages")):
            batch.setdefault(str(page.get("pageid")), {}).update(page)
        before, continuation = continuation, _continuation(answer)
        is_last = not continuation or continuation == before
        # A long answer may come in parts: a file without its imageinfo yet is completed by the next one.
        if is_last or answer.get("batchcomplete"):
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
    if url is None or not fields.is_picture_type(info.get("mime")):
        return None
    about = fields.mapping(info.get("extmetadata"))

    def stated(name: str) -> str | None:
        return fields.without_tags(fields.mapping(about.get(name)).get("value"))

    # Everything on Commons is under a free licence or in the public domain, by its rules; what is marked otherwise is not
    # passed off as such.
    licence = None if stated("NonFree") else stated("LicenseShortName") or stated("UsageTerms")
    return Hit(
        url=url.partition("?")[0],  # the rest says only that the API named it, and would hide a duplicate
        landing_page_uri=fields.web_url(info.get("descriptionurl")),
        licence=licence,
        author=stated("Artist"),
    )


def _continuation(answer: Answer) -> Mapping[str, str | int]:
    """Parameters that ask for what comes next; none where this was all."""
    given = fields.mapping(answer.get("continue")).items()
    return {name: value for name, value in given if isinstance(value, (str, int)) and name not in _PARAMS}


def _rank(page: Mapping[str, Any]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else 2**31


def _check(answer: Answer) -> None:
    error = fields.mapping(answer.get("error"))
    if error:
        code = fields.text(error.get("code")) or "an error"
        message = f"wikimedia_commons answered {code}: {fields.text(error.get('info')) or 'no reason given'}"
        raise SearchFailure(message, transient=code.startswith(_TRANSIENT))
