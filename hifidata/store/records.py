"""The shapes of ``dataset.json`` and ``state/run.json``. A key may be missing: earlier versions wrote fewer keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from hifidata.core.json_file import Count, Number

Section = dict[str, Any]


class RecordedVerify(BaseModel):
    """The threshold that ``calibrate`` compares."""

    min_similarity: Number | None = None


class RecordedFailures(BaseModel):
    """The failure budget."""

    max_share: Number | None = None


class RecordedRecipe(BaseModel):
    """The sections that commands and reports read from a recorded recipe."""

    name: str = ""
    description: str = ""
    source: Section | None = None
    fetch: Section | None = None
    intake: Section | None = None
    detect: Section | None = None
    crop: Section | None = None
    quality: Section | None = None
    watermark: Section | None = None
    occlusion: Section | None = None
    dedup: Section | None = None
    embed: Section | None = None
    verify: RecordedVerify | None = None
    restore: Section | None = None
    matting: Section | None = None
    face3d: Section | None = None
    landmarks: Section | None = None
    attributes: Section | None = None
    caption: Section | None = None
    failures: RecordedFailures | None = None


class StageCounts(BaseModel):
    """Counts of one stage."""

    stage: str
    model: str | None = None
    ran: bool
    n_in: Count = Field(alias="in")
    kept: Count
    dropped: Count
    failed: Count
    ms_per_image: Number | None = None


class DatasetCounts(BaseModel):
    """Counts of a dataset."""

    identities: Count
    identities_kept: Count
    candidates: Count
    kept: Count
    dropped: Count
    failed: Count


class RunRecord(BaseModel):
    """``run.json``."""

    recipe_hash: str
    started_at: str
    recipe: RecordedRecipe
    earlier_hashes: list[str] = []


class DatasetRecord(BaseModel):
    """``dataset.json``; ``hifidata.store.verify`` checks its lists of files."""

    format_version: Count = 1
    name: str = ""
    recipe_hash: str = ""
    started_at: str = ""
    finished_at: str = ""
    recipe: RecordedRecipe | None = None
    counts: DatasetCounts | None = None
    stages: list[StageCounts] = []
    caption_stand_ins: dict[str, Count] = {}
    not_checked: list[str] = []
    packages: dict[str, str] = {}
    onnx_providers: dict[str, Any] = {}
    models: list[dict[str, str | None]] = []
    weights: list[dict[str, Any]] = []
    extensions: list[Section] = []
