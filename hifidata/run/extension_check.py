"""Check of stages and models of other packages: each processes one synthetic face before a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from hifidata.config.recipe import Recipe
from hifidata.core.errors import HifiError, RecipeError, SampleError
from hifidata.core.schema import Column, Row, arrow_schema
from hifidata.image.align import TEMPLATE_PX
from hifidata.image.decode import Limits
from hifidata.image.encode import encode_jpeg
from hifidata.models.protocols import RgbU8
from hifidata.models.quality.average_face import average_face_px
from hifidata.stages.base import Columns, Sample, Stage
from hifidata.stages.table import OUR_STAGES, extension_models, image_columns, stages_of

SIDE_PX = 512
NORM_TOLERANCE = 0.01


def check_extensions(recipe: Recipe) -> None:
    """Run each stage of another package, and each stage with a model of another package, on a synthetic face.

    A SampleError is a valid result for a synthetic face.

    Raises:
        RecipeError: a class does not fit or fails, or uses a column or a reason that it does not declare.
        WeightsError: a model file is missing or wrong.
    """
    keys = {section: f"{section}.model" for section, _ in extension_models(recipe)}
    columns = image_columns(recipe)
    reasons = {str(r) for _, spec in extension_models(recipe) for r in spec.reasons}
    for stage in stages_of(recipe):
        key = "stages.use" if stage not in OUR_STAGES else keys.get(stage.section)
        if key and stage.runs(recipe):
            _check_stage(stage, recipe, columns, reasons | {str(r) for r in stage.reasons}, f"{key}: {stage.name}")


def _check_stage(
    stage: type[Stage], recipe: Recipe, columns: tuple[Column, ...], reasons: set[str], where: str
) -> None:
    sample = synthetic_sample(recipe, columns)
    config = stage.config(recipe)
    try:
        _fill(sample.row, stage(recipe).measure([sample]), columns, where)
        _fill(sample.row, stage.derive([sample.row], config), columns, where)
        verdict = stage.decide(sample.row, config)
    except SampleError:
        return
    except HifiError:
        raise
    except Exception as error:  # code of another package may raise anything
        raise RecipeError(
            f"{where}: fails on a synthetic face: {type(error).__name__}: {' '.join(str(error).split())}; see "
            "docs/extending.md"
        ) from error
    if verdict is not None and str(verdict.reason) not in reasons:
        raise RecipeError(
            f"{where}: returns the reason {verdict.reason}, which it does not declare; add it to the class's reasons"
        )
    if stage.name == "embed":
        norm = float(np.linalg.norm(np.asarray(sample.row["embedding"], np.float32)))
        if abs(norm - 1) > NORM_TOLERANCE:
            raise RecipeError(f"{where}: expected embeddings with L2 norm 1, got {norm:.3f}; divide them by their norm")


def _fill(row: Row, measured: Columns, columns: tuple[Column, ...], where: str) -> None:
    """Write measured columns to the row. Raises RecipeError if a column is not declared or has the wrong type."""
    declared = {column.name: column for column in columns}
    for name, values in measured.items():
        if name not in declared:
            raise RecipeError(
                f"{where}: fills the column {name}, which it does not declare; add it to the class's columns"
            )
        if len(values) != 1:
            raise RecipeError(
                f"{where}: expected 1 value of {name} for 1 sample, got {len(values)}; return one per sample"
            )
        row[name] = values[0]
        try:
            pa.array([values[0]], arrow_schema([declared[name]]).field(0).type)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise RecipeError(
                f"{where}: {name} is declared as {declared[name].type}, got {values[0]!r} ({error}); correct one of the two"
            ) from error


def synthetic_sample(recipe: Recipe, columns: tuple[Column, ...]) -> Sample:
    """Return a sample of a synthetic face, with the columns of all earlier stages."""
    kps = TEMPLATE_PX * (SIDE_PX / 112 / 2) + SIDE_PX / 4
    landmarks = average_face_px(kps)
    low, high = landmarks.min(axis=0) - 20, landmarks.max(axis=0) + 20
    plausible: Mapping[str, Any] = {
        "float32": 0.5,
        "int32": 1,
        "int64": 1,
        "bool": False,
        "string": "",
        "list<float32>": [],
    }
    row: Row = {column.name: plausible.get(column.type) for column in columns}
    row |= dict(
        zip(("face_x1_px", "face_y1_px", "face_x2_px", "face_y2_px"), (*low.tolist(), *high.tolist()), strict=True)
    )
    row |= {
        "image_id": "synthetic", "identity_id": "synthetic", "identity_name": "synthetic",
        "face_kps": kps.ravel().tolist(),
        "face_landmarks": landmarks.ravel().tolist(), "width_px": SIDE_PX, "height_px": SIDE_PX,
        "crop_x1_px": 0, "crop_y1_px": 0, "crop_x2_px": SIDE_PX, "crop_y2_px": SIDE_PX, "crop_shift_px": 0,
        "phash": "0" * 16, "listed_face": None, "status": None, "stage": None, "reason": None, "duplicate_of": None,
    }  # fmt: skip
    jpeg = encode_jpeg(_draw_face(kps, low, high), 95)
    return Sample(row, lambda: jpeg, Limits(), recipe.crop.output_px, recipe.output.jpeg_quality)


def _draw_face(kps: np.ndarray[Any, np.dtype[np.float32]], low: Any, high: Any) -> RgbU8:
    """Draw an ellipse with eyes, nose and mouth on a textured background: (SIDE_PX, SIDE_PX, 3) uint8."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    picture = np.stack([90 + 60 * np.sin(x / 23), 100 + 50 * np.sin(y / 31), 120 + 40 * np.sin((x + y) / 17)], axis=-1)
    centre, radii = (low + high) / 2, (high - low) / 2
    picture[((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1] = (215, 170, 145)
    for point, radius, colour in zip(
        kps, (14, 14, 9, 12, 12), ((40, 30, 30),) * 2 + ((185, 130, 110),) * 3, strict=True
    ):
        picture[(x - point[0]) ** 2 + (y - point[1]) ** 2 <= radius**2] = colour
    return np.asarray(picture, np.uint8)
