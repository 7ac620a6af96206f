"""The worker: runs the stages on one identity, in chunks that fit into memory, and commits it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from hifidata.config.recipe import Recipe
from hifidata.config.sections import StageConfig
from hifidata.core.errors import IntakeError, SampleError, WeightsError
from hifidata.core.reasons import Reason
from hifidata.core.schema import Candidate, IdentityTask, Row, Status, as_float32
from hifidata.image.encode import thumbnail_jpeg
from hifidata.models.caption.sidecar import SidecarCaptioner
from hifidata.models.runtime import device
from hifidata.run.devices import onnx_stages
from hifidata.run.extension_guard import guarded
from hifidata.run.identity_batch import IdentityBatch, open_batch
from hifidata.run.plan import is_remote
from hifidata.run.requirements import add_pin_hint
from hifidata.sources.base import Reader, Source
from hifidata.stages.base import Columns, Sample, Stage
from hifidata.stages.caption import count_fallback_captions
from hifidata.stages.density import target_embedding
from hifidata.stages.intake import Intake
from hifidata.stages.table import image_columns, stages_of
from hifidata.store.fragments import CommitRecord, identity_row, read_record_of_run, rows_of_recipe, write_fragment
from hifidata.store.layout import DatasetFolder
from hifidata.store.shards import members_of, write_shard
from hifidata.weights.search_path import searching

CHUNK_PIXELS = 60_000_000
"""Most pixels of images and portraits in memory, 3 bytes each. One image at the intake limit fits, or dozens of photos."""


@dataclass(frozen=True)
class Outcome:
    """Counts of a committed identity, for the driver."""

    identity_id: str
    n_kept: int
    n_dropped: int
    n_failed: int


class Worker:
    """Runs consecutive stages on identities. The constructor loads the models.

    Args:
        recipe: resolved recipe.
        stage_names: stages of this worker's group.
        reader: reads the original bytes.
        out: dataset folder for the commits of the last group.
        run_id: id of the run, for ``committed``.
    """

    def __init__(self, recipe: Recipe, stage_names: Sequence[str], reader: Reader, out: Path, run_id: str = "") -> None:
        cv2.setNumThreads(1)  # there is one worker process per core; more threads would compete for the cores
        self._recipe = recipe
        self._reader = reader
        self._folder = DatasetFolder(out)
        self._run_id = run_id
        self.columns = image_columns(recipe)
        self._float32 = frozenset(column.name for column in self.columns if column.type == "float32")
        self._is_last = recipe.stage_names[-1] in stage_names
        with searching(recipe.weights.folder):
            try:
                wanted = [stage for stage in stages_of(recipe) if stage.name in stage_names and stage.runs(recipe)]
                self._stages = [guarded(stage, recipe)(recipe) for stage in wanted]
            except WeightsError as error:
                raise add_pin_hint(error, recipe) from error
        self._providers = dict.fromkeys(onnx_stages(recipe, stage_names), device.current_provider())

    def make_sample(self, task: IdentityTask, candidate: Candidate, row: Row) -> Sample:
        """Make a sample that reads its bytes from the source on demand."""
        recipe = self._recipe
        return Sample(
            row, lambda: self._reader.read(candidate), recipe.intake.limits, recipe.crop.output_px,
            recipe.output.jpeg_quality,
        )  # fmt: skip

    def process(self, task: IdentityTask) -> Outcome:
        """Open, run and commit an identity; for a worker with all stages."""
        return self.commit(self.run(self.open(task)))

    def committed(self, task: IdentityTask) -> Outcome | None:
        """Return the counts of an identity that this run has already committed.

        Ray repeats a call whose worker died, also after the commit. Then the original bytes may be gone.
        """
        record = read_record_of_run(self._folder.fragment_path(task.identity_id), self._run_id)
        return None if record is None else _outcome(record.identity)

    def open(self, task: IdentityTask) -> IdentityBatch:
        """Make the batch of an identity. For a remote source, it has the counts and times of the crawl."""
        batch = open_batch(task, self.make_sample)
        if is_remote(self._recipe):
            batch.entered["fetch"] = len(batch.samples)
            batch.seconds["fetch"] = sum(row.get("connect_s", 0) + row.get("response_s", 0) for row in batch.rows)
        else:
            batch.entered[Intake.name] = sum(not sample.is_alive for sample in batch.samples)  # judged by the source
            self._read_captions(batch)
        return batch

    def _read_captions(self, batch: IdentityBatch) -> None:
        if self._recipe.caption.model == SidecarCaptioner.name:
            source = cast(Source, self._reader)
            for sample, candidate in zip(batch.samples, batch.task.candidates, strict=True):
                sample.row["listed_caption"] = source.caption(candidate)

    def run(self, batch: IdentityBatch) -> IdentityBatch:
        """Run this worker's stages: image stages in chunks, identity stages on all alive samples."""
        batch.providers.update(self._providers)
        for scope, group in groupby(self._stages, key=lambda stage: stage.scope):
            stages = list(group)
            if scope == "image":
                self._run_image_stages(stages, batch)
            else:
                for stage in stages:
                    self._apply(stage, batch.alive, batch)
        return batch

    def _run_image_stages(self, stages: Sequence[Stage], batch: IdentityBatch) -> None:
        # The size of an image is known after intake. So intake runs on single samples, and later stages run on chunks.
        first, rest = (stages[:1], stages[1:]) if isinstance(stages[0], Intake) else ((), stages)
        held: list[Sample] = []
        pixels = 0
        for sample in batch.alive:
            for stage in first:
                self._apply(stage, [sample], batch)
            held.append(sample)
            pixels += self._recipe.crop.output_px**2  # the portrait may be larger than the image
            pixels += (sample.row.get("width_px") or 0) * (sample.row.get("height_px") or 0)
            if pixels >= CHUNK_PIXELS:
                self._finish_chunk(rest, held, batch)
                held, pixels = [], 0
        self._finish_chunk(rest, held, batch)

    def _finish_chunk(self, stages: Sequence[Stage], held: Sequence[Sample], batch: IdentityBatch) -> None:
        for stage in stages:
            self._apply(stage, [sample for sample in held if sample.is_alive], batch)
        began = time.perf_counter()
        for sample in held:
            self._encode_outputs(sample)
            sample.release(keep_encoded=not self._is_last)
        batch.seconds["encode"] += time.perf_counter() - began

    def _encode_outputs(self, sample: Sample) -> None:
        """Encode the portrait for the shard and the thumbnail for the report."""
        output = self._recipe.output
        has_crop = sample.row.get("crop_x1_px") is not None
        if sample.is_alive and has_crop:
            sample.encode_portrait()
        is_final = has_crop or not sample.is_alive  # an alive sample without a crop gets its crop in a later group
        if output.thumbnail_px and sample.has_pixels and sample.thumbnail is None and is_final:
            sample.thumbnail = thumbnail_jpeg(sample.shown_u8, output.thumbnail_px)

    def _apply(self, stage: Stage, samples: Sequence[Sample], batch: IdentityBatch) -> None:
        """Measure, derive and decide one stage. All samples must be alive."""
        if not samples:
            return
        began = time.perf_counter()
        new = self._reuse_columns(stage, samples, batch.task) if stage.reusable_columns else samples
        for start in range(0, len(new), stage.batch_size):
            self._fill(stage, new[start : start + stage.batch_size], stage.measure, one_by_one=True)
        alive = [sample for sample in samples if sample.is_alive]
        config = stage.config(self._recipe)
        self._fill(
            stage, alive, lambda part: stage.derive([sample.row for sample in part], config),
            one_by_one=stage.scope == "image",
        )  # fmt: skip
        for sample in filter(lambda sample: sample.is_alive, alive):
            self._decide(stage, sample.row, config)
        batch.entered[stage.name] += len(samples)
        batch.seconds[stage.name] += time.perf_counter() - began

    def _reuse_columns(self, stage: Stage, samples: Sequence[Sample], task: IdentityTask) -> list[Sample]:
        """Copy reusable columns of the same bytes from an earlier commit with this recipe.

        Returns:
            The samples without such a commit, which the stage has to measure.
        """
        identity_id, columns = task.identity_id, ("content_sha256", *stage.reusable_columns)
        hashes = self._folder.recipe_hashes() | {self._recipe.hash}
        earlier = {
            row["content_sha256"]: {name: row[name] for name in stage.reusable_columns}
            for record in (self._folder.earlier_path(identity_id), self._folder.fragment_path(identity_id))
            for row in rows_of_recipe(record, hashes, columns)
            if stage.is_reusable(row)
        }
        new = []
        for sample in samples:
            known = earlier.get(sample.row["content_sha256"])
            if known is None:
                new.append(sample)
            else:
                sample.row |= known
        return new

    def _fill(
        self, stage: Stage, samples: Sequence[Sample], part: Callable[[Sequence[Sample]], Columns], one_by_one: bool
    ) -> None:
        """Write the columns of a part of a stage to the rows, with numbers rounded as the manifest stores them.

        Args:
            stage: the stage.
            samples: samples of one call; none: no call.
            part: computes the columns.
            one_by_one: repeat a failed call for each sample, so a bad image does not affect the others. False: all samples
                of a failed call fail.
        """
        if not samples:
            return
        try:
            columns = part(samples)
        except SampleError as error:
            if one_by_one and len(samples) > 1:
                for sample in samples:
                    self._fill(stage, [sample], part, one_by_one)
            else:
                for sample in samples:
                    _fail(sample.row, stage, error)
            return
        for name, values in columns.items():
            for sample, value in zip(samples, values, strict=True):
                sample.row[name] = as_float32(value) if name in self._float32 else value

    def _decide(self, stage: Stage, row: Row, config: StageConfig) -> None:
        try:
            verdict = stage.decide(row, config)
        except SampleError as error:
            _fail(row, stage, error)
            return
        if verdict is not None:
            _end(row, stage.name, verdict.reason, verdict.message)
            row["score"] = as_float32(verdict.score)
            row["threshold"] = as_float32(verdict.threshold)

    def commit(self, batch: IdentityBatch) -> Outcome:
        """Set the status of each row, write the shard, then the fragment. The rename of the fragment is the commit."""
        task, kept = batch.task, batch.alive
        path = self._folder.shard_path(task.identity_id, self._recipe.output.layout == "packed")
        shard = path.relative_to(self._folder.root).as_posix()
        for number, sample in enumerate(kept):
            sample.row |= {"status": str(Status.KEPT), "shard": shard, "key": f"{task.identity_id}_{number:04d}"}
        facts = self._identity_facts(batch)
        # Without a fragment the identity is uncommitted. The old fragment must not remain beside the new shard.
        fragment, earlier = self._folder.fragment_path(task.identity_id), self._folder.earlier_path(task.identity_id)
        if fragment.exists():
            fragment.replace(earlier)
        else:  # marks a shard without a fragment, left by a kill, as made by this dataset
            earlier.parent.mkdir(parents=True, exist_ok=True)
            earlier.touch(mode=0o600)
        if kept:
            info = write_shard(
                path, ((s.row["key"], members_of(s.row, s.portrait_jpeg or b"", s.extras)) for s in kept)
            )
            facts |= {"shard": shard, "shard_sha256": info.sha256, "shard_bytes": info.n_bytes}
        else:  # an earlier run with other candidates may have written a shard
            path.unlink(missing_ok=True)
        identity = identity_row(batch.rows, facts)
        ended = Counter(f"{row['stage']}:{row['status']}" for row in batch.rows if row.get("stage"))
        record = CommitRecord(
            identity, task.fingerprint, self._recipe.hash, dict(batch.seconds), dict(batch.entered), dict(ended),
            count_fallback_captions([sample.row for sample in kept]), batch.providers, self._run_id,
        )  # fmt: skip
        thumbnails = [sample.thumbnail for sample in batch.samples]
        write_fragment(fragment, batch.rows, thumbnails, record, self.columns)
        earlier.unlink(missing_ok=True)
        return _outcome(identity)

    def _identity_facts(self, batch: IdentityBatch) -> Row:
        facts: Row = {name: getattr(batch.task, name) for name in ("identity_id", "identity_name", "source")}
        members = [row["embedding"] for row in batch.rows if row.get("cluster") == 0]
        if members:
            centre = target_embedding(np.stack([np.asarray(member, np.float32) for member in members]))
            facts |= {
                "target_embedding": centre.tolist(),
                "n_clusters": 1 + max(row["cluster"] for row in batch.rows if row.get("cluster") is not None),
            }
        return facts


def _outcome(identity: Row) -> Outcome:
    return Outcome(identity["identity_id"], identity["n_kept"], identity["n_dropped"], identity["n_failed"])


def _end(row: Row, stage: str, reason: Reason, message: str | None) -> None:
    status = Status.FAILED if reason.failed else Status.DROPPED
    row |= {"status": str(status), "stage": stage, "reason": str(reason), "message": message}


def _fail(row: Row, stage: Stage, error: SampleError) -> None:
    # In a later worker group, the first stage decodes the image again and may raise an IntakeError.
    row |= error.columns
    _end(row, Intake.name if isinstance(error, IntakeError) else stage.name, error.reason, error.message)
