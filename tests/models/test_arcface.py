"""Identity vectors: MobileFaceNet's real weights on real photos, the pixel code of the others on made graphs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hifidata.core.errors import ModelError, WeightsError
from hifidata.image.align import TEMPLATE_PX, norm_crop
from hifidata.models import registry
from hifidata.models.detect.yunet import YuNet
from hifidata.models.embed.arcface import ArcFace, MobileFaceNet, SFace
from hifidata.models.protocols import F32, FaceDetector, RgbU8
from hifidata.weights.search_path import searching
from tests.factories.graphs import make_graph

Reader = Callable[[Path], RgbU8]
CLEAN_SETS = ("faces/bbt", "faces/dlib-johns", "faces/face_recognition")


@pytest.fixture(scope="module")
def models(assets: Path) -> Iterator[tuple[FaceDetector, MobileFaceNet]]:
    with searching(assets / "weights"):
        yield registry.load("detect", "scrfd_500m"), registry.load("verify", "mobilefacenet")


def embedded(
    detector: FaceDetector, embedder: ArcFace, assets: Path, read_picture: Reader, step: int = 1
) -> tuple[F32, NDArray[np.str_]]:
    """Vectors and identities of every n-th of the labelled photos with one face."""
    with (assets / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["set"] in CLEAN_SETS and r["identity"] and r["n_faces"] == "1"][
            ::step
        ]
    pictures = [read_picture(assets / row["file"]) for row in rows]
    kps_px = [faces.kps_px[0] for faces in detector.detect(pictures)]
    return embedder.embed(pictures, kps_px, [None] * len(pictures)), np.array([row["identity"] for row in rows])


def test_pairs_of_labelled_photos_have_the_similarities_once_measured(
    models: tuple[FaceDetector, MobileFaceNet], assets: Path, read_picture: Reader
) -> None:
    """ASSETS.md: same person 0.776 on average, different people 0.025."""
    vectors, people = embedded(*models, assets, read_picture)
    first, second = np.triu_indices(len(people), 1)
    cosines, same = (vectors[first] * vectors[second]).sum(axis=1), people[first] == people[second]
    assert cosines[same].mean() == pytest.approx(0.776, abs=0.02)
    assert cosines[~same].mean() == pytest.approx(0.025, abs=0.02)
    assert np.percentile(cosines[~same], 95) < 0.22 < np.percentile(cosines[same], 5)


def test_vectors_have_length_one_and_do_not_depend_on_their_neighbours(
    models: tuple[FaceDetector, MobileFaceNet], astronaut: RgbU8
) -> None:
    detector, embedder = models
    pictures = [astronaut, np.ascontiguousarray(astronaut[:, ::-1]), cv2.GaussianBlur(astronaut, (0, 0), 3)]
    kps_px = [faces.kps_px[0] for faces in detector.detect(pictures)]
    together = embedder.embed(pictures, kps_px, [None] * 3)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    alone = [embedder.embed([picture], [kps], [None])[0] for picture, kps in zip(pictures, kps_px, strict=True)]
    assert np.array_equal(together, np.stack(alone))
    assert np.array_equal(together[::-1], embedder.embed(pictures[::-1], kps_px[::-1], [None] * 3))


def test_a_face_without_size_is_a_model_error_and_no_face_no_error(
    models: tuple[FaceDetector, MobileFaceNet], astronaut: RgbU8
) -> None:
    _, embedder = models
    with pytest.raises(ModelError, match="coincide"):
        embedder.embed([astronaut], [np.full((5, 2), 7, np.float32)], [None])
    assert len(embedder.embed([], [], [])) == 0


def test_a_graph_for_other_sizes_is_refused(assets: Path) -> None:
    with pytest.raises(WeightsError, match=r"another graph than expected.*640.*112"):
        ArcFace(assets / "weights" / "scrfd" / "scrfd_500m_bnkps.onnx")


def mean_colours(path: Path, sizes: int, batch: int | str = "n") -> Path:
    """A graph of w600k_r50's input and output shape whose vector repeats the mean of each colour."""
    return make_graph(
        path,
        [("ReduceMean", ["input"], "colours", {"axes": [2, 3], "keepdims": 0}), ("MatMul", ["colours", "repeat"], "output")],
        ([batch, 3, sizes, sizes], [batch, 512]),
        {"repeat": np.tile(np.eye(3), 171)[:, :512]},
    )  # fmt: skip


@pytest.mark.parametrize("batch", ["n", 1])
def test_pixels_reach_a_made_graph_as_rgb_from_minus_one_to_one_in_order_whatever_batch_it_takes(
    tmp_path: Path, batch: int | str
) -> None:
    embedder = ArcFace(mean_colours(tmp_path / "w600k_r50.onnx", 112, batch))
    colours = [(255, 0, 0), (0, 255, 0), (255, 255, 0)]
    pictures = [np.full((112, 112, 3), colour, np.uint8) for colour in colours]
    got = embedder.embed(pictures, [TEMPLATE_PX] * 3, [None] * 3)
    assert got.shape == (3, 512)
    expected = np.array(colours, np.float32) / 127.5 - 1
    expected = np.tile(expected, 171)[:, :512]
    assert np.allclose(got, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_a_vector_without_length_from_a_made_graph_is_a_model_error(tmp_path: Path) -> None:
    embedder = ArcFace(
        make_graph(
            tmp_path / "zero.onnx",
            [("ReduceMean", ["input"], "rows", {"axes": [1, 3], "keepdims": 0}), ("Sub", ["rows", "rows"], "output")],
            (["n", 3, 112, 112], ["n", 112]),
        )
    )  # fmt: skip
    with pytest.raises(ModelError, match="zero or not finite"):
        embedder.embed([np.zeros((112, 112, 3), np.uint8)], [TEMPLATE_PX], [None])


def test_a_made_graph_that_gives_no_vectors_is_refused(tmp_path: Path) -> None:
    mean = ("ReduceMean", ["input"], "output", {"axes": [2, 3], "keepdims": 0})
    path = make_graph(tmp_path / "colours.onnx", [mean], (["n", 3, 112, 112], ["n", 3]))
    with pytest.raises(WeightsError, match="gives 3 values for a face, expected an embedding of 32 or more"):
        ArcFace(path)


def kps_at(x: float, y: float, scale: float) -> F32:
    return np.asarray(TEMPLATE_PX * scale + [x, y], np.float32)


def test_a_made_graph_sees_the_aligned_face_and_not_the_picture_around_it(tmp_path: Path) -> None:
    embedder = ArcFace(mean_colours(tmp_path / "w600k_r50.onnx", 112))
    picture = np.full((600, 600, 3), (255, 0, 0), np.uint8)
    picture[200:424, 100:324] = (0, 0, 255)
    got = embedder.embed([picture], [kps_at(100, 200, 2.0)], [None])[0]
    assert np.allclose(got[:3] / got[2], [-1, -1, 1], atol=0.05)


@pytest.fixture(scope="module")
def sface(weights_here: Callable[[str], Path]) -> SFace:
    return SFace(weights_here("sface"))


def test_sface_gives_the_vector_that_opencv_gives_for_the_same_chip_and_tells_people_apart(
    sface: SFace, people: dict[str, list[RgbU8]], weights_here: Callable[[str], Path]
) -> None:
    """Two portraits of each of seven people; OpenCV's vector has no unit length."""
    theirs = cv2.FaceRecognizerSF.create(str(weights_here("sface")), "")
    detector = YuNet(weights_here("yunet"))
    pictures = [picture for portraits in people.values() for picture in portraits]
    kps_px = [faces.kps_px[0] for faces in detector.detect(pictures)]
    vectors = sface.embed(pictures, kps_px, [None] * len(pictures))
    assert vectors.shape == (14, 128)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for picture, kps, vector in zip(pictures, kps_px, vectors, strict=True):
        expected = theirs.feature(np.ascontiguousarray(norm_crop(picture, kps)[..., ::-1]))[0]
        assert vector @ expected / np.linalg.norm(expected) > 0.9999
    limit = (registry.EMBEDDERS["sface"].defaults or {})["min_similarity"]
    cosines, owner = vectors @ vectors.T, np.arange(14) // 2
    same = owner[:, None] == owner
    assert cosines[same].min() > limit > cosines[~same].max()


def test_sface_separates_labelled_photos_as_once_measured(
    sface: SFace, weights_here: Callable[[str], Path], assets: Path, read_picture: Reader
) -> None:
    """Measured on 247 photos of 34 people: same person 0.638 on average, strangers 0.064, 95th percentile 0.217."""
    vectors, people = embedded(YuNet(weights_here("yunet")), sface, assets, read_picture, step=3)
    first, second = np.triu_indices(len(people), 1)
    cosines, same = (vectors[first] * vectors[second]).sum(axis=1), people[first] == people[second]
    assert cosines[same].mean() > 0.6
    assert cosines[~same].mean() < 0.1
    assert np.percentile(cosines[~same], 95) < 0.25 < 0.36 < np.percentile(cosines[same], 5)
