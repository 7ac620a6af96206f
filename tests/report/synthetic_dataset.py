"""A generated dataset folder: drawn faces, and scores that match the outcome of each candidate."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hifidata.core.schema import IDENTITY_COLUMNS, THUMBNAIL_COLUMNS, arrow_schema, identity_id_of, image_id_of
from hifidata.stages.table import IMAGE_COLUMNS

NAMES = (
    "Ada Brightwater", "Bruno Castellan", "Chiara Dumont", "Dmitri Okafor", "Eleni Fairweather", "Farid Lindqvist",
    "Grace Montblanc", "Hiro Nakagawa-Svensson", "Ines Okonkwo", "Jakob Petersen",
)  # fmt: skip

# reason, status, stage, share of candidates, in the order in which stages run
OUTCOMES: tuple[tuple[str | None, str, str, float], ...] = (
    ("truncated", "failed", "intake", 0.02),
    ("too_small", "dropped", "intake", 0.02),
    ("no_face", "dropped", "detect", 0.04),
    ("several_faces", "dropped", "detect", 0.06),
    ("face_cut_off", "dropped", "detect", 0.02),
    ("crop_too_small", "dropped", "crop", 0.05),
    ("low_quality", "dropped", "quality", 0.10),
    ("text_on_face", "dropped", "watermark", 0.05),
    ("near_duplicate", "dropped", "dedup", 0.05),
    ("other_person", "dropped", "verify", 0.09),
    (None, "kept", "caption", 0.50),
)
STAGES = (
    "intake", "detect", "crop", "quality", "watermark", "occlusion", "embed",
    "dedup", "verify", "restore", "landmarks", "attributes", "caption",
)  # fmt: skip
RECIPE: dict[str, Any] = {
    "name": "synthetic",
    "description": "drawn faces, no real person",
    "source": {"kind": "folder", "path": "private/holiday photos", "licence": None},
    "intake": {"max_pixels": 50_000_000, "min_side_px": 64, "max_aspect": 8.0},
    "detect": {"model": "dlib_hog", "other_face_min_area_ratio": 0.25, "min_face_inside": 0.8},
    "crop": {"min_face_share": 0.1, "min_side_px": 256, "output_px": 1024},
    "quality": {"model": "iso29794", "min_score": None},
    "watermark": {"model": "rapidocr", "max_text_overlap": 0.02},
    "occlusion": {"model": None},
    "restore": {"model": None},
    "dedup": {"enabled": True, "max_distance_bits": 6},
    "verify": {"model": "dlib_resnet", "k": None, "min_similarity": None, "min_images": 5},
    "landmarks": {"model": "detector"},
    "attributes": {"gender_from_name": True},
    "caption": {"model": "attributes"},
    "output": {"layout": "identity", "jpeg_quality": 95},
    "failures": {"max_share": 0.05},
}


@dataclass
class Candidates:
    """Columns of images.parquet under construction; missing columns become null.

    Attributes:
        owner: (n,) index of each candidate's identity.
        outcome: (n,) index into OUTCOMES.
        arrays: finished columns.
    """

    owner: np.ndarray
    outcome: np.ndarray
    arrays: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.n = self.outcome.size
        self.reasons = np.array([reason or "" for reason, *_ in OUTCOMES], object)[self.outcome]
        self.score, self.limit = np.full(self.n, np.nan), np.full(self.n, np.nan)

    def put(self, name: str, values: Any, where: np.ndarray | None = None) -> None:
        """Set a column where the mask is true; other rows are null."""
        kind = arrow_schema(IMAGE_COLUMNS).field(name).type
        mask = None if where is None else ~where
        self.arrays[name] = pa.array(np.asarray(values), mask=mask).cast(kind)

    def judge(self, name: str, reason: str, failing: Any, passing: Any, threshold: float) -> None:
        """Set a score for rows that reached the stage; rows with ``reason`` get the failing values."""
        here = self.reasons == reason
        values = np.where(here, failing, passing)
        self.put(name, values, self.outcome >= [outcome for outcome, *_ in OUTCOMES].index(reason))
        self.score[here], self.limit[here] = values[here], threshold

    def table(self) -> pa.Table:
        """Build the table with all columns of the schema."""
        self.put("score", self.score, ~np.isnan(self.score))
        self.put("threshold", self.limit, ~np.isnan(self.limit))
        schema = arrow_schema(IMAGE_COLUMNS)
        return pa.table([self.arrays.get(f.name, pa.nulls(self.n, f.type)) for f in schema], schema=schema)


def write_dataset(
    folder: Path, n_identities: int = 10, per_identity: int = 24, *, seed: int = 7, keep: bool = True, draw: bool = True
) -> dict[str, Any]:
    """Write manifests and thumbnails into ``folder`` and return the run record.

    Args:
        folder: new dataset folder.
        n_identities: number of identities.
        per_identity: candidates of each identity.
        seed: seed of all random numbers.
        keep: False: drop all images that would be kept, for low quality.
        draw: True: one drawing per candidate. False: 16 small drawings for all candidates of a large set.
    """
    rng = np.random.default_rng(seed)
    names = [NAMES[i] if i < len(NAMES) else f"Person {i:06d}" for i in range(n_identities)]
    n = n_identities * per_identity
    owner = np.repeat(np.arange(n_identities), per_identity)
    outcome = rng.choice(len(OUTCOMES), size=n, p=[share for *_, share in OUTCOMES])
    if not keep:
        outcome[outcome == len(OUTCOMES) - 1] = 6
    images = _images(rng, names, owner, outcome, per_identity)
    identities = _identities(images, names, owner, per_identity)
    manifests = folder / "manifests"
    manifests.mkdir(parents=True)
    pq.write_table(images, manifests / "images.parquet")
    pq.write_table(identities, manifests / "identities.parquet")
    pq.write_table(_thumbnails(rng, images, owner, outcome, draw), manifests / "thumbnails.parquet", row_group_size=512)
    return run_record(images, identities)


def _images(
    rng: np.random.Generator, names: list[str], owner: np.ndarray, outcome: np.ndarray, per_identity: int
) -> pa.Table:
    rows = Candidates(owner, outcome)
    n, kept = rows.n, outcome == len(OUTCOMES) - 1
    ids = [identity_id_of(name) for name in names]
    files = [f"{i % per_identity:04d}.jpg" for i in range(n)]
    image_ids = np.array([image_id_of(ids[p], f) for p, f in zip(owner, files, strict=True)], object)
    rows.put("image_id", image_ids)
    rows.put("identity_id", np.array(ids, object)[owner])
    rows.put("identity_name", np.array(names, object)[owner])
    rows.put("source_uri", [f"photos/{names[p]}/{f}" for p, f in zip(owner, files, strict=True)])
    rows.put("licence", np.where(owner % 3 == 0, "CC-BY-4.0", "all rights reserved"), owner % 2 == 0)
    rows.put("status", np.array([status for _, status, *_ in OUTCOMES], object)[outcome])
    rows.put("stage", np.array([stage for _, _, stage, _ in OUTCOMES], object)[outcome])
    rows.put("reason", rows.reasons, ~kept)
    rows.put("message", rows.reasons, ~kept)
    rows.put("gender", np.where(owner % 2 == 0, "female", "male"), kept & (owner % 5 != 4))
    rows.put("caption", np.full(n, "A portrait of a person, facing the camera.", object), kept)
    rows.put("text_found", np.full(n, "PHOTO AGENCY", object), rows.reasons == "text_on_face")
    _measure(rng, rows)
    first_kept = dict(zip(owner[kept][::-1], image_ids[kept][::-1], strict=True))
    rows.put("duplicate_of", [first_kept.get(p, "") for p in owner], rows.reasons == "near_duplicate")
    return rows.table()


def _measure(rng: np.random.Generator, rows: Candidates) -> None:
    n = rows.n
    rows.judge("width_px", "too_small", rng.integers(24, 64, n), rng.integers(300, 2400, n), 64)
    rows.put("height_px", np.full(n, 2400), rows.outcome > 0)
    other = np.where(rng.random(n) < 0.2, rng.uniform(0.01, 0.25, n), 0.0)
    rows.judge("other_face_area_ratio", "several_faces", rng.uniform(0.25, 1, n), other, 0.25)
    rows.judge("face_inside_ratio", "face_cut_off", rng.uniform(0.4, 0.8, n), rng.uniform(0.8, 1, n), 0.8)
    rows.put("face_area_ratio", rng.beta(6, 14, n).clip(0.1, 0.99), rows.outcome > 4)
    rows.put("crop_x1_px", np.zeros(n, int), rows.outcome > 4)
    rows.judge("crop_x2_px", "crop_too_small", rng.integers(90, 256, n), rng.integers(256, 1500, n), 256)
    rows.judge("quality_score", "low_quality", 0.45 * rng.beta(5, 2, n), 0.45 + 0.5 * rng.beta(3, 2, n), 0.45)
    some_text = np.where(rng.random(n) < 0.1, rng.uniform(0.001, 0.02, n), 0)
    rows.judge("text_overlap", "text_on_face", rng.uniform(0.02, 0.5, n), some_text, 0.02)
    bits = rng.integers(0, 7, n)
    rows.judge("duplicate_distance_bits", "near_duplicate", bits, bits, 6)
    rows.put("duplicate_distance_bits", bits, rows.reasons == "near_duplicate")
    rows.judge("similarity", "other_person", rng.uniform(0.1, 0.9, n), 0.9 + 0.1 * rng.beta(3, 2, n), 0.9)


def _identities(images: pa.Table, names: list[str], owner: np.ndarray, per_identity: int) -> pa.Table:
    status = np.asarray(images["status"])
    count = {word: np.bincount(owner[status == word], minlength=len(names)) for word in ("kept", "dropped", "failed")}
    ids = [identity_id_of(name) for name in names]
    kept = count["kept"] > 0
    values: dict[str, Any] = {
        "identity_id": ids,
        "identity_name": names,
        "source": ["folder"] * len(names),
        "n_candidates": [per_identity] * len(names),
        "n_kept": count["kept"],
        "n_dropped": count["dropped"],
        "n_failed": count["failed"],
        "status": np.where(kept, "kept", "dropped"),
        "reason": [None if k else "low_quality" for k in kept],
        "shard": [f"shards/{i[:2]}/{i}.tar" if k else None for i, k in zip(ids, kept, strict=True)],
        "shard_bytes": [int(c) * 310_000 if c else None for c in count["kept"]],
    }
    schema = arrow_schema(IDENTITY_COLUMNS)
    return pa.table([pa.array(values.get(f.name, [None] * len(names)), f.type) for f in schema], schema=schema)


def run_record(images: pa.Table, identities: pa.Table) -> dict[str, Any]:
    """Build the run record of these manifests."""
    status = np.asarray(images["status"])
    n_kept = int((status == "kept").sum())
    return {
        "format_version": 1,
        "name": "synthetic",
        "recipe": RECIPE,
        "recipe_hash": "5f" * 32,
        "packages": {"hifi-portrait": "0.1.0", "dlib-bin": "20.0.1"},
        "models": [
            {"stage": "detect", "model": "dlib_hog", "licence": "CC0-1.0"},
            {"stage": "verify", "model": "dlib_resnet", "licence": "CC0-1.0"},
            {"stage": "watermark", "model": "rapidocr", "licence": "Apache-2.0"},
        ],
        "counts": {
            "candidates": images.num_rows,
            "kept": n_kept,
            "identities": identities.num_rows,
            "identities_kept": 0,
            "dropped": int((status == "dropped").sum()),
            "failed": int((status == "failed").sum()),
        },
        "stages": [
            {
                "stage": s,
                **dict.fromkeys(("in", "kept", "dropped", "failed"), 0),
                "ms_per_image": None if s in ("occlusion", "restore") else 3.5,
                "ran": s not in ("occlusion", "restore"),
            }
            for s in STAGES
        ],
        "started_at": "2026-03-01T12:00:00+00:00",
        "finished_at": "2026-03-01T12:03:12+00:00",
        "shards": [],
        "not_checked": ["occlusion", "restore"],
    }


def _thumbnails(
    rng: np.random.Generator, images: pa.Table, owner: np.ndarray, outcome: np.ndarray, draw: bool
) -> pa.Table:
    if draw:
        jpegs: list[bytes | None] = [
            draw_face(rng, int(p), OUTCOMES[f][0]) for p, f in zip(owner, outcome, strict=True)
        ]
    else:
        some = [draw_face(rng, i, None, side_px=32) for i in range(16)]
        jpegs = [some[p % 16] for p in owner]
    jpegs = [None if OUTCOMES[f][0] == "truncated" else jpeg for f, jpeg in zip(outcome, jpegs, strict=True)]
    table = pa.table([images["image_id"], pa.array(jpegs, pa.binary())], schema=arrow_schema(THUMBNAIL_COLUMNS))
    return table.filter(pa.array([jpeg is not None for jpeg in jpegs], pa.bool_()))


def draw_face(rng: np.random.Generator, owner: int, reason: str | None, side_px: int = 160) -> bytes:
    """Draw a face as JPEG, with colours of the identity and the defect of the reason."""
    look = np.random.default_rng(1000 + owner + (500 if reason == "other_person" else 0))
    wall, hair, shirt = (tuple(int(v) for v in look.integers(*span, 3)) for span in ((150, 235), (20, 130), (60, 200)))
    skin = tuple(int(v) for v in np.array([140, 170, 215]) - look.integers(0, 90))
    image = np.full((160, 160, 3), wall, np.uint8)
    if reason != "no_face":
        for centre, size in [((80, 84), 1.0)] + ([((136, 92), 0.6)] if reason == "several_faces" else []):
            _face(
                image,
                (centre[0] + int(rng.integers(-7, 8)), centre[1] + int(rng.integers(-5, 6))),
                size,
                (hair, skin, shirt),
            )
    if reason == "text_on_face":
        cv2.putText(image, "PHOTO AGENCY", (8, 92), cv2.FONT_HERSHEY_SIMPLEX, 0.62, (255, 255, 255), 2, cv2.LINE_AA)
    if reason == "low_quality":
        image = cv2.GaussianBlur(image, (0, 0), 5)
    image = np.clip(image.astype(np.float32) + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    image = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def _face(image: np.ndarray, centre: tuple[int, int], size: float, colours: tuple[Any, Any, Any]) -> None:
    (x, y), (hair, skin, shirt) = centre, colours

    def at(dx: float, dy: float) -> tuple[int, int]:
        return int(x + dx * size), int(y + dy * size)

    def blob(middle: tuple[int, int], rx: float, ry: float, colour: Any) -> None:
        cv2.ellipse(image, middle, (int(rx * size), int(ry * size)), 0, 0, 360, colour, -1, cv2.LINE_AA)

    blob(at(0, 92), 62, 42, shirt)
    blob(at(0, -8), 43, 52, hair)
    blob(at(0, 4), 34, 44, skin)
    for side in (-1, 1):
        blob(at(side * 14, -4), 6, 4, (250, 250, 250))
        blob(at(side * 14, -4), 2.6, 2.6, (40, 40, 40))
    cv2.line(image, at(0, 0), at(-3, 14), tuple(int(v * 0.8) for v in skin), 2, cv2.LINE_AA)
    cv2.ellipse(image, at(0, 22), (int(13 * size), int(6 * size)), 0, 10, 170, (70, 70, 160), 2, cv2.LINE_AA)


def write_shards(folder: Path, run: dict[str, Any]) -> None:
    """Write a small WebDataset shard per identity, with all members of a sample."""
    images = pq.read_table(folder / "manifests" / "images.parquet", columns=["identity_id", "status"]).to_pylist()
    counts: dict[str, int] = {}
    for row in images:
        counts[row["identity_id"]] = counts.get(row["identity_id"], 0) + (row["status"] == "kept")
    jpeg = draw_face(np.random.default_rng(0), 0, None)
    embedding = io.BytesIO()
    np.save(embedding, np.full(128, 128**-0.5, np.float32))
    landmarks = io.BytesIO()
    np.save(landmarks, np.zeros((68, 2), np.float32))
    members = {
        "jpg": jpeg, "txt": b"A portrait.", "json": b'{"similarity": 0.9}',
        "embedding.npy": embedding.getvalue(), "landmarks.npy": landmarks.getvalue(),
    }  # fmt: skip
    for identity_id, n in counts.items():
        path = folder / "shards" / identity_id[:2] / f"{identity_id}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for i in range(n):
                for extension, content in sorted(members.items()):
                    entry = tarfile.TarInfo(f"{identity_id}_{i:04d}.{extension}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        run["shards"].append(
            {
                "path": path.relative_to(folder).as_posix(),
                "sha256": "0" * 64,
                "bytes": path.stat().st_size,
                "samples": n,
            }
        )


def replace_column(path: Path, name: str, values: list[Any]) -> None:
    """Replace one column of a Parquet file."""
    table = pq.read_table(path)
    index = table.schema.get_field_index(name)
    field_ = table.schema.field(index)
    pq.write_table(table.set_column(index, field_, pa.array(values, field_.type)), path)
