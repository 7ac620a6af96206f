"""The recipe refuses unknown keys, suggests the nearest key, and hashes only settings with an effect."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hifidata.config.recipe import ADDED_KEYS, Recipe, changes, differences, load_recipe, resolve
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import RecipeError
from hifidata.models import registry
from hifidata.stages.table import OUR_STAGES, REASONS
from tests.conftest import PROJECT_ROOT

MINIMAL = {"name": "t", "source": {"kind": "folder", "path": "photos"}}


@pytest.mark.parametrize("path", sorted((PROJECT_ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.name)
def test_every_bundled_recipe_loads(path: Path) -> None:
    assert load_recipe(path).name


@pytest.mark.parametrize("path", sorted((PROJECT_ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.name)
def test_every_bundled_recipe_can_be_planned(path: Path, tmp_path: Path) -> None:
    from hifidata.run.executors.ray import pool_sizes
    from hifidata.run.plan import make_plan

    photo = tmp_path / "photos" / "Ann Example" / "1.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"a photo")
    lists = {
        "url_table": "person,url,sha256\nAnn Example,https://example.org/1.jpg,\n",
        "imdb_face": "name,index,image,rect,height width,url\nAnn_Example,nm01,rm1,1 1 50 50,90 90,https://example.org/1.jpg\n",
        "names": "Ann Example\n",
    }
    kind = load_recipe(path).source.kind
    (tmp_path / "list.csv").write_text(lists.get(kind, ""))
    key = "names" if kind == "names" else "path"
    source = tmp_path / ("list.csv" if kind in lists else "photos")
    recipe = load_recipe(path, [f"source.{key}={source}", "fetch.contact=me@example.org"])
    planned = make_plan(recipe).as_dict()
    assert planned["identities"] == 1
    assert {row["stage"] for row in planned["stages"] if row["runs"]} >= {"intake", "detect", "crop", "caption"}
    sizes = pool_sizes(recipe, 1, {"CPU": 8, "GPU": 1})  # one GPU is enough
    assert len(sizes) == len(recipe.worker_groups)
    assert pool_sizes(load_recipe(path, ["executor.use_gpus=false"]), 1, {"CPU": 8}) == sizes


@pytest.mark.parametrize(
    ("text", "key"),
    [("name: a\nname: b\n", "name"), ("name: a\nquality: {min_score: 0.4}\ncrop: {}\nquality: {}\n", "quality"),
     ("name: a\nquality: {min_score: 0.4, min_score: 0.5}\n", "min_score")],
)  # fmt: skip
def test_a_repeated_key_is_refused(tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"cannot be read as YAML: key {key} is repeated .* line \d"):
        load_recipe(tmp_path / "twice.yaml")


def test_the_papers_recipe_has_the_papers_values() -> None:
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "paper.yaml")
    assert recipe.detect.other_face_min_area_ratio == 0.0
    assert (recipe.crop.min_face_share, recipe.crop.min_side_px, recipe.crop.output_px) == (0.10, 256, 1024)
    assert (recipe.quality.model, recipe.quality.min_score) == ("modelscope_fqa", 0.45)
    assert (recipe.verify.model, recipe.verify.min_similarity, recipe.verify.min_images) == ("arcface", 0.7, 5)
    assert {"hand", "microphone"} <= set(recipe.occlusion.terms)
    assert (recipe.watermark.model, recipe.occlusion.model, recipe.restore.model) == ("paddleocr", "blip2", "gfpgan")
    assert recipe.caption.prompt_text.startswith("Dear Yi-Vision, please describe this portrait in detail")
    by_stage = {stage: group for group in recipe.groups for stage in group.stages}
    assert by_stage["watermark"].runtime_env["pip"]["packages"][0].startswith("paddleocr")
    yi = load_recipe(PROJECT_ROOT / "pipelines" / "paper.yaml", ["caption.server=yi_vision"])
    assert (yi.caption.server.model, yi.caption.server.key_env) == ("yi-vision", "YI_API_KEY")


def test_every_onnx_stage_of_the_papers_recipe_has_a_share_of_one_gpu_for_all_groups() -> None:
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "paper.yaml")
    share_of = {stage: group.num_gpus for group in recipe.worker_groups for stage in group.stages}
    for stage in ("detect", "quality", "embed", "restore", "face3d", "attributes"):
        assert 0 < share_of[stage] < share_of["occlusion"]
    assert sum(group.num_gpus for group in recipe.worker_groups) <= 1


def test_the_papers_recipe_fits_a_machine_of_four_cpus_and_one_gpu() -> None:
    from hifidata.run.executors.ray import pool_sizes

    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "paper.yaml")
    assert pool_sizes(recipe, 100, {"CPU": 4, "GPU": 1}) == [1] * len(recipe.worker_groups)
    large = dict(
        zip((group.name for group in recipe.worker_groups), pool_sizes(recipe, 100, {"CPU": 64, "GPU": 4}), strict=True)
    )
    assert large["faces"] == large["blip2"] == 4
    assert large["captions"] == 4


def test_a_second_restoration_of_vggface2_hq_is_refused() -> None:
    with pytest.raises(RecipeError, match="already_restored"):
        load_recipe(PROJECT_ROOT / "pipelines" / "vggface2_hq.yaml", ["restore.model=gfpgan"])


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("quality.min_scor=0.6", "quality.min_scor: unknown key; did you mean min_score?"),
        ("qualty.min_score=0.6", "qualty: unknown key; did you mean quality?"),
        ("source.pth=x", "source.pth: unknown key; did you mean path?"),
        ("detect.model=dlib_hogg", "unknown model 'dlib_hogg'; known: dlib_hog, dlib_mmod"),
        ("crop.output_px=10", "crop.output_px: Input should be greater than or equal to 64, got 10"),
        ("quality.min_score=.nan", "quality.min_score"),
        ("quality.min_score=true", "quality.min_score: expected a number, got true"),
        ("source={kind: names, pause_s: {openverse: no}}", "source.pause_s: expected a number"),
        ("fetch.max_retry_after_s=yes", "fetch.max_retry_after_s: expected a number, got true"),
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
def test_a_malformed_recipe_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_the_error_for_a_missing_recipe_names_the_command_that_lists_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file; `hifidata recipes list` lists the bundled recipes"):
        load_recipe(tmp_path / "nope.yaml")


def test_null_thresholds_become_the_defaults_of_the_model() -> None:
    recipe = resolve(MINIMAL, "t")
    assert recipe.quality.min_score is not None
    assert recipe.verify.min_similarity is not None
    assert recipe.verify.k is not None


@pytest.mark.parametrize("model", ["retinaface", "scrfd_2.5g", "scrfd_500m", "retinaface_mnet", "yunet"])
def test_a_detection_threshold_above_every_possible_score_is_refused(model: str) -> None:
    def detect(model: str, min_score: float) -> Recipe:
        points = {"landmarks": {"model": None}, "verify": {"model": "mobilefacenet"}}
        return resolve(MINIMAL | points | {"detect": {"model": model, "min_score": min_score}}, "t")

    with pytest.raises(
        RecipeError, match=rf"detect\.min_score: .*got 5, but the highest score of {model} is 1, .*; set"
    ):
        detect(model, 5)
    assert detect(model, 0.9).detect.min_score == 0.9
    for own_scale in (-0.2, 5):
        assert detect("dlib_hog", own_scale).detect.min_score == own_scale


def test_every_model_with_a_threshold_states_its_origin() -> None:
    limited = {limit.setting.partition(".")[0] for reason in REASONS.values() if (limit := reason.limit)}
    for stage in (limited | {"restore"}) & registry.BY_STAGE.keys():  # restore drops no image for its threshold
        for name, spec in registry.BY_STAGE[stage].items():
            assert spec.thresholds_from, name


def test_the_hash_covers_only_settings_that_affect_the_output() -> None:
    base = resolve(MINIMAL, "t")
    assert resolve(MINIMAL | {"executor": {"kind": "local", "workers": 1}}, "t").hash == base.hash
    assert resolve(MINIMAL | {"failures": {"max_share": 1.0}}, "t").hash == base.hash
    assert resolve(MINIMAL | {"quality": {"min_score": 0.99}}, "t").hash != base.hash
    # An explicit threshold that equals the default gives the same recipe.
    assert resolve(MINIMAL | {"quality": {"min_score": base.quality.min_score}}, "t").hash == base.hash


def test_differences_name_each_changed_key() -> None:
    old = resolve(MINIMAL, "t").model_dump(mode="json")
    new = resolve(MINIMAL | {"crop": {"output_px": 512}}, "t").model_dump(mode="json")
    assert differences(old, new) == ["crop.output_px: 1024 -> 512"]


def test_values_of_further_request_keys_are_not_published() -> None:
    old, new = (
        load_recipe(
            PROJECT_ROOT / "pipelines" / "folder.yaml",
            [f"caption.server.extra={{token: {secret}, n: {{a: {secret}}}}}"],
        )
        for secret in ("one-secret", "two-secret")
    )
    assert "secret" not in json.dumps(new.published)
    assert resolve(new.published, "x").caption.server.extra.keys() == {"token", "n"}
    assert changes(old.model_dump(mode="json"), new) == [
        "caption.server.extra.n.a: changed", "caption.server.extra.token: changed",
    ]  # fmt: skip


def test_a_stage_that_no_group_lists_joins_the_group_of_the_stage_before_it() -> None:
    groups = [{"name": "a", "stages": ["detect"]}, {"name": "b", "stages": ["watermark", "verify"]}]
    faces, rest = resolve(MINIMAL | {"groups": groups}, "t").worker_groups
    assert faces.stages == ("intake", "detect", "crop", "quality")
    assert rest.stages == STAGE_NAMES[4:]


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        (["verify", "detect"], "got verify, detect"),
        (["detect", "detect"], "got detect, detect"),
        (["sunglases"], "unknown: sunglases"),
        ([], "groups.0.stages: Tuple should have at least 1 item"),
    ],
)
def test_groups_list_known_stages_once_and_in_order(stages: list[str], problem: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(problem)):
        resolve(MINIMAL | {"groups": [{"name": "a", "stages": stages}]}, "t")


def test_a_resolved_recipe_survives_json() -> None:
    recipe = resolve(MINIMAL, "t")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_stage_names_of_recipe_and_stage_table_agree() -> None:
    assert [stage.name for stage in OUR_STAGES] == list(STAGE_NAMES)


def test_an_embedder_that_needs_68_landmarks_is_refused_with_a_detector_without_landmarks() -> None:
    with pytest.raises(RecipeError, match=r"verify\.model: dlib_resnet needs 68 landmarks.*scrfd_2\.5g.*mobilefacenet"):
        resolve(MINIMAL | {"detect": {"model": "scrfd_2.5g"}}, "t")
    five_points = {"detect": {"model": "scrfd_2.5g"}, "landmarks": {"model": None}}
    recipe = resolve(MINIMAL | five_points | {"verify": {"model": "mobilefacenet"}}, "t")
    assert (recipe.verify.k, recipe.verify.min_similarity) == (2, 0.35)


def test_landmarks_of_a_detector_without_landmarks_are_refused_unless_the_recipe_disables_them() -> None:
    five_points = MINIMAL | {"detect": {"model": "yunet"}, "verify": {"model": "mobilefacenet"}}
    with pytest.raises(RecipeError) as caught:
        resolve(five_points, "t")
    for remedy in ("landmarks.model to face3d and face3d.model to one of tddfa, mesh", "landmarks.model to null"):
        assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    assert resolve(five_points | {"landmarks": {"model": None}}, "t").landmarks.model is None
    resolve(five_points | {"landmarks": {"model": "face3d"}, "face3d": {"model": "mesh"}}, "t")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("folder", "38186a882f391ca6"), ("paper-cpu-small", "7838a8a79714acfd"), ("paper", "401fb4ccf253c015")],
)
def test_a_recipe_of_version_0_1_keeps_its_hash(name: str, expected: str) -> None:
    """The hash of a recipe from before ``verify.method``; a key with the value "as before" is not in it."""
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / f"{name}.yaml", ["verify.method=paper"])
    assert recipe.hash[:16] == expected
    recorded = recipe.model_dump(mode="json")
    for key in ADDED_KEYS:
        section, _, leaf = key.partition(".")
        recorded[section].pop(leaf, None)
    assert changes(recorded, recipe) == []
    other = load_recipe(
        PROJECT_ROOT / "pipelines" / f"{name}.yaml", ["verify.method=density", "verify.min_similarity=null"]
    )
    assert other.hash != recipe.hash
