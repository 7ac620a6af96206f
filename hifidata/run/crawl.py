"""The crawl: fetches people's candidates ahead of the workers, many people at once.

It runs where the source is listed: beside the ``local`` executor in a thread, with Ray in the one reader. Manners are kept
per host, so there is one crawl, whatever the number of workers. Bytes go to disk and never through the workers' queues; a
log per person makes an interrupted crawl go on where it was.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from asyncio import FIRST_COMPLETED as FIRST
from collections.abc import Callable, Container, Coroutine, Iterable, Iterator, Sized
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.core.reasons import Reason
from hifidata.core.schema import Candidate, IdentityTask, Status
from hifidata.fetch.client import Fetcher
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.reasons import BAD_RESPONSE, BAD_SCHEME, BAD_URL, PLACEHOLDER
from hifidata.fetch.result import FetchRequest, FetchResult
from hifidata.run.plan import open_remote
from hifidata.store.layout import DatasetFolder
from hifidata.store.originals import CrawlLog, Entry, Originals

STAGE = "fetch"
SEARCH_KEY = " search"
"""Key of the log entry that holds a person's search hits; cells of a list and URLs of hits begin with no space."""
UNSENT_REASONS = frozenset({str(BAD_URL), str(BAD_SCHEME)})
"""Failures that lie in the URL itself: asking again changes nothing."""
MAX_SEARCHES = 8
MAX_PEOPLE = 1000
"""People begun and not yet handed out; those still to be searched for have no candidates to be counted by."""
POLL_S = 0.2
_COLUMNS = (
    "fetched_at", "http_status", "final_url", "attempts", "retryable", "etag", "last_modified",
    "queued_s", "connect_s", "response_s",
)  # fmt: skip


class Crawl:
    """Fetches what people's candidates point to.

    Args:
        recipe: with a remote source.
        out: the dataset folder.
        open_fetcher: makes what fetches; tests and measurements have their own.
    """

    def __init__(self, recipe: Recipe, out: Path, open_fetcher: Callable[[FetcherConfig], Fetcher] = Fetcher) -> None:
        self._source = open_remote(recipe, out)
        self._settings = recipe.fetch
        self._open_fetcher = open_fetcher
        self._folder = DatasetFolder(out)
        self._originals = Originals(self._folder, recipe.fetch.keep_originals)
        self._done: queue.Queue[IdentityTask | BaseException | None] = queue.Queue()
        self._n_begun = 0  # candidates of people begun ...
        self._n_taken = 0  # ... and of those that a worker has taken

    def people(self, wanted: Container[str]) -> Iterator[IdentityTask]:
        """Wanted people of the source with their candidates fetched, in the order in which they get ready.

        A candidate that was fetched has the path of its bytes as locator; one that was not is judged already.
        """
        loop = asyncio.new_event_loop()
        crawling = loop.create_task(self._crawl(wanted))
        thread = threading.Thread(target=self._run, args=(loop, crawling), name="crawl", daemon=True)
        thread.start()
        try:
            while (ready := self._done.get()) is not None:
                if isinstance(ready, BaseException):
                    raise ready
                self._n_taken += len(ready.candidates)
                yield ready
        finally:
            with suppress(RuntimeError):  # the loop is closed: the crawl has ended by itself
                loop.call_soon_threadsafe(crawling.cancel)
            thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, crawling: asyncio.Task[None]) -> None:
        loop.run_until_complete(asyncio.wait({crawling}))  # raises nothing: how it ended stays with the task
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        self._done.put(None if crawling.cancelled() else crawling.exception())

    async def _crawl(self, wanted: Container[str]) -> None:
        listed = (task for task in self._source.identities() if task.identity_id in wanted)
        searches = asyncio.Semaphore(MAX_SEARCHES)
        begun: set[asyncio.Task[IdentityTask]] = set()
        handed_out: dict[str, int] = {}
        async with self._open_fetcher(self._settings) as fetcher:
            try:
                while (task := await asyncio.to_thread(next, listed, None)) is not None:
                    begun.add(asyncio.create_task(self._person(fetcher, task, searches)))
                    await asyncio.sleep(0)  # lets the person count what it has
                    begun -= self._hand_out(begun, handed_out)
                    while self._is_full(begun, handed_out):
                        await (
                            asyncio.wait(begun, timeout=POLL_S, return_when=FIRST) if begun else asyncio.sleep(POLL_S)
                        )
                        begun -= self._hand_out(begun, handed_out)
                while begun:
                    await asyncio.wait(begun, return_when=FIRST)
                    begun -= self._hand_out(begun, handed_out)
            finally:
                for person in begun:
                    person.cancel()
                await asyncio.gather(*begun, return_exceptions=True)

    def _hand_out(
        self, begun: set[asyncio.Task[IdentityTask]], handed_out: dict[str, int]
    ) -> set[asyncio.Task[IdentityTask]]:
        ready = {person for person in begun if person.done()}
        for person in ready:
            task = person.result()
            handed_out[task.identity_id] = len(task.candidates)
            self._done.put(task)
        return ready

    def _is_full(self, begun: Sized, handed_out: dict[str, int]) -> bool:
        for identity_id in [known for known in handed_out if not self._originals.is_waiting(known)]:
            del handed_out[identity_id]
        for_a_worker, on_disk = self._n_begun - self._n_taken, sum(handed_out.values())
        return len(begun) >= MAX_PEOPLE or max(for_a_worker, on_disk) >= self._settings.max_waiting

    async def _person(self, fetcher: Fetcher, listed: IdentityTask, searches: asyncio.Semaphore) -> IdentityTask:
        log = CrawlLog(self._folder, listed.identity_id)
        known = log.read()
        async with searches:
            task = await self._expanded(listed, log, known)
        self._n_begun += len(task.candidates)
        fetched: list[Candidate] = []
        step = self._settings.max_waiting
        for start in range(0, len(task.candidates), step):
            some = task.candidates[start : start + step]
            fetched += await _all_or_none(
                self._candidate(fetcher, task.identity_id, candidate, log, known) for candidate in some
            )
        listed_keys = {SEARCH_KEY, *(candidate.relative_path for candidate in task.candidates)}
        if known.keys() - listed_keys:  # rows that have left the list leave the log
            log.replace(entry for key, entry in log.read().items() if key in listed_keys)
        return replace(task, candidates=tuple(fetched))

    async def _expanded(self, listed: IdentityTask, log: CrawlLog, known: dict[str, Entry]) -> IdentityTask:
        if not listed.query:
            return listed
        found = known.get(SEARCH_KEY)
        if found is not None and found["query"] == listed.query:
            return replace(listed, candidates=tuple(Candidate(**hit) for hit in found["candidates"]))
        task = await _aside(self._source.expand, listed)
        hits = [asdict(candidate) for candidate in task.candidates]
        log.append({"key": SEARCH_KEY, "query": listed.query, "candidates": hits})
        return task

    async def _candidate(
        self, fetcher: Fetcher, identity_id: str, candidate: Candidate, log: CrawlLog, known: dict[str, Entry]
    ) -> Candidate:
        if candidate.facts.get("status") is not None:  # the list or the search has judged it
            return candidate
        entry = known.get(candidate.relative_path)
        path = self._stored(identity_id, entry)
        if entry is None or entry["version"] != candidate.version or (entry["is_stored"] and path is None):
            expected = candidate.facts.get("expected_sha256")
            result = await fetcher.fetch(FetchRequest(candidate.locator, expected))
            entry = _entry(candidate, result)
            if result.content is not None and result.content_sha256 is not None:
                path = await asyncio.to_thread(
                    self._originals.write, identity_id, result.content_sha256, result.content
                )
            log.append(entry)
        facts = {**candidate.facts, **entry["facts"]}
        if path is None:
            return replace(candidate, facts=facts)
        if facts["content_sha256"] in self._settings.placeholder_sha256:  # the list of them may have grown since
            return replace(candidate, facts=facts | _judged(PLACEHOLDER, "a picture known to stand for a removed one"))
        return replace(candidate, locator=path.as_posix(), facts=facts)

    def _stored(self, identity_id: str, entry: Entry | None) -> Path | None:
        """Where the bytes lie that an earlier run has fetched."""
        if entry is None or not entry["is_stored"]:
            return None
        return self._originals.find(identity_id, entry["facts"]["content_sha256"], entry["facts"]["original_bytes"])


async def _all_or_none(some: Iterable[Coroutine[Any, Any, Candidate]]) -> list[Candidate]:
    """All results in order; where one raises, the others are stopped before it goes on."""
    tasks = [asyncio.ensure_future(one) for one in some]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _aside(function: Callable[[IdentityTask], IdentityTask], task: IdentityTask) -> IdentityTask:
    """``function(task)`` in a thread that nobody waits for when the crawl is stopped: a search may take its time."""
    outcome: Future[IdentityTask] = Future()
    outcome.set_running_or_notify_cancel()  # from here on it is settled by the thread alone

    def work() -> None:
        """Settles the outcome, whatever happens: somebody awaits it."""
        try:
            outcome.set_result(function(task))
        except BaseException as error:  # noqa: BLE001  raised again where it is awaited
            outcome.set_exception(error)

    threading.Thread(target=work, name="search", daemon=True).start()
    return await asyncio.wrap_future(outcome)


def reopen(folder: DatasetFolder, identity_id: str) -> bool:
    """Forgets which of a person's URLs, or searches, have failed, so that the next crawl tries these alone again.

    Returns:
        Whether there is anything to try.
    """
    log = CrawlLog(folder, identity_id)
    entries = log.read()
    failed = [key for key, entry in entries.items() if _may_try_again(key, entry)]
    if failed:
        log.replace(entry for key, entry in entries.items() if key not in failed)
    return bool(failed)


def _may_try_again(key: str, entry: Entry) -> bool:
    if key == SEARCH_KEY:
        return any(hit["facts"].get("status") == Status.FAILED for hit in entry["candidates"])
    facts = entry["facts"]
    return facts.get("status") == Status.FAILED and facts["reason"] not in UNSENT_REASONS


def _judged(reason: Reason, message: str | None) -> dict[str, Any]:
    status = Status.FAILED if reason.failed else Status.DROPPED
    return {"status": str(status), "stage": STAGE, "reason": str(reason), "message": message}


def _entry(candidate: Candidate, result: FetchResult) -> Entry:
    """What the log keeps of a fetch: the manifest columns it adds, and whether its bytes were stored."""
    facts: dict[str, Any] = {name: getattr(result, name) for name in _COLUMNS}
    facts |= {"content_sha256": result.content_sha256, "original_bytes": result.n_bytes}
    if not result.ok:
        facts |= _judged(result.reason or BAD_RESPONSE, result.message)
    is_stored = result.content is not None
    return {"key": candidate.relative_path, "version": candidate.version, "is_stored": is_stored, "facts": facts}
