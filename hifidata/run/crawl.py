"""The crawl: fetches the candidates of many identities in parallel, in advance of the workers.

It runs in the process that lists the source: with ``local`` in a thread, with Ray in the reader. Rate limits hold per host, so
there is one crawl for any number of workers. Fetched bytes are written to disk and not sent through the workers' queues. A log
per identity lets an interrupted crawl resume.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from asyncio import FIRST_COMPLETED as FIRST
from collections.abc import Callable, Container, Coroutine, Iterable, Iterator, Sized
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.core.deadline import in_daemon_thread
from hifidata.core.reasons import Reason
from hifidata.core.schema import Candidate, IdentityTask, Status
from hifidata.fetch.client import Fetcher
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.reasons import BAD_RESPONSE, BAD_SCHEME, BAD_URL, PLACEHOLDER
from hifidata.fetch.result import FetchRequest, FetchResult
from hifidata.run.plan import open_remote
from hifidata.store.fragments import read_record_of_run
from hifidata.store.layout import DatasetFolder
from hifidata.store.originals import CrawlLog, Entry, Originals, YieldOrder

STAGE = "fetch"
SEARCH_KEY = " search"
"""Key of the log entry with an identity's search hits. The other keys are URLs or list entries, which start with no space."""
PERMANENT_REASONS = frozenset({str(BAD_URL), str(BAD_SCHEME)})
"""Reasons in the URL itself; a retry cannot succeed."""
MAX_SEARCHES = 8
"""Most parallel searches."""
MAX_IDENTITIES = 1000
"""Most identities in progress. Before its search, an identity has no candidates that ``max_waiting`` could limit."""
POLL_S = 0.2
_COLUMNS = (
    "fetched_at", "http_status", "final_url", "attempts", "retryable", "etag", "last_modified",
    "queued_s", "connect_s", "response_s",
)  # fmt: skip


class Crawl:
    """Fetches the candidates of identities.

    Args:
        recipe: recipe with a remote source.
        out: dataset folder.
        run_id: id of the run; a second crawl with the same id repeats the order of the first.
        open_fetcher: makes the fetcher; tests and benchmarks pass their own.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        run_id: str = "",
        open_fetcher: Callable[[FetcherConfig], Fetcher] = Fetcher,
    ) -> None:
        self._source = open_remote(recipe, out)
        self._settings = recipe.fetch
        self._open_fetcher = open_fetcher
        self._folder = DatasetFolder(out)
        self._run_id = run_id
        self._order = YieldOrder(self._folder, run_id)
        self._originals = Originals(self._folder, recipe.fetch.keep_originals)
        self._done: queue.Queue[IdentityTask | BaseException | None] = queue.Queue()
        self._n_started = 0  # candidates of all started identities
        self._n_handed_out = 0  # candidates of the identities that the caller can take, or has taken
        self._n_taken = 0  # candidates of the identities that the caller has taken

    def identity_tasks(self, pending: Container[str]) -> Iterator[IdentityTask]:
        """Yield the pending identities with fetched candidates, in the order in which they are ready.

        The locator of a fetched candidate is the path of its bytes. A candidate that was not fetched is already judged.
        An identity that this run has committed is yielded as listed: the workers do not read it again.
        """
        loop = asyncio.new_event_loop()
        crawling = loop.create_task(self._crawl(pending))
        thread = threading.Thread(target=self._run, args=(loop, crawling), name="crawl", daemon=True)
        thread.start()
        try:
            while (ready := self._done.get()) is not None:
                if isinstance(ready, BaseException):
                    raise ready
                self._n_taken += len(ready.candidates)
                self._order.append(ready.identity_id)
                yield ready
        finally:
            with suppress(RuntimeError):  # the crawl has ended and closed its loop
                loop.call_soon_threadsafe(crawling.cancel)
            thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, crawling: asyncio.Task[None]) -> None:
        loop.run_until_complete(asyncio.wait({crawling}))  # raises nothing: the task keeps its exception
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        self._done.put(None if crawling.cancelled() else crawling.exception())

    async def _crawl(self, pending: Container[str]) -> None:
        listed = (task for task in self._source.identities() if task.identity_id in pending)
        searches = asyncio.Semaphore(MAX_SEARCHES)
        running: set[asyncio.Task[IdentityTask]] = set()
        handed_out: dict[str, int] = {}
        self._order.begin()
        async with self._open_fetcher(self._settings) as fetcher:
            try:
                while (task := await asyncio.to_thread(next, listed, None)) is not None:
                    running.add(asyncio.create_task(self._fetch_identity(fetcher, task, searches)))
                    await asyncio.sleep(0)  # lets the new task count its candidates
                    running -= self._hand_out(running, handed_out)
                    while self._is_full(running, handed_out):
                        await (
                            asyncio.wait(running, timeout=POLL_S, return_when=FIRST)
                            if running
                            else asyncio.sleep(POLL_S)
                        )
                        running -= self._hand_out(running, handed_out)
                while running:
                    await asyncio.wait(running, return_when=FIRST)
                    running -= self._hand_out(running, handed_out)
                for task in self._order.rest():
                    self._done.put(task)
            finally:
                for unfinished in running:
                    unfinished.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    def _hand_out(
        self, running: set[asyncio.Task[IdentityTask]], handed_out: dict[str, int]
    ) -> set[asyncio.Task[IdentityTask]]:
        ready = {identity for identity in running if identity.done()}
        for identity in ready:
            for task in self._order.ready(identity.result()):
                handed_out[task.identity_id] = len(task.candidates)
                self._n_handed_out += len(task.candidates)
                self._done.put(task)
        return ready

    def _is_full(self, running: Sized, handed_out: dict[str, int]) -> bool:
        for identity_id in [known for known in handed_out if not self._originals.is_waiting(known)]:
            del handed_out[identity_id]
        n_uncommitted = sum(handed_out.values())
        if (
            self._order.is_repeating
        ):  # the identity to yield next may not have started: those that wait for it do not count
            return max(self._n_handed_out - self._n_taken, n_uncommitted) >= self._settings.max_waiting
        n_untaken = self._n_started - self._n_taken
        return len(running) >= MAX_IDENTITIES or max(n_untaken, n_uncommitted) >= self._settings.max_waiting

    async def _fetch_identity(
        self, fetcher: Fetcher, listed: IdentityTask, searches: asyncio.Semaphore
    ) -> IdentityTask:
        if read_record_of_run(self._folder.fragment_path(listed.identity_id), self._run_id) is not None:
            self._n_started += len(listed.candidates)
            return listed
        log = CrawlLog(self._folder, listed.identity_id)
        known = log.read()
        async with searches:
            task = await self._search(listed, log, known)
        self._n_started += len(task.candidates)
        fetched: list[Candidate] = []
        step = self._settings.max_waiting
        for start in range(0, len(task.candidates), step):
            some = task.candidates[start : start + step]
            fetched += await _gather_or_cancel(
                self._fetch_candidate(fetcher, task.identity_id, candidate, log, known) for candidate in some
            )
        listed_keys = {SEARCH_KEY, *(candidate.relative_path for candidate in task.candidates)}
        if known.keys() - listed_keys:  # remove entries of candidates that the source no longer lists
            log.replace(entry for key, entry in log.read().items() if key in listed_keys)
        return replace(task, candidates=tuple(fetched))

    async def _search(self, listed: IdentityTask, log: CrawlLog, known: dict[str, Entry]) -> IdentityTask:
        """Return the identity with its search hits, from the log or from a new search."""
        if not listed.query:
            return listed
        found = known.get(SEARCH_KEY)
        if found is not None and found["query"] == listed.query:
            return replace(listed, candidates=tuple(Candidate(**hit) for hit in found["candidates"]))
        # A stopped crawl does not wait for a slow search, so the thread is a daemon.
        task = await asyncio.wrap_future(in_daemon_thread(partial(self._source.expand, listed), "search"))
        hits = [asdict(candidate) for candidate in task.candidates]
        log.append({"key": SEARCH_KEY, "query": listed.query, "candidates": hits})
        return task

    async def _fetch_candidate(
        self, fetcher: Fetcher, identity_id: str, candidate: Candidate, log: CrawlLog, known: dict[str, Entry]
    ) -> Candidate:
        if candidate.facts.get("status") is not None:  # the source has already judged it
            return candidate
        entry = known.get(candidate.relative_path)
        path = await asyncio.to_thread(self._stored, identity_id, entry) if entry and entry["is_stored"] else None
        if entry is None or entry["version"] != candidate.version or (entry["is_stored"] and path is None):
            request = FetchRequest(
                candidate.locator,
                candidate.facts.get("expected_sha256"),
                landing_page=candidate.facts.get("landing_page_uri"),
            )
            result = await fetcher.fetch(request)
            entry = _entry(candidate, result)
            if result.content is not None and result.content_sha256 is not None:
                path = await asyncio.to_thread(
                    self._originals.write, identity_id, result.content_sha256, result.content
                )
            log.append(entry)
        facts = {**candidate.facts, **entry["facts"]}
        if path is None:
            return replace(candidate, facts=facts)
        if facts["content_sha256"] in self._settings.placeholder_sha256:  # the setting may be newer than the log entry
            return replace(
                candidate, facts=facts | _verdict_facts(PLACEHOLDER, "a known placeholder of a removed image")
            )
        return replace(candidate, locator=path.as_posix(), facts=facts)

    def _stored(self, identity_id: str, entry: Entry) -> Path | None:
        """Return the path of the bytes that an earlier run fetched, or None if they are missing or damaged."""
        return self._originals.find(identity_id, entry["facts"]["content_sha256"])


async def _gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, Candidate]]) -> list[Candidate]:
    """Return all results in order. If a coroutine raises, cancel the others and wait for their end."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def forget_failures(folder: DatasetFolder, identity_id: str, damaged: Container[str] = ()) -> bool:
    """Remove the failed URLs and searches of an identity from its log. The next crawl retries only these.

    Args:
        folder: the dataset folder.
        identity_id: of the identity.
        damaged: sha256 of stored bytes that are missing or damaged; their URLs are retried, too.

    Returns:
        Whether an entry was removed.
    """
    log = CrawlLog(folder, identity_id)
    entries = log.read()
    failed = [
        key
        for key, entry in entries.items()
        if _may_retry(key, entry) or entry.get("facts", {}).get("content_sha256") in damaged
    ]
    if failed:
        log.replace(entry for key, entry in entries.items() if key not in failed)
    return bool(failed)


def _may_retry(key: str, entry: Entry) -> bool:
    if key == SEARCH_KEY:
        return any(hit["facts"].get("status") == Status.FAILED for hit in entry["candidates"])
    facts = entry["facts"]
    return facts.get("status") == Status.FAILED and facts["reason"] not in PERMANENT_REASONS


def _verdict_facts(reason: Reason, message: str | None) -> dict[str, Any]:
    status = Status.FAILED if reason.failed else Status.DROPPED
    return {"status": str(status), "stage": STAGE, "reason": str(reason), "message": message}


def _entry(candidate: Candidate, result: FetchResult) -> Entry:
    """Return the log entry of a fetch: the manifest columns, and whether the bytes were stored."""
    facts: dict[str, Any] = {name: getattr(result, name) for name in _COLUMNS}
    facts |= {"content_sha256": result.content_sha256, "original_bytes": result.n_bytes}
    if not result.ok:
        facts |= _verdict_facts(result.reason or BAD_RESPONSE, result.message)
    is_stored = result.content is not None
    return {"key": candidate.relative_path, "version": candidate.version, "is_stored": is_stored, "facts": facts}
