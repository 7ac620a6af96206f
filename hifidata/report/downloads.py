"""What the crawl lost: one line per reason, and the hosts it happened at. There are no pictures to show."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

FETCH = "fetch"
HOSTS_SHOWN = 3


@dataclass(frozen=True)
class Loss:
    """Candidates that ended for one reason before any bytes were judged.

    Attributes:
        reason: as in the manifest.
        n: how many.
        n_retryable: of these, a later run may fetch.
        hosts: where most of them lie, with how many each.
        n_hosts: hosts in all.
    """

    reason: str
    n: int
    n_retryable: int
    hosts: tuple[tuple[str, int], ...]
    n_hosts: int


def losses(images: pa.Table) -> tuple[Loss, ...]:
    """Most frequent first; empty where nothing was downloaded or nothing was lost.

    Args:
        images: columns stage, reason, source_uri and retryable.
    """
    lost = images.filter(pc.fill_null(pc.equal(images["stage"], FETCH), False))
    found: dict[str, dict[str, int]] = {}
    retryable: dict[str, int] = {}
    columns = (lost[name].to_pylist() for name in ("reason", "source_uri", "retryable"))
    for reason, uri, may_retry in zip(*columns, strict=True):
        hosts = found.setdefault(reason, {})
        host = _host(uri)
        hosts[host] = hosts.get(host, 0) + 1
        retryable[reason] = retryable.get(reason, 0) + bool(may_retry)
    ranked = [
        Loss(
            reason,
            sum(hosts.values()),
            retryable[reason],
            tuple(sorted(hosts.items(), key=lambda item: (-item[1], item[0]))[:HOSTS_SHOWN]),
            len(hosts),
        )
        for reason, hosts in found.items()
    ]
    return tuple(sorted(ranked, key=lambda loss: (-loss.n, loss.reason)))


def _host(uri: str | None) -> str:
    try:
        return urlsplit(uri or "").hostname or "no host"
    except ValueError:  # a URL that makes no sense is a row, too
        return "no host"
