"""A file host on loopback, an empty cache, and entries made for the test."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hifidata.core.files import TEMPORARY_PREFIX
from hifidata.weights.http import DownloadLimits
from tests.servers.file_host import FileHost

IMPATIENT = DownloadLimits(timeout_s=0.4, tries=3, backoff_s=0.01, chunk_bytes=4096)


@pytest.fixture
def host() -> Iterator[FileHost]:
    """A file server that is gone after the test."""
    with FileHost() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no offline folder, no mirror, no proxy: whatever the machine has set."""
    for name in ("HIFI_WEIGHTS", "HIFI_WEIGHTS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HIFI_WEIGHTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def noise(n_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat."""
    return random.Random(seed).randbytes(n_bytes)


def tensors(n_bytes: int, seed: int = 0) -> bytes:
    """A safetensors file of so many bytes: one tensor of noise."""
    head = b'{"w":{"dtype":"U8","shape":[%7d],"data_offsets":[0,%7d]}}'
    n_values = n_bytes - 8 - len(head % (0, 0))
    header = head % (n_values, n_values)
    return len(header).to_bytes(8, "little") + header + noise(n_values, seed)


def nothing_half_done(folder: Path) -> bool:
    """No partial or temporary file lies in a folder."""
    return not [path for path in folder.rglob("*") if ".part" in path.name or path.name.startswith(TEMPORARY_PREFIX)]
