"""Gender and age for the dataset's statistics. Paper, appendix A: gender from the name first; age from a model."""

from __future__ import annotations

from collections.abc import Sequence

from hifidata.backends.name_gender import NameGender
from hifidata.recipe import Recipe
from hifidata.stages.base import Columns, Sample, Stage


class Attributes(Stage):
    """Gender from the first name where the recipe allows it. Age has no embedded model and stays null."""

    name = "attributes"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._names = NameGender()

    @classmethod
    def runs(cls, recipe: Recipe) -> bool:
        """Where the recipe allows guessing from names."""
        return recipe.attributes.gender_from_name

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """``gender`` and where it came from; null where the name does not tell."""
        genders = [self._names.gender_of(sample.row["identity_name"]) for sample in samples]
        return {"gender": genders, "gender_source": ["name" if gender else None for gender in genders]}
