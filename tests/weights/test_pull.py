"""Files, archives and Hub repositories reach the cache whole; a file without a published hash is pinned."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import json
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import pytest

from hifidata.core.errors import WeightsError
from hifidata.weights.catalogue import Archive, FileState, Hub, Made, Weight
from hifidata.weights.download import PullResult, pull, pull_each
from hifidata.weights.find import status_of
from hifidata.weights.pins import PINS_FILE, Pin, read_pins, write_pin
from tests.servers.file_host import FileHost
from tests.weights.conftest import IMPATIENT, noise, nothing_half_done, tensors

DATA = noise(60_000)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name: str, origin: str | Archive | Hub | Made | None, **more: object) -> Weight:
    return Weight(name, f"{name}.bin", "CC0", True, origin, **more)  # type: ignore[arg-type]


def bring(*weights: Weight) -> list[PullResult]:
    return pull(weights, lambda name, done, total: None, IMPATIENT)


def refusal(*weights: Weight) -> str:
    with pytest.raises(WeightsError) as caught:
        bring(*weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return buffer.getvalue()


def test_a_file_with_a_published_hash_is_fetched_once(host: FileHost, cache: Path) -> None:
    weight = entry("net", host.put("/net", DATA), n_bytes=len(DATA), sha256=sha(DATA))
    (first,), (second,) = bring(weight), bring(weight)
    assert (first.was_there, first.is_new_pin, second.was_there) == (False, False, True)
    assert first.path.read_bytes() == DATA
    assert len(host.asked) == 1
    assert not (cache / PINS_FILE).exists()
    assert nothing_half_done(cache)


def test_what_lies_in_the_offline_folder_is_not_downloaded(
    host: FileHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.bin").write_bytes(DATA)
    monkeypatch.setenv("HIFI_WEIGHTS", str(tmp_path / "mine"))
    (pulled,) = bring(entry("net", host.url("/none"), sha256=sha(DATA)))
    assert pulled.path == tmp_path / "mine" / "net.bin"
    assert host.asked == []
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["net.bin"]  # used as it is


def test_an_altered_file_in_the_cache_is_replaced(host: FileHost, cache: Path) -> None:
    weight = entry("net", host.put("/net", DATA), sha256=sha(DATA))
    bring(weight)
    (cache / "net.bin").write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    assert status_of(weight).state == "altered"
    bring(weight)
    assert status_of(weight).state == "present"


def test_a_file_without_a_published_hash_is_pinned_at_the_first_download(host: FileHost, cache: Path) -> None:
    weight = entry("net", host.put("/net", DATA))
    (pulled,) = bring(weight)
    assert pulled.is_new_pin
    assert read_pins(cache)["net"].files[""] == FileState(len(DATA), sha(DATA))
    assert status_of(weight).state == "present"
    (cache / "net.bin").write_bytes(DATA + b"x")
    assert status_of(weight).problem == f"has {len(DATA) + 1} bytes, expected {len(DATA)}"


def test_another_file_than_the_pinned_one_is_refused_and_the_way_out_named(host: FileHost, cache: Path) -> None:
    weight = entry("net", host.put("/net", DATA))
    bring(weight)
    (cache / "net.bin").unlink()
    host.put("/net", noise(len(DATA), seed=3))
    message = refusal(weight)
    assert f"expected {sha(DATA)}" in message
    assert message.endswith(
        f"first download pinned this hash ({cache / PINS_FILE}): `hifidata weights pull --replace net` accepts another file"
    )
    (replaced,) = pull([weight], lambda name, done, total: None, IMPATIENT, replace=True)
    assert (replaced.was_there, replaced.is_new_pin, status_of(weight).state) == (False, True, "present")


def test_what_is_to_be_replaced_keeps_its_place_until_the_new_one_is_right(host: FileHost, cache: Path) -> None:
    weight = entry("net", host.put("/net", DATA))
    bring(weight)
    host.put("/net", b"<html>log in</html>")
    with pytest.raises(WeightsError, match="the download is a web page"):
        pull([weight], lambda name, done, total: None, IMPATIENT, replace=True)
    assert (cache / "net.bin").read_bytes() == DATA
    assert status_of(weight).state == "present"


def test_a_web_page_that_was_pinned_once_is_replaced_and_a_file_that_broke_later_is_held_against_its_pin(
    host: FileHost, cache: Path
) -> None:
    weight = entry("net", host.put("/net", DATA))
    cache.mkdir()
    page = b"<html>log in</html>"
    (cache / "net.bin").write_bytes(page)
    write_pin(cache, "net", Pin("http://somewhere", {"": FileState(len(page), sha(page))}))
    assert status_of(weight).problem == "is a web page (it was pinned as it came)"
    (pulled,) = bring(weight)
    assert (pulled.is_new_pin, status_of(weight).state) == (True, "present")

    (cache / "net.bin").write_bytes(page)
    host.put("/net", noise(len(DATA), seed=3))
    assert f"expected {sha(DATA)}" in refusal(weight)


def test_a_folder_in_the_place_of_a_file_is_named_and_left_alone(host: FileHost, cache: Path) -> None:
    bundle = Archive(host.put("/pack.zip", zipped({"a.onnx": b"a"})))
    (cache / "a.bin" / "mine").mkdir(parents=True)
    message = refusal(entry("a", bundle, member="a.onnx"))
    assert message == f"{cache / 'a.bin'}: is a folder, expected a file; remove it, then run the same command"
    assert (cache / "a.bin" / "mine").is_dir()


def test_broken_pins_are_one_line(host: FileHost, cache: Path) -> None:
    cache.mkdir()
    (cache / PINS_FILE).write_text('{"net": {"origin": 1}}')
    assert "pins of downloaded weights cannot be read" in refusal(entry("net", host.put("/net", DATA)))


def test_entries_of_one_archive_share_its_download_and_it_is_not_kept(host: FileHost, cache: Path) -> None:
    bundle = zipped({"pack/a.onnx": b"a" * 900, "pack/b.onnx": b"b" * 900, "pack/other": b"-"})
    archive = Archive(host.put("/pack.zip", bundle), len(bundle), sha(bundle))
    one = entry("a", archive, sha256=sha(b"a" * 900), member="a.onnx")
    two = entry("b", archive, member="b.onnx")
    pulled = bring(one, two)
    assert [item.path.read_bytes()[:1] for item in pulled] == [b"a", b"b"]
    assert [item.is_new_pin for item in pulled] == [False, True]
    assert len(host.asked) == 1
    assert {path.name for path in cache.iterdir()} == {"a.bin", "b.bin", PINS_FILE, ".lock"}


def test_a_member_with_other_bytes_is_refused(host: FileHost, cache: Path) -> None:
    archive = Archive(host.put("/pack.zip", zipped({"a.onnx": b"changed"})))
    message = refusal(entry("a", archive, sha256=sha(b"right"), member="a.onnx"))
    assert f"a.onnx in it has sha256 {sha(b'changed')}, expected {sha(b'right')}; nothing was kept" in message
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_a_member_that_is_not_there_is_named_with_what_is(host: FileHost) -> None:
    archive = Archive(host.put("/pack.zip", zipped({"x/c.onnx": b"c"})))
    assert "holds no a.onnx; it holds x/c.onnx" in refusal(entry("a", archive, member="a.onnx"))


def test_a_zip_that_is_none_is_one_line(host: FileHost, cache: Path) -> None:
    for body, words in (
        (b"<html>", "the download is a web page"),
        (b"PK\x03\x04", "the download is no complete zip archive"),
    ):
        assert words in refusal(entry("a", Archive(host.put("/pack.zip", body)), member="a.onnx"))
    known = Archive(host.put("/pack.zip", b"no zip"), 6, sha(b"no zip"))
    assert "pack.zip: not a complete zip" in refusal(entry("a", known, member="a.onnx"))
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_a_whole_archive_becomes_a_folder_without_its_top_and_stays_inside(host: FileHost, cache: Path) -> None:
    bundle = zipped({"top/model.pdiparams": b"m", "top/deploy.yaml": b"d", "top/../../../evil": b"e"})
    weight = Weight("mat", "matting-net", "CC0", True, Archive(host.put("/m.zip", bundle)))
    (pulled,) = bring(weight)
    assert (pulled.path / "model.pdiparams").read_bytes() == b"m"
    assert pulled.is_new_pin
    assert not (cache.parent / "evil").exists()
    (pulled.path / "deploy.yaml").unlink()
    assert status_of(weight).problem == "deploy.yaml: is missing"


@pytest.fixture
def hub(host: FileHost, monkeypatch: pytest.MonkeyPatch) -> FileHost:
    """A mirror of the Hub with one repository: two large files, whose hashes it publishes, and a small one."""
    monkeypatch.setenv("HIFI_WEIGHTS_MIRROR", f"https://huggingface.co={host.url('')}")
    serve(
        host, {"model-1.safetensors": tensors(9000, 1), "model-2.safetensors": tensors(9000, 2), "config.json": b"{}"}
    )
    return host


def serve(host: FileHost, files: Mapping[str, bytes], commit: str = "c0ffee") -> None:
    siblings: list[dict[str, object]] = [{"rfilename": "../evil.json"}, {"rfilename": "/evil.json"}]
    for name, data in {**files, "pytorch_model.bin": noise(500)}.items():
        lfs = {"sha256": sha(data), "size": len(data), "pointerSize": 134} if len(data) > 100 else None
        siblings.append({"rfilename": name, "lfs": lfs})
    listing = json.dumps({"id": "org/net", "sha": commit, "siblings": siblings}).encode()
    for revision in ("main", commit):
        host.put(f"/api/models/org/net/revision/{revision}", listing)
    for name, data in files.items():
        host.put(f"/org/net/resolve/{commit}/{name}", data)


REPOSITORY = Weight("net", "net-folder", "MIT", True, Hub("org/net", "main", ("*.json", "*.safetensors")))


def test_a_hub_repository_is_fetched_at_its_commit_and_pinned(hub: FileHost, cache: Path) -> None:
    (pulled,) = bring(REPOSITORY)
    assert sorted(path.name for path in pulled.path.iterdir()) == [
        "config.json", "model-1.safetensors", "model-2.safetensors",
    ]  # fmt: skip
    pin = read_pins(cache)["net"]
    assert pin.origin.endswith("/org/net/tree/c0ffee")
    assert set(pin.files) == {"config.json", "model-1.safetensors", "model-2.safetensors"}
    assert nothing_half_done(cache)
    assert all("bin" not in asked.path and "evil" not in asked.path for asked in hub.asked)


def test_only_the_damaged_file_of_a_repository_is_fetched_again(hub: FileHost, cache: Path) -> None:
    bring(REPOSITORY)
    (cache / "net-folder" / "model-2.safetensors").write_bytes(b"cut")
    assert status_of(REPOSITORY).problem == "model-2.safetensors: has 3 bytes, expected 9000"
    hub.asked.clear()
    bring(REPOSITORY)
    assert status_of(REPOSITORY).state == "present"
    fetched = [asked.path.rpartition("/")[2] for asked in hub.asked if "/resolve/" in asked.path]
    assert fetched == ["model-2.safetensors"]


def test_a_repository_that_moved_on_is_still_fetched_at_the_pinned_commit(hub: FileHost, cache: Path) -> None:
    bring(REPOSITORY)
    (cache / "net-folder" / "config.json").unlink()
    hub.put("/api/models/org/net/revision/main", b'{"id": "org/net", "sha": "newer", "siblings": []}')
    bring(REPOSITORY)
    assert status_of(REPOSITORY).state == "present"


def test_a_repository_whose_hashes_are_in_the_catalogue_needs_no_listing(hub: FileHost) -> None:
    files = {"config.json": FileState(2, sha(b"{}"))}
    weight = dataclasses.replace(REPOSITORY, origin=Hub("org/net", "c0ffee", files=files))
    (pulled,) = bring(weight)
    assert not pulled.is_new_pin
    assert [asked.path for asked in hub.asked] == ["/org/net/resolve/c0ffee/config.json"]


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b"<html>", "not a list of a repository's files (JSONDecodeError: "),
        (b"[]", "not a list of a repository's files (TypeError: "),
        (b'{"error": "x"}', "not a list of a repository's files (KeyError: 'id')"),
        (b'{"id": "n", "siblings": [{"rfilename": "a.json"}]}', "none of 1 files fits *.json, *.safetensors"),
        (b'{"id": "n", "sha": "c", "siblings": [{"rfilename": "a.bin"}]}', "none of 1 files fits *.json, *.safetensors"),
    ],
)  # fmt: skip
def test_a_hub_that_answers_nonsense_is_one_line(hub: FileHost, listing: bytes, message: str) -> None:
    hub.put("/api/models/org/net/revision/main", listing)
    assert message in refusal(REPOSITORY)
    assert len(hub.asked) == 1


def test_a_busy_hub_is_asked_again_and_one_that_refuses_is_not(hub: FileHost, cache: Path) -> None:
    listing = hub.files["/api/models/org/net/revision/main"]
    listing.statuses.extend([503] * (IMPATIENT.tries - 1))
    bring(REPOSITORY)
    listing.statuses.extend([503] * IMPATIENT.tries)
    with pytest.raises(
        WeightsError, match=f"{hub.url('/org/net')}: the server answered 503 Service Unavailable; try a mirror"
    ):
        pull([REPOSITORY], lambda name, done, total: None, IMPATIENT, replace=True)
    hub.asked.clear()
    listing.statuses.append(403)
    with pytest.raises(WeightsError, match="the server answered 403 Forbidden; try a mirror"):
        pull([REPOSITORY], lambda name, done, total: None, IMPATIENT, replace=True)
    assert len(hub.asked) == 1
    assert status_of(REPOSITORY).state == "present"


def test_the_hub_learns_neither_the_users_token_nor_facts_about_the_machine(
    hub: FileHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")
    bring(REPOSITORY)
    assert {asked.headers.get("authorization") for asked in hub.asked} == {None}
    assert {asked.headers["user-agent"] for asked in hub.asked} == {"hifidata"}


def test_the_hubs_offline_mode_is_named(hub: FileHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE`" in refusal(REPOSITORY)
    assert hub.asked == []


def test_an_interrupted_file_of_a_repository_is_resumed_by_the_next_command(hub: FileHost, cache: Path) -> None:
    large = hub.files["/org/net/resolve/c0ffee/model-1.safetensors"]
    large.drops.extend([5000, 0, 0])
    assert "5000 bytes are kept, run the same command to resume" in refusal(REPOSITORY)
    bring(REPOSITORY)
    ranges = [asked.range for asked in hub.asked if asked.path.endswith("model-1.safetensors")]
    assert ranges[-1] == "bytes=5000-"
    assert (cache / "net-folder" / "model-1.safetensors").read_bytes() == large.data


def test_a_repository_through_a_mirror_of_every_host_keeps_its_published_origin(
    hub: FileHost, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS_MIRROR", hub.url("/all"))
    for path, hosted in list(hub.files.items()):
        hub.files[f"/all/huggingface.co{path}"] = hosted
    bring(REPOSITORY)
    assert all(asked.path.startswith("/all/huggingface.co/") for asked in hub.asked)
    assert read_pins(cache)["net"].origin == "https://huggingface.co/org/net/tree/c0ffee"


def test_an_entry_without_an_address_says_what_to_download_manually(cache: Path) -> None:
    message = refusal(entry("net", None, sha256=sha(DATA)))
    assert (
        f"net.bin is not in {cache}; no public address is known: download it manually into {cache} (sha256 " in message
    )


def test_files_to_download_manually_are_named_before_any_request(host: FileHost) -> None:
    message = refusal(
        entry("net", host.put("/net", DATA)), entry("a", None, sha256=sha(DATA)), entry("b", None, sha256=sha(b""))
    )
    assert (f"(sha256 {sha(DATA)}, " in message, f"(sha256 {sha(b'')}, " in message) == (True, True)
    assert host.asked == []


def test_an_altered_file_without_an_address_is_called_altered_and_not_missing(cache: Path) -> None:
    cache.mkdir()
    (cache / "net.bin").write_bytes(noise(len(DATA), seed=1))
    message = refusal(entry("net", None, n_bytes=len(DATA), sha256=sha(DATA)))
    got = sha(noise(len(DATA), seed=1))
    assert message.startswith(f"weights net: {cache / 'net.bin'} has sha256 {got}, expected {sha(DATA)}; ")
    assert message.endswith("; replace the file, or correct the sha256 in the class that declares it")


def test_one_dead_host_does_not_keep_the_others_from_coming(host: FileHost, cache: Path) -> None:
    dead = Archive(host.put("/dead.zip", b"", statuses=deque([503] * 99)))
    weights = [
        entry("a", dead, member="a.onnx"), entry("gone", host.url("/gone")), entry("b", dead, member="b.onnx"),
        entry("net", host.put("/net", DATA)),
    ]  # fmt: skip
    pulled, failed = pull_each(weights, lambda name, done, total: None, IMPATIENT)
    assert [item.weight.name for item in pulled] == ["net"]
    assert list(failed) == ["a", "gone", "b"]
    assert (failed["a"] == failed["b"], "404 Not Found" in failed["gone"]) == (True, True)
    assert len([asked for asked in host.asked if asked.path == "/dead.zip"]) == IMPATIENT.tries
    message = refusal(*weights)
    assert (message.count("/dead.zip"), message.count("404 Not Found")) == (1, 1)
    assert status_of(weights[3]).state == "present"


def made_of(source: Weight, **more: object) -> Weight:
    return Weight("made", "made.npz", "CC0", True, Made(source), **more)  # type: ignore[arg-type]


def test_what_is_made_brings_what_it_is_made_from_and_is_made_again_where_it_is_altered(
    host: FileHost, cache: Path
) -> None:
    source = entry("net", host.put("/net", DATA))
    asked: list[tuple[str, bytes]] = []

    def make(name: str, path: Path) -> bytes:
        asked.append((name, path.read_bytes()))
        return b"made"

    def bring_made(weight: Weight) -> list[PullResult]:
        return pull([weight], lambda name, done, total: None, IMPATIENT, make=make)

    known = made_of(source, sha256=sha(b"made"))
    first, second = bring_made(known)
    assert asked == [("made", DATA)]
    assert ([first.weight, second.weight], second.path.name) == ([source, known], "made.npz")
    assert (first.is_new_pin, second.is_new_pin, set(read_pins(cache))) == (True, False, {"net"})
    assert [item.was_there for item in bring_made(known)] == [True]
    second.path.write_bytes(b"broken")
    assert status_of(known).state == "altered"
    bring_made(known)
    assert (status_of(known).state, len(host.asked)) == ("present", 1)

    second.path.unlink()
    other = made_of(source, sha256=sha(b"what another version of a package makes"))
    (pinned,) = [item for item in bring_made(other) if item.weight is other]
    assert (pinned.is_new_pin, status_of(other).state) == (True, "present")
    second.path.write_bytes(b"broken")
    assert status_of(other).problem.startswith("has 6 bytes, expected ")


def test_what_cannot_be_made_is_said_with_the_reason(host: FileHost) -> None:
    pulled, failed = pull_each([made_of(entry("net", host.url("/gone")))], lambda name, done, total: None, IMPATIENT)
    assert (pulled, list(failed)) == ([], ["net", "made"])
    assert failed["made"] == failed["net"]  # one reason, which the command prints once
    weight = made_of(entry("net", host.put("/net", DATA)))
    weight = dataclasses.replace(weight, origin=Made(entry("net", host.put("/net", DATA)), ("no_such_package", "json")))
    host.asked.clear()
    assert "made from net.bin: `pip install no_such_package`, then run `hifidata weights pull made`" in refusal(weight)
    assert host.asked == []


def test_two_pulls_at_once_do_not_write_into_each_other(host: FileHost, cache: Path) -> None:
    cache.mkdir()
    with open(cache / ".lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another `hifidata weights pull` uses this folder" in refusal(entry("net", host.put("/net", DATA)))


def test_a_cache_that_cannot_be_written_is_one_line(host: FileHost, cache: Path) -> None:
    cache.write_bytes(b"a file")
    assert "set HIFI_WEIGHTS_CACHE to a writable folder" in refusal(entry("net", host.put("/net", DATA)))
