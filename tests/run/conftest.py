"""Fixtures of the tests of runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.hostile import HostileServer


@pytest.fixture
def server(twelve_people: Path) -> Iterator[HostileServer]:
    with HostileServer(files=twelve_people) as server:
        yield server
