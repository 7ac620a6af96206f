"""The recogniser in torch equals ONNX Runtime, and its gradient is that of finite differences."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import cv2  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from hifidata.core.errors import WeightsError  # noqa: E402
from hifimodel.errors import ConditionError  # noqa: E402
from hifimodel.losses.align import align_faces  # noqa: E402
from hifimodel.nets.embedder import EMBEDDERS, FaceEmbedder, load_embedder  # noqa: E402
from hifimodel.nets.onnx_graph import OnnxGraph  # noqa: E402


@pytest.fixture(scope="module")
def mobilefacenet(assets: Path) -> FaceEmbedder:
    torch.set_num_threads(1)
    return load_embedder("mobilefacenet", assets / "weights" / "mobilefacenet")


@pytest.fixture(scope="module")
def faces(assets: Path) -> torch.Tensor:
    """(3, 3, 112, 112) uint8, parts of real portraits."""
    paths = sorted((assets / "faces" / "face_recognition").glob("*.jpg"))[:3]
    crops = [cv2.resize(cv2.imread(str(path))[..., ::-1], (112, 112), interpolation=cv2.INTER_AREA) for path in paths]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def test_real_recogniser_equals_onnx_runtime_in_a_batch(
    mobilefacenet: FaceEmbedder, faces: torch.Tensor, assets: Path
) -> None:
    spec = EMBEDDERS["mobilefacenet"]
    session = onnxruntime.InferenceSession(
        str(assets / "weights" / "mobilefacenet" / spec.file), providers=["CPUExecutionProvider"]
    )
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    name = session.get_inputs()[0].name
    raw = [session.run(None, {name: ((face.numpy() - mean) / std)[None]})[0][0] for face in faces]
    expected = np.stack([row / np.linalg.norm(row) for row in raw])
    np.testing.assert_allclose(mobilefacenet(faces).numpy(), expected, atol=1e-4)


def test_real_recogniser_has_the_gradient_of_finite_differences(
    mobilefacenet: FaceEmbedder, faces: torch.Tensor
) -> None:
    net = copy.deepcopy(mobilefacenet.net).double()
    generator = torch.Generator().manual_seed(0)
    x = ((faces[:1].double() - 127.5) / 60).requires_grad_(True)
    other = torch.randn(128, generator=generator, dtype=torch.float64)
    value = torch.nn.functional.cosine_similarity(net(x)[0], other, dim=0)
    (gradient,) = torch.autograd.grad(value, x)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    step = 1e-7  # small, because every ReLU on the way is a kink
    with torch.no_grad():
        ends = [torch.nn.functional.cosine_similarity(net(x + s * direction)[0], other, dim=0) for s in (step, -step)]
    slope = float(ends[0] - ends[1]) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-3)
    assert abs(slope) > 1e-3


def test_float_and_uint8_faces_give_the_same_embedding(mobilefacenet: FaceEmbedder, faces: torch.Tensor) -> None:
    torch.testing.assert_close(mobilefacenet(faces), mobilefacenet(faces / 127.5 - 1), atol=1e-5, rtol=0)


def test_embedding_stays_float32_under_autocast(mobilefacenet: FaceEmbedder, faces: torch.Tensor) -> None:
    plain = mobilefacenet(faces)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mobilefacenet(faces), plain)


def arcface_like(path: Path) -> Path:
    """An ONNX file with the operators of InsightFace's iresnet (BN, PRelu, Gemm), random weights, 512 outputs."""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "slope": (8, 1, 1), "w2": (8, 8, 3, 3), "gemm": (512, 8 * 28 * 28), "gemm_b": (512,)}
    arrays = {name: rng.normal(0, 0.1, shape) for name, shape in shapes.items()}
    for prefix, size in (("a", 8), ("b", 512)):
        arrays |= {f"{prefix}{part}": rng.uniform(0.5, 1.5, size) for part in ("scale", "bias", "mean", "var")}
    kernel = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["1"], strides=[4, 4], **kernel),
        helper.make_node("BatchNormalization", ["1", "ascale", "abias", "amean", "avar"], ["2"], epsilon=2e-5),
        helper.make_node("PRelu", ["2", "slope"], ["3"]),
        helper.make_node("Conv", ["3", "w2"], ["4"], strides=[1, 1], **kernel),
        helper.make_node("Add", ["4", "3"], ["5"]),
        helper.make_node("Flatten", ["5"], ["6"]),
        helper.make_node("Gemm", ["6", "gemm", "gemm_b"], ["7"], transB=1),
        helper.make_node("BatchNormalization", ["7", "bscale", "bbias", "bmean", "bvar"], ["out"], epsilon=2e-5),
    ]
    faces = helper.make_tensor_value_info("in", TensorProto.FLOAT, ["batch", 3, 112, 112])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 512])
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "arcface_like", [faces], [out], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_made_up_network_of_iresnets_operators_equals_onnx_runtime(tmp_path: Path) -> None:
    path = arcface_like(tmp_path / "w600k_r50.onnx")
    faces = torch.randint(0, 256, (2, 3, 112, 112), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"in": (faces.numpy().astype(np.float32) - 127.5) / 127.5})[0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(load_embedder("w600k_r50", tmp_path)(faces).numpy(), expected, atol=1e-5)


def test_untrained_embedder_is_the_same_every_time_and_differentiable() -> None:
    faces = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    one, two = (load_embedder("tiny-random")(faces) for _ in range(2))
    assert torch.equal(one, two)
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(2))
    assert torch.autograd.grad(one[0, 0], faces)[0][0].any()


def test_missing_unknown_and_wrong_files_are_one_line_with_a_remedy(tmp_path: Path, assets: Path) -> None:
    arcface_like(tmp_path / "w600k_r50.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not onnx at all")
    (tmp_path / "empty.onnx").touch()
    text = helper.make_tensor_value_info("text", TensorProto.STRING, [1])
    foreign = helper.make_graph([helper.make_node("Reshape", ["text", "nowhere"], ["out"])], "other", [text], [text])
    onnx.save(helper.make_model(foreign), str(tmp_path / "foreign.onnx"))
    real = assets / "weights" / "mobilefacenet" / "MobileFaceNet.onnx"
    for name, path, hint in (
        ("w600k", tmp_path, "known: w600k_r50"),
        ("glintr100", tmp_path, "pass --embedder"),
        ("glintr100", None, "pass --embedder"),
        ("glintr100", tmp_path / "broken.onnx", "cannot be read as ONNX"),
        ("w600k_r50", real, "gives 128 numbers"),
        ("glintr100", tmp_path / "empty.onnx", "contains no network"),
        ("glintr100", tmp_path / "foreign.onnx", "does not run as a recogniser"),
    ):
        with pytest.raises(WeightsError, match=hint) as caught:
            load_embedder(name, path)
        assert "\n" not in str(caught.value)


def test_an_operator_without_counterpart_is_named(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Erf", ["x"], ["y"])], "erf", [info], [out])
    onnx.save(helper.make_model(graph), str(tmp_path / "erf.onnx"))
    with pytest.raises(WeightsError, match="Erf"):
        OnnxGraph(tmp_path / "erf.onnx")


def test_unaligned_faces_are_refused(mobilefacenet: FaceEmbedder) -> None:
    with pytest.raises(ConditionError, match="align_faces"):
        mobilefacenet(torch.zeros(1, 3, 128, 128))


def test_gradient_flows_from_the_embedding_to_the_picture(mobilefacenet: FaceEmbedder) -> None:
    picture = torch.zeros(1, 3, 96, 96, requires_grad=True)
    kps = torch.tensor([[[30.0, 40.0], [60.0, 40.0], [45.0, 55.0], [33.0, 70.0], [57.0, 70.0]]])
    (gradient,) = torch.autograd.grad(mobilefacenet(align_faces(picture, kps))[0, 0], picture)
    assert gradient[..., 30:80, 20:70].abs().mean() > 0
