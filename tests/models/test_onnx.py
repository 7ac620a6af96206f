"""A graph is checked when it is opened, and what it refuses is one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.runtime import onnx
from hifidata.models.runtime.onnx import OnnxModel, Shape
from tests.factories.graphs import make_graph


@pytest.fixture(scope="module")
def embedder(assets: Path) -> Path:
    return assets / "weights" / "mobilefacenet" / "MobileFaceNet.onnx"


@pytest.fixture(scope="module")
def yunet(assets: Path) -> Path:
    return assets / "weights" / "yunet" / "yunet_n_dynamic.onnx"


def refusal(path: Path, inputs: dict[str, Shape] | list[Shape] | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        OnnxModel(path, inputs)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_real_graph_runs_and_says_what_it_takes(embedder: Path) -> None:
    model = OnnxModel(embedder, {"input0": (1, 3, 112, 112)})
    (vector,) = model(np.zeros((1, 3, 112, 112), np.float32))
    assert vector.shape == (1, 128)
    assert (model.inputs, model.outputs, model.batch) == ({"input0": (1, 3, 112, 112)}, ("output0",), 1)


def test_open_sizes_fit_every_expectation(yunet: Path) -> None:
    model = OnnxModel(yunet, [(None, 3, 320, 320)])
    assert model.batch is None
    assert len(model(np.zeros((2, 3, 320, 320), np.float32))) == len(model.outputs) == 12


def test_a_graph_that_fails_on_a_size_is_one_exception_and_nothing_beside_it(
    yunet: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WeightsError, match="fails on a blank image"):
        OnnxModel(yunet, [(None, 3, 112, 112)]).try_out([])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"data": (None, 3, 112, 112)}, "data[?, 3, 112, 112]"),
        ({"input0": (None, 3, 96, 96)}, "input0[?, 3, 96, 96]"),
        ([(None, 3, 112)], "[?, 3, 112]"),
        ([(None, 3, 112, 112), (None, 2)], "[?, 3, 112, 112], [?, 2]"),
        ([], "nothing"),
    ],
)
def test_another_graph_is_refused_with_got_and_expected(
    embedder: Path, inputs: dict[str, Shape] | list[Shape], expected: str
) -> None:
    message = refusal(embedder, inputs)
    assert f"it takes input0[1, 3, 112, 112], expected {expected}; " in message


@pytest.mark.parametrize("kind", ["UINT8", "FLOAT16", "DOUBLE"])
def test_a_made_graph_of_another_type_is_refused(kind: str, tmp_path: Path) -> None:
    cast = [("Cast", ["input"], "output", {"to": 1})]
    path = make_graph(tmp_path / "typed.onnx", cast, ([1, 3, 8, 8], [1, 3, 8, 8]), kind=kind)
    assert "expected tensor(float); export the model in float32" in refusal(path, [(None, 3, 8, 8)])


def test_a_made_graph_with_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    path = make_graph(tmp_path / "eight.onnx", [("Identity", ["input"], "output")], ([8, 3, 8, 8], [8, 3, 8, 8]))
    assert "its batch is fixed to 8" in refusal(path, [(None, 3, 8, 8)])
    assert OnnxModel(path, [(8, 3, 8, 8)]).batch == 8


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([(127,)], r"gives \[128\], expected \[127\]"),
        ([(None, None)], r"expected \[\?, \?\]"),
        ([(128,), (1404,)], r"gives \[128\], expected \[128\], \[1404\]"),
    ],
)
def test_a_graph_that_gives_something_else_is_refused(embedder: Path, outputs: list[Shape], words: str) -> None:
    model = OnnxModel(embedder, [(None, 3, 112, 112)])
    with pytest.raises(WeightsError, match=words):
        model.try_out(outputs)
    assert [output.shape for output in model.try_out([(128,)])] == [(1, 128)]


def test_a_graph_too_large_to_be_tried_is_believed(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_TRIAL_BYTES", 1000)
    assert OnnxModel(embedder, [(None, 3, 112, 112)]).try_out([(127,)]) == []


def test_a_truncated_graph_is_refused_with_its_size(embedder: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(embedder.read_bytes()[:200_000])
    assert "not a complete ONNX graph (200000 bytes)" in refusal(cut)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    assert "not a complete ONNX graph" in refusal(tmp_path / "x.onnx")


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    assert "(0 bytes)" in refusal(tmp_path / "gone.onnx")


def test_input_that_does_not_fit_is_a_model_error_in_one_line(embedder: Path) -> None:
    with pytest.raises(ModelError, match=r"^MobileFaceNet.onnx: refused input of shape \(1, 3, 100, 112\): ") as caught:
        OnnxModel(embedder)(np.zeros((1, 3, 100, 112), np.float32))
    assert "\n" not in str(caught.value)


def test_sessions_have_one_thread_and_stay_quiet(embedder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = OnnxModel(embedder)
    options = model._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    model(np.zeros((1, 3, 112, 112), np.float32))
    assert capfd.readouterr() == ("", "")


def test_the_same_input_gives_the_same_bytes_in_another_session(embedder: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((1, 3, 112, 112), np.float32)
    copy = Path(shutil.copy(embedder, tmp_path))
    assert OnnxModel(embedder)(picture)[0].tobytes() == OnnxModel(copy)(picture)[0].tobytes()
