"""From real photos through hifidata's own pipeline into a batch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hifidata.config.recipe import load_recipe
from hifidata.image.align import TEMPLATE_PX
from hifidata.models.registry import load
from hifidata.run.run import RunOptions, run
from hifimodel.data import DataConfig, Loader
from tests.conftest import PROJECT_ROOT

SETTINGS = ("watermark.model=null", "crop.output_px=512", "quality.min_score=0.1", "executor.kind=local")


@pytest.fixture(scope="module")
def dataset(demo_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "out"
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={demo_photos}", *SETTINGS])
    run(recipe, RunOptions(out, limit=1), lambda progress: None)
    return out


def test_a_dataset_of_real_photos_makes_batches_with_the_landmarks_on_the_face(dataset: Path) -> None:
    pytest.importorskip("hifimodel.landmarks", reason="the landmark package is not there")
    batches = list(Loader(DataConfig(dataset, size_px=256, batch_size=3, epochs=1)))
    assert sum(len(batch.keys) for batch in batches) >= 5
    for batch in batches:
        for picture, kps in zip(batch.landmarks_u8.numpy(), batch.target_kps.numpy(), strict=True):
            ys, xs = np.nonzero(picture.any(axis=2))
            left, top, right, bottom = xs.min(), ys.min(), xs.max(), ys.max()
            inside = (kps >= [left - 2, top - 2]) & (kps <= [right + 2, bottom + 2])
            assert inside.all()  # the drawn face spans the target's eyes, nose and mouth
            assert right - left < 5 * np.ptp(kps[:, 0])
    assert {embeddings.shape[1] for embeddings in (batch.reference_embeddings for batch in batches)} == {128}


def test_eyes_of_real_faces_lie_on_the_recognisers_template(dataset: Path) -> None:
    def black(*arguments):  # type: ignore[no-untyped-def]
        return np.zeros((arguments[-1], arguments[-1], 3), np.uint8)

    detector = load("detect", "dlib_hog")
    batch = next(
        iter(
            Loader(
                DataConfig(dataset, size_px=64, batch_size=2, min_references=2, max_references=2, epochs=1), paint=black
            )
        )
    )
    errors = []
    for chip in batch.reference_faces.permute(0, 2, 3, 1).numpy():
        large = cv2.copyMakeBorder(cv2.resize(chip, (448, 448)), 112, 112, 112, 112, cv2.BORDER_REPLICATE)
        (faces,) = detector.detect([large])
        if len(faces.kps_px):
            found = (faces.kps_px[0] - 112 + 0.5) / 4 - 0.5
            errors.append(np.linalg.norm(found[:2] - TEMPLATE_PX[:2], axis=1).mean())
    assert len(errors) >= 3
    assert np.median(errors) < 4  # px of 112; a mirrored or shifted chip is off by 18 or more
