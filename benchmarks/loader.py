"""Training data: groups (target, references, landmark image) per second and core, made from shards.

The table also shows the time of each part, and the groups per second from several worker processes. Times are CPU times of one
process with one thread, and wall times for worker processes. The shards are in the page cache.

    python -m benchmarks.loader --shards 'datasets/demo/shards/**/*.tar'
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

import cv2
import torch

from hifidata.cli import console
from hifimodel.data import DataConfig, Loader, StoredLandmarks, find_shards
from hifimodel.data.batch import collate
from hifimodel.data.config import Counts
from hifimodel.data.faces import decode_jpeg
from hifimodel.data.group import LoadedIdentity, draw_of, make_group, make_reference
from hifimodel.data.stream import GroupStream, Position
from hifimodel.errors import DataError
from hifimodel.faces.clip_crop import reduction, resize_square

GPU_IMAGES_PER_S = 15
"""Images per second of one H200-class GPU at 1024 px. The goal: four cores load five times as many."""
GOAL_PER_CORE = 5 * GPU_IMAGES_PER_S / 4
GROUPS = 300
ROUNDS = 3
"""Measurements of each part, in turns; the fastest counts."""
WORKERS = (0, 1, 2)
WALL_ROUNDS = 2

T = TypeVar("T")


def rows(shards: str, size_px: int = 1024) -> Iterator[tuple[str, str, str]]:
    """Yield the table's rows (what, measured, goal)."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = DataConfig(shards, size_px=size_px)
    identities = _identities(config)
    n_groups = sum(len(identity.samples) for identity in identities)
    seconds, parts = float("inf"), [dict[str, float]()]
    for _ in range(ROUNDS):
        seconds = min(seconds, _per_group(config))
        parts.append(_parts(config, identities))
    best = {name: min(part[name] for part in parts[1:]) / n_groups for name in parts[1]}
    yield (
        f"groups of {size_px} px per core over {GOAL_PER_CORE:g} a second",
        f"{1 / seconds / GOAL_PER_CORE:.2f} ({1 / seconds:.1f}/s)",
        "at least 1.0",
    )
    yield from _wall_rows(config)
    for name, spent in sorted(best.items(), key=lambda item: -item[1]):
        yield f"   of a group's time, {name}", f"{spent / seconds:.1%} ({spent * 1000:.2f} ms)", ""
    batch = next(iter(Loader(config)))
    floats = min(_seconds(lambda: (batch.pixel_values, batch.landmark_pixels)) for _ in range(ROUNDS))
    spent = floats / len(batch.keys)
    yield "bytes to floats on this CPU over making the group", f"{spent / seconds:.2f} ({spent * 1000:.2f} ms)", ""


def _per_group(config: DataConfig) -> float:
    loader = Loader(config)
    n_groups, began = 0, time.process_time()
    for batch in itertools.islice(loader, max(1, GROUPS // config.batch_size)):
        n_groups += len(batch.keys)
    return (time.process_time() - began) / n_groups


def _wall_rows(config: DataConfig) -> Iterator[tuple[str, str, str]]:
    """Yield rows of the groups per second in wall time, measured in turns; the best counts."""
    rates = [[_arriving_per_s(replace(config, workers=workers)) for workers in WORKERS] for _ in range(WALL_ROUNDS)]
    best = [max(rate) for rate in zip(*rates, strict=True)]
    for workers, rate in zip(WORKERS, best, strict=True):
        what = f"{workers} loader worker{'s' * (workers > 1)}" if workers else "the calling process"
        yield f"   groups a second from {what}, wall time", f"{rate:.1f} ({rate / best[0]:.2f} of the first)", ""


def _arriving_per_s(config: DataConfig) -> float:
    with closing(iter(Loader(config))) as batches:
        for _ in range(config.readers):  # waits until every worker has started
            next(batches)
        began = time.perf_counter()
        n_groups = sum(len(batch.keys) for batch in itertools.islice(batches, max(1, GROUPS // config.batch_size)))
        return n_groups / (time.perf_counter() - began)


def _identities(config: DataConfig) -> list[LoadedIdentity]:
    """Read complete identities until there are enough targets."""
    stream = GroupStream(config, find_shards(config.shards), 0, StoredLandmarks(config.landmarks))
    identities: list[LoadedIdentity] = []
    for identity, _ in stream.identities(Position(), Counts()):
        identities.append(identity)
        if sum(len(one.samples) for one in identities) >= GROUPS:
            break
    return identities


def _parts(config: DataConfig, identities: list[LoadedIdentity]) -> dict[str, float]:
    """Return the seconds of each part, with every image as the target once."""
    paint, size_px = StoredLandmarks(config.landmarks), config.size_px
    names = ("read and check", "decode", "resize", "draw landmarks", "reference decode and crops", "collate")
    spent = dict.fromkeys(names, 0.0)
    _timed(spent, "read and check", lambda: _identities(config))
    for identity in identities:
        identity.crops = {}
        for place, sample in enumerate(identity.samples):
            identity.crops[place] = _timed(
                spent, "reference decode and crops", lambda s=sample: make_reference(s, config)
            )
        groups = []
        for place, sample in enumerate(identity.samples):
            factor = reduction(sample.side_px / size_px)
            rgb_u8 = _timed(spent, "decode", lambda s=sample, f=factor: decode_jpeg(s.jpeg, f))
            _timed(spent, "resize", lambda rgb_u8=rgb_u8: resize_square(rgb_u8, size_px))
            draw = draw_of(identity, place, 0, config)
            shape = identity.samples[draw.order[0]]
            faces = (sample.landmarks_px, sample.face3d, shape.landmarks_px, shape.face3d)
            _timed(spent, "draw landmarks", lambda faces=faces, s=sample: paint(*faces, s.side_px, size_px))
            groups.append(make_group(identity, place, draw, config, paint))
        for begin in range(0, len(groups), config.batch_size):
            _timed(spent, "collate", lambda part=groups[begin : begin + config.batch_size]: collate(part))
    return spent


def _timed(spent: dict[str, float], name: str, call: Callable[[], T]) -> T:
    began = time.process_time()
    result = call()
    spent[name] += time.process_time() - began
    return result


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--shards", required=True, help="a dataset folder, a folder of tars, or a quoted pattern")
    parser.add_argument("--size-px", type=int, default=1024)
    options = parser.parse_args()
    try:
        console.table("loader", ("what", "measured", "goal"), rows(options.shards, options.size_px))
    except DataError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
