"""Downloads resume, are checked before they get their name, and say in one line what went wrong."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import socket
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from hifidata.core.errors import WeightsError
from hifidata.weights.catalogue import FileState
from hifidata.weights.http import DownloadLimits, fetch, mirrored
from tests.factories.graphs import make_graph
from tests.servers.file_host import FileHost
from tests.servers.hostile import HostileServer
from tests.weights.conftest import IMPATIENT, noise, nothing_half_done

DATA = noise(200_000)


def state(data: bytes) -> FileState:
    return FileState(len(data), hashlib.sha256(data).hexdigest())


def get(url: str, target: Path, expected: FileState | None = None) -> FileState:
    return fetch(url, target, expected, IMPATIENT, lambda done, total: None)


def refusal(url: str, target: Path, expected: FileState | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        get(url, target, expected)
    message = str(caught.value)
    assert "\n" not in message
    assert url in message
    assert not target.exists()
    return message


@pytest.mark.parametrize("expected", [None, state(DATA)])
def test_a_file_appears_whole_with_nothing_beside_it(
    host: FileHost, tmp_path: Path, expected: FileState | None
) -> None:
    assert get(host.put("/a", DATA), tmp_path / "d" / "a.bin", expected) == state(DATA)
    assert (tmp_path / "d" / "a.bin").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a.bin"]


def test_a_dropped_connection_is_resumed_where_it_broke(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([80_000, 50_000]))
    get(url, tmp_path / "a", state(DATA))
    assert (tmp_path / "a").read_bytes() == DATA
    starts = [int(asked.range.removeprefix("bytes=").rstrip("-")) if asked.range else 0 for asked in host.asked]
    assert starts[0] == 0
    assert 0 < starts[1] <= 80_000
    assert starts[1] < starts[2] <= 130_000
    assert host.asked[1].if_range == host.files["/a"].version
    assert nothing_half_done(tmp_path)


def test_progress_resets_the_count_of_failures(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([20_000] * 9))  # three failures in a row would end it
    get(url, tmp_path / "a", state(DATA))
    assert len(host.asked) == 10


def test_a_server_that_drops_at_random_and_cannot_resume_ends_the_download(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([60_000, 20_000] * 20), honours_range=False)
    assert "3 times in a row" in refusal(url, tmp_path / "a")
    assert len(host.asked) == 3


def test_a_full_disk_is_known_before_the_body(host: FileHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=150_000))
    url = host.put("/a", DATA)
    with pytest.raises(WeightsError, match="200000 bytes are needed, 150000 are free; make room"):
        get(url, tmp_path / "a")
    assert nothing_half_done(tmp_path)


def test_what_arrived_is_kept_for_the_next_command(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([90_000, 0, 0]))
    message = refusal(url, tmp_path / "a", state(DATA))
    kept = int(re.search(r"(\d+) bytes are kept, run the same command to resume", message)[1])  # type: ignore[index]
    assert 0 < kept <= 90_000
    sent_before = host.sent
    get(url, tmp_path / "a", state(DATA))
    assert host.sent - sent_before == len(DATA) - kept


def test_a_file_that_changed_between_attempts_is_fetched_from_the_start(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([90_000, 0, 0]))
    refusal(url, tmp_path / "a")
    changed = noise(len(DATA), seed=1)
    host.put("/a", changed)
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == changed


def test_a_server_that_mixes_two_versions_is_found_out_by_the_hash(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", noise(len(DATA), seed=1), drops=deque([90_000, 0, 0]), etag='"same"')
    refusal(url, tmp_path / "a", state(DATA))
    host.put("/a", DATA, etag='"same"')
    get(url, tmp_path / "a", state(DATA))
    assert (tmp_path / "a").read_bytes() == DATA
    assert [asked.range for asked in host.asked[-2:]][1] is None


@pytest.mark.parametrize("how", [{"etag": ""}, {"etag": 'W/"weak"'}])
def test_without_a_firm_version_nothing_is_resumed(host: FileHost, tmp_path: Path, how: dict[str, str]) -> None:
    url = host.put("/a", DATA, drops=deque([90_000]), **how)
    get(url, tmp_path / "a", state(DATA))
    assert [asked.range for asked in host.asked] == [None, None]


def test_a_server_without_ranges_starts_over_and_the_file_is_whole(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([90_000]), honours_range=False)
    get(url, tmp_path / "a", state(DATA))
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_server_that_resumes_at_another_byte_is_not_believed(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([90_000]), shift=7)
    assert "the server resumed at another byte than requested, 3 times in a row" in refusal(
        url, tmp_path / "a", state(DATA)
    )


def test_a_file_that_became_shorter_is_fetched_anew(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, drops=deque([90_000, 0, 0]), etag='"same"')
    refusal(url, tmp_path / "a")
    host.put("/a", DATA[:50_000], etag='"same"')  # 416 to everything beyond
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA[:50_000]


def test_other_bytes_of_the_same_size_are_refused_and_not_kept(host: FileHost, tmp_path: Path) -> None:
    wrong = noise(len(DATA), seed=2)
    message = refusal(host.put("/a", wrong), tmp_path / "a", state(DATA))
    assert f"has sha256 {state(wrong).sha256}, expected {state(DATA).sha256}" in message
    assert "nothing was kept: try another mirror (HIFI_WEIGHTS_MIRROR)" in message
    assert list(tmp_path.glob("*")) == [] or nothing_half_done(tmp_path)


def test_another_size_is_refused_before_the_body_is_read(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", b"<html>please log in</html>" * 40_000)
    message = refusal(url, tmp_path / "a", state(DATA))
    assert f"has 1040000 bytes, expected {len(DATA)}" in message
    assert nothing_half_done(tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_names_the_ways_out(host: FileHost, tmp_path: Path, status: int) -> None:
    url = host.put("/a", DATA, statuses=deque([status]))
    message = refusal(url, tmp_path / "a")
    assert f"the server answered {status} " in message
    assert "the HIFI_WEIGHTS folder" in message
    assert len(host.asked) == 1


def test_a_busy_server_is_asked_again(host: FileHost, tmp_path: Path) -> None:
    get(host.put("/a", DATA, statuses=deque([503, 429])), tmp_path / "a", state(DATA))
    assert len(host.asked) == 3


def test_a_server_that_stays_busy_ends_the_download(host: FileHost, tmp_path: Path) -> None:
    message = refusal(host.put("/a", DATA, statuses=deque([503] * 9)), tmp_path / "a")
    assert message.endswith("the server answered 503 Service Unavailable, 3 times in a row; try again later")


def test_a_stalled_body_times_out_and_goes_on_from_there(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, stall_s=1.0)
    message = refusal(url, tmp_path / "a")  # each attempt brings half of the rest, until nothing new comes
    assert "the server did not answer in time, 3 times in a row" in message
    host.put("/a", DATA)
    get(url, tmp_path / "a", state(DATA))
    assert host.asked[-1].range is not None


def test_nobody_at_home_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
    assert "no connection (ConnectionError), 3 times in a row" in refusal(url, tmp_path / "a")


@pytest.mark.parametrize("url", ["http://", "mirror.net/x", "gopher://mirror/x", "http://a..b/x"])
def test_an_address_that_is_none_is_one_line(tmp_path: Path, url: str) -> None:
    assert "not a valid URL" in refusal(url, tmp_path / "a")


def test_redirects_are_followed_and_resumed(host: FileHost, tmp_path: Path) -> None:
    host.put("/real", DATA, drops=deque([90_000]))
    get(host.put("/a", b"", redirect="/real"), tmp_path / "a", state(DATA))
    assert (tmp_path / "a").read_bytes() == DATA
    assert host.asked[-1].range is not None


def test_a_body_without_a_length_is_held_against_the_hash(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, says_length=False)
    get(url, tmp_path / "a", state(DATA))
    host.put("/a", DATA, says_length=False, drops=deque([90_000]), etag="")
    with pytest.raises(WeightsError, match="has sha256"):
        get(url, tmp_path / "b", state(DATA))


def test_what_arrived_before_a_cut_is_written_however_short_the_connections(host: FileHost, tmp_path: Path) -> None:
    """With the chunks that users have, not those of the other tests."""
    data = noise(1_500_000)
    url = host.put("/a", data, drops=deque([100_000] * 14))
    fetch(
        url,
        tmp_path / "a",
        state(data),
        DownloadLimits(timeout_s=5.0, tries=2, backoff_s=0.01),
        lambda done, total: None,
    )
    assert (tmp_path / "a").read_bytes() == data
    assert host.sent < 1.3 * len(data)


def test_a_redirect_loop_is_final_and_said_so(host: FileHost, tmp_path: Path) -> None:
    message = refusal(host.put("/a", b"", redirect="/a"), tmp_path / "a")
    assert "redirects without end" in message
    assert "try a mirror (HIFI_WEIGHTS_MIRROR)" in message
    assert len(host.asked) == 31  # one attempt, with as many hops as requests follows


@pytest.mark.parametrize("expected", [None, state(DATA)])
def test_a_body_that_is_encoded_against_our_wish_is_decoded(
    host: FileHost, tmp_path: Path, expected: FileState | None
) -> None:
    url = host.put("/a", gzip.compress(DATA), headers={"Content-Encoding": "gzip"})
    assert get(url, tmp_path / "a", expected) == state(DATA)
    url = host.put("/b", gzip.compress(DATA), headers={"Content-Encoding": "gzip"}, drops=deque([90_000]))
    assert get(url, tmp_path / "b", expected) == state(DATA)
    assert [asked.range for asked in host.asked] == [None] * 3  # the place in the file is not the place in the body


def test_an_encoding_that_cannot_be_undone_is_named(host: FileHost, tmp_path: Path) -> None:
    url = host.put("/a", DATA, headers={"Content-Encoding": "br"})
    assert "the server sent Content-Encoding br, requested was identity" in refusal(url, tmp_path / "a")
    url = host.put("/b", DATA, headers={"Content-Encoding": "gzip"})
    assert "the body does not match its Content-Encoding" in refusal(url, tmp_path / "b")


def test_a_resumed_body_that_is_encoded_is_fetched_from_the_start(host: FileHost, tmp_path: Path) -> None:
    refusal(host.put("/a", DATA, drops=deque([90_000, 0, 0]), etag='"same"'), tmp_path / "a")
    url = host.put("/a", gzip.compress(DATA), headers={"Content-Encoding": "gzip"}, etag='"same"')
    assert get(url, tmp_path / "a") == state(DATA)
    assert [asked.range is None for asked in host.asked[-2:]] == [False, True]


@pytest.mark.parametrize(
    ("data", "headers", "words"),
    [
        (b"", {}, "the download is empty"),
        (b"<p>Log in", {"Content-Type": "text/html; charset=utf-8"}, "the server sent a web page (text/html)"),
        (b"\n<!DOCTYPE html><title>Log in", {}, "the download is a web page"),
        (noise(5000), {}, "the download is no ONNX graph"),
    ],
)
def test_what_is_no_model_is_refused_where_no_hash_is_known(
    host: FileHost, tmp_path: Path, data: bytes, headers: dict[str, str], words: str
) -> None:
    message = refusal(host.put("/a", data, headers=headers), tmp_path / "a.onnx")
    assert words in message
    assert "download the file manually" in message
    assert list(tmp_path.iterdir()) == []
    assert len(host.asked) == 1


def test_a_cut_body_whose_length_nobody_told_is_no_graph(host: FileHost, tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "g", [("Relu", ["input"], "output")], ([1, 2], [1, 2])).read_bytes()
    url = host.put("/a", graph, says_length=False, drops=deque([len(graph) - 3]))
    assert f"cut off after {len(graph) - 3} bytes" in refusal(url, tmp_path / "a.onnx")
    assert get(url, tmp_path / "a.onnx") == state(graph)


def test_a_server_that_calls_everything_a_web_page_is_believed_where_the_hash_is_right(
    host: FileHost, tmp_path: Path
) -> None:
    url = host.put("/a", DATA, headers={"Content-Type": "text/html"})
    assert get(url, tmp_path / "a.onnx", state(DATA)) == state(DATA)


@pytest.mark.parametrize("place", ["a", ".a.part", ".a.part.json"])
def test_a_folder_in_the_way_is_named_and_left_alone(host: FileHost, tmp_path: Path, place: str) -> None:
    (tmp_path / place / "mine").mkdir(parents=True)
    with pytest.raises(WeightsError) as caught:
        get(host.put("/a", DATA), tmp_path / "a")
    assert (
        str(caught.value) == f"{tmp_path / place}: is a folder, expected a file; remove it, then run the same command"
    )
    assert (tmp_path / place / "mine").is_dir()
    assert host.asked == []


def test_a_file_in_the_way_of_the_folder_is_named(host: FileHost, tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"")
    with pytest.raises(WeightsError, match="d: is a file, expected a folder; remove it"):
        get(host.put("/a", DATA), tmp_path / "d" / "a")


@pytest.mark.parametrize(
    ("mirror", "url", "asked"),
    [
        ("", "https://a.org/x", "https://a.org/x"),
        ("https://m.net/w/", "https://a.org/x/y", "https://m.net/w/a.org/x/y"),
        ("https://a.org=https://m.net/a", "https://a.org/x", "https://m.net/a/x"),
        ("https://a.org=https://m.net", "https://a.organic/x", "https://a.organic/x"),
        ("https://b.org=https://m.net, https://all.net", "https://a.org/x", "https://all.net/a.org/x"),
        ("https://a.org/x=https://m.net,https://all.net", "https://a.org/x/y", "https://m.net/y"),
    ],
)
def test_mirrors_replace_prefixes(mirror: str, url: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS_MIRROR", mirror)
    assert mirrored(url) == asked


@pytest.mark.parametrize("path", ["/trickle?every_s=0.02", "/slow-head"])
def test_a_download_at_a_byte_a_time_ends(tmp_path: Path, path: str) -> None:
    with HostileServer() as server, pytest.raises(WeightsError, match=r"sends less than 4096 bytes per second"):
        fetch(server.url(path), tmp_path / "a", None, replace(IMPATIENT, grace_s=0.5), lambda done, total: None)


@pytest.mark.parametrize("path", ["/endless", "/endless-chunks", "/gzip-bomb"])
@pytest.mark.parametrize("expected", [state(DATA), None])
def test_a_download_beyond_its_size_ends_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: FileState | None
) -> None:
    monkeypatch.setattr("hifidata.weights.http.MAX_BYTES", 300_000)
    with HostileServer() as server:
        assert "sends more than the expected" in refusal(server.url(path), tmp_path / "a", expected)
    assert list(tmp_path.iterdir()) == []
