"""Makes the picture of every cell of an evaluation set; the same command again goes on where it stopped."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hifidata.core.errors import HifiError
from hifidata.core.files import write_bytes
from hifimodel.errors import ConditionError, ConfigError, DataError
from hifimodel.evaluation.evalset import FAILED, Cell, EvalSet

RUN_FILE = "run.json"
MAX_FAILURES_IN_A_ROW = 10
CELL_ERRORS = (HifiError, ValueError, RuntimeError, OSError)
"""What one cell's inputs, or a GPU's memory, can bring about. Anything else is a bug."""


@dataclass(frozen=True)
class Request:
    """What a generator gets.

    Attributes:
        references: files of the references' photos.
        target: file of the photo whose expression and pose are wanted.
        seed: of the noise.
    """

    references: tuple[Path, ...]
    target: Path
    prompt: str
    seed: int


Generate = Callable[[Request], NDArray[np.uint8]]
"""Makes one picture, (H, W, 3) uint8. An attribute ``digest``, if it has one, tells its weights from others of the same name."""


@dataclass
class RunCounts:
    """Cells made now, made before, and failed."""

    made: int = 0
    skipped: int = 0
    failed: int = 0


def load_generator(name: str, model: str, options: Sequence[str] = ()) -> Generate:
    """The generator that ``module:function`` makes.

    Args:
        name: the function; ours is ``hifimodel.evaluation.generator:load``.
        model: name or folder of the model, for the function.
        options: more words from the command line, for the function.

    Raises:
        ConfigError: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--generator {name}: cannot be imported ({error}); expected module:function, which takes --model and a list of "
            "options, and returns a function from a hifimodel.evaluation.runner.Request to a picture"
        ) from error
    generate: Generate = make(model, options)
    return generate


def run_cells(
    evalset: EvalSet, generate: Generate, model: str, out: Path, update: Callable[[RunCounts], None] | None = None
) -> RunCounts:
    """Generates what is not there yet.

    Every picture appears whole or not at all. A cell that fails leaves ``<cell>.failed.json`` with the reason, and is tried
    again by the next run.

    Args:
        evalset: the set.
        generate: makes one picture.
        model: what the pictures are made with; one folder holds those of one model and one set.
        out: folder for the pictures.
        update: told after every cell.

    Raises:
        DataError: the folder holds pictures of another set or model, or of other weights under the same name.
        HifiError: many cells in a row failed.
    """
    weights = getattr(generate, "digest", None)
    _claim(out / RUN_FILE, {"set": evalset.digest, "model": model} | ({"weights": weights} if weights else {}))
    counts, in_a_row = RunCounts(), 0
    for cell in evalset.cells():
        if cell.find(out):
            counts.skipped += 1
        else:
            problem = _make(cell, evalset.folder, generate, out)
            counts.made, counts.failed = counts.made + (not problem), counts.failed + bool(problem)
            in_a_row = in_a_row + 1 if problem else 0
            if in_a_row == MAX_FAILURES_IN_A_ROW:
                raise HifiError(
                    f"generation: {in_a_row} cells in a row failed, the last ({cell.name}) with {problem}; mend that and run "
                    "the same command again"
                )
        if update:
            update(counts)
    return counts


def _make(cell: Cell, folder: Path, generate: Generate, out: Path) -> str:
    """Makes one picture; returns what went wrong, "" where nothing did."""
    references = tuple(folder / name for name in cell.person.references)
    record = out / FAILED.replace("*", cell.name)
    try:
        rgb_u8 = generate(Request(references, folder / cell.person.target, cell.prompt, cell.seed))
    except CELL_ERRORS as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        write_bytes(record, json.dumps({"cell": cell.name, "error": problem}).encode())
        return problem
    rgb_u8 = np.asarray(rgb_u8)
    if rgb_u8.dtype != np.uint8 or rgb_u8.ndim != 3 or rgb_u8.shape[2] != 3:
        raise ConditionError(f"generator: got {rgb_u8.dtype} of shape {rgb_u8.shape}, expected uint8 (H, W, 3)")
    png = io.BytesIO()
    Image.fromarray(rgb_u8).save(png, "PNG")
    write_bytes(out / f"{cell.name}.png", png.getvalue())
    record.unlink(missing_ok=True)
    return ""


def _claim(path: Path, run: dict[str, str]) -> None:
    """Notes whose pictures these are. Raises DataError where they are another's."""
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        write_bytes(path, json.dumps(run, indent=1).encode())
        return
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({error}); give another --out, or remove that folder") from error
    if before != run:
        changed = [
            "model's weights" if name == "weights" else name
            for name in run
            if not isinstance(before, dict) or before.get(name) != run[name]
        ]
        raise DataError(
            f"{path}: these pictures are of another {' and '.join(changed) or 'run'}; give another --out, or remove that folder"
        )
