"""What is visibly no model is told from what may be one, by the outside of the file alone."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hifidata.weights.catalogue import CATALOGUE
from hifidata.weights.sanity import CHECKS, problem_of
from tests.factories.graphs import make_graph
from tests.weights.conftest import tensors


def said_of(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return problem_of(path, path.suffix)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("data.pkl", b"x" * 300)
    return buffer.getvalue()


def test_every_real_file_is_taken_for_what_it_is(assets: Path) -> None:
    known = {weight.file for weight in CATALOGUE.values()}
    files = [path for path in (assets / "weights").rglob("*") if path.is_file() and path.name in known]
    assert {path.suffix for path in files} >= {".onnx", ".npz"}
    assert {path.name: problem_of(path, path.suffix) for path in files} == {path.name: "" for path in files}


def test_a_real_graph_that_was_cut_off_is_found_out_wherever_it_was(assets: Path, tmp_path: Path) -> None:
    data = (assets / "weights" / "yunet" / "yunet_n_dynamic.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    for share in np.linspace(0, 1, 41)[:-1]:
        assert said_of(cut, data[: int(share * len(data))])
    assert said_of(cut, data[:-1])


def test_no_beginning_of_a_graph_is_taken_for_a_graph(tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "g.onnx", [("Relu", ["input"], "output")], ([1, 2], [1, 2])).read_bytes()
    assert said_of(tmp_path / "g.onnx", graph) == ""
    assert [n for n in range(len(graph)) if not said_of(tmp_path / "g.onnx", graph[:n])] == []


def test_a_made_program_of_paddle_that_was_cut_off_is_found_out(tmp_path: Path) -> None:
    """A program is a protobuf message; no real one lies here."""
    whole = b"\x0a\x05block" + b"\x22\x02\x08\x00" + b"\x2a\x03ops"
    path = tmp_path / "model.pdmodel"
    assert said_of(path, whole) == ""
    assert [n for n in range(len(whole)) if not said_of(path, whole[:n])] == [7, 11]  # between two fields
    assert said_of(path, b"Log in to go on")


def test_what_opencv_would_crash_on_is_no_tensorflow_graph(assets: Path, tmp_path: Path) -> None:
    others = [path for path in (assets / "weights").rglob("*") if path.suffix in (".pth", ".pt", ".onnx", ".tflite")]
    assert len(others) >= 10
    assert [path for path in others if not problem_of(path, ".pb")] == []
    whole = (assets / "weights" / "lightqnet" / "lightqnet-dm050.pb").read_bytes()
    path = tmp_path / "cut.pb"
    assert said_of(path, whole) == ""
    assert all(said_of(path, whole[:n]) for n in range(1, len(whole), 9973))


@pytest.mark.parametrize(
    ("suffix", "whole"),
    [(".safetensors", tensors(500)), (".npz", archive()), (".zip", archive()), (".pth", archive()), (".json", b'{"a": 1}\n')],
)  # fmt: skip
def test_other_formats_are_whole_or_said_to_be_cut(tmp_path: Path, suffix: str, whole: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    assert said_of(path, whole) == ""
    assert said_of(path, whole[:-2])
    assert said_of(path, whole[: len(whole) // 2])
    assert said_of(path, b"")


def test_a_checkpoint_from_before_torch_1_6_is_a_pickle(tmp_path: Path) -> None:
    assert said_of(tmp_path / "old.pth", b"\x80\x02\x8a\nl\xfc") == ""


@pytest.mark.parametrize("suffix", [*CHECKS, ".bin", ".txt"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \r\n<!doctype HTML><p>Log in", "is a web page"),
        (b"<HTML lang=en>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer"),
    ],
)
def test_what_hosts_send_instead_of_a_file_is_named(tmp_path: Path, suffix: str, data: bytes, words: str) -> None:
    assert words in said_of(tmp_path / f"model{suffix}", data)


@pytest.mark.parametrize(
    "data",
    [
        bytes(4000),
        b"\x3a" + b"\xff" * 9 + b"\x01" * 400,
        b"\xff" * 4000,
        b"No such file: please wait and try again",
        b"{}",
    ],
)
@pytest.mark.parametrize("suffix", [".onnx", ".pb", ".npz", ".pth", ".safetensors"])
def test_bytes_of_no_format_are_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    assert said_of(tmp_path / f"model{suffix}", data)
