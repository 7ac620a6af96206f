"""The table of candidates that were not fetched."""

from __future__ import annotations

import pyarrow as pa

from hifidata.report.downloads import not_fetched


def test_candidates_are_counted_by_reason_with_the_most_frequent_hosts() -> None:
    rows = [("fetch", "timeout", f"https://slow.example/{n}.jpg", True) for n in range(3)]
    rows += [("fetch", "timeout", f"https://h{n}.example/a.jpg", True) for n in range(3)]
    rows += [
        ("fetch", "bad_url", "http://[broken/a.jpg", False),
        ("detect", "no_face", "https://a.example/1.jpg", None),
    ]
    rows += [(None, None, "https://a.example/2.jpg", False)]
    columns = dict(zip(("stage", "reason", "source_uri", "retryable"), map(list, zip(*rows, strict=True)), strict=True))
    timeout, bad = not_fetched(pa.table(columns))
    assert (timeout.reason, timeout.n, timeout.n_retryable, timeout.n_hosts) == ("timeout", 6, 6, 4)
    assert timeout.hosts == (("slow.example", 3), ("h0.example", 1), ("h1.example", 1))
    assert (bad.reason, bad.n, bad.n_retryable, bad.hosts) == ("bad_url", 1, 0, (("no host", 1),))
