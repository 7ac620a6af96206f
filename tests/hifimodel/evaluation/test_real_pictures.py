"""Real photos through real instruments: the sanity rows come out in the right order, and what is missing is said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from hifidata.core.errors import WeightsError
from hifidata.weights.search_path import searching
from hifimodel.errors import ConfigError, DataError
from hifimodel.evaluate import app
from hifimodel.evaluation.clip import load_clip
from hifimodel.evaluation.evalset import EvalSet, read_evalset
from hifimodel.evaluation.faces import Instruments, InstrumentSettings, load_instruments
from hifimodel.evaluation.fid import load_inception
from hifimodel.evaluation.report import GENERATED, Report, evaluate
from hifimodel.evaluation.sanity import OTHER, PASTED, TARGET
from hifimodel.evaluation.statistics import Bootstrap
from tests.conftest import PROJECT_ROOT

PEOPLE = {
    "obama": [f"face_recognition/{name}" for name in ("examples__obama", "examples__obama2", "knn__test__obama1", "tests__test_images__obama3")],
    "biden": ["face_recognition/examples__biden", "face_recognition/knn__train__biden__biden2"],
    "lacamoire": [f"face_recognition/{name}" for name in ("examples__alex-lacamoire", "knn__test__alex_lacamoire1", "knn__train__alex_lacamoire__img1")],
    "rose": [f"face_recognition/knn__train__rose_leslie__img{number}" for number in (1, 2)],
    "kit": [f"face_recognition/knn__train__kit_harington__john{number}" for number in (1, 2)],
    "scarlett": [f"photomaker/scarletthead_woman/scarlett_{number}" for number in (0, 3)],
    "yangmi": [f"photomaker/yangmi_woman/yangmi_{number}" for number in (1, 2, 4)],
    "stock-a": [f"human-samples/stock-emotions-a-{number}" for number in (1, 3, 4, 8)],
    "stock-b": [f"human-samples/stock-emotions-b-{number}" for number in (2, 1, 7)],
    "vlado": ["human-samples/person-vlado", "human-samples/person-vlado1"],
}  # fmt: skip
"""Photos by person, the target first; names without suffix."""
LONG_SIDE_PX = 640
SETTINGS = InstrumentSettings(("mobilefacenet", "dlib_resnet", "arcface"))
QUICK = Bootstrap(resamples=200, fid_resamples=5)


def write_set(folder: Path, assets: Path, people: Mapping[str, Sequence[str]]) -> EvalSet:
    """An evaluation set of photos, made smaller."""
    stored = []
    for name, files in people.items():
        photos = []
        for number, file in enumerate(files):
            (path,) = (assets / "faces").glob(f"{file}.*")
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX))
            target = folder / f"pictures/{name}/{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            upright.save(target, quality=95)
            photos.append({"file": target.relative_to(folder).as_posix()})
        stored.append({"identity_id": name, "photos": photos})
    facts = {"format_version": 1, "prompts": ["a portrait"], "seeds": [0, 1], "people": stored}
    (folder / "evalset.json").write_text(json.dumps(facts))
    return read_evalset(folder)


@pytest.fixture(scope="module")
def evalset(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    return write_set(tmp_path_factory.mktemp("set"), assets, PEOPLE)


@pytest.fixture(scope="module")
def instruments(assets: Path) -> Instruments:
    with searching(assets / "weights"):
        return load_instruments(SETTINGS)


@pytest.fixture(scope="module")
def pictures(evalset: EvalSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As if generated: of everybody the target mirrored, of obama nothing there, and of biden one without a face."""
    folder = tmp_path_factory.mktemp("pictures")
    for cell in evalset.cells():
        if cell.identity.identity_id != "obama":
            rgb = cv2.imread(str(evalset.folder / cell.identity.target))[:, ::-1]
            faceless = cell.identity.identity_id == "biden" and cell.seed == 1
            path = folder / f"{cell.name}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), np.zeros_like(rgb) if faceless else rgb)
    return folder


@pytest.fixture(scope="module")
def report(evalset: EvalSet, instruments: Instruments, pictures: Path) -> Report:
    return evaluate(evalset, pictures, instruments, QUICK)


def value(report: Report, row: str, column: str) -> float:
    (found,) = (one.values[column] for one in report.rows if one.name == row)
    assert found is not None
    return found.value


def test_sanity_rows_of_real_photos_are_in_the_right_order(report: Report) -> None:
    assert report.in_order
    assert {check.column for check in report.checks} == {
        "Sim_f mobilefacenet", "Sim_f dlib_resnet", "Exp", "Pose", "Copy-paste",
    }  # fmt: skip
    assert len(report.checks) == 8
    for recogniser, gap in (("mobilefacenet", 40), ("dlib_resnet", 10)):
        column = f"Sim_f {recogniser}"
        assert value(report, TARGET, column) > value(report, OTHER, column) + gap
        assert value(report, PASTED, column) > value(report, TARGET, column) + 1
    for column in ("Exp", "Pose", "Copy-paste"):
        assert value(report, TARGET, column) == 0
    assert value(report, PASTED, "Copy-paste") == 100
    assert 30 < value(report, OTHER, "Copy-paste") < 70


def test_a_mirrored_target_is_the_same_person_in_another_pose(report: Report) -> None:
    for recogniser, gap in (("mobilefacenet", 40), ("dlib_resnet", 10)):
        column = f"Sim_f {recogniser}"
        assert value(report, GENERATED, column) > value(report, OTHER, column) + gap
    assert value(report, GENERATED, "Pose") > 5  # hundredths of a radian; most of these heads are turned
    assert 0 < value(report, GENERATED, "Copy-paste") < 100


def test_pictures_that_are_missing_or_faceless_are_counted_and_shown(report: Report) -> None:
    row = report.rows[0]
    assert (row.n_expected, row.n_pictures, row.n_faces) == (20, 18, 17)
    assert "generated: 2 of 20 images are missing, 0 of them failed" in report.notes
    assert "generated: no usable face in 1 of 18 images; these only count in FID" in report.notes
    assert "10 identities: intervals from so few are too narrow" in report.notes
    assert row.values["Exp"].n == 17  # type: ignore[union-attr]


def test_what_has_no_weights_is_said_in_words(report: Report) -> None:
    assert report.missing["CLIP_f"].startswith("no CLIP weights")
    assert report.missing["FID"].startswith("no Inception weights")
    assert "w600k_r50.onnx" in report.missing["Sim_f arcface"]
    assert all(row.values[column] is None for row in report.rows for column in report.missing)
    json.dumps(report.as_json())


def test_without_weights_the_embedded_models_still_measure(evalset: EvalSet, tmp_path: Path) -> None:
    with searching(tmp_path):
        bare = load_instruments(InstrumentSettings())
        points = load_instruments(InstrumentSettings(("dlib_resnet",), face3d="points"))
    assert set(bare.missing) == {"Sim_f arcface", "Exp", "Pose", "CLIP_f", "FID"}
    assert "--face3d points" in bare.missing["Exp"]
    assert set(points.missing) == {"CLIP_f", "FID"}
    few = EvalSet(evalset.folder, evalset.identities[:3], evalset.prompts, evalset.seeds, evalset.digest)
    found = evaluate(few, None, points, QUICK)
    assert found.in_order
    assert value(found, OTHER, "Exp") > 1  # mm
    assert "mm" in found.columns["Exp"]


def test_wrong_order_is_told_and_strict_makes_it_an_error(assets: Path, tmp_path: Path) -> None:
    # A set of mislabelled photos: every reference shows somebody else, and that is the other's target.
    obama, biden = ("face_recognition/examples__obama", "face_recognition/examples__biden")
    obama2, biden2 = ("face_recognition/examples__obama2", "face_recognition/knn__train__biden__biden2")
    mixed = write_set(tmp_path, assets, {"one": [obama, biden2], "two": [biden, obama2]})
    arguments = ["--set", str(mixed.folder), "--recogniser", "dlib_resnet", "--face3d", "points"]
    strict = CliRunner().invoke(app, [*arguments, "--strict"])
    assert strict.exit_code == 1
    assert "sanity: expected Sim_f dlib_resnet: a random other person" in strict.stderr
    assert "checks fail" in strict.stdout
    assert "not measured: no CLIP" in strict.stdout
    relaxed = CliRunner().invoke(app, [*arguments, "--json"])
    assert relaxed.exit_code == 0
    assert json.loads(relaxed.stdout)["in_order"] is False


def test_fid_runs_with_a_made_up_network_of_the_right_form(
    evalset: EvalSet, instruments: Instruments, tmp_path: Path
) -> None:
    # Shows the reading of the file, the pixels' range and the flow into the table; no number of the real Inception.
    torch = pytest.importorskip("torch")

    class Layers(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            assert pixels.shape[1:] == (3, 299, 299)
            return torch.nn.functional.adaptive_avg_pool2d(pixels, (683, 1)).flatten(1)[:, :2048]

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = Layers()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.layers(pixels)

    path = tmp_path / "made_up.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):  # the published file is TorchScript all the same
        torch.jit.script(Network()).save(str(path))
    features = load_inception(path)
    white = features(np.full((40, 60, 3), 255, np.uint8))
    assert white == pytest.approx(np.full(2048, 127 / 128), abs=1e-5)
    few = EvalSet(evalset.folder, evalset.identities[:3], evalset.prompts, evalset.seeds, evalset.digest)
    with_fid = Instruments(instruments.detector, {}, None, None, features)
    found = evaluate(few, None, with_fid, QUICK)
    assert value(found, PASTED, "FID") == pytest.approx(0, abs=1e-6)  # the references against themselves
    assert value(found, OTHER, "FID") > 1
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"--inception .*expected inception-2015-12-05\.pt"):
        load_inception(broken)


def test_clip_features_come_from_a_model_folder_with_a_random_model(tmp_path: Path) -> None:
    # Shows the reading, the resize and the norm; a random tower's similarity says nothing.
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8,
        projection_dim=16,
    )  # fmt: skip
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    features = load_clip(tmp_path / "clip")
    crop = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    assert features(crop).shape == (16,)
    assert np.linalg.norm(features(crop)) == pytest.approx(1)
    assert not np.allclose(features(crop), features(255 - crop))
    with pytest.raises(WeightsError, match="cannot be read as a CLIP model"):
        load_clip(tmp_path)


def test_names_and_folders_that_do_not_exist_are_told_in_one_line(
    evalset: EvalSet, instruments: Instruments, tmp_path: Path
) -> None:
    for settings, message in (
        (InstrumentSettings(detector="x"), "unknown model 'x'; known: .*dlib_hog"),
        (InstrumentSettings(("x",)), "unknown model 'x'; known: .*mobilefacenet"),
        (InstrumentSettings(face3d="x"), "--face3d x: unknown; known: points, tddfa, deca"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_instruments(settings)
    with pytest.raises(WeightsError, match=r"--face3d-weights: .*u_base\.txt"):
        load_instruments(InstrumentSettings(face3d_folder=tmp_path))
    with pytest.raises(DataError, match="contains none of the 20 images of the set"):
        evaluate(evalset, tmp_path, instruments)
    command = [sys.executable, "-m", "hifimodel.evaluate", "--set", str(tmp_path)]
    run = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("error: ")
