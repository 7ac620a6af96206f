"""Columns of the manifests, and the dataclasses that all packages share.

``arrow_schema`` alone imports pyarrow, so that ``hifidata --help`` stays fast.
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
"""Manifest row of one candidate: columns by name. A column that was not measured is absent or None."""


class _StrEnum(str, Enum):
    """``enum.StrEnum``, which needs Python 3.11."""

    def __str__(self) -> str:
        return str(self.value)


class Status(_StrEnum):
    """Final status of a candidate."""

    KEPT = "kept"
    DROPPED = "dropped"  # judged: a stage measured it and decided against it
    FAILED = "failed"  # not judged: it could not be read, or a model failed on it


class CaptionProblem(_StrEnum):
    """Problems of a captioner that returned no text, or only part of a text."""

    REFUSED = "refused"  # the model refused to describe the image
    EMPTY = "empty"
    TRUNCATED = "truncated"  # cut at a limit; the text ends with the last complete sentence, if there is one
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"  # 5xx, or the connection was lost
    REJECTED = "rejected"  # 4xx: the server does not accept this request
    MISSING = "missing"  # no readable text file beside the image
    BAD_ANSWER = "bad_answer"  # not JSON, JSON without a text, or far too long


SERVER_FAULTS = frozenset(
    {
        CaptionProblem.TIMEOUT, CaptionProblem.RATE_LIMITED, CaptionProblem.SERVER_ERROR, CaptionProblem.REJECTED,
        CaptionProblem.BAD_ANSWER,
    }
)  # fmt: skip
"""Problems of the server, independent of the image. A later request may succeed."""

CAPTION_FAULTS = SERVER_FAULTS | {CaptionProblem.EMPTY, CaptionProblem.TRUNCATED}
"""Caption problems that the image did not cause. They count against the failure budget, and ``--retry failed`` repeats
the request. A refusal is a valid answer and not among them."""


class CaptionFlag(_StrEnum):
    """Suspicious features of a caption, found by heuristics over its words. No flag drops an image."""

    TOO_SHORT = "too_short"
    OTHER_LANGUAGE = "other_language"
    EXPRESSION = "expression"  # the paper's prompt excludes expression and pose: landmarks carry them
    POSE = "pose"
    MARKUP = "markup"  # URLs, tags or code, which a description of a portrait does not contain


@dataclass(frozen=True)
class Candidate:
    """One proposed image of an identity.

    Attributes:
        source_uri: origin of the image, for the manifest; for folders it ends in ``<identity>/<file>``.
        relative_path: name inside the source, independent of the source's location; unique within the identity.
        version: changes when the bytes may have changed (size and mtime of a file, ETag of a URL). Resume compares it.
        locator: address from which the source reads the bytes: a file path, ``tar-path::member`` or a URL.
        facts: manifest columns that the source knows (licence, landing_page_uri, http_status, ...). A candidate whose
            facts include ``status``, ``stage`` and ``reason`` is already judged; no stage processes it.
        caption_locator: address of the text beside the image, as ``locator``; empty if there is none or it is not used.
    """

    source_uri: str
    relative_path: str
    version: str
    locator: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    caption_locator: str = ""


@dataclass(frozen=True)
class IdentityTask:
    """All candidates of one identity: the unit of work, of retry, of commit and of output.

    Attributes:
        query: search query and providers of an identity whose candidates come from a web search; empty otherwise. The
            fingerprint then covers the query instead of the candidates. So a changed web causes no second search.
    """

    identity_id: str
    identity_name: str
    source: str
    candidates: tuple[Candidate, ...]
    query: str = ""

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that changes when a candidate is added, removed or altered, or when the query changes."""
        digest = hashlib.sha256(self.identity_id.encode())
        if self.query:
            digest.update(f"\0{self.query}".encode())
            return digest.hexdigest()
        for candidate in self.candidates:
            digest.update(f"\0{candidate.relative_path}\0{candidate.version}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Verdict:
    """Decision of a stage against a candidate: the reason, and the number that was compared with a threshold."""

    reason: Reason
    score: float | None = None
    threshold: float | None = None
    message: str | None = None


def identity_id_of(identity_name: str) -> str:
    """Return 16 hex digits for a name. They are safe in file names and tar members for every name."""
    return hashlib.sha256(identity_name.encode()).hexdigest()[:16]


def image_id_of(identity_id: str, relative_path: str) -> str:
    """Return 20 hex digits for a candidate, independent of the mount point of the source."""
    return hashlib.sha256(f"{identity_id}\0{relative_path}".encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Column:
    """A column of a manifest.

    Attributes:
        name: ends in its unit, if it has one: ``_px``, ``_deg``, ``_s``, ``_bytes``, ``_bits``.
        type: one of ``ARROW_TYPES``.
        meaning: description for the manifest schema and manifests/README.md.
        unit: unit or range of the numbers; empty: taken from the suffix of the name.
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
"""Unit by the suffix of a column's name."""

ARROW_TYPES = ("string", "binary", "bool", "int32", "int64", "float32", "list<float32>")

SOURCE_COLUMNS = (
    Column("image_id", "string", "20 hex digits of sha256(identity_id, path inside the source)"),
    Column("identity_id", "string", "16 hex digits of sha256(identity name)"),
    Column("identity_name", "string", "name of the identity as the source states it (personal data)"),
    Column("source", "string", "kind of source: folder, shards, ..."),
    Column("source_uri", "string", "origin of the candidate; for folders it ends in <identity>/<file>"),
    Column("landing_page_uri", "string", "web page that shows the image, if the source states it"),
    Column("licence", "string", "licence as the source states it"),
    Column("author", "string", "author as the source states it"),
    Column("provider", "string", "search provider that returned the image"),
    Column("search_query", "string", "query that was sent to the provider (personal data)"),
    Column("expected_sha256", "string", "sha256 of the bytes as the list states it"),
    Column(
        "listed_face", "list<float32>", "face box as the list states it: x1, y1, x2, y2", "share of width and height"
    ),
    Column("listed_caption", "string", "text of the file beside the image; only for caption.model: sidecar"),
)
"""Columns of a candidate that the source fills."""

VERDICT_COLUMNS = (
    Column("status", "string", "kept, dropped or failed"),
    Column("stage", "string", "stage that dropped the candidate or failed on it"),
    Column("reason", "string", "code of the reason, see below"),
    Column("score", "float32", "number that was compared"),
    Column("threshold", "float32", "limit that the number was compared with"),
    Column("message", "string", "the decision in one line"),
    Column("shard", "string", "path of the shard inside the dataset folder"),
    Column("key", "string", "sample key inside the shard"),
)
"""Columns of the final status of a candidate."""

IDENTITY_COLUMNS = (
    Column("identity_id", "string", "16 hex digits of sha256(identity name)"),
    Column("identity_name", "string", "name of the identity as the source states it (personal data)"),
    Column("source", "string", "kind of source"),
    Column("n_candidates", "int32", "all candidates: kept + dropped + failed"),
    Column("n_kept", "int32", "candidates that were kept"),
    Column("n_dropped", "int32", "candidates that a stage dropped"),
    Column("n_failed", "int32", "candidates that could not be judged"),
    Column("status", "string", "kept if at least one image was kept, otherwise dropped or failed"),
    Column("reason", "string", "most frequent reason among the candidates, if no image was kept"),
    Column("target_embedding", "list<float32>", "centre of group 0 (column cluster), L2 norm 1 (biometric data)"),
    Column("n_clusters", "int32", "number of groups in the column cluster, without -1"),
    Column("similarity_min", "float32", "lowest similarity of the kept images", "cosine"),
    Column("similarity_mean", "float32", "mean similarity of the kept images", "cosine"),
    Column("gender", "string", "gender of the kept images"),
    Column("shard", "string", "path of the shard inside the dataset folder"),
    Column("shard_sha256", "string", "sha256 of the shard"),
    Column("shard_bytes", "int64", "size of the shard"),
)

THUMBNAIL_COLUMNS = (
    Column("image_id", "string", "as in images.parquet"),
    Column("jpeg", "binary", "small JPEG of the crop, or of the whole image if there is no crop"),
)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Return the Arrow schema of the columns. Each field has its meaning as metadata."""
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
    """Return the number rounded to float32, as a float32 column stores it.

    Stages judge the rounded numbers, so a replay from the manifest judges identical numbers.
    """
    return None if value is None else struct.unpack("f", struct.pack("f", value))[0]
