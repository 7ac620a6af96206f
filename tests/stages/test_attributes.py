"""Gender and age: the name precedes the model, and the source is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hifidata.config.recipe import Recipe, resolve
from hifidata.image.decode import Limits
from hifidata.image.encode import encode_jpeg
from hifidata.models import registry
from hifidata.models.protocols import F32, GenderAge, RgbU8
from hifidata.stages.attributes import Attributes
from hifidata.stages.base import Sample


class Estimator:
    """Returns the brightness inside the box as the age. So a wrong box or image gives another age.

    The first two points are the corners of the box.
    """

    name = "genderage"

    def estimate(self, portraits: Sequence[RgbU8], xyxy_px: Sequence[F32], kps_px: Sequence[F32]) -> list[GenderAge]:
        means = []
        for portrait, box, points in zip(portraits, xyxy_px, kps_px, strict=True):
            assert np.allclose(points[:2].ravel(), box)
            x1, y1, x2, y2 = np.rint(box).astype(int) + 1
            means.append(float(portrait[y1 : y2 - 2, x1 : x2 - 2].mean()))
        return [GenderAge("female", mean) for mean in means]


def recipe_with(**attributes: Any) -> Recipe:
    source = {"kind": "folder", "path": "photos"}
    return resolve({"name": "t", "source": source, "crop": {"output_px": 256}, "attributes": attributes}, "t")


def sample(name: str) -> Sample:
    """Make a sample with a crop of 512 px at (100, 50), a portrait of 256 px, and a bright face box."""
    box = {"face_x1_px": 200.0, "face_y1_px": 150.0, "face_x2_px": 400.0, "face_y2_px": 350.0}
    crop = {"crop_x1_px": 100, "crop_y1_px": 50, "crop_x2_px": 612, "crop_y2_px": 562, "crop_shift_px": 0}
    made = Sample(
        {"identity_name": name, "face_kps": [200.0, 150.0, 400.0, 350.0, *[300.0] * 6]} | box | crop,
        lambda: b"",
        Limits(),
        256,
    )
    portrait = np.zeros((256, 256, 3), np.uint8)
    portrait[50:150, 50:150] = 40
    made.portrait_jpeg = encode_jpeg(portrait, 95)
    return made


@pytest.fixture
def fake_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda stage, model: Estimator())


@pytest.mark.usefixtures("fake_estimator")
def test_the_name_precedes_the_model_and_the_source_is_recorded() -> None:
    stage = Attributes(recipe_with(model="genderage"))
    columns = stage.measure([sample("Barack Obama"), sample("Robin Wright")])
    assert columns["gender"] == ["male", "female"]
    assert columns["gender_source"] == ["name", "genderage"]


@pytest.mark.usefixtures("fake_estimator")
def test_the_model_gets_the_portrait_and_the_face_box_in_portrait_pixels() -> None:
    columns = Attributes(recipe_with(model="genderage")).measure([sample("Robin Wright")])
    assert columns["age"][0] == pytest.approx(40, abs=2)


@pytest.mark.usefixtures("fake_estimator")
def test_a_recipe_may_ignore_names() -> None:
    stage = Attributes(recipe_with(gender_from_name=False, model="genderage"))
    assert stage.measure([sample("Barack Obama")])["gender_source"] == ["genderage"]


def test_without_a_model_age_and_unknown_genders_are_null() -> None:
    columns = Attributes(recipe_with()).measure([sample("Barack Obama"), sample("Robin Wright")])
    assert columns == {"gender": ["male", None], "gender_source": ["name", None], "age": [None, None]}


@pytest.mark.parametrize(
    ("settings", "runs"),
    [({}, True), ({"gender_from_name": False}, False), ({"gender_from_name": False, "model": "genderage"}, True)],
)
def test_the_stage_runs_with_names_or_with_a_model(settings: dict[str, Any], runs: bool) -> None:
    assert Attributes.runs(recipe_with(**settings)) is runs
