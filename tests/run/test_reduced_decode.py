"""``detect.reduced_decode``: large JPEGs are looked at reduced, numbers are those of the whole picture, and only what passes is
decoded whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hifidata.config.recipe import STAGE_NAMES, Recipe, load_recipe
from hifidata.core.errors import IntakeError, RecipeError
from hifidata.core.schema import Reason, Row
from hifidata.image.decode import Limits, Picture, decode
from hifidata.models import registry
from hifidata.models.detect import dlib, five_point, retinaface_mnet, scrfd, yunet
from hifidata.models.protocols import F32, Faces, RgbU8
from hifidata.run.identity_batch import parcel_from_bytes, parcel_to_bytes
from hifidata.run.plan import open_source
from hifidata.run.replay import replay
from hifidata.run.run import RunOptions, run
from hifidata.run.worker import Worker
from hifidata.stages import base
from hifidata.stages.base import Sample
from hifidata.stages.detect import Detect
from hifidata.stages.intake import Intake
from hifidata.store.fragments import read_rows
from tests.conftest import PROJECT_ROOT, digest
from tests.factories.images import exif_with, saved, scene

LOOKS_AT_PX = 180
WHOLE = "detect.reduced_decode=false"


class PatchFinder:
    """Reports the white patch of a dark picture: exact where its edges lie between blocks that are decoded to one pixel."""

    looks_at_px = LOOKS_AT_PX
    name = "patch"

    def __init__(self) -> None:
        self.has_landmarks = False
        self.seen: list[tuple[int, int]] = []

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: RgbU8) -> Faces:
        self.seen.append((picture.shape[1], picture.shape[0]))
        y, x = np.nonzero(picture[..., 1] > 128)
        if not len(x):
            return Faces(*(np.empty(shape, np.float32) for shape in ((0, 4), 0, (0, 5, 2))), None)
        box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], np.float32)
        across = np.linspace(0, 1, 5, dtype=np.float32)[:, None]
        points = box[:2] + (box[2:] - box[:2]) * across  # (5, 2), from corner to corner
        landmarks: F32 | None = None
        if self.has_landmarks:
            points -= np.float32(0.5)  # whole numbers are centres of pixels, as dlib has it
            landmarks = np.repeat(points, [14, 14, 14, 13, 13], axis=0)[None]
        return Faces(box[None], np.ones(1, np.float32), points[None], landmarks)


def patched(width_px: int, height_px: int, *corners: int) -> RgbU8:
    """Dark, with a white patch from x1, y1 to x2, y2."""
    picture = np.full((height_px, width_px, 3), 20, np.uint8)
    x1, y1, x2, y2 = corners
    picture[y1:y2, x1:x2] = 235
    return picture


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> PatchFinder:
    """Stands in the detector's place."""
    finder, load = PatchFinder(), registry.load
    monkeypatch.setattr(registry, "load", lambda stage, *more: finder if stage == "detect" else load(stage, *more))
    return finder


def measured(data: bytes, look_px: int | None) -> Row:
    """What intake and detection store of one picture."""
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", ["source.path=."])
    sample = Sample({}, lambda: data, Limits(), 256, look_px)
    for stage in (Intake(recipe), Detect(recipe)):
        sample.row |= {name: values[0] for name, values in stage.measure([sample]).items()}
    return sample.row


@pytest.mark.parametrize("has_landmarks", [False, True], ids=["five points", "landmarks"])
@pytest.mark.parametrize(("look_px", "factor"), [(700, 2), (300, 4), (180, 8)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_numbers_are_mapped_back_exactly(
    orientation: int, look_px: int, factor: int, has_landmarks: bool, finder: PatchFinder
) -> None:
    """Neither side is a multiple of the factor, so that the last pixels of the reduced picture stand for fewer."""
    width, height = 1501, 1003
    stored = Image.fromarray(patched(width, height, 1040, 160, 1360, 400))
    data = saved(stored, "JPEG", exif=exif_with(orientation), quality=95)
    finder.has_landmarks = has_landmarks
    whole, reduced = measured(data, None), measured(data, look_px)
    sides = (height, width) if orientation >= 5 else (width, height)
    assert finder.seen == [sides, tuple(-(-side // factor) for side in sides)]
    assert (whole["width_px"], whole["height_px"], whole["exif_orientation"]) == (*sides, orientation)
    assert whole["face_x2_px"] - whole["face_x1_px"] == (240 if orientation >= 5 else 320)
    assert reduced == whole
    assert (whole["face_landmarks"] is not None) == has_landmarks


def test_a_face_at_the_edge_is_inside_by_the_same_share(finder: PatchFinder) -> None:
    data = saved(patched(1504, 1000, 1200, 400, 1504, 720), "JPEG", quality=95)
    whole, reduced = (measured(data, look_px) for look_px in (None, 180))
    assert reduced == whole
    assert reduced["face_inside_ratio"] == 1


@pytest.mark.parametrize(
    ("kind", "width_px", "options"),
    [("PNG", 1600, {}), ("WEBP", 1600, {}), ("JPEG", 1600, {"icc": True}), ("JPEG", 358, {})],
    ids=["png", "webp", "another colour space", "small"],
)
def test_other_files_and_small_pictures_are_decoded_whole_at_once(
    kind: str, width_px: int, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.fromarray(patched(width_px, 300, 16, 16, 80, 80))
    data = saved(picture.convert("CMYK") if options else picture, kind)
    sample = Sample({}, lambda: data, Limits(), 256, LOOKS_AT_PX)
    first = sample.look
    assert (first.reduced_by, first.rgb_u8.shape) == (1, (300, width_px, 3))
    monkeypatch.setattr(base, "decode", None)  # a second decode would fail
    assert sample.rgb_u8 is first.rgb_u8


def test_the_factor_is_the_largest_that_leaves_what_the_detector_looks_at() -> None:
    def factor(long_px: int, at_least_px: int) -> int:
        return decode(saved(scene(100, long_px), "JPEG"), Limits(max_aspect=100), at_least_px).reduced_by

    assert [factor(long_px, 180) for long_px in (178, 358, 359, 360, 715, 717, 1432, 1433, 3000)] == [
        1, 1, 2, 2, 2, 4, 4, 8, 8
    ]  # fmt: skip


def test_a_reduced_jpeg_looks_the_same_with_the_opencv_of_paddleocrs_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(scene(500, 700), "JPEG")
    expected = decode(data, Limits(), 180).rgb_u8
    averaged = cv2.resize(scene(500, 700), (350, 250), interpolation=cv2.INTER_AREA)
    assert np.abs(averaged.astype(int) - expected).max() < 9
    monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB")
    np.testing.assert_array_equal(decode(data, Limits(), 180).rgb_u8, expected)


def test_detectors_state_what_they_look_at() -> None:
    """The largest copy that each one searches."""
    assert dlib.DlibDetector().looks_at_px == max(dlib.HOG_LONG_SIDES_PX)
    assert dlib.DlibMmodDetector().looks_at_px == dlib.MMOD_LONG_SIDE_PX
    for detector in (scrfd.Scrfd, yunet.YuNet, retinaface_mnet.RetinaFaceMnet):
        assert detector.looks_at_px == five_point.CANVAS_PX


@pytest.fixture
def decodes(finder: PatchFinder, monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[bytes, int]]:
    """Counts decodes by file and factor; the patch finder detects."""
    counted: Counter[tuple[bytes, int]] = Counter()

    def counting(data: bytes, limits: Limits, at_least_px: int | None = None) -> Picture:
        picture = decode(data, limits, at_least_px)
        counted[data, picture.reduced_by] += 1
        return picture

    monkeypatch.setattr(base, "decode", counting)
    return counted


PASSES = saved(patched(1501, 1003, 400, 320, 720, 640), "JPEG", quality=95, exif=exif_with(6))
DROPPED = saved(patched(1501, 1003, 0, 0, 0, 0), "JPEG", quality=95)
SMALL = saved(patched(170, 150, 48, 40, 104, 96), "JPEG", quality=95)


def recipe_for(root: Path, files: dict[str, bytes], *overrides: str) -> Recipe:
    person = root / "photos" / "someone"
    person.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (person / name).write_bytes(data)
    settings = [
        f"source.path={root / 'photos'}", "detect.reduced_decode=true", "quality.model=null", "watermark.model=null",
        "verify.model=null", "dedup.enabled=false", "landmarks.model=null", "crop.output_px=256", "crop.min_side_px=64", "failures.max_share=1",
        "executor.kind=local",
    ]  # fmt: skip
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [*settings, *overrides])


def rows_of(out: Path) -> dict[str, Row]:
    return {Path(row["source_uri"]).name: row for row in read_rows(out / "manifests" / "images.parquet")}


def run_into(out: Path, recipe: Recipe) -> dict[str, Row]:
    run(recipe, RunOptions(out), lambda progress: None)
    return rows_of(out)


def test_only_what_passes_detection_is_decoded_whole_and_once(
    decodes: Counter[tuple[bytes, int]], tmp_path: Path
) -> None:
    files = {"passes.jpg": PASSES, "dropped.jpg": DROPPED, "small.jpg": SMALL}
    rows = run_into(tmp_path / "out", recipe_for(tmp_path, files))
    assert {name: row["reason"] for name, row in rows.items()} == {
        "passes.jpg": None, "dropped.jpg": "no_face", "small.jpg": None
    }  # fmt: skip
    ours = {key: times for key, times in decodes.items() if key[0] in files.values()}  # not the portraits
    assert ours == {(PASSES, 8): 1, (PASSES, 1): 1, (DROPPED, 8): 1, (SMALL, 1): 1}
    thumbnails = thumbnails_of(tmp_path / "out")
    with Image.open(BytesIO(thumbnails[rows["dropped.jpg"]["image_id"]])) as shown:
        assert shown.size == (160, 107)


def thumbnails_of(out: Path) -> dict[str, bytes]:
    import pyarrow.parquet as pq

    rows = pq.read_table(out / "manifests" / "thumbnails.parquet").to_pylist()
    return {row["image_id"]: row["jpeg"] for row in rows}


def test_manifest_and_shards_are_those_of_whole_decodes(decodes: Counter[tuple[bytes, int]], tmp_path: Path) -> None:
    files = {"passes.jpg": PASSES, "dropped.jpg": DROPPED, "small.jpg": SMALL}
    recipes = [recipe_for(tmp_path, files, *more) for more in ((), (WHOLE,))]
    reduced, whole = (run_into(tmp_path / str(number), recipe) for number, recipe in enumerate(recipes))
    assert reduced == whole
    assert recipes[0].hash != recipes[1].hash
    with pytest.raises(RecipeError, match=r"detect\.reduced_decode changes what is measured"):
        replay(tmp_path / "0", [WHOLE])
    assert replay(tmp_path / "0", ["detect.min_face_inside=0.5"]).kept_after == 2


def test_stages_of_another_worker_group_get_whole_pictures(decodes: Counter[tuple[bytes, int]], tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, {"passes.jpg": PASSES, "dropped.jpg": DROPPED})
    source = open_source(recipe)
    (task,) = source.identities()
    for name, at in (("one", [0, len(STAGE_NAMES)]), ("two", [0, 2, len(STAGE_NAMES)])):
        out = tmp_path / name
        workers = [Worker(recipe, STAGE_NAMES[start:stop], source, out) for start, stop in pairwise(at)]
        parcel = workers[0].run(workers[0].open(task))
        for worker in workers[1:]:
            parcel = worker.run(parcel_from_bytes(parcel_to_bytes(parcel), worker.make_sample))
        assert workers[-1].commit(parcel).n_kept == 1
    assert digest(tmp_path / "one") == digest(tmp_path / "two") != digest(tmp_path / "photos")
    assert {key: times for key, times in decodes.items() if key[0] in (PASSES, DROPPED)} == {
        (PASSES, 8): 2, (PASSES, 1): 2, (DROPPED, 8): 2
    }  # fmt: skip


def spoilt(data: bytes) -> bytes:
    """With a table of codes that no decoder can use."""
    at = data.index(b"\xff\xc4") + 5
    return data[:at] + b"\xff" * 16 + data[at + 16 :]


def test_broken_files_end_as_they_do_with_whole_decodes(decodes: Counter[tuple[bytes, int]], tmp_path: Path) -> None:
    files = {"cut.jpg": PASSES[: len(PASSES) // 2], "spoilt.jpg": spoilt(PASSES), "page.jpg": b"<html>gone</html>"}
    files |= {"passes.jpg": PASSES, "wide.jpg": saved(scene(100, 1700), "JPEG")}
    reduced, whole = (
        run_into(tmp_path / str(number), recipe_for(tmp_path, files, *more))
        for number, more in enumerate(((), (WHOLE,)))
    )
    assert reduced == whole
    ends = {name: (row["stage"], row["reason"]) for name, row in reduced.items()}
    assert ends == {
        "cut.jpg": ("intake", "truncated"), "spoilt.jpg": ("intake", "corrupt"), "page.jpg": ("intake", "not_image"),
        "wide.jpg": ("intake", "bad_aspect"), "passes.jpg": (None, None),
    }  # fmt: skip


@pytest.mark.parametrize("reason", [Reason.TRUNCATED, Reason.CORRUPT])
def test_damage_that_shows_in_the_whole_decode_alone_is_intakes(
    reason: Reason, decodes: Counter[tuple[bytes, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such file is known, since every factor reads the same codes: the decoder is made to fail."""
    counting = base.decode

    def failing(data: bytes, limits: Limits, at_least_px: int | None = None) -> Picture:
        if data == PASSES and at_least_px is None:
            decodes[data, 0] += 1
            raise IntakeError(reason, "jpeg: made to fail")
        return counting(data, limits, at_least_px)

    monkeypatch.setattr(base, "decode", failing)
    rows = run_into(tmp_path / "out", recipe_for(tmp_path, {"passes.jpg": PASSES, "small.jpg": SMALL}))
    broken = rows["passes.jpg"]
    assert [broken[key] for key in ("status", "stage", "reason", "message")] == [
        "failed", "intake", str(reason), "jpeg: made to fail"
    ]  # fmt: skip
    assert decodes[PASSES, 0] == 1
    assert rows["small.jpg"]["status"] == "kept"


def overlap(one: Row, other: Row) -> float:
    a, b = (np.array([row[f"face_{edge}_px"] for edge in ("x1", "y1", "x2", "y2")]) for row in (one, other))
    both = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def judged(data: bytes, look_px: int | None, recipe: Recipe, intake: Intake, detect: Detect) -> Row:
    """What detection measures of a picture, and for which reason it would drop it."""
    sample = Sample({}, lambda: data, Limits(), 256, look_px)
    columns = intake.measure([sample]) | detect.measure([sample])
    row = {name: values[0] for name, values in columns.items()}
    row["n_faces"] = detect.derive([row], recipe.detect)["n_faces"][0]
    verdict = detect.decide(row, recipe.detect)
    return row | {"reason": verdict and verdict.reason, "reduced_by": sample.look.reduced_by}


@pytest.mark.parametrize(("model", "factor", "may_stray"), [("scrfd_2.5g", 4, 0), ("dlib_hog", 2, 2)])
def test_real_photos_of_4000_px_get_the_same_verdicts_and_boxes(
    model: str, factor: int, may_stray: int, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HOG's boxes come in steps of a fifth: two rows of pixels fewer move as many of them as a reduced decode does."""
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    recipe = load_recipe(
        PROJECT_ROOT / "pipelines" / "folder.yaml",
        [
            "source.path=.",
            f"detect.model={model}",
            "landmarks.model=null",
            "verify.model=null",
            "detect.reduced_decode=true",
        ],
    )
    intake, detect = Intake(recipe), Detect(recipe)
    strays, n_passed = [], 0
    for path in sorted((assets / "faces" / "sports-raw").glob("*/*"))[::12]:
        photo = decode(path.read_bytes(), Limits()).rgb_u8
        size_wh = [side * 4000 // max(photo.shape) for side in photo.shape[1::-1]]
        data = saved(cv2.resize(photo, size_wh, interpolation=cv2.INTER_CUBIC), "JPEG", quality=90)
        whole, reduced = (judged(data, look_px, recipe, intake, detect) for look_px in (None, detect.look_px))
        assert (whole["reduced_by"], reduced["reduced_by"]) == (1, factor)
        n_passed += whole["reason"] is None
        same = whole["reason"] == reduced["reason"] and whole["n_faces_raw"] == reduced["n_faces_raw"]
        if not same or (whole["n_faces_raw"] and overlap(whole, reduced) < 0.9):
            strays.append(path.name)
        elif whole["n_faces_raw"]:
            kps_px = np.abs(np.subtract(whole["face_kps"], reduced["face_kps"])).max()
            assert kps_px < 0.05 * (whole["face_x2_px"] - whole["face_x1_px"]), path.name
    assert len(strays) <= may_stray, strays
    assert n_passed >= 4
