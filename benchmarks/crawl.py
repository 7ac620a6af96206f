"""The crawl against img2dataset on the same static server, and its memory against the length of its list.

Whole processes, start-up included, in turns. The server is nginx; img2dataset is installed into an environment of its own
when it is first needed.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS = 20
"""How often each picture is asked for, every time under another query string."""
TURNS = 2
"""How often each crawler runs; its quickest run counts."""
PEER = "img2dataset==1.47.0"
PEER_ENVIRONMENT = Path(__file__).resolve().parent / ".venv-img2dataset"
PEER_PROCESSES = 2
LENGTHS = (10**4, 10**6)
ROWS_PER_PERSON = 100


class Cost(NamedTuple):
    """What one picture cost a crawler."""

    wall_s: float
    cpu_s: float


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """(what, measured, goal) lines of the table."""
    if shutil.which("nginx") is None:
        yield "crawl against img2dataset", "needs nginx", ""
    else:
        ours, theirs = _against_peer(photos)
        yield "crawl, images per second over img2dataset's", f"{theirs.wall_s / ours.wall_s:.1f}", "at least 3"
        yield "crawl, CPU per image over img2dataset's", f"{ours.cpu_s / theirs.cpu_s:.3f}", "at most 0.333"
    short, long = (_peak_bytes(length) for length in LENGTHS)
    yield f"crawl, peak memory with {LENGTHS[1]:,} rows over {LENGTHS[0]:,}", f"{long / short:.2f}", "at most 1.10"


def _against_peer(photos: Path) -> tuple[Cost, Cost]:
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name, _nginx(photos, Path(name)) as site:
        folder = Path(name)
        files = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*")) if path.is_file()]
        urls = [f"{site}/{file}?round={number}" for number in range(ROUNDS) for file in files]
        people = [{"person": f"{n // ROWS_PER_PERSON:04d}", "url": url} for n, url in enumerate(urls)]
        (folder / "urls.jsonl").write_text("".join(json.dumps(person) + "\n" for person in people))
        (folder / "urls.txt").write_text("\n".join(urls) + "\n")
        peer = _peer_program()
        for turn in range(TURNS):
            out = folder / f"ours-{turn}"
            crawl = [sys.executable, "-m", "benchmarks.crawl", "crawl", str(folder / "urls.jsonl"), str(out)]
            ours.append(_cost(crawl, int))  # it prints how many pictures came
            out = folder / f"theirs-{turn}"
            theirs.append(_cost(_peer_command(peer, folder / "urls.txt", out), lambda _, out=out: _peer_successes(out)))
    return min(ours), min(theirs)


def _cost(command: Sequence[str], count: Callable[[str], int]) -> Cost:
    """What a crawler costs for each of the pictures that ``count`` makes of its standard output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    n_images = count(printed)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_s / n_images, cpu_s / n_images)


@contextmanager
def _nginx(root: Path, folder: Path) -> Iterator[str]:
    """Serves a folder on loopback; yields the site."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = f"server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }}"
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.geteuid() == 0 else ""  # its own user could not read the photos of root
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 2048; }}\nhttp {{ access_log off; sendfile on; {temporary} {server} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("nginx does not answer")


def _peer_program() -> Path:
    program = PEER_ENVIRONMENT / "bin" / "img2dataset"
    if not program.exists():
        venv.create(PEER_ENVIRONMENT, with_pip=True)
        subprocess.run([PEER_ENVIRONMENT / "bin" / "pip", "install", "--quiet", PEER, "setuptools<81"], check=True)
    return program


def _peer_command(program: Path, urls: Path, out: Path) -> list[str]:
    command = [str(program), f"--url_list={urls}", "--input_format=txt", f"--output_folder={out}"]
    command += ["--output_format=webdataset", "--resize_mode=no", f"--processes_count={PEER_PROCESSES}"]
    return [*command, "--number_sample_per_shard=500", "--compute_hash=sha256", "--enable_wandb=False"]


def _peer_successes(out: Path) -> int:
    return sum(json.loads(path.read_text())["successes"] for path in out.glob("*_stats.json"))


def _peak_bytes(n_rows: int) -> int:
    command = [sys.executable, "-m", "benchmarks.crawl", "memory", str(n_rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def crawl(table: Path, out: Path) -> int:
    """Guard, robots, hashes, originals and manifest fragments of a whole list; returns how many pictures came."""
    from hifidata.core.schema import Status
    from hifidata.run.crawl import Crawl
    from hifidata.run.identity_batch import first_row
    from hifidata.run.plan import make_plan
    from hifidata.stages.table import IMAGE_COLUMNS
    from hifidata.store.fragments import CommitRecord, identity_row, write_fragment
    from hifidata.store.layout import DatasetFolder

    recipe, folder = _recipe(table), DatasetFolder(out)
    n_fetched = 0
    for task in Crawl(recipe, out).people(make_plan(recipe, out=out).candidates_of):
        rows = [{"status": str(Status.KEPT), **first_row(task, candidate)} for candidate in task.candidates]
        n_fetched += sum(row["status"] == Status.KEPT for row in rows)
        facts = {"identity_id": task.identity_id, "identity_name": task.identity_name, "source": task.source}
        record = CommitRecord(identity_row(rows, facts), task.fingerprint, recipe.hash)
        write_fragment(folder.fragment_path(task.identity_id), rows, [None] * len(rows), record, IMAGE_COLUMNS)
    return n_fetched


def memory(n_rows: int) -> int:
    """Peak resident bytes of a process that crawls so many rows with a fetcher that fetches nothing."""
    from hifidata.fetch.reasons import HTTP_4XX
    from hifidata.fetch.result import FetchRequest, FetchResult
    from hifidata.run.crawl import Crawl
    from hifidata.run.plan import make_plan

    class Nobody:
        """Answers every request with a 404 at once."""

        async def __aenter__(self) -> Nobody:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

        async def fetch(self, request: FetchRequest) -> FetchResult:
            gone = {"reason": HTTP_4XX, "message": "404", "http_status": 404, "attempts": 1, "retryable": False}
            missing = dict.fromkeys(("final_url", "content", "content_sha256", "n_bytes", "etag", "last_modified"))
            times = dict.fromkeys(("queued_s", "connect_s", "response_s", "total_s"), 0.0)
            return FetchResult(url=request.url, ok=False, not_modified=False, fetched_at="", **gone, **missing, **times)

    with tempfile.TemporaryDirectory() as name:
        table, out = Path(name) / "urls.jsonl", Path(name) / "out"
        with table.open("w") as file:
            for n in range(n_rows):
                person = {
                    "person": f"{n % (n_rows // ROWS_PER_PERSON):06d}",
                    "url": f"http://host-{n % 997}.test/{n}.jpg",
                }
                file.write(json.dumps(person) + "\n")
        recipe = _recipe(table)
        wanted = make_plan(recipe, out=out).candidates_of
        n_seen = sum(len(task.candidates) for task in Crawl(recipe, out, lambda _: Nobody()).people(wanted))  # type: ignore[arg-type,return-value]
        if n_seen != n_rows:
            raise RuntimeError(f"{n_rows} rows went in, {n_seen} came out")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _recipe(table: Path) -> Any:
    from hifidata.config.recipe import resolve

    source = {"kind": "url_table", "path": str(table), "columns": {"identity": "person", "url": "url"}}
    fetch = {"allow_private": ["127.0.0.1"], "delay_s": 0, "slowdown": 0, "connections_per_host": 32}
    return resolve({"name": "bench", "source": source, "fetch": {**fetch, "keep_originals": True}}, "benchmark")


if __name__ == "__main__":
    arguments = sys.argv[2:]
    answer = crawl(Path(arguments[0]), Path(arguments[1])) if sys.argv[1] == "crawl" else memory(int(arguments[0]))
    sys.stdout.write(f"{answer}\n")
