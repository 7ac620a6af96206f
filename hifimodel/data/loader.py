"""Batches from worker processes, with one common position."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import cv2
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hifidata.core.errors import HifiError
from hifimodel.data.batch import Batch, collate
from hifimodel.data.checks import ShardChecks
from hifimodel.data.config import Counts, DataConfig
from hifimodel.data.drawing import DrawLandmarks, StoredLandmarks
from hifimodel.data.group import Group
from hifimodel.data.shards import digest, find_shards
from hifimodel.data.stream import GroupStream, Position
from hifimodel.errors import DataError

STATE_VERSION = 2
JUDGED_FROM = 1000
"""Fewer samples than this in the first epoch are too few to judge ``max_bad_share``."""
BOUND = ("seed", "rank", "world_size", "workers", "batch_size", "min_references", "max_references", "text_drop",
         "min_images", "window_identities", "epochs")  # fmt: skip
"""Settings that a position depends on: with another value it would refer to another sample."""


@dataclass(frozen=True)
class _Delivery:
    """A batch of a worker, or its error as one line (an exception would arrive as a page of text)."""

    reader: int
    after: Position | None = None
    batch: Batch | None = None
    failure: str | None = None

    def pin_memory(self) -> _Delivery:
        """Return the delivery with its batch in page-locked memory; ``DataLoader`` calls a method of this name."""
        return self if self.batch is None else replace(self, batch=self.batch.pin_memory())


class Loader:
    """An endless stream of training batches of one rank, or a stream of ``config.epochs``.

    An iteration continues where the last one ended. The stream is a function of the settings, the shards and the rank.
    ``state`` after a batch, or ``position`` of the batch, continues it bit for bit in another process.

    Do not wrap it with ``accelerator.prepare``: shards are already split over ranks. Ranks that train together need endless
    streams, since their epochs differ in length.

    Args:
        config: settings.
        state: position to continue from; None: the start.
        paint: draws the landmark image; default: the stored landmarks with ``config.landmarks``.

    Raises:
        DataError: no shards, another format version, or a state of other settings or shards. During iteration: no usable
            identity, or too many corrupt samples.
    """

    def __init__(
        self, config: DataConfig, state: Mapping[str, Any] | None = None, paint: DrawLandmarks | None = None
    ) -> None:
        self._config = config
        self._shards = find_shards(config.shards)
        if paint is None:
            paint = StoredLandmarks(config.landmarks, config.landmarks_weights)
            paint.load()
        self._paint = paint
        self._digest = digest(self._shards)
        self._checks = ShardChecks(self._shards, is_shared=config.workers > 0)
        self._positions = [Position() for _ in range(config.readers)]
        self._next = 0
        if state is not None:
            self._restore(state)

    @property
    def state(self) -> dict[str, Any]:
        """Position of the stream, for JSON; a few hundred bytes per worker."""
        return {
            "version": STATE_VERSION,
            "shards": self._digest,
            "settings": self._bound_settings(),
            "next": self._next,
            "readers": [position.as_json() for position in self._positions],
        }

    @property
    def counts(self) -> Counts:
        """Counts of this rank so far."""
        return sum((Counts.from_json(position.counts) for position in self._positions), Counts())

    def __iter__(self) -> Iterator[Batch]:
        config = self._config
        batches = DataLoader(
            _Batches(self._config, self._shards, self._paint, self._checks, tuple(self._positions), self._next),
            batch_size=None,
            num_workers=config.workers,
            prefetch_factor=config.prefetch_batches if config.workers else None,
            pin_memory=config.pin_memory,
            multiprocessing_context=_fresh_processes() if config.workers else None,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # the stubs know only lists of samples
        )
        for delivery in batches:
            if delivery.failure is not None or delivery.batch is None or delivery.after is None:
                raise DataError(delivery.failure or "loader: a worker sent nothing; this is a bug")
            self._positions[delivery.reader] = delivery.after
            self._next = (delivery.reader + 1) % config.readers
            self._judge()
            yield replace(delivery.batch, position=self.state)
        self._judge(at_end=True)

    def _judge(self, at_end: bool = False) -> None:
        counts = self.counts
        if not at_end and counts.samples < JUDGED_FROM and min(position.epoch for position in self._positions) == 0:
            return
        limit = self._config.max_bad_share
        if counts.corrupt.total() > limit * counts.samples or counts.damaged_shards > limit * counts.shards:
            raise DataError(
                f"shards: over max_bad_share {limit:g}: read {counts}; run `hifidata check` on the dataset, build it again, "
                "or raise max_bad_share"
            )

    def _bound_settings(self) -> dict[str, Any]:
        return {name: getattr(self._config, name) for name in BOUND}

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state.get("version") != STATE_VERSION:
            raise DataError(
                f"loader state: version {state.get('version')}, expected {STATE_VERSION}; start without a state"
            )
        now, then = self._bound_settings(), state.get("settings", {})
        changed = [f"{name} was {then.get(name)}, is {now[name]}" for name in BOUND if then.get(name) != now[name]]
        if state.get("shards") != self._digest:
            changed.append("the shards' names or sizes changed")
        if changed:
            raise DataError(f"loader state: {'; '.join(changed)}; resume with the same, or start without a state")
        self._positions = [Position(**position) for position in state["readers"]]
        self._next = int(state["next"])


class _Batches(IterableDataset[_Delivery]):
    """The dataset of a worker process. Worker 0 is the next reader, so that batches keep their order after a resume."""

    def __init__(
        self,
        config: DataConfig,
        shards: list[Path],
        paint: DrawLandmarks,
        checks: ShardChecks,
        positions: tuple[Position, ...],
        first: int,
    ) -> None:
        super().__init__()
        self._config = config
        self._shards = shards
        self._paint = paint
        self._checks = checks
        self._positions = positions
        self._first = first

    def __iter__(self) -> Iterator[_Delivery]:
        config, info = self._config, get_worker_info()
        if info is not None:
            cv2.setNumThreads(1)  # workers already run in parallel
            signal.signal(
                signal.SIGINT, signal.SIG_IGN
            )  # only the trainer handles Ctrl-C: it needs batches until its checkpoint is written
        reader = (self._first + (info.id if info else 0)) % config.readers
        number = config.rank * config.readers + reader
        stream = GroupStream(config, self._shards, number, self._paint, self._checks)
        gathered: list[Group] = []
        after = self._positions[reader]
        try:
            for group, position in stream.groups(after):
                gathered.append(group)
                after = position
                if len(gathered) == config.batch_size:
                    yield _Delivery(reader, after, collate(gathered))
                    gathered = []
        except HifiError as error:
            yield _Delivery(reader, failure=str(error))
        else:
            if gathered:  # the short batch at the end of the last epoch
                yield _Delivery(reader, after, collate(gathered))


def _fresh_processes() -> BaseContext:
    # Workers forked from the trainer could inherit held locks: torch, OpenCV and CUDA have threads. The fork server has
    # no threads, and imports torch once for all workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hifimodel.data"])
    return context


def _as_it_is(delivery: _Delivery) -> _Delivery:
    return delivery
