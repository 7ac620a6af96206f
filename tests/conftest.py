"""Fixtures and helpers for many tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from tests.factories.cluster import Head, running_head
from tests.factories.memory import remembered_models

# Ray starts workers with niceness 15. With two cores, tests in other processes would leave them almost no CPU time.
os.environ.setdefault("RAY_worker_niceness", "0")

# A caller such as nohup ignores SIGINT, and child processes inherit that. Ctrl-C tests need the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT_ROOT = Path(__file__).resolve().parent.parent
RAY_FILES = {
    "run/test_cluster.py", "run/test_crawl.py", "run/test_paddleocr.py", "run/test_paper_groups.py", "run/test_pipeline.py", "run/test_pp_matting.py",
    "run/test_devices.py", "run/test_ray_errors.py", "run/test_worker_crashes.py", "stages/test_caption.py",
}  # fmt: skip
"""Files with tests that start Ray."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run all tests of a file in one process, and all Ray tests in the same process.

    So the fixtures of a file are made once, and no two Ray instances compete for cores and memory.
    """
    from xdist.scheduler import LoadFileScheduling

    class RayTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = super()._split_scope(nodeid)
            return "ray" if path.removeprefix("tests/") in RAY_FILES else path

    return RayTogether(config, log)


Later = Callable[[ModuleType, float], None]
"""Type of the fixture ``later``."""


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Return a function that advances the monotonic clock of one module by some seconds."""

    def advance(module: ModuleType, seconds: float) -> None:
        monotonic = module.time.monotonic
        clock = SimpleNamespace(monotonic=lambda: monotonic() + seconds, sleep=time.sleep)
        monkeypatch.setattr(module, "time", clock)

    return advance


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Start one small Ray cluster for all tests of this process."""
    with running_head(tmp_path_factory.mktemp("head")) as head:
        yield head


@pytest.fixture(scope="session")
def ray_here(head: Head) -> Iterator[str]:
    """Connect this process to the cluster, and return its address. Runs in this process use the cluster."""
    import ray

    ray.init(address=head.gcs, log_to_driver=False)
    yield head.gcs
    ray.shutdown()


@pytest.fixture(scope="session")
def assets() -> Path:
    """Return the folder of real photos and malformed files. Without the folder, the test is skipped."""
    folder = Path(os.environ.get("HIFI_ASSETS", PROJECT_ROOT.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"no test assets at {folder}; set HIFI_ASSETS to the folder with faces/ and edge/")
    return folder


@pytest.fixture(scope="session")
def weights_here() -> Callable[[str], Path]:
    """Return a function that finds a catalogue entry's file. Without the file, the test is skipped."""
    from hifidata.core.errors import WeightsError
    from hifidata.weights.find import find_weight

    def find(name: str) -> Path:
        try:
            return find_weight(name)
        except WeightsError as error:
            pytest.skip(str(error))

    return find


@pytest.fixture(scope="session")
def demo_photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the demo's photos: real faces from installed packages, varied by code.

    From now on, this process loads dlib's models once, and asks them once for each photo.
    """
    from examples.demo.photos import build_demo_photos
    from hifidata.core.errors import SourceError

    base = tmp_path_factory.getbasetemp()
    shared = (
        base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    )  # all processes of one session share the photos
    folder = shared / "demo" / "photos"
    try:
        with FileLock(shared / "demo.lock"):
            if not folder.is_dir():
                build_demo_photos(folder.with_name("unfinished")).rename(folder)
    except SourceError as error:
        pytest.skip(f"the demo's images are not installed: {error}")
    with remembered_models():
        yield folder


@pytest.fixture(scope="session")
def twelve_people(demo_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small source: twelve identities with three portraits and one broken file each."""
    portraits = sorted(demo_photos.glob("*/portrait_*.jpg"))
    root = tmp_path_factory.mktemp("people")
    for number in range(12):
        person = root / f"person_{number:02d}"
        person.mkdir()
        for position in range(3):
            source = portraits[(number * 3 + position) % len(portraits)]
            shutil.copy(source, person / f"{position}.jpg")
        (person / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a jpeg")
    return root


QUICK_RECIPE = (
    "watermark.model=null", "verify.min_images=1", "verify.method=paper", "verify.k=1",
    "verify.min_similarity=0.5", "quality.min_score=0.1", "crop.output_px=256", "failures.max_share=0.5", "executor.kind=local",
)  # fmt: skip
"""Fast settings that keep most images of ``twelve_people``, for tests of the pipeline rather than of thresholds."""


def digest(out: Path) -> str:
    """Return the sha256 over names and bytes of all shards and manifests."""
    total = hashlib.sha256()
    for path in sorted([*out.glob("shards/**/*.tar"), *out.glob("manifests/*.parquet")]):
        total.update(path.relative_to(out).as_posix().encode())
        total.update(path.read_bytes())
    return total.hexdigest()
