"""Crawls over real sockets: every URL has a row, no URL is fetched twice, a retry fetches failed URLs only."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import Recipe
from hifidata.core.errors import FolderLockedError
from hifidata.run.crawl import Crawl
from hifidata.run.plan import make_plan
from hifidata.run.replay import replay
from hifidata.run.run import RunOptions, RunResult, run
from hifidata.store.layout import DatasetFolder
from hifidata.store.originals import CrawlLog, Originals
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.factories.crawl import LOOPBACK, recipe_for, write_list
from tests.servers.hostile import HostileServer
from tests.servers.misdeeds import picture


def run_into(out: Path, recipe: Recipe, retry_failed: bool = False, accept: bool = False) -> RunResult:
    options = RunOptions(out, accept_recipe_change=accept, retry_failed=retry_failed)
    return run(recipe, options, lambda progress: None)


def started(out: Path, recipe: Recipe) -> Path:
    """Make a dataset folder in which one identity is committed."""
    run(recipe, RunOptions(out, limit=1), lambda progress: None)
    return out


def rows_of(out: Path) -> list[dict[str, object]]:
    return list(pq.read_table(out / "manifests" / "images.parquet").to_pylist())


def flip_bit(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def test_every_url_has_one_row_with_the_facts_of_its_fetch(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    extra = (("person_00", "/nowhere.jpg"), ("person_01", "/status?code=503"), ("person_02", "/files/person_02/0.jpg"))
    table = write_list(tmp_path / "list.jsonl", server, twelve_people, extra)
    run_into(tmp_path / "out", recipe_for(table))
    rows = {str(row["source_uri"]).removeprefix(server.url("")): row for row in rows_of(tmp_path / "out")}
    listed = [json.loads(line)["url"] for line in table.read_text().splitlines()]
    assert Counter(row["source_uri"] for row in rows_of(tmp_path / "out")) == Counter(listed)
    assert (rows["/nowhere.jpg"]["reason"], rows["/nowhere.jpg"]["http_status"]) == ("http_4xx", 404)
    assert (rows["/status?code=503"]["reason"], rows["/status?code=503"]["attempts"]) == ("http_5xx", 3)
    assert rows["/status?code=503"]["retryable"]
    twice = [row["reason"] for row in rows_of(tmp_path / "out") if "person_02/0.jpg" in str(row["source_uri"])]
    assert twice.count("duplicate_url") == 1
    fetched = rows["/files/person_05/1.jpg"]
    assert fetched["status"] == "kept"
    assert fetched["http_status"] == 200
    assert fetched["attempts"] == 1
    assert fetched["content_sha256"]
    assert fetched["fetched_at"]
    assert fetched["response_s"] is not None


def test_a_replay_keeps_the_verdicts_of_the_crawl(server: HostileServer, twelve_people: Path, tmp_path: Path) -> None:
    extra = (("person_00", "/nowhere.jpg"), ("person_02", "/files/person_02/0.jpg"))
    run_into(tmp_path / "out", recipe_for(write_list(tmp_path / "list.jsonl", server, twelve_people, extra)))
    again = replay(tmp_path / "out", [])
    assert again.reasons_before["duplicate_url"] == 1
    assert (again.kept_after, again.reasons_after) == (again.kept_before, again.reasons_before)
    assert not again.unknown
    assert not again.dependent


def test_temporary_originals_stay_until_the_commit_and_limit_the_crawls_lead(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(write_list(tmp_path / "list.jsonl", server, twelve_people), "fetch.max_waiting=8")
    out = started(tmp_path / "out", recipe)
    with closing(Crawl(recipe, out).identity_tasks(make_plan(recipe).candidates_of)) as tasks:
        next(tasks)
        time.sleep(1)
        assert len(server.paths()) <= 4 + 12, "two identities reach max_waiting, and the third may have started"
    run_into(out, recipe)
    assert not [path for path in (out / "state" / "originals").rglob("*") if path.is_file()]


def test_an_interrupted_crawl_does_not_fetch_finished_urls_again(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    settings = ("fetch.max_waiting=8", "fetch.keep_originals=true")
    recipe = recipe_for(write_list(tmp_path / "list.jsonl", server, twelve_people), *settings)
    out = started(tmp_path / "out", recipe)
    pending = make_plan(recipe).candidates_of
    with closing(Crawl(recipe, out).identity_tasks(pending)) as tasks:
        for _ in range(3):
            next(tasks)
    logs = [line for log in (out / "state" / "crawl").rglob("*.jsonl") for line in log.read_text().splitlines()]
    done = {json.loads(line)["key"].removeprefix(server.url("")) for line in logs}
    assert 12 <= len(done) < 24
    before = len(server.seen)
    run_into(out, recipe)
    requested = {seen.path for seen in server.seen[before:]}
    assert not requested & done
    assert len(rows_of(out)) == 24


def test_an_incomplete_log_line_causes_one_repeated_fetch(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(write_list(tmp_path / "list.jsonl", server, twelve_people), "fetch.keep_originals=true")
    out = started(tmp_path / "out", recipe)
    with closing(Crawl(recipe, out).identity_tasks(make_plan(recipe).candidates_of)) as tasks:
        task = next(tasks)
    log = out / "state" / "crawl" / task.identity_id[:2] / f"{task.identity_id}.jsonl"
    last = json.loads(log.read_text().splitlines()[-1])["key"]
    log.write_bytes(log.read_bytes()[:-20])
    before = len(server.seen)
    with closing(Crawl(recipe, out).identity_tasks({task.identity_id})) as tasks:
        assert len(next(tasks).candidates) == 4
    assert [server.url(seen.path) for seen in server.seen[before:] if seen.path != "/robots.txt"] == [last]


def test_no_flipped_bit_of_a_log_gives_another_entry(tmp_path: Path) -> None:
    log = CrawlLog(DatasetFolder(tmp_path), "ab" * 8)
    entries = {key: {"key": key, "is_stored": True, "facts": {"n": 1.5, "name": "é"}} for key in ("http://a/1", "b")}
    for entry in entries.values():
        log.append(entry)
    (path,) = tmp_path.rglob("*.jsonl")
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(flip_bit(whole, position))
        facts = {key: entry["facts"] for key, entry in log.read().items()}
        assert facts.items() <= {key: entry["facts"] for key, entry in entries.items()}.items()
    path.write_bytes(b'{"key":"b","facts":{}}\n')
    assert log.read().keys() == {"b"}, "version 0.1.0 wrote no checksums"


def test_malformed_log_lines_do_not_affect_other_entries(tmp_path: Path) -> None:
    log = CrawlLog(DatasetFolder(tmp_path), "ab" * 8)
    for key in ("one", "two"):
        log.append({"key": key, "n": 1})
    path = tmp_path / "state" / "crawl" / "ab" / f"{'ab' * 8}.jsonl"
    path.write_bytes(
        path.read_bytes() + b'{"key":"torn","n{"key":"glued","n":1}\n\0\0\n[1]\n{"key":"last","n":1}\n{"ke'
    )
    assert log.read().keys() == {"one", "two", "last"}
    log.append({"key": "after", "n": 1})
    assert log.read().keys() == {"one", "two", "last", "after"}


def test_retry_fetches_only_failed_urls_and_reprocesses_only_their_identities(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    extra = (("person_03", "/files/late.jpg"), ("person_04", "/files/never.jpg"))
    table = write_list(tmp_path / "list.jsonl", server, twelve_people, extra)
    recipe = recipe_for(table, "fetch.keep_originals=true", "dedup.enabled=false")
    out = tmp_path / "out"
    run_into(out, recipe)
    before = len(server.seen)
    assert run_into(out, recipe).did_nothing
    late = twelve_people / "late.jpg"
    late.write_bytes((twelve_people / "person_03" / "0.jpg").read_bytes())
    try:
        run_into(out, recipe, retry_failed=True)
    finally:
        late.unlink()
    requested = sorted(seen.path for seen in server.seen[before:] if seen.path != "/robots.txt")
    assert requested == ["/files/late.jpg", "/files/never.jpg"]
    ends = {str(row["source_uri"]).removeprefix(server.url("/files/")): row for row in rows_of(out)}
    assert ends["late.jpg"]["http_status"] == 200
    assert ends["never.jpg"]["reason"] == "http_4xx"
    assert len(rows_of(out)) == 26


def test_a_run_with_another_threshold_on_kept_originals_sends_no_request(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    out = tmp_path / "out"
    run_into(out, recipe_for(table, "fetch.keep_originals=true"))
    before = len(server.seen)
    run_into(out, recipe_for(table, "fetch.keep_originals=true", "crop.min_face_share=0.9"), accept=True)
    assert len(server.seen) == before
    kept = {path.name for path in (out / "originals").glob("??/*")}
    assert kept == {row["content_sha256"] for row in rows_of(out) if row["http_status"] == 200}


def test_kept_originals_with_other_bytes_are_downloaded_again(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people, (("person_05", "/picture"),))
    out, keep, name = tmp_path / "out", "fetch.keep_originals=true", hashlib.sha256(picture()).hexdigest()
    run_into(out, recipe_for(table, keep))
    original = out / "originals" / name[:2] / name
    before = len(server.seen)
    original.write_bytes(flip_bit(original.read_bytes(), 300))
    run_into(out, recipe_for(table, keep, "crop.min_face_share=0.2"), accept=True)
    assert [seen.path for seen in server.seen[before:] if seen.path != "/robots.txt"] == ["/picture"]
    assert original.read_bytes() == picture()


def test_bytes_that_change_between_crawl_and_intake_fail_and_are_retried(
    server: HostileServer, twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people, (("person_05", "/picture"),))
    recipe, out, write = recipe_for(table, "fetch.keep_originals=true"), tmp_path / "out", Originals.write

    def write_damaged(originals: Originals, identity_id: str, digest: str, content: bytes) -> Path:
        return write(originals, identity_id, digest, flip_bit(content, 300) if content == picture() else content)

    monkeypatch.setattr(Originals, "write", write_damaged)
    run_into(out, recipe)
    monkeypatch.undo()
    (row,) = (row for row in rows_of(out) if row["reason"] == "unreadable_file")
    assert "--retry failed" in str(row["message"])
    before = len(server.seen)
    run_into(out, recipe, retry_failed=True)
    assert [seen.path for seen in server.seen[before:] if seen.path != "/robots.txt"] == ["/picture"]
    assert not [row for row in rows_of(out) if row["reason"] == "unreadable_file"]


def test_originals_and_logs_of_identities_no_longer_listed_are_deleted(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    out = tmp_path / "out"
    run_into(out, recipe_for(table, "fetch.keep_originals=true"))
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if "person_00" in line))
    run_into(out, recipe_for(table, "fetch.keep_originals=true"))
    assert len(list((out / "state" / "crawl").rglob("*.jsonl"))) == 1
    assert {path.name for path in (out / "originals").glob("??/*")} == {row["content_sha256"] for row in rows_of(out)}


def test_a_crawl_with_ray_gives_the_same_shards_as_local(
    server: HostileServer, twelve_people: Path, tmp_path: Path, ray_here: str
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    shards = []
    for kind in ("local", "ray"):
        result = run_into(tmp_path / kind, recipe_for(table, f"executor.kind={kind}", "executor.workers=2"))
        shards.append(result.dataset["shards"])
    assert shards[0] == shards[1]
    assert len(shards[0]) == 6


def test_ctrl_c_stops_a_hanging_crawl(server: HostileServer, twelve_people: Path, tmp_path: Path) -> None:
    extra = tuple((f"person_{number:02d}", f"/hang?{number}") for number in range(6))
    table = write_list(tmp_path / "list.jsonl", server, twelve_people, extra)
    out = tmp_path / "out"
    slow = ("fetch.read_timeout_s=3600", "fetch.total_timeout_s=3600")
    source = f"source={{kind: url_table, path: {table}, columns: {{identity: person, url: url}}}}"
    command = [sys.executable, "-m", "hifidata", "run", str(PROJECT_ROOT / "pipelines" / "folder.yaml")]
    command += ["--out", str(out)]
    for override in (source, *QUICK_RECIPE, *LOOPBACK, *slow):
        command += ["--set", override]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while sum(seen.path == "/hang" for seen in server.seen) < 4:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()  # the server's answers come after an hour
    assert process.returncode == 130, errors
    assert not (out / "dataset.json").exists()


def test_the_same_bytes_from_parallel_urls_are_stored_once(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = tmp_path / "list.jsonl"
    urls = [server.url(f"/files/person_00/0.jpg?copy={number}") for number in range(60)]
    table.write_text("".join(json.dumps({"person": "one", "url": url}) + "\n" for url in urls))
    recipe = recipe_for(table, "fetch.keep_originals=true", "fetch.connections_per_host=32")
    out = tmp_path / "out"
    with closing(Crawl(recipe, out).identity_tasks(make_plan(recipe).candidates_of)) as tasks:
        (task,) = tasks
    assert {candidate.facts["http_status"] for candidate in task.candidates} == {200}
    assert len([path for path in (out / "originals").rglob("*") if path.is_file()]) == 1


def test_the_landing_page_of_the_list_is_sent_if_the_recipe_says_so(server: HostileServer, tmp_path: Path) -> None:
    table, page = tmp_path / "list.jsonl", server.url("/page")
    table.write_text(json.dumps({"person": "one", "url": server.url("/picture"), "page": page}) + "\n")
    for referer in ("null", "landing_page"):
        recipe = recipe_for(table, "source.columns.landing_page=page", f"fetch.referer={referer}")
        with closing(Crawl(recipe, tmp_path / referer).identity_tasks(make_plan(recipe).candidates_of)) as tasks:
            assert len(list(tasks)) == 1
    assert [seen.headers.get("referer") for seen in server.seen if seen.path == "/picture"] == [None, page]


def test_identities_removed_from_the_list_after_an_interrupt_are_deleted_by_the_next_run(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    out = tmp_path / "out"
    recipe = recipe_for(table, "fetch.keep_originals=true")
    with closing(Crawl(recipe, started(out, recipe)).identity_tasks(make_plan(recipe).candidates_of)) as tasks:
        for _ in tasks:
            pass
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if "person_00" not in line and "person_01/2" not in line))
    run_into(out, recipe_for(table, "fetch.keep_originals=true"))
    named = {row["content_sha256"] for row in rows_of(out)}
    assert {path.name for path in (out / "originals").glob("??/*")} == named
    logs = "".join(log.read_text() for log in (out / "state" / "crawl").rglob("*.jsonl"))
    assert "person_00" not in logs
    assert "person_01/2" not in logs


def test_retry_includes_identities_that_a_changed_recipe_reprocesses(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people, (("person_03", "/files/never.jpg"),))
    out = tmp_path / "out"
    run_into(out, recipe_for(table))
    before = len(server.seen)
    options = RunOptions(out, accept_recipe_change=True, retry_failed=True)
    run(recipe_for(table, "crop.min_face_share=0.2"), options, lambda progress: None)
    assert "/files/never.jpg" in {seen.path for seen in server.seen[before:]}


def test_kept_originals_are_reused_by_a_run_that_does_not_keep_them(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    out = tmp_path / "out"
    run_into(out, recipe_for(table, "fetch.keep_originals=true"))
    before = len(server.seen)
    run_into(out, recipe_for(table, "crop.min_face_share=0.2"), accept=True)
    assert len(server.seen) == before


def test_retry_does_not_repeat_failures_caused_by_the_list(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    more = ({"person": "person_03", "url": url} for url in ("", "search", "ftp://a.test/b.jpg"))
    table.write_text(table.read_text() + "".join(json.dumps(row) + "\n" for row in more))
    out = tmp_path / "out"
    run_into(out, recipe_for(table))
    before = len(server.seen)
    assert run_into(out, recipe_for(table), retry_failed=True).did_nothing
    assert len(server.seen) == before


def test_a_placeholder_added_later_applies_to_fetched_images(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    out = tmp_path / "out"
    run_into(out, recipe_for(table, "fetch.keep_originals=true"))
    known = next(row["content_sha256"] for row in rows_of(out) if row["status"] == "kept")
    again = ("fetch.keep_originals=true", f"fetch.placeholder_sha256=[{known}]", "crop.min_face_share=0.2")
    run_into(out, recipe_for(table, *again), accept=True)
    assert {row["reason"] for row in rows_of(out) if row["content_sha256"] == known} == {"placeholder"}


def test_a_run_on_a_locked_folder_changes_nothing(server: HostileServer, twelve_people: Path, tmp_path: Path) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    out = started(tmp_path / "out", recipe_for(table))
    before = sorted(path.name for path in (out / "state" / "source").iterdir())
    with DatasetFolder(out).lock():
        table.write_text(table.read_text().replace("person_05", "person_55"))
        with pytest.raises(FolderLockedError):
            run_into(out, recipe_for(table))
    assert sorted(path.name for path in (out / "state" / "source").iterdir()) == before
