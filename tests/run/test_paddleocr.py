"""The watermark stage with the real PaddleOCR package, in its own environment on Ray, with real faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import UsageError, WeightsError
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT
from tests.factories.ocr import ocr_environment, ocr_models

FACES = ("human-samples/stock-emotions-a-", "human-samples/stock-emotions-b-")
WORDS = (("SAMPLE", "white", 255), ("PREVIEW 2024", "black", 255), ("stockphoto.com", "white", 150))
WATERMARK = STAGE_NAMES.index("watermark")


@pytest.fixture(scope="module")
def photos(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of real portraits, with copies that have words drawn across the face."""
    root = tmp_path_factory.mktemp("photos")
    for person, prefix in enumerate(FACES):
        folder = root / f"person_{person}"
        folder.mkdir()
        for number in range(1, 5):
            path = assets / "faces" / f"{prefix}{number}.jpg"
            if not path.is_file():
                pytest.skip(f"{path.name} is not among the assets")
            with Image.open(path) as image:
                photo = image.convert("RGB")
            photo.save(folder / f"plain_{number}.png")
            for position, words in enumerate(WORDS):
                _with_text(photo, *words).save(folder / f"text_{number}_{position}.png")
    return root


def _with_text(photo: Image.Image, text: str, colour: str, alpha: int) -> Image.Image:
    import numpy as np

    from hifidata.models.detect.dlib import DlibDetector

    (box,) = DlibDetector().detect([np.asarray(photo)])[0].xyxy_px[:1]
    x1, y1, x2, y2 = map(float, box)
    layer = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    font_file = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf"
    font = ImageFont.truetype(font_file, max(8, round(1.1 * (x2 - x1) / len(text))))
    fill = (*({"white": (255, 255, 255), "black": (0, 0, 0)}[colour]), alpha)
    ImageDraw.Draw(layer).text(((x1 + x2) / 2, (y1 + y2) / 2), text, fill=fill, font=font, anchor="mm")
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def recipe_for(photos: Path, *overrides: str, groups: list[dict[str, Any]] | None = None) -> Recipe:
    plain = (
        "quality.model=null",
        "dedup.enabled=false",
        "verify.model=null",
        "crop.output_px=256",
        "crop.min_side_px=64",
    )
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={photos}", *plain, *overrides])
    return Recipe.model_validate(recipe.model_dump() | {"groups": groups or []})


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(out / "manifests" / "images.parquet").to_pylist()
    return {"/".join(row["source_uri"].split("/")[-2:]): row for row in rows}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_paddleocr_in_its_own_environment_finds_text_on_faces_without_false_alarms(
    photos: Path, tmp_path: Path
) -> None:
    python = ocr_environment(tmp_path / "environment")
    models = ocr_models(tmp_path / "models")
    groups = [
        {"name": "before", "stages": STAGE_NAMES[:WATERMARK], "num_cpus": 0.5},
        {
            "name": "paddleocr", "stages": ("watermark",), "num_cpus": 0.5,
            "runtime_env": {"py_executable": str(python), "config": {"setup_timeout_seconds": 600}},
        },
        {"name": "after", "stages": STAGE_NAMES[WATERMARK + 1 :], "num_cpus": 0.5},
    ]  # fmt: skip
    recipe = recipe_for(photos, "watermark.model=paddleocr", f"watermark.folder={models}", groups=groups)
    run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
    rows = rows_of(tmp_path / "out")
    written = [row for name, row in rows.items() if "/text_" in name]
    plain = [row for name, row in rows.items() if "/plain_" in name]
    assert {row["watermark_model"] for row in rows.values()} == {"paddleocr"}
    assert (len(written), len(plain)) == (24, 8)
    found = [row for row in written if row["reason"] == "text_on_face"]
    print(
        f"PaddleOCR: {len(found)} of {len(written)} texts found; {sum(r['status'] != 'kept' for r in plain)} false alarms"
    )
    assert len(found) >= 0.95 * len(written)
    assert {row["status"] for row in plain} == {"kept"}
    run(recipe_for(photos, "executor.kind=local"), RunOptions(tmp_path / "rapidocr"), lambda progress: None)
    twin = rows_of(tmp_path / "rapidocr")
    same = [name for name, row in rows.items() if row["reason"] == twin[name]["reason"]]
    assert len(same) >= 0.95 * len(rows)
    assert {name for row in rows.values() for name in row} == {name for row in twin.values() for name in row}


def test_a_missing_package_or_model_file_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from hifidata.models.text.paddleocr import PaddleOcrText
    from hifidata.weights.catalogue import entry

    models = ocr_models(tmp_path)
    folders = [models / entry(name).file for name in ("paddleocr_det", "paddleocr_rec")]
    monkeypatch.setitem(sys.modules, "paddleocr", None)
    monkeypatch.setenv("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")
    with pytest.raises(UsageError, match=r"worker group with a runtime_env.*or set watermark\.model: rapidocr"):
        PaddleOcrText(*folders)
    with pytest.raises(WeightsError, match=r"inference\.onnx and inference\.yml not found; it is your own"):
        PaddleOcrText(tmp_path, folders[1])
    (tmp_path / "inference.onnx").touch()
    (tmp_path / "inference.yml").write_text("Global: []")
    with pytest.raises(WeightsError, match=r"inference\.yml: the key Global\.model_name cannot be read"):
        PaddleOcrText(tmp_path, folders[1])


def test_a_missing_model_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    person = tmp_path / "photos" / "person_0"
    person.mkdir(parents=True)
    Image.new("RGB", (300, 300)).save(person / "a.png")
    groups = [{"name": "all", "stages": STAGE_NAMES, "runtime_env": {"pip": ["paddleocr"]}}]
    overrides = ("watermark.model=paddleocr", f"watermark.folder={tmp_path}/nowhere")
    recipe = recipe_for(tmp_path / "photos", *overrides, groups=groups)
    with pytest.raises(WeightsError, match=r"watermark\.folder: no folder .*PP-OCRv6_small_det_onnx"):
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
    assert not (tmp_path / "out").exists()
