"""A commit is never lost: not by an interrupt in it, not by a repeated worker call, not by a repeated reader."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from hifidata.core.schema import IdentityTask
from hifidata.run.crawl import Crawl
from hifidata.run.executors.input import identity_tasks, open_reader
from hifidata.run.plan import make_plan
from hifidata.run.worker import Worker
from hifidata.store.layout import DatasetFolder
from hifidata.store.originals import Originals
from tests.factories.crawl import recipe_for, write_list
from tests.servers.hostile import HostileServer

RUN = "run"


class Interrupt(BaseException):
    """In place of a kill. No code catches it."""


def interrupt_at(number: int) -> Any:
    """Return a trace function that raises Interrupt before one line of ``Worker.commit``, counted from 0."""
    lines = count()

    def trace_line(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and next(lines) == number:
            raise Interrupt
        return trace_line

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        return trace_line if frame.f_code is Worker.commit.__code__ else None

    return trace


def test_after_an_interrupt_at_any_line_of_a_commit_a_repeated_call_gives_the_same_shard_and_counts(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(write_list(tmp_path / "list.jsonl", server, twelve_people))
    out = tmp_path / "out"
    folder = DatasetFolder(out)
    folder.create()
    with closing(identity_tasks(recipe, make_plan(recipe).candidates_of, out, RUN)) as tasks:
        task = next(tasks)
    worker = Worker(recipe, recipe.stage_names, open_reader(recipe, out), out, RUN)
    fragment, shard = folder.fragment_path(task.identity_id), folder.shard_path(task.identity_id)
    expected, expected_shard = worker.process(task), shard.read_bytes()
    assert expected.n_kept > 0
    n_interrupts = n_committed = 0
    for line in count():
        fragment.unlink()
        shard.unlink()
        batch = worker.run(worker.open(task))
        sys.settrace(interrupt_at(line))
        try:
            worker.commit(batch)
            break  # the commit has no more lines
        except Interrupt:
            n_interrupts += 1
        finally:
            sys.settrace(None)
        done = worker.committed(task)
        n_committed += done is not None
        assert (done or worker.process(task)) == expected, f"line {line}"
        assert shard.read_bytes() == expected_shard, f"line {line}"
    assert n_interrupts > 10
    assert 0 < n_committed < n_interrupts, "interrupts came before and after the rename of the fragment"


def test_a_commit_of_another_run_is_not_taken_for_a_repeated_call(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    """``--retry failed`` processes committed identities again."""
    recipe = recipe_for(write_list(tmp_path / "list.jsonl", server, twelve_people))
    out = tmp_path / "out"
    DatasetFolder(out).create()
    with closing(identity_tasks(recipe, make_plan(recipe).candidates_of, out, RUN)) as tasks:
        task = next(tasks)
    workers = [Worker(recipe, recipe.stage_names, open_reader(recipe, out), out, run_id) for run_id in (RUN, "", "2")]
    outcome = workers[0].process(task)
    assert [worker.committed(task) for worker in workers] == [outcome, None, None]


def test_a_repeated_reader_yields_the_same_order_and_requests_no_answered_url_again(
    server: HostileServer, twelve_people: Path, tmp_path: Path
) -> None:
    slow = tuple(
        (person, f"/picture?delay_s={delay_s}") for person, delay_s in (("person_00", 0.6), ("person_02", 0.3))
    )
    recipe = recipe_for(write_list(tmp_path / "list.jsonl", server, twelve_people, slow))
    out = tmp_path / "out"
    folder = DatasetFolder(out)
    folder.create()
    pending = make_plan(recipe).candidates_of
    with closing(Crawl(recipe, out, RUN).identity_tasks(pending)) as tasks:
        first = [next(tasks) for _ in range(4)]
    worker = Worker(recipe, recipe.stage_names, open_reader(recipe, out), out, RUN)
    for task in first[:2]:
        worker.process(task)
    Originals(folder, keep=False).forget(first[0].identity_id)  # its outcome has reached the driver

    with closing(Crawl(recipe, out, RUN).identity_tasks(pending)) as tasks:
        again = list(tasks)
    assert [task.identity_id for task in again[:4]] == [task.identity_id for task in first]
    assert {task.identity_id for task in again} == set(pending)
    assert again[2:4] == first[2:4]
    requests = Counter(server.paths())
    assert max(requests[path] for task in first for path in _paths(task, server)) == 1
    assert worker.committed(again[0]) is not None


def _paths(task: IdentityTask, server: HostileServer) -> list[str]:
    return [candidate.source_uri.removeprefix(server.url("")) for candidate in task.candidates]
