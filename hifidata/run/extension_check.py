"""Check of stages and models of other packages: each processes one synthetic face before a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hifidata.config.recipe import Recipe
from hifidata.core.errors import ExtensionError, HifiError, RecipeError, SampleError
from hifidata.core.schema import Column, Row
from hifidata.image.align import TEMPLATE_PX
from hifidata.image.decode import Limits
from hifidata.image.encode import encode_jpeg
from hifidata.models.protocols import RgbU8
from hifidata.models.quality.average_face import average_face_px
from hifidata.models.spec import stage_spec
from hifidata.run.extension_guard import guarded
from hifidata.stages.base import Sample, Stage
from hifidata.stages.table import OUR_STAGES, extension_models, image_columns, stages_of

SIDE_PX = 512


def check_extensions(recipe: Recipe) -> None:
    """Run each stage of another package, and each stage with a model of another package, on a synthetic face.

    A SampleError of the code itself is a valid result for a synthetic face.

    Raises:
        RecipeError: a class does not fit or fails, or uses a column or a reason that it does not declare.
        WeightsError: a model file is missing or wrong.
    """
    models = {section: spec.path for section, spec in extension_models(recipe)}
    columns = image_columns(recipe)
    for stage in stages_of(recipe):
        if stage.runs(recipe) and (stage not in OUR_STAGES or stage.section in models):
            key = "stages.use" if stage not in OUR_STAGES else f"{stage.section}.model"
            try:
                _try_stage(guarded(stage, recipe), synthetic_sample(recipe, columns), recipe)
            except ExtensionError as error:
                raise RecipeError(f"{key}: {error}; tried on a synthetic face, see docs/extending.md") from error
            except SampleError:
                continue
            except HifiError:
                raise
            except Exception as error:  # the constructor of another package may raise anything
                path = models.get(stage.section, stage_spec(stage).path)
                problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise RecipeError(
                    f"{key}: {path}: {problem}; tried on a synthetic face, see docs/extending.md"
                ) from error


def _try_stage(stage: type[Stage], sample: Sample, recipe: Recipe) -> None:
    config = stage.config(recipe)
    for column in stage.columns:  # an image has no column of a stage before the stage measures it
        sample.row.pop(column.name, None)
    sample.row |= {name: values[0] for name, values in stage(recipe).measure([sample]).items()}
    sample.row |= {name: values[0] for name, values in stage.derive([sample.row], config).items()}
    stage.decide(sample.row, config)


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
        "phash": "0" * 16, "embedding": [1.0], "listed_face": None, "status": None, "stage": None, "reason": None, "duplicate_of": None,
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
