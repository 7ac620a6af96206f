"""The tiny model, built once; tests that change it take a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hifidata.models.detect.scrfd import Scrfd2G
    from hifimodel.inference.pipeline import HiFiPortraitPipeline
    from hifimodel.nets.loading import Modules
    from tests.factories.photos import Portrait


@pytest.fixture(scope="session")
def tiny() -> Modules:
    """All modules of the ``tiny`` preset, random from seed 0."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from hifimodel.config import load_preset
    from hifimodel.nets.loading import build_modules

    torch.set_num_threads(1)
    return build_modules(load_preset("tiny").model)


@pytest.fixture(scope="module")
def modules(tiny: Modules) -> Modules:
    """The tiny model with a HiFi-Net that already says something, as after training."""
    from tests.factories.portraits import speaking

    return speaking(tiny)


@pytest.fixture
def pipeline(modules: Modules) -> HiFiPortraitPipeline:
    """Its pipeline, without progress bars."""
    from hifimodel.inference.pipeline import HiFiPortraitPipeline
    from tests.factories.portraits import quiet

    return quiet(HiFiPortraitPipeline.from_modules(modules))


@pytest.fixture
def accelerate_alone() -> Iterator[None]:
    """One thread, and none of accelerate's process-wide state for the next test."""
    torch = pytest.importorskip("torch")
    state = pytest.importorskip("accelerate.state")
    torch.set_num_threads(1)
    yield
    state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of three people with five pictures each."""
    from hifidata.store.shards import write_shard
    from tests.factories.training_shards import person, person_id

    root = tmp_path_factory.mktemp("people")
    for number in range(1, 4):
        write_shard(root / f"{person_id(number)}.tar", person(number, 5))
    return root


@pytest.fixture(scope="session")
def weights(assets: Path) -> Path:
    """Real model files."""
    return assets / "weights"


@pytest.fixture(scope="session")
def scrfd(weights: Path) -> Scrfd2G:
    """The detector whose five points the landmark tests compare with."""
    from hifidata.models.detect.scrfd import Scrfd2G

    return Scrfd2G(weights / "scrfd" / "scrfd_2.5g_bnkps.onnx")


@pytest.fixture(scope="session")
def portraits(assets: Path, scrfd: Scrfd2G) -> Sequence[Portrait]:
    """Real portraits with SCRFD's five points and dlib's 68."""
    from tests.factories.photos import read_portraits

    return read_portraits(assets / "faces", scrfd)
