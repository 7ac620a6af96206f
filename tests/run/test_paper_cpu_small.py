"""The recipe paper-cpu-small runs on real photos with all its models."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from hifidata.config.recipe import load_recipe
from hifidata.run.run import RunOptions, run
from hifidata.stages.table import OUR_STAGES
from tests.conftest import PROJECT_ROOT


def test_every_stage_of_paper_cpu_small_works_on_real_photos(assets: Path, tmp_path: Path) -> None:
    for person in ("a", "b"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        for number in range(1, 9):
            name = f"stock-emotions-{person}-{number}.jpg"
            shutil.copy(assets / "faces" / "human-samples" / name, tmp_path / "photos" / person / name)
    no_face = min((assets / "edge" / "no-face").iterdir())
    shutil.copy(no_face, tmp_path / "photos" / "a" / no_face.name)
    overrides = [
        f"source.path={tmp_path / 'photos'}", f"weights.folder={assets / 'weights'}", "executor.kind=local",
        "crop.output_px=256", "failures.max_share=1",
    ]  # fmt: skip
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "paper-cpu-small.yaml", overrides)
    result = run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
    assert {"restore", "matting"} <= set(result.dataset["not_checked"])
    assert result.dataset["not_checked"] == [stage.name for stage in OUR_STAGES if not stage.runs(recipe)]
    manifest = pq.read_table(tmp_path / "out" / "manifests" / "images.parquet").to_pylist()
    rows = {Path(row["source_uri"]).stem.removeprefix("stock-emotions-"): row for row in manifest}
    assert rows[no_face.stem]["reason"] == "no_face"
    with_hands = {name for name, row in rows.items() if row["reason"] == "occluded"}
    assert with_hands == {"a-1", "b-5", "b-6"}  # the photos with a hand at the face
    kept = [row for row in manifest if row["status"] == "kept"]
    assert len(kept) >= 12
    for row in kept:
        models = [
            row[f"{stage}_model"] for stage in ("detect", "quality", "watermark", "occlusion", "embedding", "face3d")
        ]
        assert models == ["scrfd_2.5g", "iso29794", "rapidocr", "hands", "mobilefacenet", "tddfa"]
        assert np.reshape(row["portrait_landmarks"], (68, 2)).min() > 0
        assert len(row["face3d_shape"]) == 40
        assert row["caption"].startswith("A ")
