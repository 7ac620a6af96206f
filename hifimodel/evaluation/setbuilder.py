"""Draws an evaluation set from shards: per identity a target and four references; the same seed gives the same set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hifidata.core.files import write_bytes
from hifimodel.data.checks import ShardChecks
from hifimodel.data.config import Counts
from hifimodel.data.faces import decode_jpeg
from hifimodel.data.group import number_of
from hifimodel.data.sample import CorruptSample, parse_sample
from hifimodel.data.shards import RawIdentity, find_shards, read_identities
from hifimodel.errors import DataError
from hifimodel.evaluation.evalset import FORMAT_VERSION, SET_FILE, EvalSet, read_evalset

DEFAULT_IDENTITIES = 100
"""As in the paper's WebFace-100, or all usable identities if there are fewer."""
PROMPTS_FILE = "prompts.txt"
"""The packaged prompts."""


@dataclass(frozen=True)
class SetSettings:
    """Settings of the draw.

    Attributes:
        identities: exact number; None: at most ``DEFAULT_IDENTITIES``.
        references: per identity, without the target.
        seeds: images to generate per prompt and identity.
        seed: of the draw.

    Source: paper section 4.1: 100 and 300 identities, 1 target and 4 references each, 10 prompts, 3 images. The paper's target
    is a photo of another person (LAION-Face). Here it is a photo of the same person, so that it also shows the similarity of
    two photos of an identity.
    """

    identities: int | None = None
    references: int = 4
    seeds: int = 3
    seed: int = 0


def read_prompts(path: Path | None = None, limit: int | None = None) -> tuple[str, ...]:
    """Read prompts of a text file, one per line; ``#`` starts a comment.

    Args:
        path: the file; None: the packaged prompts.
        limit: number of prompts, from the first.

    Raises:
        DataError: there are no prompts.
    """
    source = resources.files("hifimodel.evaluation") / PROMPTS_FILE if path is None else path
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"prompts: {source}: cannot be read ({error}); give a text file with one prompt per line"
        ) from error
    prompts = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))[:limit]
    if not prompts:
        raise DataError(f"prompts: {source}: no prompt; write one prompt per line")
    return prompts


def build_evalset(
    shards: str | Path | Sequence[str | Path], out: Path, prompts: Sequence[str], settings: SetSettings | None = None
) -> EvalSet:
    """Draw identities and write their photos as stored in the shards, then ``evalset.json``.

    The photos of an identity depend on the seed and the keys of the samples only. The identities also depend on their
    distribution over shards, since only as many shards are read as needed. Use shards that the model was not trained on.

    Args:
        shards: see ``hifimodel.data.find_shards``.
        out: folder of the set; an equal set stays unchanged.
        prompts: of the set.
        settings: of the draw.

    Raises:
        DataError: too few usable identities, or ``out`` contains another set.
    """
    settings = settings or SetSettings()
    counts = Counts()
    drawn = _identities(find_shards(shards), settings, counts)
    wanted = settings.identities or 1
    if len(drawn) < wanted:
        raise DataError(
            f"evaluation set: {len(drawn)} identities with {settings.references + 1} usable photos, expected {wanted}; read "
            f"{counts}; choose fewer --identities or --references"
        )
    identities = dict(sorted(drawn.items()))
    stored = {
        "format_version": FORMAT_VERSION,
        "draw_seed": settings.seed,
        "prompts": list(prompts),
        "seeds": list(range(settings.seeds)),
        "people": [_entry(identity_id, photos) for identity_id, photos in identities.items()],
    }
    data = json.dumps(stored, indent=1, ensure_ascii=False).encode()
    path = out / SET_FILE
    if path.is_file() and path.read_bytes() != data:
        raise DataError(f"{path}: contains another evaluation set; choose another --out, or remove that folder")
    for identity_id, photos in identities.items():
        for number, jpeg in enumerate(photos.values()):
            write_bytes(out / _file(identity_id, number), jpeg)
    write_bytes(path, data)
    return read_evalset(out)


def _identities(shards: Sequence[Path], settings: SetSettings, counts: Counts) -> dict[str, dict[str, bytes]]:
    """Return photos (JPEG bytes by sample key, target first) by identity."""
    most = settings.identities or DEFAULT_IDENTITIES
    drawn: dict[str, dict[str, bytes]] = {}
    checks = ShardChecks(shards)
    for shard in sorted(shards, key=lambda path: _rank(settings, path.name)):
        here = {}
        for raw in read_identities(shard, counts=counts, checks=checks):
            counts.identities += 1
            photos = _photos(raw, settings, counts)
            if photos is None:
                counts.too_few += 1
            else:
                here[raw.identity_id] = photos
        for identity_id in sorted(here, key=lambda name: _rank(settings, name))[: most - len(drawn)]:
            drawn[identity_id] = here[identity_id]
        if len(drawn) == most:
            break
    return drawn


def _photos(raw: RawIdentity, settings: SetSettings, counts: Counts) -> dict[str, bytes] | None:
    """Return the first photos of the draw that decode; None if they are too few."""
    photos: dict[str, bytes] = {}
    for key, members in sorted(raw.samples, key=lambda sample: _rank(settings, sample[0])):
        counts.samples += 1
        try:
            decode_jpeg(parse_sample(key, members).jpeg, 8)
        except CorruptSample as error:
            counts.corrupt[str(error)] += 1
            continue
        photos[key] = members["jpg"]
        if len(photos) == settings.references + 1:
            return photos
    return None


def _entry(identity_id: str, photos: Mapping[str, bytes]) -> dict[str, object]:
    return {
        "identity_id": identity_id,
        "photos": [
            {"file": _file(identity_id, number), "key": key, "sha256": hashlib.sha256(jpeg).hexdigest()}
            for number, (key, jpeg) in enumerate(photos.items())
        ],
    }


def _file(identity_id: str, number: int) -> str:
    return f"pictures/{identity_id}/{f'reference_{number}' if number else 'target'}.jpg"


def _rank(settings: SetSettings, name: str) -> int:
    """Return a random rank that depends on the seed and the name only; the lowest ranks are drawn."""
    return number_of(f"{settings.seed} {name}")
