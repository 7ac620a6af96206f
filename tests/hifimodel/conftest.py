"""The tiny model, built once; tests that change it take a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hifimodel.build import Modules


@pytest.fixture(scope="session")
def tiny() -> Modules:
    """All modules of the ``tiny`` preset, random from seed 0."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from hifimodel.build import build_modules
    from hifimodel.config import load_preset

    torch.set_num_threads(1)
    return build_modules(load_preset("tiny").model)
