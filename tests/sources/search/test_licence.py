"""Licences read the same whichever way they are stated, and only open ones count as open."""

from __future__ import annotations

import pytest

from hifidata.sources.search.licence import from_code, from_url, is_open


@pytest.mark.parametrize(
    ("code", "version", "name"),
    [
        ("by-sa", "4.0", "CC BY-SA 4.0"), ("by-nc-nd", "2.0", "CC BY-NC-ND 2.0"), ("cc0", "1.0", "CC0 1.0"),
        ("pdm", "1.0", "Public Domain Mark 1.0"), ("sampling+", "1.0", "CC SAMPLING+ 1.0"), ("by", None, "CC BY"),
        (None, "1.0", None), ("", None, None),
    ],
)  # fmt: skip
def test_codes_become_names(code: str | None, version: str | None, name: str | None) -> None:
    assert from_code(code, version) == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC BY-SA 4.0"),
        ("http://www.creativecommons.org/licenses/by/2.0/deed.de", "CC BY 2.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "Public Domain Mark 1.0"),
        ("https://shop.test/terms", "https://shop.test/terms"),
        ("https://creativecommons.org.evil.test/licenses/by/4.0/", "https://creativecommons.org.evil.test/licenses/by/4.0/"),
        (None, None),
    ],
)  # fmt: skip
def test_urls_become_names_where_they_name_a_known_licence(url: str | None, name: str | None) -> None:
    assert from_url(url) == name


@pytest.mark.parametrize("name", ["CC0 1.0", "Public domain", "Public Domain Mark 1.0", "CC BY 2.0", "cc by-sa 4.0"])
def test_these_are_open(name: str) -> None:
    assert is_open(name)


@pytest.mark.parametrize(
    "name",
    [None, "", "CC BY-NC 2.0", "CC BY-ND 4.0", "CC BY-NC-SA 4.0", "https://x.test", "CC BYE", "CC SAMPLING+ 1.0"],
)
def test_these_are_not(name: str | None) -> None:
    assert not is_open(name)
