"""The order of targets: a stream that can resume at any sample.

Readers (all workers of all ranks) share the tars of an epoch in a random order. A reader loads ``window_identities``
identities, yields all their images as targets in a random order, and continues with the next identities. A position is
therefore an index among the tars and an index in the window, without any random state.

With fewer usable identities than readers, a reader can be empty in an epoch. It continues with the next epoch, in which it
reads other tars.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hifimodel.data.checks import ShardChecks
from hifimodel.data.config import Counts, DataConfig
from hifimodel.data.drawing import DrawLandmarks
from hifimodel.data.group import Group, LoadedIdentity, draw_of, make_group, number_of
from hifimodel.data.sample import CorruptSample, Sample, parse_sample
from hifimodel.data.shards import find_shards, read_identities
from hifimodel.errors import DataError

EMPTY_EPOCHS = 3
"""After so many empty epochs in a row, a reader checks all tars, and fails if there is no usable identity."""
SHARD_ORDER, WINDOW_ORDER = 1, 2  # separate seeds of the two shuffles


@dataclass(frozen=True)
class Position:
    """Position of a reader after a sample.

    Attributes:
        shard: index of the window's first tar in the reader's list of this epoch.
        ordinal: first identity of the window in that tar.
        done: targets of the window that were yielded or skipped.
        counts: ``Counts.as_json`` at that position.
    """

    epoch: int = 0
    shard: int = 0
    ordinal: int = 0
    done: int = 0
    counts: Mapping[str, Any] = field(default_factory=lambda: Counts().as_json())

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ShardFacts:
    """Facts of a dataset that a model depends on.

    Attributes:
        embedding_model: model of the stored embeddings.
        embedding_dim: d2.
        matting: model of the mattes of references; None without mattes.
    """

    embedding_model: str
    embedding_dim: int
    matting: str | None = None


class GroupStream:
    """The training samples of one reader.

    Args:
        config: settings.
        shards: all tars, the same list for every reader.
        reader: index of the reader among all workers of all ranks.
        paint: draws the landmark image.
        checks: of all tars, shared by the readers; None: compared by this reader alone.
    """

    def __init__(
        self,
        config: DataConfig,
        shards: Sequence[Path],
        reader: int,
        paint: DrawLandmarks,
        checks: ShardChecks | None = None,
    ) -> None:
        self._config = config
        self._shards = shards
        self._reader = reader
        self._readers = config.world_size * config.readers
        self._paint = paint
        self._checks = checks or ShardChecks(shards)
        self._embedder: tuple[str, int] | None = None
        self._matting = ""
        self._cause = ""

    def groups(self, position: Position) -> Iterator[tuple[Group, Position]]:
        """Yield (training sample, position after it) from a position.

        Raises:
            DataError: there is no usable identity, or the shards do not match each other.
        """
        counts = Counts.from_json(position.counts)
        empty = 0  # epochs in a row
        for epoch in itertools.count(position.epoch):
            if self._config.epochs is not None and epoch >= self._config.epochs:
                return
            found = False
            start = position if epoch == position.epoch else Position(epoch)
            for group, after in self._epoch(start, counts):
                found = True
                yield group, after
            empty = 0 if found or start.done else empty + 1
            if empty == EMPTY_EPOCHS:
                self._require_identity()
                empty = 0

    def identities(self, start: Position, counts: Counts) -> Iterator[tuple[LoadedIdentity, Position]]:
        """Yield the usable identities of an epoch from a position, each with the position that starts with it."""
        config, n_shards = self._config, len(self._shards)
        drawn = np.random.default_rng([config.seed, start.epoch, SHARD_ORDER]).permutation(n_shards)
        # With enough tars, each has one reader. With fewer tars than readers, every reader reads a share of each, and
        # shares rotate with the epoch, so that no reader stays empty.
        mine = drawn[self._reader :: self._readers] if n_shards >= self._readers else drawn
        turn = self._reader - start.epoch
        for place in range(start.shard, len(mine)):
            share = (0, 1) if n_shards >= self._readers else ((turn - place) % self._readers, self._readers)
            first = start.ordinal if place == start.shard else 0
            for raw in read_identities(self._shards[mine[place]], first, share, counts, self._checks):
                counts.identities += 1
                identity = LoadedIdentity(raw.identity_id, list(self._usable(raw.samples, counts)))
                if len(identity.samples) >= config.min_images:
                    yield identity, Position(start.epoch, place, raw.ordinal)
                else:
                    counts.too_few += 1

    def _epoch(self, start: Position, counts: Counts) -> Iterator[tuple[Group, Position]]:
        identities, done = self.identities(start, counts), start.done
        while window := list(itertools.islice(identities, self._config.window_identities)):
            if done:
                counts.set_to(
                    start.counts
                )  # a window that was started before the stop is read again, but already counted
            yield from self._window([identity for identity, _ in window], replace(window[0][1], done=done), counts)
            window.clear()  # free it before the next window is read
            done = 0

    def _window(
        self, identities: Sequence[LoadedIdentity], begin: Position, counts: Counts
    ) -> Iterator[tuple[Group, Position]]:
        targets = [(identity, place) for identity in identities for place in range(len(identity.samples))]
        seed = [self._config.seed, begin.epoch, WINDOW_ORDER, number_of(identities[0].identity_id)]
        order = np.random.default_rng(seed).permutation(len(targets))
        for number in range(begin.done, len(targets)):
            identity, place = targets[order[number]]
            group = self._group(identity, place, begin.epoch, counts)
            if group is not None:
                yield group, replace(begin, done=number + 1, counts=counts.as_json())

    def _group(self, identity: LoadedIdentity, place: int, epoch: int, counts: Counts) -> Group | None:
        try:
            draw = draw_of(identity, place, epoch, self._config)
            return make_group(identity, place, draw, self._config, self._paint)
        except CorruptSample as error:
            counts.corrupt[str(error)] += 1
            self._cause = str(error.__cause__ or error)
            return None

    def _usable(self, raw: Sequence[tuple[str, dict[str, bytes]]], counts: Counts) -> Iterator[Sample]:
        for key, members in raw:
            counts.samples += 1
            try:
                sample = parse_sample(key, members)
            except CorruptSample as error:
                counts.corrupt[str(error)] += 1
                continue
            self._require_same_embedder(sample)
            self._require_same_matting(sample)
            yield sample

    def _require_same_embedder(self, sample: Sample) -> None:
        embedder = sample.embedding_model, len(sample.embedding)
        self._embedder = self._embedder or embedder
        if embedder != self._embedder:
            raise DataError(
                f"shards: embeddings of {embedder[1]} numbers by {embedder[0]} (sample {sample.key}) and of "
                f"{self._embedder[1]} by {self._embedder[0]}; train on datasets with the same `verify.model`"
            )

    def _require_same_matting(self, sample: Sample) -> None:
        matting = sample.matting_model or "none"
        self._matting = self._matting or matting
        if matting != self._matting:  # a checkpoint records one matting model, which generation then uses
            raise DataError(
                f"shards: references of matting {matting} (sample {sample.key}) and {self._matting}; train on datasets with "
                "the same `matting.model`"
            )

    def _require_identity(self) -> None:
        """Raise DataError unless a single reader of all tars would get a sample."""
        alone = GroupStream(
            replace(self._config, rank=0, world_size=1, workers=0), self._shards, 0, self._paint, self._checks
        )
        counts = Counts()
        if next(alone._epoch(Position(), counts), None) is None:
            cause = f"; last: {alone._cause}" if alone._cause else ""
            raise DataError(
                f"shards: no usable identity for any of {self._readers} readers (ranks x workers); read {counts}{cause}; lower "
                f"min_images (now {self._config.min_images}), or repair the shards"
            )


def describe_shards(config: DataConfig) -> ShardFacts:
    """Return the facts of the first usable image. Raises DataError if there is none."""
    counts = Counts()
    shards = find_shards(config.shards)
    checks = ShardChecks(shards)
    for shard in shards:
        for raw in read_identities(shard, counts=counts, checks=checks):
            counts.identities += 1
            for key, members in raw.samples:
                counts.samples += 1
                try:
                    sample = parse_sample(key, members)
                except CorruptSample as error:
                    counts.corrupt[str(error)] += 1
                    continue
                return ShardFacts(sample.embedding_model, len(sample.embedding), sample.matting_model)
    raise DataError(f"shards: no usable image; read {counts}; run `hifidata check` on the dataset")
