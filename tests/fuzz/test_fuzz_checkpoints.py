"""Damaged or odd shard members, checkpoints, ONNX files and CLIP folders end in one line, in bounded time and memory.

``HIFI_FUZZ_ROUNDS`` sets the number of altered files; ``make fuzz`` raises it.
"""

from __future__ import annotations

import atexit
import functools
import io
import json
import os
import pickle
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import PROJECT_ROOT

pytest.importorskip("torch")
pytest.importorskip("diffusers")

ROUNDS = int(os.environ.get("HIFI_FUZZ_ROUNDS", "8"))
MAX_SECONDS, MAX_BYTES = 300 + 10 * ROUNDS, 12 * 2**30
Alter = Callable[[bytes, random.Random], bytes]


class Trap:
    """Would end the process with 99, if a reader unpickled it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[int]]:
        return os._exit, (99,)


def flip(data: bytes, rng: random.Random) -> bytes:
    """Flip 1 to 20 bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return data[: rng.randrange(len(data) + 1)]


def replaced(data: bytes, rng: random.Random) -> bytes:
    """Return a part overwritten with random bytes."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.choice((1, 8, 300))) + data[start + 8 :]


def pickled(data: bytes, rng: random.Random) -> bytes:
    """Return a pickle that would run code."""
    return pickle.dumps(Trap())


def zipped(data: bytes, rng: random.Random) -> bytes:
    """Return an npz with odd members: other headers, compressions, sizes and names."""
    buffer = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    with zipfile.ZipFile(buffer, "w", rng.choice(methods)) as archive:
        for name in rng.sample(
            ("shape.npy", "model.npy", "pose.npy", "../x.npy", "a/b", "x", "\ud7ff.npy", "camera.npy"), 3
        ):
            archive.writestr(name, rng.choice((npy_header(rng), b"", b"\x93NUMPY", pickle.dumps(Trap()), bytes(2**19))))
    found = buffer.getvalue()
    return rng.choice((flip, lambda data, _: data))(found, rng)


def npy_header(rng: random.Random) -> bytes:
    """Return an npy whose header promises something odd."""
    dtypes = (
        "<f4",
        "|O",
        "<U900000000",
        "|V2000000000",
        "<f16",
        "[('a', '<f4')]",
        "'<f4",
        ">M8[s]",
        "|b1",
        "<c16",
        "@",
    )
    shapes = ("(2,)", "(10**9,)", "(-1,)", "(0, 9223372036854775807)", "()", "(1,)*40", "(True,)", "[1]", "(1, 'x')")
    text = f"{{'descr': '{rng.choice(dtypes)}', 'fortran_order': {rng.choice(('False', 'True', '0'))}, 'shape': {rng.choice(shapes)}, }}"
    if rng.random() < 0.2:
        text = rng.choice(("{", "(" * 5000, "{'descr': ", "\n  x\n y", "lambda: 0", "1L", "\t\x00"))
    body = text.encode() + b"\n"
    return (
        b"\x93NUMPY"
        + bytes(rng.choice(((1, 0), (2, 0), (3, 0), (9, 9))))
        + struct.pack("<H", len(body))
        + body
        + bytes(64)
    )


def image(data: bytes, rng: random.Random) -> bytes:
    """Return an image of another format or size, or a PNG that promises one."""
    import cv2

    side = rng.choice((1, 7, 256, 300))
    pixels = np.zeros((side, rng.choice((side, 9)), *rng.choice(((), (3,), (4,)))), rng.choice((np.uint8, np.uint16)))
    encoded = bytes(
        cv2.imencode(
            rng.choice((".png", ".tiff", ".pgm" if pixels.ndim == 2 else ".ppm")),
            pixels[..., :3] if pixels.ndim == 3 else pixels,
        )[1]
    )
    return (
        encoded[:16] + struct.pack(">II", *rng.choice(((256, 256), (60000, 60000)))) + encoded[24:]
        if rng.random() < 0.3
        else encoded
    )


ALTER: dict[str, tuple[Alter, ...]] = {
    "json": (flip, cut, lambda data, rng: odd_json(data, rng)),
    "jpg": (flip, cut, replaced, image),
    "txt": (flip, lambda data, rng: rng.randbytes(9)),
    "embedding.npy": (flip, cut, pickled, lambda data, rng: npy_header(rng)),
    "landmarks.npy": (flip, cut, pickled, lambda data, rng: npy_header(rng)),
    "face3d.npz": (flip, cut, pickled, zipped),
    "alpha.png": (flip, cut, replaced, pickled, image),
}


def odd_json(data: bytes, rng: random.Random) -> bytes:
    """Return the facts of a sample with one odd value."""
    values = (
        None,
        True,
        -1,
        0,
        10**400,
        1e308,
        float("nan"),
        "x",
        [],
        [[1]],
        {},
        {"x": 1},
        [1e308] * 10,
        "\ud800",
        [None] * 10,
    )
    facts = json.loads(data)
    return json.dumps(facts | {rng.choice(list(facts)): rng.choice(values)}).encode()


def samples_to_group(rng: random.Random) -> str:
    """Alter one member of a person's samples and make a training sample of them; return the alteration."""
    import cv2

    from hifimodel.data.drawing import StoredLandmarks
    from hifimodel.data.group import LoadedIdentity, draw_of, make_group
    from hifimodel.data.sample import CorruptSample, parse_sample
    from tests.factories.training_shards import SIDE_PX, person, quick

    samples = person(1, 3)
    for _, members in samples:
        members["alpha.png"] = bytes(cv2.imencode(".png", np.full((SIDE_PX, SIDE_PX), 255, np.uint8))[1])
    members = samples[0][1]
    members["face3d.npz"] = _npz()
    name = rng.choice(list(ALTER))
    alter = rng.choice(ALTER[name])
    members[name] = alter(members[name], rng)
    config = quick(".", min_images=2, max_references=1)
    try:
        identity = LoadedIdentity("x", [parse_sample(key, members) for key, members in samples])
        for target in range(3):
            make_group(identity, target, draw_of(identity, target, 0, config), config, StoredLandmarks("points"))
    except CorruptSample as error:
        if len(str(error)) > 60:
            raise ValueError(f"not a few words: {error}") from error
    return f"{name} {alter.__name__}"


def checkpoint_to_modules(rng: random.Random) -> str:
    """Alter one file of a checkpoint without digests, as earlier versions wrote it, and load it."""
    from hifimodel.nets.loading import load_trained
    from hifimodel.training import checkpoint

    modules, folder = saved_checkpoint()
    path = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    before = path.read_bytes()
    alters = (flip, cut, pickled, odd_json) if path.suffix == ".json" else (flip, cut, pickled, replaced, odd_tensors)
    alter = rng.choice(alters)
    try:
        path.write_bytes(alter(before, rng))
        with checkpoint.readable(folder):
            found = checkpoint.load(folder, modules, 0, 1)
            torch_optimizer(modules).load_state_dict(found.shared["optimizer"])
        load_trained(folder)
    finally:
        path.write_bytes(before)
    return f"{path.name} {alter.__name__}"


@functools.cache
def saved_checkpoint() -> tuple[Any, Path]:
    """Return (modules, folder)."""
    import torch

    from hifimodel.config import load_preset
    from hifimodel.nets.loading import build_modules, save_trained
    from hifimodel.training import checkpoint

    torch.set_num_threads(1)
    modules = build_modules(load_preset("tiny").model)
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    save_trained(modules, folder)
    facts = {"step": 1, "n_processes": 1, "base": checkpoint.base_digest(modules.base)}
    (folder / "state.json").write_text(json.dumps(facts))
    torch.save(
        {"optimizer": torch_optimizer(modules).state_dict(), "scaler": None, "ema": None}, folder / "optimizer.pt"
    )
    torch.save({"loader": {}, "window": [0.0], "generators": {}}, folder / "process-0.pt")
    return modules, folder


def torch_optimizer(modules: Any) -> Any:
    """Return an optimizer of the trained networks."""
    import torch

    return torch.optim.Adam(modules.trainable())


def odd_tensors(data: bytes, rng: random.Random) -> bytes:
    """Return torch's format, or safetensors', with something else inside."""
    import torch
    from safetensors.torch import save

    buffer = io.BytesIO()
    torch.save(rng.choice((None, [], 7, {"optimizer": None}, {"loader": {}}, torch.zeros(2))), buffer)
    return rng.choice((buffer.getvalue(), save({"x": torch.zeros(2)}), struct.pack("<Q", 2**60) + b"{}"))


def onnx_to_embedder(rng: random.Random) -> str:
    """Alter the ONNX file of a recogniser and load it."""
    from hifimodel.nets.embedder import load_embedder

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        alter = rng.choice((flip, flip, flip, cut, replaced, pickled))
        path.write_bytes(alter(recogniser(), rng))
        load_embedder("mobilefacenet", path)
    return alter.__name__


@functools.cache
def recogniser() -> bytes:
    """Return an ONNX graph of a small network of the right input and output."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        "kernel": np.ones((4, 3, 8, 8), np.float32), "scale": np.ones(4, np.float32), "shape": np.array([1, -1]),
        "matrix": np.ones((128, 4 * 14 * 14), np.float32), "slope": np.ones((4, 1, 1), np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["a"], strides=[8, 8], pads=[0, 0, 0, 0]),
        helper.make_node("BatchNormalization", ["a", *["scale"] * 4], ["b"], epsilon=1e-5),
        helper.make_node("PRelu", ["b", "slope"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Gemm", ["d", "matrix"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    data: bytes = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)).SerializeToString()
    return data


def folder_to_clip(rng: random.Random) -> str:
    """Alter one file of a CLIP folder, or put a pickle in place of its weights, and load it."""
    from hifimodel.evaluation.clip import load_clip
    from hifimodel.nets.loading import load_face_encoder

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in clip_folder().iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        path = rng.choice(sorted(folder.iterdir()))
        alter = rng.choice(
            (flip, cut, odd_json) if path.suffix == ".json" else (flip, cut, replaced, pickled, odd_tensors)
        )
        path.write_bytes(alter(path.read_bytes(), rng))
        if path.suffix != ".json" and rng.random() < 0.5:
            path.rename(folder / "pytorch_model.bin")
        if rng.random() < 0.5:
            load_clip(folder)
        else:
            load_face_encoder(tiny_choices().model_copy(update={"image_encoder": str(folder)}))
    return f"{path.name} {alter.__name__}"


@functools.cache
def clip_folder() -> Path:
    """Return a folder with a tiny CLIP tower."""
    from transformers import CLIPVisionModelWithProjection

    from hifimodel.nets.architectures import vision_config

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    CLIPVisionModelWithProjection(vision_config("tiny")).save_pretrained(folder)
    return folder


def tiny_choices() -> Any:
    """Return the model of the tiny preset."""
    from hifimodel.config import load_preset

    return load_preset("tiny").model


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, model=np.array("tddfa_v2"), shape=np.zeros(40, np.float32), pose=np.zeros(6, np.float32))
    return buffer.getvalue()


def fuzz(action: Callable[[random.Random], str], seed: int, rounds: int) -> list[str]:
    """Call an action with many seeds; return the problems."""
    from hifidata.core.errors import UsageError

    problems = []
    for number in range(rounds):
        try:
            action(random.Random(f"{seed} {number}"))
        except UsageError as error:
            if "\n" in str(error) or len(str(error)) > 700:
                problems.append(f"{action.__name__} {number}: not one line: {error!r}")
        except BaseException as error:  # noqa: BLE001  # any other exception is a fault
            problems.append(f"{action.__name__} {number}: {type(error).__name__}: {str(error)[:200]}")
    return problems


ACTIONS: dict[str, Callable[[random.Random], str]] = {
    "samples": samples_to_group, "checkpoint": checkpoint_to_modules, "onnx": onnx_to_embedder, "clip": folder_to_clip,
}  # fmt: skip


def test_damaged_files_are_refused_in_one_line() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))

    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.fuzz.test_fuzz_checkpoints", "0", str(ROUNDS), *ACTIONS],
        cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=MAX_SECONDS, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def main(seed: str, rounds: str, *names: str) -> int:
    """Run actions in this process; print the problems."""
    found = [line for name in names for line in fuzz(ACTIONS[name], int(seed), int(rounds))]
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
