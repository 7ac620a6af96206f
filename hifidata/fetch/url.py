"""The text of URLs. A URL is sent as it was written: sites sign one spelling and refuse all others."""

from __future__ import annotations

import re
from urllib.parse import quote

_ALLOWED = "!$%&'()*+,-./:;=?@[]_~"
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LINE_BREAKS = dict.fromkeys(map(ord, "\t\r\n"))  # browsers remove them inside a URL
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def split_before(text: str, delimiters: str) -> tuple[str, str]:
    """Split a text before its first delimiter; the second part is empty if there is none."""
    end = min((at for at in map(text.find, delimiters) if at >= 0), default=len(text))
    return text[:end], text[end:]


def request_target(rest: str) -> str:
    """Return path and query as they are sent: as written, without the fragment.

    Only characters that RFC 3986 does not allow in a URI are percent-encoded. Bytes of a header that are not UTF-8 are
    encoded as they came.

    Args:
        rest: the part of a URL after its authority.

    Raises:
        ValueError: ``rest`` contains a lone surrogate.
    """
    target = rest.partition("#")[0].translate(_LINE_BREAKS)
    if not target.startswith("/"):
        target = f"/{target}"
    return quote(_LONE_PERCENT.sub("%25", target), safe=_ALLOWED, errors="surrogateescape")


def resolve_reference(base: str, reference: str) -> str:
    """Return the absolute URL of a reference, such as a Location header. Its own characters stay as they are.

    Args:
        base: absolute URL without a fragment.
        reference: absolute or relative.

    Source: RFC 3986, section 5.2. Dot segments are removed only where a relative path is merged.
    """
    if _SCHEME.match(reference):
        return reference
    scheme, _, rest = base.partition("://")
    if reference.startswith("//"):
        return f"{scheme}:{reference}"
    authority, target = split_before(rest, "/?")
    path, query = split_before(target, "?")
    relative, suffix = split_before(reference, "?#")
    if not relative:
        return f"{scheme}://{authority}{path}{suffix if suffix.startswith('?') else query}"
    return f"{scheme}://{authority}{relative if relative.startswith('/') else _merged(path, relative)}{suffix}"


def _merged(path: str, relative: str) -> str:
    segments = path.split("/")[1:-1]
    *folders, name = relative.split("/")
    if name in (".", ".."):
        folders, name = [*folders, name], ""
    for folder in folders:
        if folder == "..":
            del segments[-1:]
        elif folder != ".":
            segments.append(folder)
    return "/".join(["", *segments, name])
