"""One aligned face: what shards hold of a person, what training compares and what generation is given agree, on real photos."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from hifidata.config.recipe import load_recipe
from hifidata.image.align import norm_crop
from hifidata.models.matting.selfie import SelfieMatting
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.registry import load
from hifidata.run.run import RunOptions, run
from hifimodel.data.sample import Sample, parse_sample
from hifimodel.data.shards import find_shards, read_identities
from hifimodel.faces.photo import Preparation, prepare_reference, read_photo
from tests.conftest import PROJECT_ROOT
from tests.factories.photos import Portrait
from tests.hifimodel.faces.test_photo import MATTING_FILE

torch = pytest.importorskip("torch")

from hifimodel.data.config import Counts, DataConfig  # noqa: E402
from hifimodel.data.group import make_reference  # noqa: E402
from hifimodel.faces.recogniser import load_identity_embedder  # noqa: E402
from hifimodel.losses.align import align_faces  # noqa: E402
from hifimodel.nets.embedder import FaceEmbedder, load_embedder  # noqa: E402

PHOTOS = ("stock-emotions-a-[1258].jpg", "stock-emotions-b-[248].jpg", "person-vlado.jpg")
SETTINGS = (
    "verify.model=mobilefacenet", "verify.min_images=1", "verify.method=paper", "verify.k=1", "verify.min_similarity=-1",
    "executor.kind=local", "watermark.model=null", "quality.model=null", "dedup.max_distance_bits=0",
)  # fmt: skip
PERSON = "person"


@pytest.fixture(scope="module")
def embedder(weights: Path) -> FaceEmbedder:
    torch.set_num_threads(1)
    return load_embedder("mobilefacenet", weights / "mobilefacenet")


@pytest.fixture(scope="module")
def photos(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as hifidata takes it: one sub-folder."""
    folder = tmp_path_factory.mktemp("photos") / PERSON
    folder.mkdir()
    for path in (path for pattern in PHOTOS for path in (assets / "faces" / "human-samples").glob(pattern)):
        shutil.copy(path, folder)
    return folder.parent


@pytest.fixture(scope="module")
def stored(photos: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sample]:
    """What hifidata's own pipeline made of them, by file name."""
    out = tmp_path_factory.mktemp("stored") / "out"
    settings = [f"source.path={photos}", f"weights.folder={weights}", *SETTINGS]
    run(load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", settings), RunOptions(out), lambda progress: None)
    names = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in (photos / PERSON).iterdir()}
    return {
        names[json.loads(members["json"])["content_sha256"]]: parse_sample(key, members)
        for shard in find_shards(out)
        for identity in read_identities(shard, counts=Counts())
        for key, members in identity.samples
    }


def embedded(embedder: FaceEmbedder, chip_u8: RgbU8) -> F32:
    with torch.no_grad():
        vector: F32 = embedder(torch.from_numpy(chip_u8).permute(2, 0, 1)[None])[0].numpy()
    return vector


def test_generation_embeds_a_photo_as_the_shard_made_of_it_does(
    photos: Path, stored: Mapping[str, Sample], weights: Path
) -> None:
    identity = load_identity_embedder("mobilefacenet", 128, weights / "mobilefacenet")
    detector, matter = load("detect", "dlib_hog"), SelfieMatting(weights / "matting" / MATTING_FILE)
    matting = Preparation(alpha=lambda rgb_u8: matter.matte([rgb_u8])[0])
    assert len(stored) >= 6
    for name, sample in stored.items():
        photo = read_photo(photos / PERSON / name)
        references = [prepare_reference(name, photo, detector, how) for how in (Preparation(), matting)]
        assert references[1].is_matted
        cosines = identity.embed(references).numpy() @ sample.embedding
        assert cosines.min() > 0.999, name


def test_training_embeds_a_stored_picture_nearly_as_the_photo(
    stored: Mapping[str, Sample], embedder: FaceEmbedder
) -> None:
    config = DataConfig("unused")
    cosines = [
        float(embedded(embedder, make_reference(sample, config).face_u8) @ sample.embedding)
        for sample in stored.values()
    ]
    assert np.median(cosines) > 0.999
    assert min(cosines) > 0.997  # another resolution, and a JPEG


def test_the_alignment_in_torch_gives_the_embedding_of_the_shards_alignment(
    portraits: Sequence[Portrait], embedder: FaceEmbedder
) -> None:
    for photo in portraits:
        stored = embedded(embedder, norm_crop(photo.rgb_u8, photo.kps_px))
        picture = torch.from_numpy(photo.rgb_u8.copy()).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
        chip = align_faces(picture, torch.from_numpy(photo.kps_px)[None]) / 127.5 - 1  # the identity loss's
        with torch.no_grad():
            differentiable = embedder(chip)[0].numpy()
        assert stored @ differentiable > 0.999, photo.name
