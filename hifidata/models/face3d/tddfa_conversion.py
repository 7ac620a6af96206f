"""Conversion of two files of 3DDFA_V2 that its authors publish in another form, for ``hifidata weights pull``.

The checkpoint becomes an ONNX graph, with batch normalisation folded into the preceding convolutions; the pickle of two
vectors becomes an npz. Neither is trusted: the checkpoint is read with ``weights_only``, the pickle by an unpickler that
builds arrays only. The same input gives the same bytes.

Source: the layers of 3DDFA_V2's MobileNet (Howard et al., MobileNets, 2017, table 1), as its checkpoint names them.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import WeightsError
from hifidata.models.protocols import F32

N_PARAMETERS, INPUT_PX = 62, 120
BLOCKS = {
    "dw2_1": 1, "dw2_2": 2, "dw3_1": 1, "dw3_2": 2, "dw4_1": 1, "dw4_2": 2, "dw5_1": 1, "dw5_2": 1, "dw5_3": 1,
    "dw5_4": 1, "dw5_5": 1, "dw5_6": 2, "dw6": 1,
}  # fmt: skip
"""Strides of the depthwise convolutions; a pointwise convolution follows each."""
EPSILON = 1e-5
"""Of the batch normalisation; the default of torch."""

_make_array = np.empty(0).__reduce__()[0]
_BUILDERS: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _make_array,
    ("numpy._core.multiarray", "_reconstruct"): _make_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """Allows only the functions that build an array; unpickling can otherwise call any function that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a name in the file. Raises UnpicklingError for a name that no array needs."""
        if (module, name) not in _BUILDERS:
            raise pickle.UnpicklingError(f"it loads {module}.{name}, which no array needs")
        return _BUILDERS[module, name]


def scaling(source: Path) -> bytes:
    """Make ``param_mean_std_62d_120x120.npz`` from the authors' ``.pkl``. Raises WeightsError."""
    try:
        with open(source, "rb") as file:
            stored = _ArraysOnly(file).load()
        mean, std = (np.asarray(stored[name], np.float32).reshape(N_PARAMETERS) for name in ("mean", "std"))
    except (
        OSError, ValueError, EOFError, AttributeError, IndexError, KeyError, TypeError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        raise WeightsError(
            f"{source}: no pickle of mean and std, {N_PARAMETERS} numbers each: {_line(error)}"
        ) from error
    buffer = io.BytesIO()
    np.savez(buffer, mean=mean, std=std)
    return buffer.getvalue()


def network(source: Path) -> bytes:
    """Make ``mb05_120x120.onnx`` from the authors' ``.pth``: (N, 3, 120, 120) to (N, 62).

    Raises:
        WeightsError: the file is not a checkpoint of this network, or torch or onnx cannot be imported.
    """
    try:
        import onnx
        import torch
    except ImportError as error:
        raise WeightsError(
            f"weights 3ddfa_mb05: is made with torch and onnx, which do not load: {_line(error)}"
        ) from error
    try:
        state = _tensors(torch.load(source, map_location="cpu", weights_only=True))
        layers = _layers(state)
        head = state["fc.weight"].astype(np.float32), state["fc.bias"].astype(np.float32)
        _require_shapes([kernel.shape for kernel, _, _ in layers], [array.shape for array in head])
    except (
        OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        raise WeightsError(f"{source}: no checkpoint of 3DDFA_V2's MobileNet: {_line(error)}") from error
    return _graph(onnx, layers, head)


def _graph(onnx: Any, layers: Sequence[tuple[F32, F32, int]], head: tuple[F32, F32]) -> bytes:
    """Build the graph: convolutions, each followed by a ReLU, the mean over the image, and a linear head."""
    helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    nodes, constants, flow = [], [], "input"
    for number, (kernel, bias, stride) in enumerate(layers):
        names = [f"t{3 * number + 2}", f"t{3 * number + 3}"]
        constants += [to_tensor(array, name) for array, name in zip((kernel, bias), names, strict=True)]
        size = kernel.shape[2]
        before, after = f"y{3 * number + 1}", f"z{3 * number + 1}"
        nodes.append(
            helper.make_node(
                "Conv", [flow, *names], [before], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4,
                group=len(kernel) if number % 2 else 1,
            )
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [before], [after]))
        flow = after
    names = [f"t{3 * len(layers) + 1}", f"t{3 * len(layers) + 2}"]
    constants += [to_tensor(array, name) for array, name in zip(head, names, strict=True)]
    nodes += [
        helper.make_node("GlobalAveragePool", [flow], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["fl"]),
        helper.make_node("Gemm", ["fl", *names], ["param"], transB=1),
    ]
    kind, sides = onnx.TensorProto.FLOAT, (INPUT_PX, INPUT_PX)
    start = helper.make_tensor_value_info("input", kind, ("N", 3, *sides))
    end = helper.make_tensor_value_info("param", kind, ("N", N_PARAMETERS))
    graph = helper.make_graph(nodes, "mb05_120x120", [start], [end], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def _tensors(checkpoint: Any) -> dict[str, NDArray[Any]]:
    """Return arrays by name, without the ``module`` prefix of multi-GPU training and the older name of the head."""
    return {
        name.removeprefix("module.").replace("fc_param.", "fc."): np.asarray(tensor, np.float64)
        for name, tensor in checkpoint["state_dict"].items()
    }


def _layers(state: Mapping[str, NDArray[Any]]) -> list[tuple[F32, F32, int]]:
    """Return kernel (C_out, C_in / groups, k, k), bias (C_out,) and stride per convolution. Raises KeyError, ValueError."""
    named = [("conv1", "bn1", 2)]
    for block, stride in BLOCKS.items():
        named += [(f"{block}.conv_dw", f"{block}.bn_dw", stride), (f"{block}.conv_sep", f"{block}.bn_sep", 1)]
    return [(*_folded(state, conv, norm), stride) for conv, norm, stride in named]


def _require_shapes(kernels: Sequence[tuple[int, ...]], head: Sequence[tuple[int, ...]]) -> None:
    """Check that every second layer is depthwise and that widths match. Raises ValueError."""
    width = 3
    for number, kernel in enumerate(kernels):
        side = 1 if number and number % 2 == 0 else 3
        expected = (width, 1, side, side) if number % 2 else (kernel[0], width, side, side)
        if kernel != expected:
            raise ValueError(f"kernel {number} is {kernel}, expected {expected}")
        width = kernel[0]
    if list(head) != [(N_PARAMETERS, width), (N_PARAMETERS,)]:
        raise ValueError(f"its head is {head}, expected {N_PARAMETERS} numbers of {width}")


def _folded(state: Mapping[str, NDArray[Any]], conv: str, norm: str) -> tuple[F32, F32]:
    """Fold a normalisation into the convolution before it, which has no bias."""
    scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + EPSILON)  # (C_out,)
    kernel = state[f"{conv}.weight"] * scale[:, None, None, None]
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return kernel.astype(np.float32), bias.astype(np.float32)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
