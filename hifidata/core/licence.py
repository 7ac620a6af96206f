"""The licence of an image as a shard may hold it: shards are shared, and licence texts hold names and URLs of people."""

from __future__ import annotations

import re

_VERSION = r"[ -]?\d(?:\.\d)?"
_STATED = re.compile(
    rf"""(?<![\w/.])(?:
    https?://(?:www\.)?(?:
        creativecommons\.org/(?:licenses|publicdomain)/[a-z+-]+(?:/\d\.\d)?(?:/[a-z]{{2,3}})?(?:/(?:deed|legalcode)(?:\.[a-z-]{{2,7}})?)?
      | rightsstatements\.org/(?:vocab|page)/[A-Za-z-]+/1\.0
      | opensource\.org/licenses?/[A-Za-z0-9.-]+ | spdx\.org/licenses/[A-Za-z0-9.-]+ | gnu\.org/licenses/[a-z0-9.-]+
      | unsplash\.com/license | pexels\.com/license | pixabay\.com/service/(?:license|terms)
    )/?(?![\w/])
  | CC0(?:{_VERSION})?(?:[ ]Universal)?
  | CC[ -]BY(?:-(?:NC|SA|ND))*(?:{_VERSION})?(?:[ ][a-z]{{2}})?
  | Creative[ ]Commons[ ](?:Zero|Attribution(?:[ -](?:NonCommercial|ShareAlike|NoDerivatives|NoDerivs))*)
        (?:{_VERSION})?(?:[ ](?:International|Unported|Generic|Universal))?
  | Public[ ]Domain(?:[ ](?:Mark|Dedication))?(?:{_VERSION})? | PDM(?:{_VERSION})?
  | GFDL(?:{_VERSION})? | GODL-India | KOGL[ ]Type[ ][1-4] | OGL(?:{_VERSION})? | ODbL(?:{_VERSION})? | ODC-By(?:{_VERSION})?
  | (?:Unsplash|Pexels|Pixabay(?:[ ]Content)?)[ ]Licen[sc]e | Free[ ]Art[ ]Licen[sc]e | FAL(?:{_VERSION})?
  | All[ ]rights[ ]reserved | No[ ]known[ ]copyright[ ]restrictions
  )(?!\w)""",
    re.IGNORECASE | re.VERBOSE,
)
_WHOLE = re.compile(
    rf"""PD(?:-(?:self|old|US|USGov|author))? | MIT(?:[ ]Licen[sc]e)? | Apache(?:[ ]Licen[sc]e)?(?:{_VERSION})?
  | BSD(?:-[23]-Clause)? | L?GPL(?:{_VERSION})?(?:-only|-or-later|\+)? | Attribution | Copyrighted[ ]free[ ]use | No[ ]restrictions
  | CC | proprietary | unknown | none | research[ ]only | non-?commercial | editorial(?:[ ]use)?(?:[ ]only)?""",
    re.IGNORECASE | re.VERBOSE,
)
MAX_CHARACTERS = 10_000
"""Of a text that is searched."""


def shard_licence(text: str | None) -> str | None:
    """Return the licence's name or URL that a text states, as it is written there; None if it states no known licence.

    ``CC BY 4.0, photo by Jane Doe`` gives ``CC BY 4.0``. The manifest keeps the whole text.
    """
    if not text:
        return None
    text = text[:MAX_CHARACTERS].strip()
    if _WHOLE.fullmatch(text):
        return text
    found = _STATED.search(text)
    return found[0] if found else None
