"""Candidates that the crawl did not fetch, by reason, with their most frequent hosts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

FETCH = "fetch"
HOSTS_SHOWN = 3


@dataclass(frozen=True)
class NotFetched:
    """Candidates that were not fetched for one reason.

    Attributes:
        reason: reason code of the manifest.
        n: number of candidates.
        n_retryable: number of these that a later run may fetch.
        hosts: most frequent hosts, with their number of candidates.
        n_hosts: number of all hosts.
    """

    reason: str
    n: int
    n_retryable: int
    hosts: tuple[tuple[str, int], ...]
    n_hosts: int


def not_fetched(images: pa.Table) -> tuple[NotFetched, ...]:
    """Count candidates that were not fetched, by reason; the most frequent reason first.

    Args:
        images: columns stage, reason, source_uri and retryable.
    """
    lost = images.filter(pc.fill_null(pc.equal(images["stage"], FETCH), False))
    hosts_of: dict[str, Counter[str]] = defaultdict(Counter)
    retryable = Counter[str]()
    columns = (lost[name].to_pylist() for name in ("reason", "source_uri", "retryable"))
    for reason, uri, may_retry in zip(*columns, strict=True):
        hosts_of[reason][_host(uri)] += 1
        retryable[reason] += bool(may_retry)
    counted = [
        NotFetched(
            reason,
            hosts.total(),
            retryable[reason],
            tuple(sorted(hosts.items(), key=lambda item: (-item[1], item[0]))[:HOSTS_SHOWN]),
            len(hosts),
        )
        for reason, hosts in hosts_of.items()
    ]
    return tuple(sorted(counted, key=lambda row: (-row.n, row.reason)))


def _host(uri: str | None) -> str:
    try:
        return urlsplit(uri or "").hostname or "no host"
    except ValueError:  # an invalid URL is also a candidate
        return "no host"
