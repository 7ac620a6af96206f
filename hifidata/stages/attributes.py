"""Gender and age for the dataset's statistics.

Source: paper, appendix A. The name determines the gender; if it does not, a model does. A model estimates the age.
"""

from __future__ import annotations

from collections.abc import Sequence

from hifidata.config.recipe import Recipe
from hifidata.core.schema import Column
from hifidata.image.crop import map_points
from hifidata.models import registry
from hifidata.models.attributes.name_gender import NameGender
from hifidata.models.protocols import F32, AttributeEstimator, GenderAge
from hifidata.stages.base import Columns, Sample, Stage, main_face


class Attributes(Stage):
    """Gender from the name, then from the model; age from the model. Null if neither determines a value."""

    name = "attributes"
    title = "Attributes"
    does = "Gender and age are recorded if the name or a model determines them."
    not_run = "Gender and age were not determined: the recipe disables this stage."
    columns = (
        Column("age", "float32", "age estimated by the model", "years"),
        Column("gender", "string", "female, male or null"),
        Column("gender_source", "string", "source of gender: name, or the model's name"),
    )

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        config = recipe.attributes
        self._names = NameGender() if config.gender_from_name else None
        self._model: AttributeEstimator | None = (
            registry.load("attributes", config.model) if config.model is not None else None
        )

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Determine gender, its source, and age."""
        guesses = self._guess(samples)
        named = [self._names.gender_of(s.row["identity_name"]) if self._names else None for s in samples]
        return {
            "gender": [name or (guess and guess.gender) for name, guess in zip(named, guesses, strict=True)],
            "gender_source": [
                "name" if name else (guess and self._model and self._model.name)
                for name, guess in zip(named, guesses, strict=True)
            ],
            "age": [guess and guess.age for guess in guesses],
        }

    def _guess(self, samples: Sequence[Sample]) -> Sequence[GenderAge | None]:
        if self._model is None:
            return [None] * len(samples)
        return self._model.estimate(
            [sample.portrait_u8 for sample in samples],  # the original's pixels are already released
            [self._in_portrait(sample, main_face(sample.row).xyxy_px.reshape(2, 2)).ravel() for sample in samples],
            [self._in_portrait(sample, main_face(sample.row).kps_px) for sample in samples],
        )

    def _in_portrait(self, sample: Sample, points_px: F32) -> F32:
        return map_points(points_px, sample.window, self.recipe.crop.output_px)
