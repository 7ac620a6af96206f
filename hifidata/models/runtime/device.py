"""The execution provider of ONNX Runtime: CUDA if this process has a GPU and onnxruntime-gpu is installed, otherwise the CPU.

``onnxruntime`` and ``onnxruntime-gpu`` install the same files, so only one of them is active. ``onnxruntime-gpu`` lists CUDA
on every machine. If CUDA, cuDNN or the driver is missing, a session falls back to the CPU without an error. Therefore each
new session is checked.
"""

from __future__ import annotations

import ctypes
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import onnxruntime as ort

from hifidata.core.errors import UsageError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
INSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'"

CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""Full float32 and no timing of algorithms, so that all workers compute the same values."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


def has_cuda() -> bool:
    """Return whether the installed ONNX Runtime supports CUDA."""
    return CUDA in ort.get_available_providers()


def current_provider() -> str:
    """Return the execution provider of all sessions of this process."""
    # Ray and gpus_hidden hide GPUs with an empty list of devices; CUDA would then fail for each session.
    return CUDA if has_cuda() and os.environ.get(VISIBLE) not in ("", "-1") and has_driver() else CPU


def has_driver() -> bool:
    """Return whether the NVIDIA driver is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def session_providers() -> list[Any]:
    """Load the libraries of the current provider and return the ``providers`` argument of a new session."""
    if current_provider() == CPU:
        return [CPU]
    with redirect_stdout(io.StringIO()):  # it prints missing libraries; check_provider reports them
        ort.preload_dlls()  # loads the CUDA and cuDNN packages of pip, which the linker does not find
    return [(CUDA, CUDA_OPTIONS), CPU]


def check_provider(session: ort.InferenceSession, name: str) -> None:
    """Check that a new session did not fall back to the CPU. Raises UsageError.

    Args:
        session: session with the providers of ``session_providers``.
        name: name of the model for the message.
    """
    if current_provider() != CUDA:
        return
    if session.get_providers()[0] != CUDA:
        raise UsageError(gpu_message(name))
    session.disable_fallback()  # a failed call must not run again on the CPU


def gpu_message(name: str, cause: str = "") -> str:
    """Return the error message for a GPU that cannot be used."""
    return (
        f"{name}: onnxruntime {ort.__version__} cannot use the GPU of this machine ({cause or 'CUDA or cuDNN does not load'}); "
        f"install the libraries with `{INSTALL}`, or install plain onnxruntime to use the CPU"
    )


@contextmanager
def gpus_hidden() -> Iterator[None]:
    """Hide all GPUs from sessions and models that are opened in the block, including torch models."""
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
