"""The command line, on real photos and a tiny model with random weights: pictures of the right size, repeatable; clear errors."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from hifidata.models import registry  # noqa: E402
from hifimodel.config import load_preset  # noqa: E402
from hifimodel.errors import CheckpointError  # noqa: E402
from hifimodel.faces.photo import read_photo  # noqa: E402
from hifimodel.faces.recogniser import load_identity_embedder  # noqa: E402
from hifimodel.generate import main  # noqa: E402
from hifimodel.landmarks import draw  # noqa: E402
from hifimodel.nets.loading import build_modules, save_trained  # noqa: E402
from tests.conftest import PROJECT_ROOT  # noqa: E402
from tests.factories.portraits import speaking  # noqa: E402

if TYPE_CHECKING:
    from hifidata.models.detect.dlib import DlibDetector

IMAGE_PX = 128


@pytest.fixture(autouse=True, scope="module")
def face_models_loaded_once() -> Iterator[None]:
    """The real ones; loading them anew for each of forty commands would be most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "load", functools.cache(registry.load))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run's folder: the tiny preset as `hifimodel.train` adapts it to shards with dlib's embeddings."""
    folder = tmp_path_factory.mktemp("run")
    model = load_preset("tiny", ["model.embedder=dlib_resnet", "model.embedder_dim=128"]).model
    save_trained(speaking(build_modules(model)), folder / "model")
    return folder


@pytest.fixture(scope="module")
def person(assets: Path) -> list[Path]:
    return sorted((assets / "faces" / "photomaker" / "scarletthead_woman").glob("*.jpg"))


@pytest.fixture(scope="module")
def target(assets: Path) -> Path:
    return assets / "faces" / "face_recognition" / "examples__biden.jpg"


def asked(run: Path, out: Path, *more: object) -> list[str]:
    fixed = [
        "--model",
        run,
        "--prompt",
        "a portrait",
        "--out",
        out,
        "--steps",
        2,
        "--no-safety-check",
        "--device",
        "cpu",
    ]
    return [str(word) for word in (*fixed, *more)]


def generated(run: Path, out: Path, *more: object) -> np.ndarray:
    assert main(asked(run, out, *more)) == 0
    return np.asarray(Image.open(out))


def test_three_photos_and_a_target_make_a_portrait_that_only_the_seed_changes(
    run: Path, person: list[Path], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = ["--reference", *person[:3], "--target", target]
    first = generated(run, tmp_path / "a.png", *photos)
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.png")
    assert first.shape == (IMAGE_PX, IMAGE_PX, 3)
    assert np.array_equal(first, generated(run, tmp_path / "b.png", *photos, "--seed", 0))
    assert not np.array_equal(first, generated(run, tmp_path / "c.png", *photos, "--seed", 1))


def test_several_portraits_are_numbered_and_the_first_is_the_single_one(
    run: Path, person: list[Path], target: Path, tmp_path: Path
) -> None:
    photos = ["--reference", person[0], "--target", target, "--size", 64]
    single = generated(run, tmp_path / "single.png", *photos)
    assert main(asked(run, tmp_path / "out.png", *photos, "--num", 2)) == 0
    two = [np.asarray(Image.open(tmp_path / f"out-{number}.png")) for number in (1, 2)]
    assert np.abs(two[0].astype(int) - single).max() <= 1
    assert not np.array_equal(two[0], two[1])


def test_the_landmark_picture_shows_the_targets_face_where_a_square_portrait_has_it(
    run: Path, target: Path, tmp_path: Path
) -> None:
    from hifidata.models.detect.dlib import DlibDetector

    square = tmp_path / "square.png"
    photo = read_photo(target)
    side = min(photo.shape[:2])
    Image.fromarray(photo[:side, :side]).resize((512, 512)).save(square)
    lines = tmp_path / "lines.png"
    # Without references the shape is the target's own, so the picture must be the target's landmarks.
    generated(run, tmp_path / "a.png", "--no-references", "--target", square, "--landmarks-out", lines)
    drawn = np.asarray(Image.open(lines))
    assert drawn.shape == (IMAGE_PX, IMAGE_PX, 3)
    found = own_landmarks(DlibDetector(), square)
    expected = draw(((found + 0.5) * IMAGE_PX / 512 - 0.5).astype(np.float32), IMAGE_PX)
    assert np.abs(drawn.astype(int) - expected).mean() < 0.5
    assert drawn.any()


def own_landmarks(detector: DlibDetector, path: Path) -> np.ndarray:
    faces = detector.detect([read_photo(path)])[0]
    assert faces.landmarks_px is not None
    return faces.landmarks_px[0]


def test_a_photo_that_is_no_square_is_framed_like_a_training_picture(assets: Path, target: Path) -> None:
    from hifidata.models.detect.dlib import DlibDetector
    from hifimodel.faces.photo import prepare_target
    from hifimodel.inference.conditions import CENTRE_UP, SIDE_OVER_FACE, portrait_window

    face = prepare_target(target.name, read_photo(target), DlibDetector())
    assert face.rgb_u8.shape[0] != face.rgb_u8.shape[1]
    corner, scale = portrait_window(face, 1024)
    box = (face.xyxy_px.reshape(2, 2) - corner) * scale
    side = (box[1] - box[0]).max()
    assert side == pytest.approx(1024 / SIDE_OVER_FACE, rel=1e-4)
    centre = box.mean(axis=0)
    assert centre[0] == pytest.approx(512, abs=0.5)
    assert centre[1] == pytest.approx(512 + CENTRE_UP * side, abs=0.5)


def test_the_frame_of_generated_portraits_is_the_recipes_default() -> None:
    from hifidata.config.sections import CropConfig
    from hifimodel.inference.conditions import CENTRE_UP, SIDE_OVER_FACE

    assert (CropConfig().side_over_face, CropConfig().centre_up) == (SIDE_OVER_FACE, CENTRE_UP)


@pytest.mark.parametrize("mode", [["--no-landmarks"], ["--no-references"], ["--no-landmarks", "--no-references"]])
def test_modes_without_landmarks_or_references_make_other_portraits(
    run: Path, person: list[Path], target: Path, tmp_path: Path, mode: list[str]
) -> None:
    photos: list[object] = ["--size", 64, *mode]
    photos += [] if "--no-references" in mode else ["--reference", person[0]]
    photos += [] if "--no-landmarks" in mode else ["--target", target]
    both = generated(run, tmp_path / "both.png", "--reference", person[0], "--target", target, "--size", 64)
    assert not np.array_equal(both, generated(run, tmp_path / "mode.png", *photos))


def test_tddfa_landmarks_work_with_its_files(
    run: Path, person: list[Path], target: Path, assets: Path, tmp_path: Path
) -> None:
    weights = assets / "weights" / "3ddfa"
    if not weights.is_dir():
        pytest.skip(f"no 3DDFA files at {weights}")
    photos = ["--reference", *person[:2], "--target", target, "--size", 64]
    lines = [tmp_path / "points.png", tmp_path / "tddfa.png"]
    generated(run, tmp_path / "a.png", *photos, "--landmarks-out", lines[0])
    generated(
        run,
        tmp_path / "b.png",
        *photos,
        "--landmarks-out",
        lines[1],
        "--landmarks",
        "tddfa",
        "--landmarks-weights",
        weights,
    )
    points, tddfa = (np.asarray(Image.open(path)).any(axis=2) for path in lines)
    assert tddfa.any()
    assert not np.array_equal(points, tddfa)
    rows, columns = (np.argwhere(mask).mean(axis=0) for mask in (points, tddfa))
    assert np.abs(rows - columns).max() < 4  # two models, one face, 64 px


def complaint(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The one line on stderr of a command that must exit with 2 and write nothing on stdout."""
    assert main(words) == 2
    shown = capsys.readouterr()
    assert not shown.out
    lines = shown.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_photos_that_cannot_be_used_are_one_line_with_the_remedy(
    run: Path, person: list[Path], target: Path, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    faceless = min((assets / "edge" / "no-face").iterdir(), key=lambda path: path.stat().st_size)
    two = assets / "faces" / "face_recognition" / "examples__two_people.jpg"
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not a jpeg")
    cases = [
        ([person[0], faceless], target, "finds no face; use a photo with the face larger"),
        ([person[0]], two, "finds 2 faces that count, expected 1; crop it"),
        ([person[0]], faceless, "use another photo, or generate without landmarks"),
        ([tmp_path / "gone.jpg"], target, "gone.jpg: no such file"),
        ([broken], target, "not a readable image"),
        ([person[0]] * 7, target, "got 7, expected 1 to 6"),
    ]
    for references, wanted, text in cases:
        assert text in complaint(capsys, asked(run, out, "--reference", *references, "--target", wanted))
    assert not out.exists()


def test_missing_or_double_choices_are_one_line(
    run: Path, person: list[Path], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    cases = [
        (asked(run, out, "--target", target), "--reference: no reference; name 1 to 6 photos"),
        (asked(run, out, "--reference", person[0], "--no-references", "--target", target), "--reference: both given"),
        (asked(run, out, "--reference", person[0]), "--target: no target; name a photo, or pass --no-landmarks"),
        (asked(run, out, "--reference", person[0], "--target", target, "--no-landmarks"), "--target: both given"),
        (
            asked(run, tmp_path / "out.xyz", "--reference", person[0], "--target", target),
            "unknown image format '.xyz'",
        ),
        (asked(run, out, "--reference", person[0], "--target", target, "--detector", "nose"), "unknown model 'nose'"),
        (asked(tmp_path / "no", out, "--reference", person[0], "--target", target), "no such folder"),
        (asked(tmp_path / "no", out, "--no-references", "--no-landmarks"), "no such folder"),
        (
            asked(tmp_path, out, "--reference", person[0], "--target", target),
            "no model yet; expected refiner and hifinet",
        ),
    ]
    for words, text in cases:
        assert text in complaint(capsys, words)


def test_numbers_devices_and_formats_that_cannot_work_are_told_before_anything_is_loaded(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hifimodel.generate.load_pipeline", lambda _: pytest.fail("a model was loaded"))
    out, alone = tmp_path / "out.png", ["--no-references", "--no-landmarks"]
    none_beyond = f"cuda:{torch.cuda.device_count()}"
    cases = [
        (asked(run, tmp_path / "out.psd", *alone), "out.psd: unknown image format '.psd', or one without colour"),
        (asked(run, tmp_path / "out.h5", *alone), "a name that ends in .png or .jpg"),
        (asked(run, out, *alone, "--landmarks-out", tmp_path / "l.msp"), "l.msp: unknown image format"),
        (asked(run, out, *alone, "--device", "zzz"), "--device zzz: cannot be used here"),
        (asked(run, out, *alone, "--device", "meta"), "--device meta: cannot be used here"),
        (asked(run, out, *alone, "--device", none_beyond), f"--device {none_beyond}: cannot be used here"),
        (asked(run, out, *alone, "--seed", 2**70), "--seed 1180591620717411303424: out of range"),
        (asked(run, out, *alone, "--seed", 2**63 - 1, "--num", 2), "out of range"),
        (asked(run, out, *alone, "--scale", "nan"), "--scale: nan is not finite"),
        (asked(run, out, *alone, "--guidance", "inf"), "--guidance: inf is not finite"),
        (asked(run, out, *alone, "--steps", 1001), "noise schedule has 1000"),
    ]
    for words, text in cases:
        assert text in complaint(capsys, words)
    assert not list(tmp_path.iterdir())


def test_the_largest_seed_works(run: Path, tmp_path: Path) -> None:
    generated(run, tmp_path / "a.png", "--no-references", "--no-landmarks", "--seed", 2**63 - 1, "--size", 64)


def without(*keys: str) -> Callable[[Path], object]:
    """Removes a key from a JSON file."""

    def remove(path: Path) -> None:
        config = json.loads(path.read_text(encoding="utf-8"))
        inner = functools.reduce(lambda place, key: place[key], keys[:-1], config)
        del inner[keys[-1]]
        path.write_text(json.dumps(config), encoding="utf-8")

    return remove


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("refiner/config.json", without("refiner")),
        ("refiner/config.json", without("refiner", "dim")),
        ("refiner/" + WEIGHTS, Path.unlink),
        ("hifinet/config.json", without("net")),
        ("hifinet/config.json", without("net", "block_out_channels")),
        ("hifinet/config.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_trained_model_with_a_damaged_part_is_one_line(
    file: str, damage: Callable[[Path], object], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    damage(tmp_path / "model" / file)
    alone = ["--no-references", "--no-landmarks"]
    assert str(tmp_path / "model") in complaint(capsys, asked(tmp_path / "model", tmp_path / "out.png", *alone))


@pytest.fixture(scope="module")
def saved_pipeline(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hifimodel.inference.pipeline import HiFiPortraitPipeline

    folder = tmp_path_factory.mktemp("saved")
    HiFiPortraitPipeline.from_trained(run).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        ("vae", shutil.rmtree),
        ("tokenizer", shutil.rmtree),
        ("unet/" + WEIGHTS, cut),
        ("unet/" + WEIGHTS, Path.unlink),
        ("face_vision/model.safetensors", cut),
        ("text_encoder/config.json", Path.unlink),
        ("tokenizer/tokenizer_config.json", cut),
        ("model_index.json", cut),
        ("model_index.json", without("vae")),
        ("model_index.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_saved_pipeline_with_a_part_missing_or_cut_is_one_line_with_the_remedy(
    place: str,
    damage: Callable[[Path], object],
    saved_pipeline: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(saved_pipeline, tmp_path / "saved")
    damage(tmp_path / "saved" / place)
    alone = ["--no-references", "--no-landmarks"]
    line = complaint(capsys, asked(tmp_path / "saved", tmp_path / "out.png", *alone))
    assert f"{tmp_path / 'saved'}: not a complete saved pipeline (" in line
    assert "copy its whole folder, or save it again" in line


def changed(run: Path, folder: Path, **choices: object) -> Path:
    """A copy of the model that says something else about itself."""
    shutil.copytree(run / "model", folder)
    path = folder / "hifinet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["choices"] |= choices
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_checkpoints_that_do_not_fit_are_one_line(
    run: Path, person: list[Path], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = ["--reference", person[0], "--target", target, "--size", 64]
    cases = [
        ({"landmark_style": "mesh-1"}, "landmark_style mesh-1, this release draws lines68-1"),
        ({"from_the_future": 1}, "is not of this version"),
        ({"architecture": "sdxl"}, "--base: none given"),
        ({"embedder": "unheard_of"}, "identity embedder 'unheard_of' of the checkpoint: unknown"),
        ({"embedder": "tiny-random"}, "gives 64 numbers per face, the checkpoint takes 128"),
    ]
    for number, (choices, text) in enumerate(cases):
        model = changed(run, tmp_path / str(number), **choices)
        assert text in complaint(capsys, asked(model, tmp_path / "out.png", *photos))
    missing = asked(run, tmp_path / "out.png", *photos, "--base", tmp_path / "nowhere")
    assert "check the name or folder" in complaint(capsys, missing)


def test_the_embedders_of_the_package_and_of_datasets_are_known_by_either_name(assets: Path) -> None:
    file = next((assets / "weights" / "mobilefacenet").glob("*.onnx"), None)
    if file is None:
        pytest.skip("no MobileFaceNet file")
    assert load_identity_embedder("mobilefacenet", 128, file).name == "mobilefacenet"
    assert load_identity_embedder("dlib_resnet", 128).name == "dlib_resnet"
    assert load_identity_embedder("tiny-random", 64).name == "tiny-random"
    with pytest.raises(CheckpointError, match="gives 512 numbers per face, the checkpoint takes 128"):
        load_identity_embedder("arcface", 128)


@pytest.mark.parametrize("name", ["dlib_resnet", "mobilefacenet"])
def test_identity_vectors_tell_people_apart(name: str, person: list[Path], target: Path, assets: Path) -> None:
    from hifidata.models.detect.dlib import DlibDetector
    from hifimodel.faces.photo import prepare_reference

    file = next((assets / "weights" / "mobilefacenet").glob("*.onnx"))
    detector = DlibDetector()
    photos = [*person[:2], target]
    references = [prepare_reference(path.name, read_photo(path), detector) for path in photos]
    vectors = load_identity_embedder(name, 128, file).embed(references)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.05


def test_the_module_runs_and_its_help_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['x', '--help']\nfrom hifimodel.generate import main\n"
    code += "try: main()\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "--reference" in done.stdout


def test_the_python_of_the_docs_runs(
    run: Path, person: list[Path], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PROJECT_ROOT / "docs" / "generate.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    for name, photo in (("a.jpg", person[0]), ("b.jpg", person[1]), ("t.jpg", target)):
        shutil.copy(photo, tmp_path / name)
    shutil.copytree(run, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["portrait"], Image.Image)
