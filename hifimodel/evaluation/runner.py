"""Generates the image of every cell of an evaluation set; the same command resumes."""

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
from hifimodel.errors import ConditionError, ConfigError, DataError, one_line
from hifimodel.evaluation.evalset import FAILED, Cell, EvalSet

RUN_FILE = "run.json"
MAX_FAILURES_IN_A_ROW = 10
CELL_ERRORS = (HifiError, ValueError, RuntimeError, OSError)
"""Errors from the inputs of a cell or the memory of a GPU. Any other exception is a bug."""


@dataclass(frozen=True)
class Request:
    """The input of a generator.

    Attributes:
        references: files of the reference photos.
        target: file of the photo that gives expression and pose.
        seed: of the noise.
    """

    references: tuple[Path, ...]
    target: Path
    prompt: str
    seed: int


Generate = Callable[[Request], NDArray[np.uint8]]
"""Generates an image (H, W, 3) uint8. An optional attribute ``digest`` identifies its weights."""


@dataclass
class RunCounts:
    """Numbers of cells that were generated, that existed, and that failed."""

    made: int = 0
    skipped: int = 0
    failed: int = 0


def load_generator(name: str, model: str, options: Sequence[str] = ()) -> Generate:
    """Load a generator with ``module:function``.

    Args:
        name: the function; the default is ``hifimodel.evaluation.generator:load``.
        model: name or folder of the model, for the function.
        options: further command-line arguments, for the function.

    Raises:
        ConfigError: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--generator {name}: cannot be imported ({error}); expected module:function, which takes --model and a list of "
            "options, and returns a function from a hifimodel.evaluation.runner.Request to an image"
        ) from error
    generate: Generate = make(model, options)
    return generate


def run_cells(
    evalset: EvalSet, generate: Generate, model: str, out: Path, update: Callable[[RunCounts], None] | None = None
) -> RunCounts:
    """Generate the missing images.

    Images are written atomically. A failed cell leaves ``<cell>.failed.json`` with the reason, and the next run retries it.

    Args:
        evalset: the set.
        generate: generates an image.
        model: description of the generator; a folder belongs to one model and one set.
        out: folder for the images.
        update: called after every cell.

    Raises:
        DataError: the folder contains images of another set, model, or weights of the same name.
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
                    f"generation: {in_a_row} cells in a row failed, the last ({cell.name}) with {problem}; fix that and run "
                    "the same command to resume"
                )
        if update:
            update(counts)
    return counts


def _make(cell: Cell, folder: Path, generate: Generate, out: Path) -> str:
    """Generate an image; returns the problem, "" for success."""
    references = tuple(folder / name for name in cell.identity.references)
    record = out / FAILED.replace("*", cell.name)
    try:
        rgb_u8 = generate(Request(references, folder / cell.identity.target, cell.prompt, cell.seed))
    except CELL_ERRORS as error:
        problem = f"{type(error).__name__}: {one_line(error, 2000)}"
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
    """Record set, model and weights of the folder. Raises DataError if the folder belongs to others."""
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        write_bytes(path, json.dumps(run, indent=1).encode())
        return
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({error}); choose another --out, or remove that folder") from error
    if before != run:
        changed = [
            "model's weights" if name == "weights" else name
            for name in run
            if not isinstance(before, dict) or before.get(name) != run[name]
        ]
        raise DataError(
            f"{path}: these images are of another {' and '.join(changed) or 'run'}; choose another --out, or remove that folder"
        )
