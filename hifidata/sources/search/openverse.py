"""Openverse: openly licensed images of Flickr, museums and others; works without a key, at a low rate.

Without a token the limit is 20 requests a minute and 200 a day, with 20 hits each. That is 40 names a day at 100 images.
A token (``OPENVERSE_TOKEN``, OAuth2 client credentials, valid for some hours) raises both; then reduce ``source.pause_s``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hifidata.sources.search import fields, licence
from hifidata.sources.search.base import Client, Hit, SearchFailure

URL = "https://api.openverse.org/v1/images/"
PAGE_SIZE = 20
MAX_RESULTS = 240


def search(client: Client, query: str, only_open: bool) -> Iterator[Hit]:
    """Yield at most 240 images; see ``base.Search``.

    Source: Openverse API v1, ``/images/``.
    """
    params: dict[str, str | int] = {"q": query, "page_size": PAGE_SIZE}
    if only_open:
        params["license"] = "cc0,pdm,by,by-sa"
    for page in range(1, MAX_RESULTS // PAGE_SIZE + 1):
        response = client.get({**params, "page": page})
        results, n_pages = response.get("results"), response.get("page_count")
        if not isinstance(results, list):
            raise SearchFailure("openverse answered without results")
        for result in fields.objects(results):
            hit = _hit(result)
            if hit is not None and (not only_open or licence.is_open(hit.licence)):
                yield hit
        if not results or not isinstance(n_pages, int) or page >= n_pages:
            return


def _hit(result: Mapping[str, object]) -> Hit | None:
    url, kind = fields.web_url(result.get("url")), fields.text(result.get("filetype"))
    if url is None or (kind and not fields.is_image_type(f"image/{kind}")):
        return None
    return Hit(
        url=url,
        landing_page_uri=fields.web_url(result.get("foreign_landing_url")),
        licence=licence.from_code(fields.text(result.get("license")), fields.text(result.get("license_version"))),
        author=fields.text(result.get("creator")),
    )
