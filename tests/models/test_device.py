"""ONNX Runtime computes on the GPU that a process was given, or says why not; on the CPU everywhere else.

No GPU is needed: where a test says that providers are made up, it shows what is asked for and what becomes of a session
that falls back, not that CUDA computes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from rapidocr.inference_engine.onnxruntime import main as rapidocr_session
from rapidocr.inference_engine.onnxruntime import provider_config

from hifidata.core.errors import UsageError, WeightsError
from hifidata.models import registry
from hifidata.models.runtime import device
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.models.text import rapidocr
from hifidata.models.text.rapidocr import RapidOcrText
from tests.conftest import PROJECT_ROOT
from tests.factories.graphs import make_graph


class OnGpu(ort.InferenceSession):
    """A real session on the CPU that says it is on the GPU, and remembers what was asked for."""

    asked: list[list[Any]]
    claims = True

    def __init__(self, path: str, *args: Any, providers: list[Any], **options: Any) -> None:
        type(self).asked.append(providers)
        self._on_gpu = self.claims and len(providers) > 1
        super().__init__(path, *args, providers=["CPUExecutionProvider"], **options)

    def get_providers(self) -> list[str]:
        real: list[str] = super().get_providers()
        return ["CUDAExecutionProvider", *real] if self._on_gpu else real


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], type[OnGpu]]:
    """Makes up a runtime with CUDA on a machine with a GPU, and whether the provider then loads."""

    def make(loads: bool) -> type[OnGpu]:
        session = type("Session", (OnGpu,), {"asked": [], "claims": loads})
        listed = [device.CUDA, device.CPU]
        monkeypatch.setattr(ort, "get_available_providers", lambda: listed)
        monkeypatch.setattr(device, "has_driver", lambda: True)
        monkeypatch.setattr(ort, "InferenceSession", session)
        monkeypatch.setattr(rapidocr_session, "InferenceSession", session)
        monkeypatch.setattr(provider_config, "get_available_providers", lambda: listed)
        monkeypatch.setattr(provider_config, "get_device", lambda: "GPU")
        monkeypatch.delenv(device.VISIBLE, raising=False)
        return session

    return make


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return make_graph(tmp_path / "same.onnx", [("Identity", ["input"], "output")], ([1, 3, 8, 8], [1, 3, 8, 8]))


@pytest.mark.parametrize(("visible", "asked"), [(None, True), ("0", True), ("", False), ("-1", False)])
def test_cuda_is_asked_for_only_where_a_gpu_was_given_with_made_up_providers(
    visible: str | None,
    asked: bool,
    cuda: Callable[[bool], type[OnGpu]],
    graph: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = cuda(True)
    if visible is not None:
        monkeypatch.setenv(device.VISIBLE, visible)
    model = OnnxModel(graph)
    wanted = [(device.CUDA, device.CUDA_OPTIONS), device.CPU] if asked else [device.CPU]
    assert session.asked == [wanted]
    assert model.provider == (device.CUDA if asked else device.CPU)


def test_a_session_that_falls_back_is_refused_in_one_line_with_the_remedy_with_made_up_providers(
    cuda: Callable[[bool], type[OnGpu]], graph: Path
) -> None:
    cuda(False)
    for load in (lambda: OnnxModel(graph), RapidOcrText):
        with pytest.raises(UsageError, match=r"onnxruntime \S+ cannot use the GPU .*with `pip") as caught:
            load()
        assert not isinstance(caught.value, WeightsError)  # the file is not to blame
        assert "\n" not in str(caught.value)
        assert device.INSTALL in str(caught.value)


def test_a_gpu_without_room_is_not_taken_for_a_damaged_file_with_made_up_providers(
    cuda: Callable[[bool], type[OnGpu]], graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = cuda(True)

    def full(path: str, options: object, providers: list[Any]) -> ort.InferenceSession:
        if len(providers) > 1:
            raise ort.capi.onnxruntime_pybind11_state.RuntimeException("CUDA failure 2:\nout of memory")
        return session(path, options, providers=providers)

    monkeypatch.setattr(ort, "InferenceSession", full)
    with pytest.raises(
        UsageError,
        match=r"same\.onnx: onnxruntime .* cannot use the GPU of this machine \(CUDA failure 2: out of memory\)",
    ):
        OnnxModel(graph)
    graph.write_bytes(b"no graph")
    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.raises(WeightsError, match="not a complete ONNX graph"):
        OnnxModel(graph)


def test_without_a_driver_a_runtime_with_cuda_computes_on_the_cpu_and_says_nothing(
    graph: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A runtime that was built for CUDA lists it on every machine."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [device.CUDA, device.CPU])
    monkeypatch.setattr(device, "has_driver", lambda: False)
    assert OnnxModel(graph).provider == device.current_provider() == device.CPU
    assert capfd.readouterr() == ("", "")


def test_the_text_reader_gets_the_provider_of_the_other_models_with_made_up_providers(
    cuda: Callable[[bool], type[OnGpu]],
) -> None:
    session = cuda(True)
    RapidOcrText()
    firsts = [asked[0] for asked in session.asked]
    assert len(firsts) >= 2
    assert all(name == device.CUDA for name, _ in firsts)
    assert all(options.items() >= device.CUDA_OPTIONS.items() for _, options in firsts)


def test_on_a_cpu_the_text_reader_is_opened_with_the_parameters_it_always_had(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    real = rapidocr.RapidOCR
    monkeypatch.setattr(rapidocr, "RapidOCR", lambda params: given.append(params) or real(params=params))
    with device.gpus_hidden():
        RapidOcrText()
    assert given == [rapidocr._PARAMS]
    assert not any("cuda" in name for name in given[0])


def test_hidden_gpus_come_back(cuda: Callable[[bool], type[OnGpu]], monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(True)
    for before in (None, "1"):
        if before is not None:
            monkeypatch.setenv(device.VISIBLE, before)
        assert device.current_provider() == device.CUDA
        with device.gpus_hidden():
            assert device.current_provider() == device.CPU
        assert device.current_provider() == device.CUDA


def names_used(module: str) -> set[str]:
    tree = ast.parse(PROJECT_ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_the_registry_marks_every_model_whose_module_opens_a_session() -> None:
    """Modules that build on another's class open its session."""
    bases = {"OnnxModel", "AlignedQuality", "RapidOCR"}
    specs = [spec for table in registry.BY_STAGE.values() for spec in table.values()]
    opening = {spec.path for spec in specs if names_used(spec.path.partition(":")[0]) & bases}
    assert opening - {"hifidata.models.restore.gfpgan:GfpganTorch"} == {s.path for s in specs if s.uses_onnx_runtime}
