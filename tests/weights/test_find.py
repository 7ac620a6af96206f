"""Model files are found where they lie, and what is not the right file is never handed out."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from hifidata.core.errors import WeightsError
from hifidata.weights import find as find_module
from hifidata.weights.catalogue import CATALOGUE, Hub, entry
from hifidata.weights.find import find_weight, sha256_of, status_of
from hifidata.weights.search_path import cache_folder, searching
from tests.factories.graphs import make_graph
from tests.weights.conftest import tensors


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "offline"
    folder.mkdir()
    monkeypatch.setenv("HIFI_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def yunet(assets: Path) -> Path:
    return assets / "weights" / "yunet" / "yunet_n_dynamic.onnx"


def refusal(name: str) -> str:
    with pytest.raises(WeightsError) as caught:
        find_weight(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_file_of_the_test_assets_is_found_and_right(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    here = {path.name for path in (assets / "weights").rglob("*")}
    names = [name for name, weight in CATALOGUE.items() if weight.file in here]
    assert len(names) >= 18
    assert {name: status_of(entry(name)).state for name in names} == dict.fromkeys(names, "present")


def test_a_file_is_found_in_a_sub_folder_and_the_folder_left_as_it_is(offline: Path, yunet: Path) -> None:
    (offline / "a" / "b").mkdir(parents=True)
    shutil.copy(yunet, offline / "a" / "b")
    assert find_weight("yunet_dynamic") == offline / "a" / "b" / yunet.name
    assert [path.name for path in offline.rglob("*") if path.is_file()] == [yunet.name]


def test_a_missing_file_is_named_with_every_place_and_the_command(offline: Path, cache: Path) -> None:
    assert refusal("det_10g") == (
        f"weights det_10g: det_10g.onnx is not in {offline} nor in {cache}; run `hifidata weights pull det_10g`"
    )


def test_a_folder_that_does_not_exist_is_said_so(offline: Path) -> None:
    offline.rmdir()
    assert f"is not in {offline} (no such folder) nor in " in refusal("det_10g")


def test_without_an_offline_folder_the_message_offers_one(cache: Path) -> None:
    assert refusal("det_10g").endswith("or set HIFI_WEIGHTS to a folder that holds it")


def test_a_truncated_file_is_refused_with_both_sizes(offline: Path, yunet: Path) -> None:
    (offline / yunet.name).write_bytes(yunet.read_bytes()[:1000])
    assert refusal("yunet_dynamic") == (
        f"weights yunet_dynamic: {offline / yunet.name} has 1000 bytes, expected 322906; replace it, or run "
        "`hifidata weights pull yunet_dynamic`"
    )


def test_one_changed_byte_is_refused_with_both_hashes(offline: Path, yunet: Path) -> None:
    data = bytearray(yunet.read_bytes())
    data[5000] ^= 1
    (offline / yunet.name).write_bytes(data)
    assert f"expected {CATALOGUE['yunet_dynamic'].sha256}" in refusal("yunet_dynamic")


def test_a_right_copy_is_preferred_to_a_wrong_one(offline: Path, yunet: Path, cache: Path) -> None:
    (offline / yunet.name).write_bytes(b"wrong")
    cache.mkdir()
    shutil.copy(yunet, cache)
    assert find_weight("yunet_dynamic") == cache / yunet.name


def test_the_recipes_folder_goes_before_the_environments(tmp_path: Path, offline: Path, yunet: Path) -> None:
    mine = tmp_path / "mine"
    for folder in (mine, offline):
        folder.mkdir(exist_ok=True)
        shutil.copy(yunet, folder)
    with searching(mine):
        assert find_weight("yunet_dynamic").parent == mine
    assert find_weight("yunet_dynamic").parent == offline


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert refusal("det_10k") == "weights det_10k: not in the catalogue; did you mean det_10g?"
    assert "`hifidata weights list`" in refusal("zzz")


def test_a_file_that_nobody_published_a_hash_for_is_used_and_called_unpinned(offline: Path) -> None:
    graph = make_graph(offline / "fqa.onnx", [("Relu", ["input"], "output")], ([1, 2], [1, 2]))
    assert find_weight("fqa") == graph
    assert status_of(entry("fqa")).state == "unpinned"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert "is no ONNX graph, or cut off after" in refusal("fqa")
    graph.write_bytes(b"<html>Log in</html>")
    assert refusal("fqa") == f"weights fqa: {graph} is a web page; replace it, or run `hifidata weights pull fqa`"


def test_a_folder_in_a_files_place_is_said_so_and_so_is_the_reverse(offline: Path, cache: Path) -> None:
    (offline / "det_10g.onnx").mkdir()
    (offline / "blip2-opt-2.7b").write_bytes(b"")
    assert status_of(entry("det_10g")).problem == "is a folder, expected a file"
    assert status_of(entry("blip2_opt_2.7b")).problem == "is a file, expected a folder"
    (cache / "det_10g.onnx").mkdir(parents=True)
    (offline / "det_10g.onnx").rmdir()
    assert refusal("det_10g").endswith("expected a file; remove it and run `hifidata weights pull det_10g`")


@pytest.mark.parametrize("variable", ["HIFI_WEIGHTS", "HIFI_WEIGHTS_CACHE"])
@pytest.mark.parametrize("below", ["", "below/it"])
def test_a_file_named_as_the_folder_of_weights_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(variable, str(tmp_path / "file" / below))
    message = refusal("det_10g")
    assert message.startswith(f"{tmp_path / 'file' / below}: is not a folder of model files; correct HIFI_WEIGHTS")


def test_a_model_folder_that_lacks_a_part_of_its_index_is_refused(offline: Path) -> None:
    folder = offline / "blip2-flan-t5-xl"
    folder.mkdir()
    assert "is empty" in refusal("blip2_flan_t5_xl")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
    assert "lacks 1.safetensors" in refusal("blip2_flan_t5_xl")
    (folder / "1.safetensors").write_bytes(tensors(200)[:-1])
    assert "1.safetensors: has 199 bytes, its header says 200" in refusal("blip2_flan_t5_xl")
    (folder / "1.safetensors").write_bytes(tensors(200))
    assert find_weight("blip2_flan_t5_xl") == folder


@pytest.mark.parametrize("part", ["model.pdmodel", "model.pdiparams", "deploy.yaml"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<html>log in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_part_of_a_folder_that_is_visibly_no_model_is_refused_whatever_its_suffix(
    offline: Path, part: str, data: bytes, words: str
) -> None:
    folder = offline / "ppmatting-hrnet_w18-human_512"
    folder.mkdir()
    for name in ("model.pdmodel", "model.pdiparams", "deploy.yaml"):
        (folder / name).write_bytes(b"\x0a\x01x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "note").write_bytes(b"")  # what tools leave is no part of the model
    assert status_of(entry("pp_matting")).state == "unpinned"
    (folder / part).write_bytes(data)
    assert f"{folder} {part}: {words}" in refusal("pp_matting")
    assert refusal("pp_matting").endswith("; replace it, or run `hifidata weights pull pp_matting`")


def test_a_folder_without_what_the_model_needs_is_refused(offline: Path) -> None:
    folder = offline / "ppmatting-hrnet_w18-human_512"
    folder.mkdir()
    (folder / "readme.txt").write_bytes(b"elsewhere")
    assert f"{folder} lacks model.pdmodel and model.pdiparams; " in refusal("pp_matting")


def test_a_folder_whose_hashes_are_published_is_checked_file_by_file(offline: Path) -> None:
    origin = CATALOGUE["paddleocr_det"].origin
    assert isinstance(origin, Hub)
    folder = offline / "PP-OCRv6_small_det_onnx"
    folder.mkdir()
    (folder / "inference.onnx").write_bytes(b"x")
    assert f"inference.onnx: has 1 bytes, expected {origin.files['inference.onnx'].n_bytes}" in refusal("paddleocr_det")


def test_large_files_are_hashed_once_per_change(offline: Path, yunet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "REMEMBERED_BYTES", 1)
    copy = Path(shutil.copy(yunet, offline))
    hashed: list[Path] = []
    monkeypatch.setattr(find_module, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    find_weight("yunet_dynamic")
    find_weight("yunet_dynamic")
    assert len(hashed) == 1
    assert status_of(entry("yunet_dynamic"), fresh=True).state == "present"
    assert len(hashed) == 2
    data = bytearray(copy.read_bytes())
    data[0] ^= 1
    copy.write_bytes(data)
    assert status_of(entry("yunet_dynamic")).state == "altered"


def test_a_cache_that_cannot_be_written_costs_only_time(
    offline: Path, yunet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_module, "REMEMBERED_BYTES", 1)
    shutil.copy(yunet, offline)
    cache.write_bytes(b"a file where a folder should be")
    assert find_weight("yunet_dynamic").parent == offline


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/hifidata/weights"),
        ("linux", {"HOME": "/home/u"}, "/home/u/.cache/hifidata/weights"),
        ("darwin", {"HOME": "/Users/u"}, "/Users/u/Library/Caches/hifidata/weights"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/hifidata/weights"),
    ],
)
def test_the_cache_lies_where_the_platform_wants_it(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HIFI_WEIGHTS_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder().as_posix() == expected
