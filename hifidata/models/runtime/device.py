"""Which processor ONNX Runtime computes on: CUDA where this process was given a GPU and the runtime can use it, else the CPU.

``onnxruntime`` and ``onnxruntime-gpu`` install the same files, so one of them is there. Only the latter lists CUDA, on every
machine; whether its provider loads (driver, CUDA, cuDNN) only a session tells, which otherwise computes on the CPU without
a word.
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
"""Full float32, and no timing of algorithms: the same numbers in every worker."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


def has_cuda() -> bool:
    """Whether the installed runtime was built for CUDA."""
    return CUDA in ort.get_available_providers()


def here() -> str:
    """The provider of this process's sessions: every one that is opened through this package has it."""
    # An empty list of devices is how Ray, and we, hide them; the provider would then fail, loudly, on every session.
    return CUDA if has_cuda() and os.environ.get(VISIBLE) not in ("", "-1") and has_driver() else CPU


def has_driver() -> bool:
    """Whether NVIDIA's driver is on this machine."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def wanted() -> list[Any]:
    """``providers`` of a new session, with the libraries that they need loaded."""
    if here() == CPU:
        return [CPU]
    with redirect_stdout(io.StringIO()):  # it prints what it does not find; the session will tell
        ort.preload_dlls()  # CUDA and cuDNN as pip installs them; the linker looks elsewhere
    return [(CUDA, CUDA_OPTIONS), CPU]


def check(session: ort.InferenceSession, what: str) -> None:
    """Raises UsageError, with the remedy, where a new session has fallen back to the CPU.

    Args:
        session: opened with what ``wanted`` says.
        what: whose it is, for the message.
    """
    if here() != CUDA:
        return
    if session.get_providers()[0] != CUDA:
        raise UsageError(refusal(what))
    session.disable_fallback()  # nor may a call that fails be made again on the CPU


def refusal(what: str, why: str = "") -> str:
    """What to say where a GPU is here and cannot be used."""
    return (
        f"{what}: a GPU is here, but onnxruntime {ort.__version__} cannot use it ({why or 'CUDA or cuDNN does not load'}) and "
        f"would compute on the CPU: `{INSTALL}` brings what it needs; plain onnxruntime in its place keeps to the CPU"
    )


@contextmanager
def gpus_hidden() -> Iterator[None]:
    """No GPU for what is opened inside, torch included."""
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
