"""The reproductions of ``shared/cases`` show what is right. The scripts belong to the workplace; the tests skip without them.

A new case is one more entry of ``CASES_SHOW``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cases.runner import CASES, run_case

CASES_SHOW: dict[str, tuple[str, ...]] = {}
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
