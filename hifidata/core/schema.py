"""The manifest's columns, the closed vocabulary of reasons, and the few dataclasses that everybody shares.

Imports nothing of ours and, until a schema is asked for, nothing heavy: ``hifidata.cli.main --help`` stays fast.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

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


class Reason(_Word):
    """Why a candidate was not kept. Closed: a new cause is a new member, documented in manifests/README.md."""

    # source: the list
    BAD_ROW = "bad_row"
    DUPLICATE_URL = "duplicate_url"
    NO_HITS = "no_hits"
    SEARCH_ERROR = "search_error"
    # fetch, before anything is sent
    BAD_URL = "bad_url"  # no host, credentials, odd port, control characters, too long
    BAD_SCHEME = "bad_scheme"
    BLOCKED_ADDRESS = "blocked_address"
    # fetch: redirects
    BAD_REDIRECT = "bad_redirect"  # without a target, or with one that is no URL
    TOO_MANY_REDIRECTS = "too_many_redirects"
    TLS_DOWNGRADE = "tls_downgrade"
    # fetch: the site's wishes
    ROBOTS_DISALLOWED = "robots_disallowed"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    CRAWL_DELAY_TOO_LONG = "crawl_delay_too_long"
    OPTED_OUT = "opted_out"
    # fetch: the host
    UNKNOWN_HOST = "unknown_host"  # the name does not exist
    DNS_ERROR = "dns_error"  # the name could not be looked up now
    CONNECT_ERROR = "connect_error"  # no connection, or lost before the headers came
    TLS_ERROR = "tls_error"
    TIMEOUT = "timeout"
    HOST_STOPPED = "host_stopped"
    # fetch: the answer and its body
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    RATE_LIMITED = "rate_limited"
    BAD_RESPONSE = "bad_response"  # no HTTP, an over-long header, a status or an encoding that was not asked for
    TOO_LARGE = "too_large"
    INCOMPLETE_BODY = "incomplete_body"
    PLACEHOLDER = "placeholder"
    HASH_MISMATCH = "hash_mismatch"
    # intake: the bytes
    EMPTY_FILE = "empty_file"
    UNREADABLE_FILE = "unreadable_file"
    TOO_MANY_BYTES = "too_many_bytes"
    NOT_IMAGE = "not_image"
    FORMAT_NOT_ALLOWED = "format_not_allowed"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    BAD_ASPECT = "bad_aspect"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    ANIMATED = "animated"
    DUPLICATE_BYTES = "duplicate_bytes"
    # detect
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    FACE_CUT_OFF = "face_cut_off"
    FACE_MISMATCH = "face_mismatch"
    # crop
    FACE_SHARE_TOO_LOW = "face_share_too_low"
    CROP_TOO_SMALL = "crop_too_small"
    # the cleansing stages
    LOW_QUALITY = "low_quality"
    TEXT_ON_FACE = "text_on_face"
    OCCLUDED = "occluded"
    NEAR_DUPLICATE = "near_duplicate"
    # verify
    OTHER_PERSON = "other_person"
    IDENTITY_TOO_SMALL = "identity_too_small"
    # caption
    NO_CAPTION = "no_caption"
    # anything
    MODEL_ERROR = "model_error"


FAILED_REASONS = frozenset(
    {
        Reason.BAD_ROW, Reason.SEARCH_ERROR,
        Reason.BAD_URL, Reason.BAD_SCHEME, Reason.BLOCKED_ADDRESS, Reason.BAD_REDIRECT, Reason.TOO_MANY_REDIRECTS,
        Reason.TLS_DOWNGRADE, Reason.ROBOTS_UNREACHABLE, Reason.UNKNOWN_HOST, Reason.DNS_ERROR, Reason.CONNECT_ERROR,
        Reason.TLS_ERROR, Reason.TIMEOUT, Reason.HOST_STOPPED, Reason.HTTP_4XX, Reason.HTTP_5XX, Reason.RATE_LIMITED,
        Reason.BAD_RESPONSE, Reason.TOO_LARGE, Reason.INCOMPLETE_BODY, Reason.HASH_MISMATCH,
        Reason.EMPTY_FILE, Reason.UNREADABLE_FILE, Reason.NOT_IMAGE, Reason.TRUNCATED, Reason.CORRUPT, Reason.MODEL_ERROR,
        Reason.NO_CAPTION,
    }
)  # fmt: skip
"""Reasons that mean "could not be judged" (status failed, counted by the failure budget); all others mean "judged"."""


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


# name, Arrow type, meaning. The one list behind the Parquet schema and manifests/README.md.
IMAGE_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("image_id", "string", "20 hex digits of sha256(identity_id, path inside the source)"),
    ("identity_id", "string", "16 hex digits of sha256(identity name)"),
    ("identity_name", "string", "the person's name as the source gives it (personal data)"),
    ("source", "string", "kind of source: folder, shards, ..."),
    ("source_uri", "string", "where the candidate came from; folders end in <identity>/<file>"),
    ("landing_page_uri", "string", "page that shows the picture, where the source knows it"),
    ("licence", "string", "licence as the source states it"),
    ("author", "string", "author as the source states it"),
    ("provider", "string", "search engine or collection that named the picture"),
    ("search_query", "string", "what it was asked for (personal data)"),
    ("fetched_at", "string", "UTC time of the download, ISO 8601"),
    ("http_status", "int32", "status of the download's last answer"),
    ("final_url", "string", "last URL that answered, after redirects"),
    ("attempts", "int32", "tries that sent at least one request; 0 where the URL was refused beforehand"),
    ("retryable", "bool", "whether a later run may have more luck; true only where the download failed"),
    ("etag", "string", "validator of the download, for a conditional request"),
    ("last_modified", "string", "likewise"),
    ("queued_s", "float32", "the download waited: for robots.txt, for the host's turn, between tries"),
    ("connect_s", "float32", "name lookup, connecting and TLS of its last request; 0 where a connection was reused"),
    ("response_s", "float32", "from its last request to the answer's headers"),
    ("expected_sha256", "string", "of the bytes, where the list names one"),
    ("listed_face", "list<float32>", "face box of the list: x1, y1, x2, y2 over the picture's width and height"),
    ("listed_face_iou", "float32", "overlap of the main face with that box, intersection over union"),
    ("content_sha256", "string", "sha256 of the bytes as read"),
    ("original_format", "string", "what the bytes are, whatever the file is called: jpeg, png, webp, bmp, gif, avif"),
    ("original_bytes", "int64", "size of the file"),
    ("width_px", "int32", "width after EXIF orientation"),
    ("height_px", "int32", "height after EXIF orientation"),
    ("exif_orientation", "int32", "orientation tag that was applied, 1 to 8"),
    ("colour_mode", "string", "mode of the file before conversion to sRGB (RGB, CMYK, P, I;16, ...)"),
    ("n_frames", "int32", "frames of an animated or multi-picture file; the first is used"),
    ("n_faces", "int32", "faces that count: the main one and those at least other_face_min_area_ratio of its area"),
    ("n_faces_raw", "int32", "all faces the detector reported"),
    (
        "face_areas_rel",
        "list<float32>",
        "area of every reported face over the largest, largest first (so the first is 1)",
    ),
    ("other_face_area_ratio", "float32", "second of face_areas_rel; 0 where there is one face"),
    ("face_x1_px", "float32", "main face box in the oriented picture"),
    ("face_y1_px", "float32", ""),
    ("face_x2_px", "float32", ""),
    ("face_y2_px", "float32", ""),
    ("face_inside_ratio", "float32", "share of the face box that lies inside the picture"),
    ("face_score", "float32", "detector's confidence, on the detector's own scale"),
    (
        "face_kps",
        "list<float32>",
        "10 numbers: left eye, right eye, nose, mouth left, mouth right as x, y in picture pixels",
    ),
    ("face_landmarks", "list<float32>", "136 numbers: 68 points as x, y in picture pixels"),
    ("detect_model", "string", "detector"),
    ("face_area_ratio", "float32", "face box area over crop area"),
    ("crop_x1_px", "int32", "square crop in the oriented picture; negative where it was padded"),
    ("crop_y1_px", "int32", ""),
    ("crop_x2_px", "int32", ""),
    ("crop_y2_px", "int32", ""),
    ("crop_shift_px", "int32", "how far the crop was moved to stay inside the picture"),
    ("is_monochrome", "bool", "the crop has no colour"),
    ("phash", "string", "64-bit perceptual hash of the crop, 16 hex digits"),
    ("yaw_deg", "float32", "head pose; positive: the head turns to the picture's right"),
    ("pitch_deg", "float32", "positive: the head looks up"),
    ("roll_deg", "float32", "positive: clockwise in the picture"),
    ("quality_score", "float32", "0 to 1, higher is better"),
    ("quality_model", "string", "scorer"),
    ("quality_sharpness", "float32", "0 to 1, see backends/iso_quality.py"),
    ("quality_illumination", "float32", "0 to 1, evenness of left and right half"),
    ("quality_contrast", "float32", "0 to 1"),
    ("quality_exposure", "float32", "0 to 1"),
    ("quality_pose", "float32", "0 to 1"),
    ("quality_inter_eye", "float32", "0 to 1"),
    ("inter_eye_px", "float32", "distance of the eye centres in the oriented picture"),
    ("text_regions", "string", "JSON list of [text, certainty that it is text, share of the face], largest first"),
    ("text_overlap", "float32", "share of the face, the oval in its box, covered by the regions that count as text"),
    ("text_found", "string", "text that counts, ' | ' between regions; [unread], [letters]: found and not read"),
    ("watermark_model", "string", "text recogniser"),
    ("occlusion_answer", "string", "what the occlusion model said"),
    ("occlusion_found", "string", "what the model itself names, ' | ' between; null where it describes freely"),
    ("occlusion_score", "float32", "the model's confidence in what it names, 0 to 1; null where it gives none"),
    ("occlusion_model", "string", "occlusion model"),
    ("occlusion_terms", "string", "what counts against the picture, ' | ' between"),
    ("duplicate_of", "string", "image_id of the better copy that was kept instead"),
    ("duplicate_distance_bits", "int32", "Hamming distance of the perceptual hashes to that copy"),
    ("duplicate_same_bytes", "bool", "that copy is the same file to the byte"),
    ("restored", "bool", "whether the pixels were restored"),
    ("restore_cosine", "float32", "similarity of the face before and after restoration"),
    ("restore_model", "string", "restorer"),
    ("restore_message", "string", "why a restoration was not used"),
    ("matting_model", "string", "what made the sample's .alpha.png"),
    ("embedding", "list<float32>", "identity embedding, L2 norm 1 (biometric data)"),
    ("embedding_model", "string", "embedder"),
    ("cluster", "int32", "k-means cluster within the identity; 0 is the largest"),
    ("similarity", "float32", "cosine to the centre of the largest cluster"),
    ("n_matching", "int32", "pictures of the identity whose similarity passed, this one or not"),
    ("portrait_landmarks", "list<float32>", "136 numbers: 68 points as x, y in pixels of the written picture"),
    ("face3d_model", "string", "3D face model"),
    ("face3d_shape", "list<float32>", "who it is; for mesh 468 points as x, y, z in the head's own axes"),
    ("face3d_expression", "list<float32>", "empty for mesh"),
    ("face3d_pose", "list<float32>", "tddfa: 3 x 4 scaled rotation and offset; mesh: 3 x 3 rotation; row by row"),
    ("face3d_camera", "list<float32>", "scale, x, y: pixel of the written picture = x + scale * X, y - scale * Y"),
    ("caption", "string", "text of the sample"),
    ("caption_model", "string", "where the caption came from"),
    ("caption_problem", "string", "why the captioner gave no text, or part of one; caption_model says what stands in"),
    ("caption_flags", "string", "what is odd about a captioner's text, ' | ' between; null for nothing"),
    ("age", "float32", "years"),
    ("gender", "string", "female, male or null"),
    ("gender_source", "string", "name or the model's name"),
    ("status", "string", "kept, dropped or failed"),
    ("stage", "string", "stage that decided"),
    ("reason", "string", "closed vocabulary, see below"),
    ("score", "float32", "the number that was compared"),
    ("threshold", "float32", "what it was compared with"),
    ("message", "string", "one line in words"),
    ("shard", "string", "path of the shard inside the dataset folder"),
    ("key", "string", "sample key inside the shard"),
)

IDENTITY_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("identity_id", "string", "16 hex digits of sha256(identity name)"),
    ("identity_name", "string", "the person's name as the source gives it (personal data)"),
    ("source", "string", "kind of source"),
    ("n_candidates", "int32", "candidates = kept + dropped + failed"),
    ("n_kept", "int32", ""),
    ("n_dropped", "int32", ""),
    ("n_failed", "int32", ""),
    ("status", "string", "kept where at least one image was kept, otherwise dropped or failed"),
    ("reason", "string", "most frequent reason among its candidates where nothing was kept"),
    ("target_embedding", "list<float32>", "centre of the largest cluster, L2 norm 1 (biometric data)"),
    ("n_clusters", "int32", "clusters k-means made"),
    ("similarity_min", "float32", "over kept images"),
    ("similarity_mean", "float32", "over kept images"),
    ("gender", "string", "of the kept images"),
    ("shard", "string", "path of the shard inside the dataset folder"),
    ("shard_sha256", "string", ""),
    ("shard_bytes", "int64", ""),
)

THUMBNAIL_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("image_id", "string", "as in images.parquet"),
    ("jpeg", "binary", "small JPEG of the crop, or of the whole picture where there was no crop"),
)


def arrow_schema(columns: tuple[tuple[str, str, str], ...]) -> pa.Schema:
    """The Arrow schema of a column list; every field carries its meaning as metadata."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        "string": pa.string(), "binary": pa.binary(), "bool": pa.bool_(),
        "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(),
        "list<float32>": pa.list_(pa.float32()),
    }  # fmt: skip
    return pa.schema(
        [
            pa.field(name, types[kind], metadata={"meaning": meaning} if meaning else None)
            for name, kind, meaning in columns
        ]
    )


_FLOAT32_COLUMNS = frozenset(name for name, kind, _ in IMAGE_COLUMNS if kind == "float32")


def canonical(name: str, value: Any) -> Any:
    """The value as the manifest will give it back: float32 columns lose the digits they cannot hold.

    Stages judge these values, so that a replay from the manifest judges the very same numbers.
    """
    if value is None or name not in _FLOAT32_COLUMNS:
        return value
    return struct.unpack("f", struct.pack("f", value))[0]
