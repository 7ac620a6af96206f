"""The table of what the crawl lost."""

from __future__ import annotations

import pyarrow as pa

from hifidata.report.downloads import losses


def test_losses_are_counted_per_reason_with_the_hosts_where_most_lie() -> None:
    rows = [("fetch", "timeout", f"https://slow.example/{n}.jpg", True) for n in range(3)]
    rows += [("fetch", "timeout", f"https://h{n}.example/a.jpg", True) for n in range(3)]
    rows += [
        ("fetch", "bad_url", "http://[broken/a.jpg", False),
        ("detect", "no_face", "https://a.example/1.jpg", None),
    ]
    rows += [(None, None, "https://a.example/2.jpg", False)]
    columns = dict(zip(("stage", "reason", "source_uri", "retryable"), map(list, zip(*rows, strict=True)), strict=True))
    timeout, bad = losses(pa.table(columns))
    assert (timeout.reason, timeout.n, timeout.n_retryable, timeout.n_hosts) == ("timeout", 6, 6, 4)
    assert timeout.hosts == (("slow.example", 3), ("h0.example", 1), ("h1.example", 1))
    assert (bad.reason, bad.n, bad.n_retryable, bad.hosts) == ("bad_url", 1, 0, (("no host", 1),))
