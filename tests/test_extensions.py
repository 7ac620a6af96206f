"""Stages and models of other packages: all commands support them like the stages and models of hifidata.

``extension_package`` is a small package with a real sharpness model and a simple stage for sunglasses.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import resolve
from hifidata.core import extensions
from hifidata.core.errors import RecipeError, WeightsError
from hifidata.core.schema import Candidate, IdentityTask, Row
from hifidata.models import registry
from hifidata.run.extension_check import check_extensions, synthetic_sample
from hifidata.run.identity_batch import open_batch
from hifidata.run.plan import make_plan, open_source
from hifidata.run.replay import _replay_stage
from hifidata.run.requirements import check_licences, require_weights
from hifidata.run.worker import Worker
from hifidata.stages.base import Sample
from hifidata.stages.table import image_columns, stages_of
from hifidata.weights.catalogue import Weight
from hifidata.weights.find import check
from hifidata.weights.messages import problem_message
from tests.conftest import PROJECT_ROOT, digest
from tests.factories import cli

PACKAGE = PROJECT_ROOT / "tests" / "extension_package"
FAULTS = "tests.factories.extensions"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an environment with the extension package and all packages of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    (site / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n{PROJECT_ROOT}\n")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", python, *install, PACKAGE]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")})
    return python


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    np.save(folder / "tenengrad_scale.npy", np.float32(1500))
    return folder


def recipe_file(folder: Path, photos: Path, **more: Any) -> Path:
    data = {
        "name": "extended", "source": {"kind": "folder", "path": str(photos)},
        "quality": {"model": "face_checks.models:Tenengrad", "options": {"side_px": 96}},
        "stages": [{"after": "occlusion", "use": "sunglasses"}], "sunglasses": {"max_score": 0.4},
        "watermark": {"model": None}, "crop": {"output_px": 256}, "verify": {"min_images": 1, "min_similarity": 0.5, "k": 1},
        "failures": {"max_share": 0.5},
    } | more  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(data))
    return path


def hifidata(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "hifidata", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT_ROOT)


def dataset_of(executor: str, python: Path, weights: Path, photos: Path, folder: Path) -> Path:
    """Make a dataset with the model and the stage of the extension package in two worker groups."""
    groups = [
        {"name": "faces", "stages": ["intake"], "num_cpus": 0.5},
        {"name": "rest", "stages": ["sunglasses"], "num_cpus": 0.5},
    ]
    recipe = recipe_file(folder, photos, groups=groups)
    out = folder / "out"
    options = ["--limit=3", "--weights", weights, "--executor", executor, "--set=executor.workers=1"]
    done = hifidata(python, "run", recipe, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def dataset(python: Path, weights: Path, twelve_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset_of("local", python, weights, twelve_people, tmp_path_factory.mktemp("extended"))


def test_a_run_on_ray_with_extensions_gives_the_bytes_of_a_local_run(
    dataset: Path, python: Path, weights: Path, twelve_people: Path, tmp_path: Path
) -> None:
    assert digest(dataset_of("ray", python, weights, twelve_people, tmp_path)) == digest(dataset)


def test_columns_and_reasons_of_another_package_reach_manifest_and_dataset_json(dataset: Path) -> None:
    rows = pq.read_table(dataset / "manifests" / "images.parquet").to_pylist()
    judged = [row for row in rows if row["sunglasses_score"] is not None]
    assert len(judged) >= 6
    for row in judged:
        assert row["quality_model"] == "tenengrad"
        assert row["tenengrad_gradient"] > 0
        assert (row["reason"] == "sunglasses") == (row["sunglasses_score"] > np.float32(0.4))
    record = json.loads((dataset / "dataset.json").read_bytes())
    model, stage = record["recipe"]["extensions"]["quality.model"], record["recipe"]["extensions"]["stages.sunglasses"]
    assert (model["package"], model["version"]) == (stage["package"], stage["version"]) == ("face-checks", "1.2.0")
    assert re.fullmatch("[0-9a-f]{64}", model["files"]["tenengrad_scale.npy"])
    assert [item.get("title") or item["stage"] for item in record["extensions"]] == ["Sunglasses", "quality"]
    fields = {
        field["@id"]
        for part in json.loads((dataset / "croissant.json").read_bytes())["recordSet"]
        for field in part["field"]
    }
    assert {"images/sunglasses_score", "images/tenengrad_gradient"} <= fields
    stages = [entry["stage"] for entry in record["stages"]]
    assert stages[stages.index("occlusion") + 1] == "sunglasses"


def test_replay_applies_limits_of_extensions_and_the_same_command_has_nothing_to_do(
    dataset: Path, python: Path, weights: Path
) -> None:
    strict = json.loads(hifidata(python, "replay", dataset, "--set", "sunglasses.max_score=0", "--json").stdout)
    assert strict["kept_after"] == 0
    assert set(strict["newly_dropped"].values()) == {"sunglasses"}
    again = ["run", dataset.parent / "recipe.yaml", "--out", dataset, "--limit=3", "--weights", weights]
    assert "Nothing to do" in hifidata(python, *again).stdout
    moved = hifidata(python, *again, "--set", "sunglasses.max_score=0.5")
    assert moved.returncode == 2
    assert "sunglasses.max_score: 0.4 -> 0.5" in moved.stderr


def test_report_and_failures_do_not_need_the_extension_package(dataset: Path, python: Path, weights: Path) -> None:
    strict = dataset.parent / "strict"
    options = ["--limit=1", "--weights", weights, "--set=executor.kind=local", "--set=sunglasses.max_score=0"]
    done = hifidata(python, "run", dataset.parent / "recipe.yaml", "--out", strict, *options)
    assert done.returncode == 0, done.stderr
    assert find_spec("face_checks") is None, "this environment lacks the extension package"
    assert cli.hifidata("report", strict).returncode == 0
    page = (strict / "report" / "index.html").read_text(encoding="utf-8")
    assert "Both eyes are much darker than the cheeks." in page
    assert "sunglasses.max_score" in page
    listed = cli.hifidata("failures", strict, "--dropped", "--reason=sunglasses", "--json").stdout
    assert all(json.loads(line)["reason"] == "sunglasses" for line in listed.splitlines())
    assert listed


def recipe_of(photos: Path, **sections: Any) -> dict[str, Any]:
    source = {"kind": "folder", "path": str(photos)}
    return {"name": "t", "source": source, "watermark": {"model": None}, "executor": {"kind": "local"}} | sections


@pytest.fixture(scope="module")
def one_person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photos = tmp_path_factory.mktemp("photos")
    (photos / "p").mkdir()
    (photos / "p" / "0.jpg").write_bytes(b"no image")
    return photos


def started(photos: Path, **sections: Any) -> None:
    """Run the checks that precede a run."""
    recipe = resolve(recipe_of(photos, **sections), "t")
    make_plan(recipe)
    require_weights(recipe)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("crfiqa", "quality.model: unknown model 'crfiqa'; known: ediffiqa, fqa|iso29794"),
        ("no_such_package.models:X", "quality.model: cannot import no_such_package.models for .*install its package"),
        (f"{FAULTS}:Missing", "has no class 'Missing'; expected package.module:Class"),
        (f"{FAULTS}:OtherMethod", "has no method score; see docs/extending.md"),
        (f"{FAULTS}:TooFewArguments", "score cannot be called with 4 arguments"),
        (f"{FAULTS}:NoLicence", "has no attribute licence"),
        (f"{FAULTS}:FileWithoutHash", "files: x.onnx has no sha256"),
        (f"{FAULTS}:UndeclaredColumn", "fills the column quality_glow, which it does not declare; add it"),
        (f"{FAULTS}:TakenColumn", "the column similarity exists already; start the name"),
        (f"{FAULTS}:UnknownType", "is not a Column with a type of string, binary"),
        ("tenengra", "unknown model 'tenengra'; known: .*, entry points: .*, or package.module:Class"),
        ("iso2979", "unknown model 'iso2979'; known: .*; did you mean iso29794"),
        ("tests.factories.extension:Scorer", "tests.factories has no module 'extension'; did you mean extensions"),
        (f"{FAULTS}:Score", "has no class 'Score'; expected package.module:Class; did you mean Scorer"),
        (f"{FAULTS}:EmptyLicence", "has no attribute licence with a text"),
        (f"{FAULTS}:CommercialText", "commercial: expected one of True, False, None, got 'yes'"),
        (f"{FAULTS}:MalformedHash", "x.onnx: expected a sha256 of 64 lower-case hex digits, got 'abc'"),
        (f"{FAULTS}:OurFileName", "hifidata has a model file yunet; give yours another name"),
        (f"{FAULTS}:UnknownFileName", "weights yunnet: not in the catalogue; did you mean yunet"),
        (f"{FAULTS}:UnknownDefault", "defaults: quality has no setting 'min_scor'; did you mean min_score"),
        (f"{FAULTS}:NoMapping", "NoMapping: score must return a mapping, got float; tried on a synthetic face"),
        (f"{FAULTS}:NoScore", "NoScore: returned no quality_score"),
        (f"{FAULTS}:BrokenScorer", "BrokenScorer: ZeroDivisionError: division by zero; tried on a synthetic face"),
    ],
)
def test_a_model_that_does_not_fit_gives_a_one_line_error_before_any_work(
    one_person: Path, model: str, problem: str
) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        started(one_person, quality={"model": model})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        ({"use": "sunglases"}, "the group hifidata.stages has no entry point 'sunglases'"),
        ({"use": f"{FAULTS}:GlowNotAStage"}, "expected a class derived from hifidata.stages.base.Stage"),
        ({"use": f"{FAULTS}:GlowWithoutTitle"}, "has no attribute title with a text"),
        ({"use": f"{FAULTS}:GlowWithOtherConfig"}, "expected a class with a name and a Config derived from hifidata"),
        ({"use": f"{FAULTS}:GlowNamedLikeOurs"}, "the name quality is taken; rename the stage"),
        ({"use": f"{FAULTS}:GlowWithOtherColumn"}, "fills the column glow, which it does not declare"),
        ({"use": f"{FAULTS}:GlowWithOtherType"}, "glow_score is declared as float32, got 'bright'"),
        ({"use": f"{FAULTS}:GlowWithOtherReason"}, "returns the reason too_bright, which it does not declare"),
        ({"use": f"{FAULTS}:GlowWithTakenReason"}, "hifidata has a reason no_face"),
        ({"use": f"{FAULTS}:GlowWithoutLicence"}, "has no attribute licence with a text"),
        ({"use": f"{FAULTS}:GlowWithOtherReplayable"}, "glow has no setting 'max_scor'; did you mean max_score"),
        (
            {"use": f"{FAULTS}:GlowWithOtherRequired"},
            "required_columns: no column 'glow_scor'; did you mean glow_score",
        ),
        ({"use": f"{FAULTS}:GlowWithOtherSetting"}, "Limit: no setting 'glow.maximum'; did you mean glow.max_score"),
        ({"use": f"{FAULTS}:GlowWithOtherLimitColumn"}, "Limit: no column 'glow_scor'; did you mean glow_score"),
        (
            {"use": f"{FAULTS}:Glow", "after": "oclusion"},
            "^t: stages.after: unknown stage oclusion; did you mean occlu",
        ),
        (
            {"use": f"{FAULTS}:Glow", "after": "brows"},
            "stages.after: unknown stage brows; expected one of: intake, detect",
        ),
    ],
)
def test_a_stage_that_does_not_fit_gives_a_one_line_error_before_any_work(
    one_person: Path, use: dict[str, str], problem: str
) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        started(one_person, stages=[{"after": "occlusion"} | use])
    assert "\n" not in str(caught.value)


def rows_of(stage: str, folder: Path, **sections: Any) -> dict[str, dict[str, Any]]:
    """Run one stage on three synthetic faces, and return their rows by file name."""
    recipe = resolve(recipe_of(folder, **sections), "t")
    check_extensions(recipe)

    def make_sample(task: IdentityTask, candidate: Candidate, row: Row) -> Sample:
        sample = synthetic_sample(recipe, image_columns(recipe))
        measured = {column.name for kind in stages_of(recipe) if kind.name == stage for column in kind.columns}
        sample.row = {name: value for name, value in sample.row.items() if name not in measured} | row
        return sample

    candidates = tuple(Candidate(f"p/{n}.jpg", f"{n}.jpg", "", "") for n in range(3))
    batch = open_batch(IdentityTask("1", "p", "folder", candidates), make_sample)
    rows = Worker(recipe, [stage], open_source(recipe), folder / "out").run(batch).rows
    return {Path(row["source_uri"]).name: row for row in rows}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("SecondRaises", "ZeroDivisionError: division by zero"),
        ("SecondHasOtherReason", "returns the reason zzz, which it does not declare"),
        ("SecondIsNoMapping", "score must return a mapping, got float"),
        ("SecondHasNoScore", "returned no quality_score; return a value for each image, or raise ModelError"),
        ("SecondIsText", "quality_score is declared as float32, got 'low'; correct one of the two"),
        ("SecondIsNan", "quality_score is declared as float32, got nan; correct one of the two"),
        ("SecondIsLarge", "quality_score is declared as 0 to 1, got 17; correct one of the two"),
        ("SecondHasOtherColumn", "fills the column quality_glow, which it does not declare"),
        ("GlowSecondMeasures", "ValueError: no glow"),
        ("GlowSecondIsNoInteger", "glow_level is declared as int32, got 1.5; correct one of the two"),
        ("GlowSecondDerives", "KeyError: True"),
        ("GlowSecondDecides", "KeyError: 'no_such_column'"),
        ("GlowSecondIsNoVerdict", "expected a Verdict or None from decide, got 'dark'"),
        ("GlowSecondHasOtherReason", "returns the reason zzz, which it does not declare"),
        ("GlowOfIdentities", "KeyError: True"),
    ],
)
def test_an_error_of_another_package_on_one_image_costs_that_image(tmp_path: Path, name: str, problem: str) -> None:
    path = f"{FAULTS}:{name}"
    stage = "glow" if name.startswith("Glow") else "quality"
    sections = {"stages": [{"after": "occlusion", "use": path}]} if stage == "glow" else {"quality": {"model": path}}
    rows = rows_of(stage, tmp_path, **sections)
    failed = {image: row for image, row in rows.items() if row["status"] is not None}
    assert set(failed) == (set(rows) if name == "GlowOfIdentities" else {"1.jpg"})
    for row in failed.values():
        assert (row["status"], row["stage"], row["reason"]) == ("failed", stage, "model_error")
        assert row["message"].startswith(f"{path}: ")
        assert problem in row["message"]
        assert "\n" not in row["message"]


@pytest.mark.parametrize(
    ("name", "n_failed"), [("GlowSecondDerives", 1), ("GlowSecondDecides", 1), ("GlowOfIdentities", 2)]
)
def test_a_replay_survives_an_error_of_another_package_on_one_image(tmp_path: Path, name: str, n_failed: int) -> None:
    stages = [{"after": "occlusion", "use": f"{FAULTS}:{name}"}]
    recipe = resolve(recipe_of(tmp_path, stages=stages), "t")
    rows: list[Row] = [{"source_uri": f"p/{n}.jpg", "glow_score": 0.1} for n in range(2)]
    _replay_stage(next(stage for stage in stages_of(recipe) if stage.name == "glow"), rows, recipe)
    assert [row.get("reason") for row in rows].count("model_error") == n_failed


def test_a_file_without_address_and_with_a_wrong_hash_names_the_class_as_remedy(tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"x")
    weight = Weight("x", file.name, "MIT", True, sha256="0" * 64)
    message = problem_message(weight, check(weight, file, None))
    assert message.endswith("replace the file, or correct the sha256 in the class that declares it")


def test_the_page_lists_the_method_of_each_section() -> None:
    page = (PROJECT_ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)\((.*?)\)` \|", page, re.MULTILINE)
    assert {section: (method, len(arguments.split(", "))) for section, method, arguments in rows} == registry.METHODS


def test_settings_of_an_extension_are_validated_by_its_own_class(one_person: Path) -> None:
    stages = [{"after": "occlusion", "use": f"{FAULTS}:Glow"}]
    with pytest.raises(RecipeError, match=r"glow\.max_scor: unknown key; did you mean max_score\?"):
        resolve(recipe_of(one_person, stages=stages, glow={"max_scor": 1}), "t")
    with pytest.raises(RecipeError, match=r"glow: unknown key"):
        resolve(recipe_of(one_person, glow={"max_score": 1}), "t")
    options = {"model": f"{FAULTS}:WithOptions", "options": {"sid_px": 1}}
    with pytest.raises(RecipeError, match=r"quality\.options\.sid_px: unknown key; did you mean side_px\?"):
        resolve(recipe_of(one_person, quality=options), "t")
    with pytest.raises(RecipeError, match=r"quality\.options: model iso29794 has no options; remove them"):
        resolve(recipe_of(one_person, quality={"options": {"side_px": 1}}), "t")


def test_the_licence_policy_applies_to_models_of_other_packages(one_person: Path) -> None:
    free = {"licence_policy": "permissive", "detect": {"model": "dlib_hog"}}
    recipe = resolve(recipe_of(one_person, quality={"model": f"{FAULTS}:NonCommercial"}, **free), "t")
    with pytest.raises(WeightsError, match=r"quality:tests\.factories\.extensions:NonCommercial \(CC-BY-NC-4\.0\)"):
        check_licences(recipe)


@pytest.fixture
def editable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an editable install of a package with one model, and return its ``dist-info``."""
    source, site = tmp_path / "source", tmp_path / "site"
    info = site / "eye_check-0.3.0.dist-info"
    for folder in (source, info):
        folder.mkdir(parents=True)
    (source / "eyecheck.py").write_text("from tests.factories.extensions import Scorer\nclass Eyes(Scorer): pass\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eye-check\nVersion: 0.3.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
    (info / "RECORD").write_text("eye_check.pth,,\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(source))
    return info


def version_in_recipe(photos: Path) -> tuple[str, str, str]:
    registry._extension.cache_clear()
    extensions._distribution_of.cache_clear()
    sys.modules.pop("eyecheck", None)
    importlib.invalidate_caches()
    recipe = resolve(recipe_of(photos, quality={"model": "eyecheck:Eyes"}), "t")
    record = recipe.extensions["quality.model"]
    return record.package, record.version, recipe.hash


def test_another_version_of_an_editable_package_is_another_recipe(editable: Path, tmp_path: Path) -> None:
    *first, old = version_in_recipe(tmp_path)
    (editable / "METADATA").write_text("Metadata-Version: 2.1\nName: eye-check\nVersion: 0.4.0\n")
    *second, new = version_in_recipe(tmp_path)
    assert (first, second) == (["eye-check", "0.3.0"], ["eye-check", "0.4.0"])
    assert old != new


def test_another_source_of_a_module_without_a_package_is_another_recipe(editable: Path, tmp_path: Path) -> None:
    (editable / "direct_url.json").unlink()
    module = tmp_path / "source" / "eyecheck.py"
    package, version, old = version_in_recipe(tmp_path)
    assert (package, version) == ("eyecheck", f"sha256:{hashlib.sha256(module.read_bytes()).hexdigest()}")
    module.write_text(module.read_text() + "# changed\n")
    assert version_in_recipe(tmp_path)[2] != old
