"""The detectors without 68 landmarks: real weights on real photos, and the second look at faces that fill the frame."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from hifidata.core.errors import WeightsError
from hifidata.models import registry
from hifidata.models.detect.five_point import CANVAS_PX, NMS_IOU, find_faces, on_canvas
from hifidata.models.detect.retinaface_mnet import priors
from hifidata.models.detect.scrfd import Scrfd2G
from hifidata.models.detect.yunet import MIN_SCORE, YuNet
from hifidata.models.protocols import F32, FaceDetector, RgbU8
from hifidata.weights.catalogue import entry
from hifidata.weights.find import find_weight, status_of
from hifidata.weights.search_path import searching

Reader = Callable[[Path], RgbU8]
NAMES = ("scrfd_2.5g", "scrfd_500m", "retinaface_mnet", "yunet")
PORTRAIT_SETS = ("face_recognition", "human-samples", "photomaker", "openface", "facenet-pytorch")


@pytest.fixture(scope="module")
def detectors(assets: Path) -> Iterator[dict[str, FaceDetector]]:
    """All detectors, with real weights; YuNet's are those of its authors where OpenCV's were not pulled."""
    with searching(assets / "weights"):
        pulled = status_of(entry("yunet")).path
        yield {
            **{name: registry.load("detect", name) for name in NAMES if name != "yunet"},
            "yunet": YuNet(pulled or find_weight("yunet_dynamic")),
        }


@pytest.fixture(scope="module")
def portraits62(assets: Path, read_picture: Reader) -> list[tuple[RgbU8, float]]:
    """The 62 single portraits of index.csv, at most 1000 px, with the narrow side of the face that it measured."""
    with (assets / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["set"] in {f"faces/{name}" for name in PORTRAIT_SETS}
            and (row["n_faces"], row["needs_padding"]) == ("1", "")
        ]
    found = []
    for row in rows:
        picture = read_picture(assets / row["file"])
        scale = min(1.0, 1000 / max(picture.shape[:2]))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found.append((np.asarray(picture, np.uint8), float(row["largest_face_px"]) * scale))
    return found


@pytest.fixture(scope="module")
def boxes62(detectors: dict[str, FaceDetector], portraits62: list[tuple[RgbU8, float]]) -> dict[str, list[F32]]:
    """Every detector's faces of the portraits, largest first."""
    pictures = [picture for picture, _ in portraits62]
    return {name: [faces.xyxy_px for faces in detector.detect(pictures)] for name, detector in detectors.items()}


def overlap(a: F32, b: F32) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both)


@pytest.mark.parametrize("name", NAMES)
def test_every_detector_finds_the_main_face_of_all_62_portraits_at_the_size_once_measured(
    name: str, boxes62: dict[str, list[F32]], portraits62: list[tuple[RgbU8, float]]
) -> None:
    assert len(portraits62) == 62
    for boxes, (_, narrow_px) in zip(boxes62[name], portraits62, strict=True):
        assert len(boxes) >= 1
        assert 0.75 < min(boxes[0][2:] - boxes[0][:2]) / narrow_px < 1.35


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_detector_agrees_with_scrfd_about_where_the_face_is(name: str, boxes62: dict[str, list[F32]]) -> None:
    overlaps = [overlap(a[0], b[0]) for a, b in zip(boxes62[name], boxes62["scrfd_2.5g"], strict=True)]
    assert min(overlaps) > 0.5
    assert np.median(overlaps) > 0.75


@pytest.mark.parametrize("name", NAMES)
def test_a_face_that_fills_the_frame_is_found_where_it_is(
    name: str,
    detectors: dict[str, FaceDetector],
    boxes62: dict[str, list[F32]],
    portraits62: list[tuple[RgbU8, float]],
) -> None:
    found = 0
    for (picture, _), boxes in list(zip(portraits62, boxes62["scrfd_2.5g"], strict=True))[::6]:
        x1, y1, x2, y2 = np.rint(boxes[0]).astype(int).clip(0)
        faces = detectors[name].detect([np.ascontiguousarray(picture[y1:y2, x1:x2])])[0]
        whole = np.array([0, 0, x2 - x1, y2 - y1], np.float32)
        found += bool(len(faces.scores) and overlap(faces.xyxy_px[0], whole) > 0.5)
    assert found == len(portraits62[::6])


def test_scrfd_finds_the_same_face_whether_or_not_its_picture_is_filled_up_to_a_black_square(
    detectors: dict[str, FaceDetector], portraits62: list[tuple[RgbU8, float]]
) -> None:
    for picture, _ in portraits62[::6]:
        height, width = picture.shape[:2]
        longer = max(height, width)
        square = cv2.copyMakeBorder(picture, 0, longer - height, 0, longer - width, cv2.BORDER_CONSTANT)
        alone, filled_up = detectors["scrfd_2.5g"].detect([picture, np.asarray(square, np.uint8)])
        assert np.abs(alone.kps_px[0] - filled_up.kps_px[0]).max() < 0.01 * np.ptp(alone.xyxy_px[0, ::2])
        assert abs(alone.scores[0] - filled_up.scores[0]) < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_points_are_in_order_inside_the_box_and_follow_the_resolution(
    name: str, detectors: dict[str, FaceDetector], astronaut: RgbU8
) -> None:
    larger = np.asarray(cv2.resize(astronaut, None, fx=5, fy=5, interpolation=cv2.INTER_LINEAR), np.uint8)
    small, large = detectors[name].detect([astronaut, larger])
    left_eye, right_eye, nose, left_mouth, right_mouth = small.kps_px[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (small.kps_px[0] > small.xyxy_px[0, :2]).all()
    assert (small.kps_px[0] < small.xyxy_px[0, 2:]).all()
    inter_eye_px = np.linalg.norm(right_eye - left_eye)
    assert np.abs(large.kps_px[0] / 5 - small.kps_px[0]).max() < 0.1 * inter_eye_px
    assert small.landmarks_px is None


@pytest.mark.parametrize("name", ["scrfd_2.5g", "scrfd_500m", "yunet"])
def test_animals_and_objects_have_no_face(
    name: str, detectors: dict[str, FaceDetector], assets: Path, read_picture: Reader
) -> None:
    pictures = [read_picture(path) for path in sorted((assets / "edge" / "no-face").iterdir())]
    assert [len(faces.scores) for faces in detectors[name].detect(pictures)] == [0] * len(pictures)


def test_priors_are_those_published_with_the_network(assets: Path) -> None:
    published = json.loads((assets / "weights" / "retinaface" / "priorbox_640x640.json").read_text())
    assert np.allclose(priors(), np.array(published), atol=1e-6)


def test_another_graph_is_refused_by_name(assets: Path) -> None:
    wrong = assets / "weights" / "mobilefacenet" / "MobileFaceNet.onnx"
    with pytest.raises(WeightsError, match=r"MobileFaceNet\.onnx: another graph than expected.*112.*640"):
        Scrfd2G(wrong)
    with pytest.raises(WeightsError, match="expected 9 outputs"):
        Scrfd2G(assets / "weights" / "retinaface" / "retinaface_mnet025_640x640.onnx")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("mobilefacenet/MobileFaceNet.onnx", "another graph than expected"),
        ("scrfd/scrfd_2.5g_bnkps.onnx", "another graph than expected: for a blank image"),
        ("nowhere.onnx", "not a complete ONNX graph"),
        ("cut", "not a complete ONNX graph"),
    ],
)
def test_what_is_no_yunet_is_one_line_before_any_work(file: str, words: str, assets: Path, tmp_path: Path) -> None:
    path = assets / "weights" / file
    if file == "cut":
        path = tmp_path / "yunet.onnx"
        path.write_bytes((assets / "weights" / "yunet" / "yunet_n_dynamic.onnx").read_bytes()[:200_000])
    with pytest.raises(WeightsError, match=rf"\.onnx: {words}.*(put the right file|name one that fits)") as caught:
        YuNet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry_name", ["yunet", "yunet_dynamic", "yunet_640"])
def test_yunet_finds_the_faces_that_opencv_finds_with_the_same_file(
    entry_name: str, weights_here: Callable[[str], Path], real_photos: list[RgbU8], request: pytest.FixtureRequest
) -> None:
    """Boxes, points and scores of the group photo, the astronaut and seven portraits, within 2 px of the photo."""
    if entry_name != "yunet":
        request.getfixturevalue("detectors")  # searches the test assets
    file = weights_here(entry_name)
    ours = YuNet(file)
    theirs = cv2.FaceDetectorYN.create(str(file), "", (CANVAS_PX, CANVAS_PX), MIN_SCORE, NMS_IOU)
    n_faces = 0
    for picture in real_photos:
        canvas, scale, _, _ = on_canvas(picture, 0.0)
        _, rows = theirs.detect(np.ascontiguousarray(canvas[..., ::-1]))
        rows = np.empty((0, 15), np.float32) if rows is None else rows
        rows = rows[np.argsort(-rows[:, 2] * rows[:, 3], kind="stable")]
        faces = ours.detect([picture])[0]
        assert len(faces.scores) == len(rows)
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1) / scale
        assert np.abs(faces.xyxy_px - corners).max(initial=0) < 2
        assert np.abs(faces.kps_px.reshape(-1, 10) - rows[:, 4:14] / scale).max(initial=0) < 2
        assert np.abs(faces.scores - rows[:, 14]).max(initial=0) < 0.01
        n_faces += len(rows)
    assert n_faces >= 8


class FakeNet:
    """Shows the given rows (x1, y1, x2, y2, score, as shares of the canvas) at the first and the second look."""

    def __init__(self, *looks: list[tuple[float, ...]]) -> None:
        self.looks = list(looks)
        self.n_looks = 0

    def __call__(self, canvas: RgbU8) -> F32:
        assert canvas.shape == (CANVAS_PX, CANVAS_PX, 3)
        rows = self.looks[self.n_looks]
        self.n_looks += 1
        found = np.zeros((len(rows), 15), np.float32)
        found[:, :5] = np.array(rows, np.float32).reshape(-1, 5)
        found[:, :4] *= CANVAS_PX
        return found


SQUARE = np.zeros((1000, 1000, 3), np.uint8)


def test_a_clear_face_inside_the_picture_takes_one_look() -> None:
    net = FakeNet([(0.2, 0.2, 0.5, 0.6, 0.9)])
    assert np.allclose(find_faces(SQUARE, net).xyxy_px, [[200, 200, 500, 600]])
    assert net.n_looks == 1


@pytest.mark.parametrize(
    "first", [[], [(0.2, 0.2, 0.5, 0.6, 0.55)], [(0.0, 0.2, 0.5, 0.6, 0.9)]], ids=["nothing", "doubtful", "at the edge"]
)
def test_nothing_a_doubtful_face_and_one_at_the_edge_take_a_second_look_at_a_copy_with_margin(
    first: list[tuple[float, ...]],
) -> None:
    net = FakeNet(first, [(0.25, 0.25, 0.75, 0.75, 0.95)])
    assert np.allclose(find_faces(SQUARE, net).xyxy_px[0], [0, 0, 1000, 1000], atol=1)
    assert net.n_looks == 2


def test_small_faces_of_the_second_look_are_not_believed() -> None:
    net = FakeNet([], [(0.4, 0.4, 0.5, 0.5, 0.95)])
    assert len(find_faces(SQUARE, net).scores) == 0


@pytest.mark.parametrize(("step_px", "sides"), [(32, (448, 640)), (CANVAS_PX, (640, 640))])
def test_the_canvas_is_no_larger_than_the_picture_where_the_network_takes_any_size(
    step_px: int, sides: tuple[int, int]
) -> None:
    seen = []

    def look(canvas: RgbU8) -> F32:
        seen.append(canvas.shape[:2])
        return np.empty((0, 15), np.float32)

    find_faces(np.zeros((400, 600, 3), np.uint8), look, step_px)
    assert seen == [sides, (CANVAS_PX, CANVAS_PX)]


def test_one_face_seen_twice_counts_once_with_its_better_score_and_faces_come_largest_first() -> None:
    net = FakeNet([(0.7, 0.7, 0.8, 0.8, 0.8), (0.0, 0.0, 0.6, 0.6, 0.7)], [(0.26, 0.26, 0.55, 0.55, 0.9)])
    faces = find_faces(SQUARE, net)
    assert faces.scores.tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("shape", [(100, 1600, 3), (1600, 100, 3), (64, 64, 3), (4000, 6000, 3)])
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_whole_picture_lies_on_the_canvas_in_its_own_shape(shape: tuple[int, ...], margin: float) -> None:
    canvas, scale, left, top = on_canvas(np.full(shape, 255, np.uint8), margin)
    rows, columns = np.flatnonzero(canvas.any(axis=(1, 2))), np.flatnonzero(canvas.any(axis=(0, 2)))
    assert (rows[0], columns[0]) == (top, left)
    assert len(rows) == pytest.approx(shape[0] * scale, abs=1)
    assert len(columns) == pytest.approx(shape[1] * scale, abs=1)
    assert max(len(rows), len(columns)) == pytest.approx(CANVAS_PX / (1 + 2 * margin), abs=1)
