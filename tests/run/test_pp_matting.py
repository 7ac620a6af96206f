"""PP-Matting with the real Paddle package, in its own environment on Ray, with real photos.

The network is one convolution with the files, input and output of PP-Matting's export. Its alpha is the brightness. So the
test covers loading, sizes, order, normalisation and the shard, but not the quality of mattes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import WeightsError
from hifidata.image.decode import Limits, decode
from hifidata.run.run import RunOptions, run
from hifidata.store.shards import read_samples
from hifidata.weights.catalogue import entry
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.factories.environment import environment

MATTING = STAGE_NAMES.index("matting")

MAKE_BRIGHTNESS = """
import sys

import paddle
from paddle.nn.initializer import Constant

paddle.enable_static()
with paddle.pir_utils.OldIrGuard():  # the format of PaddleSeg's exports
    program, start = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, start):
        img = paddle.static.data("img", [-1, 3, -1, -1], "float32")
        weight, bias = (paddle.ParamAttr(initializer=Constant(value)) for value in (1 / 6, 0.5))
        alpha = paddle.static.nn.conv2d(img, 1, 1, param_attr=weight, bias_attr=bias)
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(start)
        paddle.static.save_inference_model(sys.argv[1] + "/model", [img], [alpha], executor, program=program)
"""

OPEN_EACH = """
import sys
from pathlib import Path

from hifidata.models.matting.pp_matting import PpMatting
from hifidata.core.errors import WeightsError

for folder in map(Path, sys.argv[1:]):
    try:
        PpMatting(folder)
    except WeightsError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def paddle_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("paddle") / "environment", "paddlepaddle==3.2.2", "setuptools")


@pytest.fixture(scope="module")
def models(paddle_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a ``weights.folder`` with the synthetic network in PP-Matting's files."""
    folder = tmp_path_factory.mktemp("models")
    model = folder / entry("pp_matting").file
    model.mkdir()
    subprocess.run([paddle_python, "-c", MAKE_BRIGHTNESS, model], check=True, capture_output=True)
    return folder


def recipe_for(photos: Path, models: Path, python: Path) -> Recipe:
    own: dict[str, Any] = {"py_executable": str(python), "config": {"setup_timeout_seconds": 600}}
    groups = [
        {"name": "before", "stages": STAGE_NAMES[:MATTING], "num_cpus": 0.3},
        {"name": "matting", "stages": ("matting",), "num_cpus": 0.3, "runtime_env": own},
        {"name": "after", "stages": STAGE_NAMES[MATTING + 1 :], "num_cpus": 0.3},
    ]
    sets = [f"source.path={photos}", *QUICK_RECIPE, "matting.model=pp_matting", f"weights.folder={models}"]
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [*sets, "executor.kind=ray", "executor.workers=1"])
    return Recipe.model_validate(recipe.model_dump() | {"groups": groups})


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_synthetic_network_in_pp_mattings_format_adds_an_alpha_to_every_portrait_on_ray(
    twelve_people: Path, models: Path, paddle_python: Path, tmp_path: Path
) -> None:
    run(recipe_for(twelve_people, models, paddle_python), RunOptions(tmp_path / "out", limit=2), lambda progress: None)
    rows = pq.read_table(tmp_path / "out" / "manifests" / "images.parquet").to_pylist()
    kept = [row for row in rows if row["status"] == "kept"]
    assert kept
    assert {row["matting_model"] for row in kept} == {"pp_matting"}
    samples = [sample for shard in (tmp_path / "out").rglob("*.tar") for _, sample in read_samples(shard)]
    assert len(samples) == len(kept)
    for members in samples:
        alpha = decode(members["alpha.png"], Limits()).rgb_u8[..., 0]
        portrait = decode(members["jpg"], Limits()).rgb_u8
        assert alpha.shape == portrait.shape[:2] == (256, 256)
        brightness = portrait.mean(axis=2)  # from the JPEG; the network got the pixels before the compression
        assert np.abs(alpha - brightness).mean() < 2
        assert np.ptp(alpha) > 50


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_each_broken_file_gives_a_one_line_error_and_does_not_end_the_process(
    twelve_people: Path, models: Path, paddle_python: Path, tmp_path: Path
) -> None:
    program, weights = (
        (models / entry("pp_matting").file / f"model.{end}").read_bytes() for end in ("pdmodel", "pdiparams")
    )
    broken = {
        "empty program": (b"", weights),
        "page": (b"<html><body>404</body></html>", weights),
        "cut program": (program[:300], weights),
        "empty weights": (program, b""),
        "cut weights": (program, weights[:20]),
    }
    for name, contents in broken.items():
        (tmp_path / name).mkdir()
        for end, data in zip(("pdmodel", "pdiparams"), contents, strict=True):
            (tmp_path / name / f"model.{end}").write_bytes(data)
    folders = [tmp_path / name for name in broken]
    done = subprocess.run([paddle_python, "-c", OPEN_EACH, *folders], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, len(broken)), done.stderr
    for folder, line in zip(folders, lines, strict=True):
        assert line.startswith(str(folder))
        assert line.endswith("download it again with `hifidata weights pull pp_matting`")
    (tmp_path / "cut program").rename(tmp_path / entry("pp_matting").file)
    with pytest.raises(WeightsError, match="Paddle cannot read the model: "):
        run(
            recipe_for(twelve_people, tmp_path, paddle_python),
            RunOptions(tmp_path / "out", limit=1),
            lambda progress: None,
        )
