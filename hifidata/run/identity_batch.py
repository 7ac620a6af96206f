"""An identity on its way through the worker groups, and its serialised form between processes.

The serialised form is one Arrow IPC message with encoded bytes, boxes and numbers. It contains no decoded pixels.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from hifidata.core import errors
from hifidata.core.errors import HifiError, SampleError
from hifidata.core.schema import Candidate, Column, IdentityTask, Row, arrow_schema, image_id_of
from hifidata.stages.base import Sample

TASK_KEY = b"hifidata.task"
NOTES_KEY = b"hifidata.notes"
CARRIED_ERRORS = (HifiError, OSError)
"""Errors that the command line reports in one line. Other errors are bugs and keep their traceback."""
MakeSample = Callable[[IdentityTask, Candidate, Row], Sample]


@dataclass
class IdentityBatch:
    """All candidates of one identity.

    Attributes:
        task: the identity and its candidates.
        samples: one sample per candidate, in source order.
        seconds: time per stage so far.
        entered: number of images that entered each stage so far.
        providers: execution provider of ONNX Runtime, by stage.
    """

    task: IdentityTask
    samples: list[Sample]
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    entered: Counter[str] = field(default_factory=Counter)
    providers: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """Manifest rows, in source order."""
        return [sample.row for sample in self.samples]

    @property
    def alive(self) -> list[Sample]:
        """Samples that no stage has dropped or failed on."""
        return [sample for sample in self.samples if sample.is_alive]


def open_batch(task: IdentityTask, make_sample: MakeSample) -> IdentityBatch:
    """Make the batch of an identity, before any stage."""
    return IdentityBatch(
        task, [make_sample(task, candidate, first_row(task, candidate)) for candidate in task.candidates]
    )


def first_row(task: IdentityTask, candidate: Candidate) -> Row:
    """Return the manifest row of a candidate before any stage."""
    return {
        **candidate.facts,
        "image_id": image_id_of(task.identity_id, candidate.relative_path),
        "identity_id": task.identity_id,
        "identity_name": task.identity_name,
        "source": task.source,
        "source_uri": candidate.source_uri,
    }


def task_to_bytes(task: IdentityTask) -> bytes:
    """Serialise to JSON. Its escapes preserve file names that are not UTF-8."""
    return json.dumps(asdict(task)).encode()


def task_from_bytes(data: bytes) -> IdentityTask:
    """Read the output of ``task_to_bytes``."""
    fields = json.loads(data)
    return IdentityTask(**{**fields, "candidates": tuple(Candidate(**candidate) for candidate in fields["candidates"])})


def batch_to_bytes(batch: IdentityBatch, columns: Sequence[Column]) -> bytes:
    """Serialise to one Arrow IPC message, without the image bytes of dropped and failed samples.

    Args:
        batch: the batch of one identity.
        columns: columns of images.parquet.
    """
    table = pa.Table.from_pylist(batch.rows, schema=arrow_schema(columns))
    wire = {
        "encoded": [sample.held_encoded if sample.is_alive else None for sample in batch.samples],
        "portrait": [sample.portrait_jpeg if sample.is_alive else None for sample in batch.samples],
        "thumbnail": [sample.thumbnail for sample in batch.samples],
    }
    extras = [sorted(sample.extras.items()) if sample.is_alive else [] for sample in batch.samples]
    table = table.append_column("wire_extras", pa.array(extras, pa.map_(pa.string(), pa.large_binary())))
    for name, values in wire.items():
        table = table.append_column(f"wire_{name}", pa.array(values, pa.large_binary()))
    notes = {"seconds": batch.seconds, "entered": batch.entered, "providers": batch.providers}
    table = table.replace_schema_metadata({TASK_KEY: task_to_bytes(batch.task), NOTES_KEY: json.dumps(notes).encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    message: bytes = sink.getvalue().to_pybytes()
    return message


def batch_from_bytes(data: bytes, make_sample: MakeSample) -> IdentityBatch:
    """Read the output of ``batch_to_bytes``."""
    table = pa.ipc.open_stream(data).read_all()
    task = task_from_bytes(table.schema.metadata[TASK_KEY])
    notes = json.loads(table.schema.metadata[NOTES_KEY])
    samples = []
    for candidate, row in zip(task.candidates, table.to_pylist(), strict=True):
        wire = {name: row.pop(f"wire_{name}") for name in ("encoded", "portrait", "thumbnail", "extras")}
        sample = make_sample(task, candidate, row)
        sample.held_encoded = wire["encoded"]
        sample.portrait_jpeg = wire["portrait"]
        sample.thumbnail = wire["thumbnail"]
        sample.extras = dict(wire["extras"])
        samples.append(sample)
    return IdentityBatch(
        task, samples, defaultdict(float, notes["seconds"]), Counter(notes["entered"]), notes["providers"]
    )


def error_to_bytes(error: Exception) -> bytes:
    """Serialise an error to JSON: the nearest class in ``hifidata.core.errors`` (none for an ``OSError``), and the message."""
    known = (kind.__name__ for kind in type(error).__mro__ if vars(errors).get(kind.__name__) is kind)
    name = "HifiError" if isinstance(error, SampleError) else next(known, "")  # workers handle SampleError themselves
    return json.dumps({"error": name, "message": str(error)}).encode()


def error_from_bytes(data: bytes) -> HifiError | OSError:
    """Return the error that ``error_to_bytes`` serialised, with its class and message."""
    fields = json.loads(data)
    kind: type[HifiError] | type[OSError] = vars(errors)[fields["error"]] if fields["error"] else OSError
    return kind(fields["message"])
