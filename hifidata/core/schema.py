"""The columns of the manifests, and the few dataclasses that all packages share.

Imports nothing heavy until a schema is asked for, so that ``hifidata --help`` stays fast.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from hifidata.core.reasons import Reason

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1

Row = dict[str, Any]
"""One candidate while it travels: manifest columns by name, absent or None where nothing was measured."""


class _Word(str, Enum):
    """A string from a closed vocabulary (``enum.StrEnum`` needs Python 3.11)."""

    def __str__(self) -> str:
        return str(self.value)


class Status(_Word):
    """How a candidate ended."""

    KEPT = "kept"
    DROPPED = "dropped"  # judged: a stage measured it and decided against it
    FAILED = "failed"  # not judged: it could not be read or a model broke on it


class CaptionProblem(_Word):
    """Why a captioner gave no text, or only part of one."""

    REFUSED = "refused"  # the model would not describe the picture
    EMPTY = "empty"
    TRUNCATED = "truncated"  # cut at a limit; kept up to the last whole sentence, where there is one
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"  # 5xx, or the connection was lost
    REJECTED = "rejected"  # 4xx: the server will not take this request
    BAD_ANSWER = "bad_answer"  # no JSON, without a text in it, or far too long


SERVER_FAULTS = frozenset(
    {
        CaptionProblem.TIMEOUT, CaptionProblem.RATE_LIMITED, CaptionProblem.SERVER_ERROR, CaptionProblem.REJECTED,
        CaptionProblem.BAD_ANSWER,
    }
)  # fmt: skip
"""Problems of the server, not of the picture: another day it would have answered."""

CAPTION_FAULTS = SERVER_FAULTS | {CaptionProblem.EMPTY, CaptionProblem.TRUNCATED}
"""Why a picture has no text of the model, where that is not the picture's doing. They count against the failure budget and are
asked for again; a refusal is an answer."""


class CaptionFlag(_Word):
    """What is odd about a caption. Heuristics over its words; nothing is dropped for them."""

    TOO_SHORT = "too_short"
    OTHER_LANGUAGE = "other_language"
    EXPRESSION = "expression"  # the paper's prompt forbids both: landmarks carry them
    POSE = "pose"
    MARKUP = "markup"  # addresses, tags or code, which no portrait has


@dataclass(frozen=True)
class Candidate:
    """One picture somebody proposes for an identity.

    Attributes:
        source_uri: where it came from, for the manifest; for folders it ends in ``<identity>/<file>``.
        relative_path: its name inside the source, independent of where the source lies; unique within the identity.
        version: changes when the bytes may have changed (size and mtime of a file, ETag of a URL); drives resume.
        locator: what the source needs to read the bytes again (a file path, ``tar-path::member``, a URL to fetch).
        facts: manifest columns the source already knows (licence, landing_page_uri, http_status, ...); with ``status``,
            ``stage`` and ``reason`` among them the candidate is judged already and no stage sees it.
    """

    source_uri: str
    relative_path: str
    version: str
    locator: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class IdentityTask:
    """All candidates of one person: the unit of work, of retry, of commit and of output.

    Attributes:
        query: of a person whose candidates are still to be searched for: what is asked for, and where. Stands for the
            candidates in the fingerprint, so that a person is not searched for again because the web has changed.
    """

    identity_id: str
    identity_name: str
    source: str
    candidates: tuple[Candidate, ...]
    query: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes when a candidate is added, removed or altered, or the search for them (hex sha256)."""
        digest = hashlib.sha256(self.identity_id.encode())
        if self.query:
            digest.update(f"\0{self.query}".encode())
            return digest.hexdigest()
        for candidate in self.candidates:
            digest.update(f"\0{candidate.relative_path}\0{candidate.version}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Verdict:
    """A stage's decision against a candidate: the reason and the number that was compared with a threshold."""

    reason: Reason
    score: float | None = None
    threshold: float | None = None
    message: str | None = None


def identity_id_of(identity_name: str) -> str:
    """16 hex digits for a name: safe in file names and tar members whatever the name holds."""
    return hashlib.sha256(identity_name.encode()).hexdigest()[:16]


def image_id_of(identity_id: str, relative_path: str) -> str:
    """20 hex digits for a candidate, the same wherever the source is mounted."""
    return hashlib.sha256(f"{identity_id}\0{relative_path}".encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Column:
    """A column of a manifest.

    Attributes:
        name: ends in its unit where it has one: ``_px``, ``_deg``, ``_s``, ``_bytes``, ``_bits``.
        type: one of ``ARROW_TYPES``.
        meaning: one sentence.
        unit: unit or range of the numbers; empty: the name says it, or the column has none.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.unit:
            suffix = self.name.rpartition("_")[2]
            object.__setattr__(self, "unit", UNITS.get(suffix, ""))


UNITS: Mapping[str, str] = {"px": "px", "deg": "degrees", "s": "s", "bytes": "bytes", "bits": "bits"}
"""By the end of a column's name."""

ARROW_TYPES = ("string", "binary", "bool", "int32", "int64", "float32", "list<float32>")

SOURCE_COLUMNS = (
    Column("image_id", "string", "20 hex digits of sha256(identity_id, path inside the source)"),
    Column("identity_id", "string", "16 hex digits of sha256(identity name)"),
    Column("identity_name", "string", "name of the person as the source gives it (personal data)"),
    Column("source", "string", "kind of source: folder, shards, ..."),
    Column("source_uri", "string", "where the candidate came from; for folders it ends in <identity>/<file>"),
    Column("landing_page_uri", "string", "page that shows the picture, where the source knows it"),
    Column("licence", "string", "licence as the source states it"),
    Column("author", "string", "author as the source states it"),
    Column("provider", "string", "search engine or collection that returned the picture"),
    Column("search_query", "string", "query that was sent to it (personal data)"),
    Column("expected_sha256", "string", "sha256 of the bytes, where the list has one"),
    Column("listed_face", "list<float32>", "face box of the list: x1, y1, x2, y2", "share of width and height"),
)
"""What the source knows of a candidate."""

VERDICT_COLUMNS = (
    Column("status", "string", "kept, dropped or failed"),
    Column("stage", "string", "stage that decided"),
    Column("reason", "string", "code of the reason, see below"),
    Column("score", "float32", "number that was compared"),
    Column("threshold", "float32", "limit that it was compared with"),
    Column("message", "string", "the decision in one line"),
    Column("shard", "string", "path of the shard inside the dataset folder"),
    Column("key", "string", "sample key inside the shard"),
)
"""How a candidate ended."""

IDENTITY_COLUMNS = (
    Column("identity_id", "string", "16 hex digits of sha256(identity name)"),
    Column("identity_name", "string", "name of the person as the source gives it (personal data)"),
    Column("source", "string", "kind of source"),
    Column("n_candidates", "int32", "candidates = kept + dropped + failed"),
    Column("n_kept", "int32", "candidates that were kept"),
    Column("n_dropped", "int32", "candidates that a stage dropped"),
    Column("n_failed", "int32", "candidates that could not be judged"),
    Column("status", "string", "kept where at least one image was kept, otherwise dropped or failed"),
    Column("reason", "string", "most frequent reason among its candidates where no image was kept"),
    Column("target_embedding", "list<float32>", "centre of the largest cluster, L2 norm 1 (biometric data)"),
    Column("n_clusters", "int32", "clusters that k-means made"),
    Column("similarity_min", "float32", "lowest similarity of the kept images", "cosine"),
    Column("similarity_mean", "float32", "mean similarity of the kept images", "cosine"),
    Column("gender", "string", "gender of the kept images"),
    Column("shard", "string", "path of the shard inside the dataset folder"),
    Column("shard_sha256", "string", "sha256 of the shard"),
    Column("shard_bytes", "int64", "size of the shard"),
)

THUMBNAIL_COLUMNS = (
    Column("image_id", "string", "as in images.parquet"),
    Column("jpeg", "binary", "small JPEG of the crop, or of the whole picture where there was no crop"),
)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of some columns; every field carries its meaning as metadata."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        "string": pa.string(), "binary": pa.binary(), "bool": pa.bool_(),
        "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(),
        "list<float32>": pa.list_(pa.float32()),
    }  # fmt: skip
    return pa.schema(
        [pa.field(column.name, types[column.type], metadata={"meaning": column.meaning}) for column in columns]
    )


def as_float32(value: float | None) -> float | None:
    """The number as a float32 column gives it back.

    Stages judge these numbers, so that a replay from the manifest judges the very same ones.
    """
    return None if value is None else struct.unpack("f", struct.pack("f", value))[0]
