"""The reproductions of ``shared/cases`` end well. They lie outside this repository; the tests skip without them.

A new case is one more entry of ``CASES_SHOW``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cases.runner import CASES, run_case

CASES_SHOW: dict[str, tuple[str, ...]] = {
    "shards_silent_drop": tuple(
        f"== {name}: 7 pictures(.|\n)*?7 candidates = 7 kept" for name in ("dots", "suffix", "two")
    ),
    "shards_one_bad_sample": (
        "== onejson\n.*7 candidates\nrc=0", "== badjson\n.*7 candidates\nrc=0", "== macos\n.* 1 identities, 6 candidates\nrc=0",
        "== bytype\n.* 1 identities, 6 candidates\nrc=0", "== cls\nerror: .*img0.jpg: no json has its name.*\nrc=2",
        "== cut\n.*candidates\nrc=0", r"== \[set1\]/000.tar\n.* 7 candidates\nrc=0",
    ),
    "folder_left_out": (
        r"== root(.|\n)*?10 candidates = .* 4 failed", r"== links(.|\n)*?6 candidates = .* 0 failed",
        r"== linkdir(.|\n)*?22 candidates = .* 0 failed", r"== mixed(.|\n)*?8 candidates = .* 1 failed",
    ),
    "one_level_too_deep": (r"warning: .*2 of 2 folders hold no images themselves.*--set source\.depth=2", "24 candidates"),
    "sidecars": ("6 candidates = .* 0 failed", "rc=0", "6 candidates = .* 0 failed", "rc=0", "!over the failure budget"),
    "delimiters": (
        *["^t: 1 identities, 1 candidates$"] * 5, "did you mean 'person'", "1 candidates", r"^http://127\.0\.0\.1:8080/a\.jpg ",
    ),
    "inspect_bytes": ("6 candidates = 6 kept", "rc=0 tracebacks: 0"),
}  # fmt: skip
"""By case: patterns that its output must match, in this order. A pattern that starts with ``!`` must match nowhere."""


@pytest.mark.parametrize("name", CASES_SHOW)
def test_a_reported_case_ends_well(name: str, demo_photos: Path, tmp_path: Path) -> None:
    if not (CASES / name).is_dir():
        pytest.skip(f"no case at {CASES / name}; set HIFI_CASES to the folder of the reproductions")
    output = run_case(name, demo_photos, tmp_path)
    assert "Traceback" not in output.replace("tracebacks: 0", ""), output
    rest = output
    for pattern in CASES_SHOW[name]:
        if pattern.startswith("!"):
            assert not re.search(pattern[1:], output), f"{pattern[1:]} is in\n{output}"
            continue
        found = re.search(pattern, rest, re.MULTILINE)
        assert found, f"{pattern} is not in, or not at the right place of\n{output}"
        rest = rest[found.end() :]
