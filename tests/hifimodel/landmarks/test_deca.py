"""DECA and FLAME. Their files are not to be had here: what is tested is the reading of files of that format, made by code,
and the arithmetic, against independent implementations. No statement about real faces."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.sparse import csc_matrix

from hifimodel.landmarks import LandmarkError, load_backend
from hifimodel.landmarks.flame import FlameLandmarks

N_VERTICES, N_FACES, JAW = 90, 120, slice(60, 90)


@pytest.fixture
def chumpy_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """A class that pickles under the name of the package that FLAME's files were written with."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    kind = type("Ch", (), {"__module__": "chumpy.ch", "__init__": lambda self, x: setattr(self, "x", x)})
    module.Ch = kind  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "chumpy", package)
        patch.setitem(sys.modules, "chumpy.ch", module)
        yield kind


@pytest.fixture
def made(chumpy_class: type, tmp_path: Path) -> dict[str, Any]:
    """A FLAME-format model of 90 random vertices, written to ``tmp_path``; the last 30 hang on the jaw, the rest on the root."""
    rng = np.random.default_rng(7)
    skinning = np.zeros((N_VERTICES, 5))
    skinning[:, 0], skinning[JAW, 0], skinning[JAW, 2] = 1, 0, 1
    model = {
        "v_template": rng.normal(size=(N_VERTICES, 3)),
        "shapedirs": rng.normal(size=(N_VERTICES, 3, 400)) * 0.05,
        "posedirs": np.zeros((N_VERTICES, 3, 36)),
        "J_regressor": np.abs(rng.normal(size=(5, N_VERTICES))) / N_VERTICES,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], np.int64),
        "weights": skinning,
        "f": np.sort(rng.integers(0, N_VERTICES // 3, (N_FACES, 3)), axis=1) + 30 * rng.integers(0, 3, (N_FACES, 1)),
    }
    marks = {
        "full_lmk_faces_idx": rng.integers(0, N_FACES, (1, 68)),
        "full_lmk_bary_coords": rng.dirichlet([1, 1, 1], (1, 68)),
    }
    stored = model | {
        "v_template": chumpy_class(model["v_template"]),
        "shapedirs": chumpy_class(model["shapedirs"]),
        "J_regressor": csc_matrix(model["J_regressor"]),
    }
    with open(tmp_path / "generic_model.pkl", "wb") as file:
        pickle.dump(stored, file, protocol=2)
    np.save(tmp_path / "landmark_embedding.npy", np.array(marks, dtype=object), allow_pickle=True)
    return model | marks


def expected_points(made: dict[str, Any], vertices: np.ndarray) -> np.ndarray:
    corners = vertices[made["f"][made["full_lmk_faces_idx"][0]]]
    return (corners * made["full_lmk_bary_coords"][0][:, :, None]).sum(axis=1)


def flame_of(folder: Path) -> FlameLandmarks:
    return FlameLandmarks(folder / "generic_model.pkl", folder / "landmark_embedding.npy")


ZERO = {"shape": np.zeros(100), "expression": np.zeros(50), "pose": np.zeros(6)}


def test_made_flame_file_shape_and_expression_move_points_along_their_own_directions(
    made: dict[str, Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    shape, expression = rng.normal(size=100), rng.normal(size=50)
    betas = np.zeros(400)
    betas[:100], betas[300:350] = shape, expression
    wanted = expected_points(made, made["v_template"] + made["shapedirs"] @ betas)
    got = flame_of(tmp_path).points(**(ZERO | {"shape": shape, "expression": expression}))
    np.testing.assert_allclose(got, wanted, atol=1e-9)


def test_made_flame_file_the_head_turns_about_its_root_and_the_jaw_about_its_joint(
    made: dict[str, Any], tmp_path: Path
) -> None:
    flame = flame_of(tmp_path)
    joints = made["J_regressor"] @ made["v_template"]
    head, jaw = np.array([0.1, -0.7, 0.3]), np.array([0.4, 0.05, 0.0])
    turned = cv2.Rodrigues(jaw)[0]
    vertices = made["v_template"].copy()
    vertices[JAW] = (vertices[JAW] - joints[2]) @ turned.T + joints[2]
    np.testing.assert_allclose(
        flame.points(**(ZERO | {"pose": np.r_[0, 0, 0, jaw]})), expected_points(made, vertices), atol=1e-9
    )
    vertices = (vertices - joints[0]) @ cv2.Rodrigues(head)[0].T + joints[0]
    np.testing.assert_allclose(
        flame.points(**(ZERO | {"pose": np.r_[head, jaw]})), expected_points(made, vertices), atol=1e-9
    )


def test_made_flame_file_a_swap_keeps_the_targets_place_in_its_picture(made: dict[str, Any], tmp_path: Path) -> None:
    from hifimodel.landmarks import FaceShape

    backend = load_backend("deca", tmp_path)
    rng = np.random.default_rng(2)
    camera = np.array([200, 500, 400], np.float32)
    faces = [
        FaceShape("deca", *(rng.normal(size=n).astype(np.float32) * 0.3 for n in (100, 50, 6)), camera) for _ in "ab"
    ]
    mixed = backend.swap(*faces)
    flame = flame_of(tmp_path).points(faces[0].shape, faces[1].expression, faces[1].pose)
    np.testing.assert_allclose(backend.project(mixed), flame[:, :2] * (200, -200) + (500, 400), atol=1e-3)
    assert np.array_equal(backend.project(backend.swap(faces[1], faces[1])), backend.project(faces[1]))
    stored = {"model": "deca", **mixed.arrays()}
    assert np.array_equal(backend.project(backend.from_stored(None, stored)), backend.project(mixed))


def test_made_flame_file_training_takes_its_folder_into_the_worker_processes(
    made: dict[str, Any], tmp_path: Path, accelerate_alone: None
) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("accelerate")
    from hifidata.store.shards import write_shard
    from hifimodel.data.drawing import StoredLandmarks
    from hifimodel.train import main
    from tests.factories.training_shards import person, person_id

    rng = np.random.default_rng(0)
    samples = person(1, 5)
    for _, members in samples:
        arrays = {name: rng.normal(size=n).astype(np.float32) for name, n in (("shape", 100), ("expression", 50))}
        arrays |= {"pose": np.zeros(6, np.float32), "camera": np.array([20, 128, 128], np.float32)}
        buffer = io.BytesIO()
        np.savez(buffer, model=np.array("deca"), **arrays)
        members["face3d.npz"] = buffer.getvalue()
    write_shard(tmp_path / "shards" / f"{person_id(1)}.tar", samples)
    settings = (
        "steps=1",
        "batch_size=1",
        "samples=1",
        "sample_steps=1",
        "id_weight=0",
        "landmarks=deca",
        "loader_workers=1",
    )
    pairs = [part for text in (*(f"train.{one}" for one in settings), "model.image_px=64") for part in ("--set", text)]
    places = [
        "--shards",
        str(tmp_path / "shards"),
        "--out",
        str(tmp_path / "run"),
        "--landmarks-weights",
        str(tmp_path),
    ]
    assert main(["--preset", "tiny", *places, *pairs]) == 0
    face3d = arrays | {"model": np.array("deca")}
    paint = StoredLandmarks("deca", tmp_path)
    drawn = [one(None, face3d, None, face3d, 256, 64) for one in (paint, pickle.loads(pickle.dumps(paint)))]
    assert drawn[0].any()
    assert np.array_equal(*drawn)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch was-here",)


@pytest.mark.parametrize("content", [_Evil(), {"f": _Evil()}, [1, 2], {"f": np.zeros((1, 3))}, {}, b"text"])
def test_a_pickle_that_is_not_flame_runs_nothing_and_is_named(
    content: Any, made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generic_model.pkl").write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    with pytest.raises(LandmarkError, match=r"generic_model\.pkl") as caught:
        load_backend("deca", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was-here").exists()


def test_missing_files_are_named(made: dict[str, Any], tmp_path: Path) -> None:
    backend = load_backend("deca", tmp_path)
    landmarks = np.random.default_rng(0).uniform(0, 99, (68, 2)).astype(np.float32)
    with pytest.raises(LandmarkError, match=r"deca_model\.tar is missing"):
        backend.encode(np.zeros((99, 99, 3), np.uint8), landmarks[:5], landmarks)
    (tmp_path / "deca_model.tar").write_bytes(b"no zip")
    with pytest.raises(LandmarkError, match="no DECA checkpoint"):
        backend.encode(np.zeros((99, 99, 3), np.uint8), landmarks[:5], landmarks)
    with pytest.raises(LandmarkError, match="no 68 landmarks"):
        backend.encode(np.zeros((99, 99, 3), np.uint8), landmarks[:5], None)
    (tmp_path / "landmark_embedding.npy").unlink()
    with pytest.raises(LandmarkError, match=r"landmark_embedding\.npy is missing"):
        load_backend("deca", tmp_path)


def deca_names(name: str) -> str:
    """transformers' name of a ResNet tensor as torchvision's, which DECA's checkpoint uses."""
    if name.startswith("embedder"):
        name = name.replace("embedder.embedder.convolution", "conv1").replace("embedder.embedder.normalization", "bn1")
        return f"encoder.{name}"
    _, _, stage, _, block, rest = name.split(".", 5)
    rest = rest.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
    for number in range(3):
        rest = rest.replace(f"layer.{number}.convolution", f"conv{number + 1}")
        rest = rest.replace(f"layer.{number}.normalization", f"bn{number + 1}")
    return f"encoder.layer{int(stage) + 1}.{block}.{rest}"


def test_made_deca_checkpoint_gives_the_numbers_of_an_independent_resnet(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from hifimodel.landmarks.deca_encoder import DecaEncoder

    torch.set_num_threads(1)
    torch.manual_seed(3)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 24, 32, 48], depths=[3, 4, 6, 3])
    net = transformers.ResNetModel(config).eval()
    for tensor in net.buffers():
        if tensor.dtype == torch.float32:
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    layers = torch.nn.Sequential(torch.nn.Linear(48, 20), torch.nn.ReLU(), torch.nn.Linear(20, 236))
    stored = {deca_names(name): tensor for name, tensor in net.state_dict().items()}
    stored |= {f"layers.{name}": tensor for name, tensor in layers.state_dict().items()}
    torch.save({"E_flame": stored, "epoch": 1}, tmp_path / "deca_model.tar")
    crop = np.random.default_rng(0).random((224, 224, 3), np.float32)
    with torch.inference_mode():
        wanted = layers(net(torch.from_numpy(crop.transpose(2, 0, 1))[None]).pooler_output.flatten(1))[0].numpy()
    got = DecaEncoder(tmp_path / "deca_model.tar", 236)(crop)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(LandmarkError, match="gives 236 numbers, expected 10"):
        DecaEncoder(tmp_path / "deca_model.tar", 10)
