"""``paper.yaml`` with all its worker groups on Ray: every stage, every kind of model file, both extra environments.

The models replace the paper's models: small real networks for faces, trivial graphs and random weights for the others. So the
test shows that groups load their models, pass identities on and commit them. It does not test the models' answers, the
paper's model files or GPUs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from hifidata.config.recipe import load_recipe
from hifidata.stages.table import OUR_STAGES
from tests.conftest import PROJECT_ROOT
from tests.factories.environment import environment
from tests.factories.graphs import make_graph
from tests.factories.models import tiny_blip2
from tests.factories.ocr import PACKAGES, ocr_models
from tests.servers.openai_server import serving

PAPER = PROJECT_ROOT / "pipelines" / "paper.yaml"
REPLACEMENTS = {
    "scrfd/scrfd_2.5g_bnkps.onnx": "det_10g.onnx",
    "mobilefacenet/MobileFaceNet.onnx": "w600k_r50.onnx",
    **{f"3ddfa/{name}": name for name in ("mb05_120x120.onnx", "param_mean_std_62d_120x120.npz", "u_base.txt")},
    **{f"3ddfa/{name}": name for name in ("w_shp_base.txt", "w_exp_base.txt")},
}
"""Real files with the names of the paper's files. The first two are smaller networks with the same inputs and outputs."""

WITHOUT_HASHES = """
from dataclasses import replace
from hifidata.weights import catalogue
catalogue.CATALOGUE = {n: replace(w, sha256=None, n_bytes=None) for n, w in catalogue.CATALOGUE.items()}
"""
"""``sitecustomize`` of every process. The catalogue's hashes would refuse the replaced models."""

EXPORT = """
import os, sys
os.environ["FLAGS_enable_pir_api"] = "0"
import paddle
paddle.enable_static()
constant = lambda value: paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(value))
image = paddle.static.data("img", [1, 3, -1, -1], "float32")
alpha = paddle.clip(paddle.static.nn.conv2d(image, 1, 1, param_attr=constant(1 / 6), bias_attr=constant(0.5)), 0.0, 1.0)
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
paddle.static.save_inference_model(sys.argv[1] + "/model", [image], [alpha], executor)
"""
"""Export of a network whose matte is the brightness, in PaddleSeg's format. It runs in the matting group's environment."""


def synthetic_weights(folder: Path, assets: Path, paddle: Path) -> Path:
    folder.mkdir()
    for real, name in REPLACEMENTS.items():
        (folder / name).symlink_to(assets / "weights" / real)
    mean = {"axes": [2, 3], "keepdims": 0}
    half = {"half": [0.5]}
    level = [
        ("ReduceMean", ["input"], "mean", mean),
        ("Mul", ["mean", "half"], "low"),
        ("Add", ["low", "half"], "output"),
    ]
    make_graph(folder / "fqa.onnx", level, ([1, 3, 112, 112], [1, 3]), half)
    bright = [("ReduceMean", ["input"], "mean", mean), ("Mul", ["mean", "scale"], "output")]
    make_graph(folder / "genderage.onnx", bright, (["n", 3, 96, 96], ["n", 3]), {"scale": [1 / 255]})
    make_graph(folder / "GFPGANv1.4.onnx", [("Identity", ["input"], "output")], ([1, 3, 512, 512], [1, 3, 512, 512]))
    tiny_blip2(folder / "blip2-flan-t5-xl", "t5")
    matting = folder / "ppmatting-hrnet_w18-human_512"
    matting.mkdir()
    subprocess.run([paddle, "-c", EXPORT, matting], check=True, capture_output=True)
    return folder


def groups_with(pythons: dict[str, Path]) -> list[dict[str, Any]]:
    """Return the recipe's groups, with existing environments instead of package lists."""
    groups: list[dict[str, Any]] = yaml.safe_load(PAPER.read_text(encoding="utf-8"))["groups"]
    assert {group["name"] for group in groups if "runtime_env" in group} == set(pythons)
    own = {name: {"py_executable": str(python)} for name, python in pythons.items()}
    return [group | ({"runtime_env": own[group["name"]]} if group["name"] in own else {}) for group in groups]


def packages_of(group: str) -> list[str]:
    groups = yaml.safe_load(PAPER.read_text(encoding="utf-8"))["groups"]
    return next(found["runtime_env"]["pip"]["packages"] for found in groups if found["name"] == group)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_identities_pass_all_groups_of_the_papers_recipe_with_synthetic_models(assets: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    assert list(PACKAGES) == packages_of("paddleocr")
    pythons = {name: environment(tmp_path / name, *packages_of(name)) for name in ("paddleocr", "matting")}
    weights = synthetic_weights(tmp_path / "weights", assets, pythons["matting"])
    for person in ("a", "b"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        for number in range(1, 7):
            name = f"stock-emotions-{person}-{number}.jpg"
            shutil.copy(assets / "faces" / "human-samples" / name, tmp_path / "photos" / person)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT_HASHES, encoding="utf-8")
    with serving() as address:
        sets = (
            f"source={{kind: folder, path: {tmp_path / 'photos'}}}", f"groups={json.dumps(groups_with(pythons))}",
            "executor.use_gpus=false", "executor.workers=7", f"watermark.folder={ocr_models(tmp_path / 'ocr')}",
            f"caption.server={{base_url: '{address}/v1', model: honest}}",
            "quality.min_score=0", "verify.min_similarity=-1", "verify.min_images=1", "occlusion.terms=[nothing]",
        )  # fmt: skip
        command = [sys.executable, "-m", "hifidata", "run", str(PAPER), "--out", str(tmp_path / "out"), "--json"]
        done = subprocess.run(
            [*command, *(word for value in sets for word in ("--set", value))],
            capture_output=True, text=True, check=False,
            env=os.environ | {
                "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{PROJECT_ROOT}", "HIFI_WEIGHTS": str(weights),
                "HIFI_WEIGHTS_CACHE": str(tmp_path / "cache"),
            },
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    dataset = json.loads(done.stdout)
    off = [stage.name for stage in OUR_STAGES if not stage.runs(load_recipe(PAPER))]
    assert dataset["not_checked"] == off
    ran = {row["stage"] for row in dataset["stages"] if row["ran"] and row["kept"] > 0}
    assert ran == {row["stage"] for row in dataset["stages"]} - set(off)
    onnx = ("detect", "quality", "embed", "restore", "face3d", "attributes")
    assert dataset["onnx_providers"] == {stage: ["CPUExecutionProvider"] for stage in onnx}
    rows = pq.read_table(tmp_path / "out" / "manifests" / "images.parquet").to_pylist()
    kept = [row for row in rows if row["status"] == "kept"]
    assert len(rows) == 12
    assert len({row["identity_name"] for row in kept}) == 2
    for row in kept:
        stages = ("detect", "quality", "watermark", "embedding", "restore", "matting", "face3d")
        models = ["retinaface", "modelscope_fqa", "paddleocr", "arcface", "gfpgan", "pp_matting", "tddfa"]
        assert [row[f"{stage}_model"] for stage in stages] == models
        assert row["occlusion_model"] == "blip2/blip2-flan-t5-xl/describe"
        assert row["restored"]
        assert "mean colour" in row["caption"]
        assert row["age"] is not None
    (shard, *_) = sorted((tmp_path / "out" / "shards").rglob("*.tar"))
    with tarfile.open(shard) as tar:
        endings = {name.partition(".")[2] for name in tar.getnames()}
    assert endings == {"alpha.png", "embedding.npy", "face3d.npz", "jpg", "json", "landmarks.npy", "txt"}
