"""One training sample: a target, other images of the same identity, and the landmark image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from hifidata.core.errors import ModelError
from hifidata.image.align import norm_crop
from hifidata.models.protocols import F32, RgbU8
from hifimodel.data.config import DataConfig
from hifimodel.data.drawing import DrawLandmarks
from hifimodel.data.faces import decode_alpha, decode_jpeg
from hifimodel.data.sample import CorruptSample, Sample
from hifimodel.errors import LandmarkError
from hifimodel.faces.clip_crop import ClipView, clip_view, reduction, resize_square, scaled_points


@dataclass(frozen=True)
class ReferenceCrops:
    """The two crops of a reference."""

    clip_u8: RgbU8  # (clip_px, clip_px, 3)
    face_u8: RgbU8  # (112, 112, 3)


@dataclass(eq=False)
class LoadedIdentity:
    """An identity in memory.

    Attributes:
        samples: usable images, in the order of the shard.
        crops: reference crops made so far, by index of the sample; None for an image that does not decode.
    """

    identity_id: str
    samples: list[Sample]
    crops: dict[int, ReferenceCrops | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Group:
    """One training sample as arrays.

    Attributes:
        target_u8: (S, S, 3) uint8.
        landmarks_u8: (S, S, 3) uint8.
        target_kps: (5, 2) float32, pixels of S.
        time_ids: (6,) float32: height and width of the photo, top and left of the crop, height and width of the target.
        references: the crops of N other images.
        embeddings: (N, d2) float32.
    """

    key: str
    reference_keys: tuple[str, ...]
    caption: str
    target_u8: RgbU8
    landmarks_u8: RgbU8
    target_kps: F32
    time_ids: F32
    references: tuple[ReferenceCrops, ...]
    embeddings: F32


@dataclass(frozen=True)
class Draw:
    """The random choices for one target in one epoch.

    Attributes:
        order: indices of all other images; the first ``n_references`` that decode are the references.
        shape_share: 0 to 1, position of the reference that gives the face shape.
    """

    n_references: int
    order: tuple[int, ...]
    shape_share: float
    drop_text: bool


def draw_of(identity: LoadedIdentity, target: int, epoch: int, config: DataConfig) -> Draw:
    """Return the draw for a target; it depends on the seed, the epoch and the key of the sample only.

    Source: paper section 4.1 (N from 1 to 4, 10 % empty text) and 3.3 (one random reference gives the identity).
    """
    rng = np.random.default_rng([config.seed, epoch, number_of(identity.samples[target].key)])
    n_references = int(rng.integers(config.min_references, config.max_references + 1))
    others = [place for place in range(len(identity.samples)) if place != target]
    order = tuple(int(place) for place in rng.permutation(others))
    return Draw(n_references, order, float(rng.random()), bool(rng.random() < config.text_drop))


def make_group(identity: LoadedIdentity, target: int, draw: Draw, config: DataConfig, paint: DrawLandmarks) -> Group:
    """Decode, crop and draw a training sample.

    Raises:
        CorruptSample: the target or all other images do not decode, or the landmarks cannot be drawn.
    """
    sample = identity.samples[target]
    size_px = config.size_px
    target_u8 = resize_square(decode_jpeg(sample.jpeg, reduction(sample.side_px / size_px)), size_px)
    places = _usable(identity, draw, config)
    if not places:
        raise CorruptSample("no reference decodes")
    shape = identity.samples[places[int(draw.shape_share * len(places))]]
    try:
        landmarks_u8 = paint(
            sample.landmarks_px, sample.face3d, shape.landmarks_px, shape.face3d, sample.side_px, size_px
        )
    except (LandmarkError, ValueError) as error:
        raise CorruptSample("landmarks cannot be drawn") from error
    return Group(
        key=sample.key,
        reference_keys=tuple(identity.samples[place].key for place in places),
        caption="" if draw.drop_text else sample.caption,
        target_u8=target_u8,
        landmarks_u8=landmarks_u8,
        target_kps=scaled_points(sample.kps_px, size_px / sample.side_px),
        time_ids=time_ids(sample, size_px),
        references=tuple(crops for place in places if (crops := identity.crops[place])),
        embeddings=np.stack([identity.samples[place].embedding for place in places]),
    )


def time_ids(sample: Sample, size_px: int) -> F32:
    """Return (6,) SDXL's size conditions: height and width of the photo, top and left of the crop, height and width of the
    target. Top and left are in the photo after a resize that gives the crop the size of the target.

    Source: SDXL, arXiv:2307.01952, section 2.2.
    """
    scale = size_px / sample.side_px
    top, left = (max(0.0, round(offset * scale)) for offset in sample.crop_yx_px)
    return np.array([*sample.original_hw_px, top, left, size_px, size_px], np.float32)


def make_reference(sample: Sample, config: DataConfig) -> ReferenceCrops:
    """Make both crops of a reference. Raises CorruptSample.

    The aligned face comes from the full-size image with background, like the stored embedding: a reduced or matted image
    changes the embedding.
    """
    rgb_u8 = decode_jpeg(sample.jpeg)
    alpha_u8 = None if sample.alpha_png is None else decode_alpha(sample.alpha_png)
    view = ClipView(config.clip_px, config.clip_face_margin, config.matte_u8)
    try:
        face_u8 = norm_crop(rgb_u8, sample.kps_px)
        clip_u8, _ = clip_view(rgb_u8, sample.face_xyxy_px, view, alpha_u8)
    except ModelError as error:
        raise CorruptSample("face without extent") from error
    return ReferenceCrops(clip_u8, face_u8)


def number_of(text: str) -> int:
    """Return a number that seeds a generator, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _usable(identity: LoadedIdentity, draw: Draw, config: DataConfig) -> list[int]:
    """Return the first indices of the draw whose crops can be made; the next image replaces a corrupt one."""
    places: list[int] = []
    for place in draw.order:
        if place not in identity.crops:
            try:
                identity.crops[place] = make_reference(identity.samples[place], config)
            except CorruptSample:  # counted when the image is the target
                identity.crops[place] = None
        if identity.crops[place] is not None:
            places.append(place)
        if len(places) == draw.n_references:
            break
    return places
