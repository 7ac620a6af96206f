"""The crawl compared with img2dataset on the same static server, and its memory for lists of different length.

Complete processes are measured in turns, including their start. The server is nginx. The first run installs img2dataset in its
own environment.
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
"""Requests per image, each with another query string."""
TURNS = 2
"""Runs of each crawler; the fastest counts."""
PEER = "img2dataset==1.47.0"
PEER_ENVIRONMENT = Path(__file__).resolve().parent / ".venv-img2dataset"
PEER_PROCESSES = 2
LENGTHS = (10**4, 10**6)
ROWS_PER_IDENTITY = 100


class Cost(NamedTuple):
    """Time of a crawler per image."""

    wall_s: float
    cpu_s: float


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the table's rows (what, measured, goal)."""
    if shutil.which("nginx") is None:
        yield "crawl against img2dataset", "needs nginx", ""
    else:
        crawl_cost, peer_cost = _compare_with_peer(photos)
        yield "crawl, images per second over img2dataset's", f"{peer_cost.wall_s / crawl_cost.wall_s:.1f}", "at least 3"
        yield "crawl, CPU per image over img2dataset's", f"{crawl_cost.cpu_s / peer_cost.cpu_s:.3f}", "at most 0.333"
    short, long = (_peak_bytes(length) for length in LENGTHS)
    yield f"crawl, peak memory with {LENGTHS[1]:,} rows over {LENGTHS[0]:,}", f"{long / short:.2f}", "at most 1.10"


def _compare_with_peer(photos: Path) -> tuple[Cost, Cost]:
    crawl_costs, peer_costs = [], []
    with tempfile.TemporaryDirectory() as name, _nginx(photos, Path(name)) as site:
        folder = Path(name)
        files = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*")) if path.is_file()]
        urls = [f"{site}/{file}?round={number}" for number in range(ROUNDS) for file in files]
        listed = [{"person": f"{n // ROWS_PER_IDENTITY:04d}", "url": url} for n, url in enumerate(urls)]
        (folder / "urls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
        (folder / "urls.txt").write_text("\n".join(urls) + "\n")
        peer = _peer_program()
        for turn in range(TURNS):
            out = folder / f"crawl-{turn}"
            crawl = [sys.executable, "-m", "benchmarks.crawl", "crawl", str(folder / "urls.jsonl"), str(out)]
            crawl_costs.append(_cost(crawl, int))  # the process prints the number of images
            out = folder / f"peer-{turn}"
            command = _peer_command(peer, folder / "urls.txt", out)
            peer_costs.append(_cost(command, lambda _, out=out: _peer_successes(out)))
    return min(crawl_costs), min(peer_costs)


def _cost(command: Sequence[str], count: Callable[[str], int]) -> Cost:
    """Run a crawler, and return its time per image; ``count`` gets the number of images from its stdout."""
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
    """Serve a folder on loopback, and yield the base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = f"server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }}"
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.geteuid() == 0 else ""  # nginx's default user cannot read files of root
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
    """Crawl a list with address guard, robots.txt, hashes, originals and fragments; return the number of images."""
    from hifidata.core.schema import Status
    from hifidata.run.crawl import Crawl
    from hifidata.run.identity_batch import first_row
    from hifidata.run.plan import make_plan
    from hifidata.stages.table import IMAGE_COLUMNS
    from hifidata.store.fragments import CommitRecord, identity_row, write_fragment
    from hifidata.store.layout import DatasetFolder

    recipe, folder = _recipe(table), DatasetFolder(out)
    n_fetched = 0
    for task in Crawl(recipe, out).identity_tasks(make_plan(recipe, out=out).candidates_of):
        rows = [{"status": str(Status.KEPT), **first_row(task, candidate)} for candidate in task.candidates]
        n_fetched += sum(row["status"] == Status.KEPT for row in rows)
        facts = {"identity_id": task.identity_id, "identity_name": task.identity_name, "source": task.source}
        record = CommitRecord(identity_row(rows, facts), task.fingerprint, recipe.hash)
        write_fragment(folder.fragment_path(task.identity_id), rows, [None] * len(rows), record, IMAGE_COLUMNS)
    return n_fetched


def memory(n_rows: int) -> int:
    """Crawl a list of ``n_rows`` rows with a fetcher that sends no request; return the peak resident bytes."""
    from hifidata.fetch.reasons import HTTP_4XX
    from hifidata.fetch.result import FetchRequest, FetchResult
    from hifidata.run.crawl import Crawl
    from hifidata.run.plan import make_plan

    class NotFoundFetcher:
        """Returns 404 for every request without network access."""

        async def __aenter__(self) -> NotFoundFetcher:
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
                row = {
                    "person": f"{n % (n_rows // ROWS_PER_IDENTITY):06d}",
                    "url": f"http://host-{n % 997}.test/{n}.jpg",
                }
                file.write(json.dumps(row) + "\n")
        recipe = _recipe(table)
        pending = make_plan(recipe, out=out).candidates_of
        crawl = Crawl(recipe, out, open_fetcher=lambda _: NotFoundFetcher())  # type: ignore[arg-type,return-value]
        n_seen = sum(len(task.candidates) for task in crawl.identity_tasks(pending))
        if n_seen != n_rows:
            raise RuntimeError(f"expected {n_rows} candidates, got {n_seen}")
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
