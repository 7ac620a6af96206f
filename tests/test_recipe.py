"""The recipe refuses what it does not know, says what was meant, and hashes what matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from hifidata.errors import RecipeError
from hifidata.recipe import Recipe, differences, load_recipe, resolve
from hifidata.stages import STAGES
from tests.conftest import PROJECT_ROOT

MINIMAL = {"name": "t", "source": {"kind": "folder", "path": "photos"}}


@pytest.mark.parametrize("path", sorted((PROJECT_ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_of_the_project_loads(path: Path) -> None:
    assert load_recipe(path).name


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("quality.min_scor=0.6", "quality.min_scor: unknown key; did you mean min_score?"),
        ("qualty.min_score=0.6", "qualty: unknown key; did you mean quality?"),
        ("source.pth=x", "source.pth: unknown key; did you mean path?"),
        ("detect.model=dlib_hogg", "unknown model 'dlib_hogg'; known: dlib_hog, dlib_mmod"),
        ("crop.output_px=10", "crop.output_px: Input should be greater than or equal to 64, got 10"),
        ("quality.min_score=.nan", "quality.min_score"),
        ("quality=0.6", "quality: Input should be a valid dictionary"),
        ("source.kind=ftp", "source"),
        ("min_score", "expected section.key=value"),
        ("name.x=1", "name is a value, not a section"),
    ],
)
def test_a_wrong_override_names_the_key_and_the_remedy(override: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [override])
    assert hint in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "name: [", "\x00"])
def test_what_is_no_recipe_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_a_missing_recipe_says_where_recipes_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="recipes of the project are in pipelines/"):
        load_recipe(tmp_path / "nope.yaml")


def test_thresholds_left_null_become_the_models_own() -> None:
    recipe = resolve(MINIMAL, "t")
    assert recipe.quality.min_score is not None
    assert recipe.verify.min_similarity is not None
    assert recipe.verify.k is not None


def test_the_hash_covers_what_changes_the_output_and_nothing_else() -> None:
    base = resolve(MINIMAL, "t")
    assert resolve(MINIMAL | {"executor": {"kind": "local", "workers": 1}}, "t").hash == base.hash
    assert resolve(MINIMAL | {"failures": {"max_share": 1.0}}, "t").hash == base.hash
    assert resolve(MINIMAL | {"quality": {"min_score": 0.99}}, "t").hash != base.hash
    # A threshold written out is the same recipe as the default it equals.
    assert resolve(MINIMAL | {"quality": {"min_score": base.quality.min_score}}, "t").hash == base.hash


def test_differences_name_each_changed_leaf() -> None:
    old = resolve(MINIMAL, "t").model_dump(mode="json")
    new = resolve(MINIMAL | {"crop": {"output_px": 512}}, "t").model_dump(mode="json")
    assert differences(old, new) == ["crop.output_px: 1024 -> 512"]


def test_groups_must_cover_every_stage_in_order() -> None:
    with pytest.raises(RecipeError, match="groups must list every stage once and in order"):
        resolve(MINIMAL | {"groups": [{"name": "a", "stages": ["intake"]}]}, "t")


def test_a_resolved_recipe_survives_json() -> None:
    recipe = resolve(MINIMAL, "t")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_stage_names_of_recipe_and_program_agree() -> None:
    from hifidata.recipe import STAGE_NAMES

    names = [stage.name for stage in STAGES]
    assert [name for name in STAGE_NAMES if name in names] == names


def test_an_embedder_that_needs_68_landmarks_is_refused_behind_a_detector_without_them() -> None:
    with pytest.raises(RecipeError, match=r"verify\.model: dlib_resnet needs 68 landmarks.*scrfd_2\.5g.*mobilefacenet"):
        resolve(MINIMAL | {"detect": {"model": "scrfd_2.5g"}}, "t")
    recipe = resolve(MINIMAL | {"detect": {"model": "scrfd_2.5g"}, "verify": {"model": "mobilefacenet"}}, "t")
    assert (recipe.verify.k, recipe.verify.min_similarity) == (2, 0.45)
