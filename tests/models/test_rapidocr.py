from __future__ import annotations

import logging

import cv2
import matplotlib
import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

from hifidata.models import registry
from hifidata.models.protocols import Faces, RgbU8, TextRegions
from hifidata.models.text.lines import UNREAD, Pass, cut_line, lines_of, reading_of, regions_of
from hifidata.models.text.rapidocr import RapidOcrText
from hifidata.stages.watermark import certainty, face_region

MIN_SCORE = (registry.find("watermark", "rapidocr").defaults or {})["min_text_score"]


@pytest.fixture(scope="module")
def recognizer() -> RapidOcrText:
    return RapidOcrText()


def around(picture: RgbU8, faces: Faces) -> RgbU8:
    return face_region(picture, faces.xyxy_px[0])[0]


def written_on(region: RgbU8, text: str, opacity: float = 1.0, height: float = 0.15, turn_deg: float = 0) -> RgbU8:
    """White text with its height as a share of the region's, centred on the lower half."""
    picture = Image.fromarray(region)
    ink = Image.new("L", picture.size, 0)
    draw = ImageDraw.Draw(ink)
    font = ImageFont.load_default(size=max(8, height * picture.height))
    draw.text((picture.width / 2, picture.height * 0.65), text, fill=255, font=font, anchor="mm")
    ink = ink.rotate(turn_deg).point(lambda value: int(value * opacity))
    picture.paste((255, 255, 255), mask=ink)
    return np.asarray(picture)


def readings(found: TextRegions) -> list[str]:
    return [text for text, score in zip(found.texts, found.scores, strict=True) if score >= MIN_SCORE]


@pytest.mark.parametrize(("opacity", "turn_deg"), [(1.0, 0), (0.6, 0), (0.8, 20), (1.0, -30)])
def test_text_across_every_face_is_found(
    recognizer: RapidOcrText, portraits: list[tuple[RgbU8, Faces]], opacity: float, turn_deg: float
) -> None:
    regions = [written_on(around(*portrait), "SAMPLE", opacity, 0.15, turn_deg) for portrait in portraits[:4]]
    assert all(readings(found) for found in recognizer.find(regions))


def test_plain_faces_have_no_text(recognizer: RapidOcrText, portraits: list[tuple[RgbU8, Faces]]) -> None:
    for picture, faces in portraits:
        region, box = face_region(picture, faces.xyxy_px[0])
        found = recognizer.find([region])[0]
        kps_px = faces.kps_px[0] - (faces.xyxy_px[0][:2] - box[:2])
        lines = zip(found.quads_px, found.texts, found.scores, strict=True)
        assert all(certainty(*line, kps_px) < MIN_SCORE for line in lines)


@pytest.mark.parametrize("side_px", [160, 1400])
def test_quads_lie_on_the_text_in_the_regions_own_pixels(recognizer: RapidOcrText, side_px: int) -> None:
    region = written_on(np.full((side_px, side_px, 3), 60, np.uint8), "getty images")
    found = recognizer.find([region])[0]
    assert "".join(readings(found)).replace(" ", "").lower() == "gettyimages"
    rows, columns = np.nonzero(region[..., 0] > 150)
    low, high = found.quads_px.reshape(-1, 2).min(axis=0), found.quads_px.reshape(-1, 2).max(axis=0)
    assert np.abs(low - [columns.min(), rows.min()]).max() < 0.06 * side_px
    assert np.abs(high - [columns.max(), rows.max()]).max() < 0.06 * side_px


@pytest.mark.parametrize("text", ["Пример", "пример фото"])
def test_a_line_in_a_script_the_recogniser_lacks_is_reported_as_unread(recognizer: RapidOcrText, text: str) -> None:
    region = Image.new("RGB", (300, 300), (70, 80, 90))
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 36)
    ImageDraw.Draw(region).text((150, 150), text, fill="white", font=font, anchor="mm")
    found = recognizer.find([np.asarray(region)])[0]
    assert found.texts == (UNREAD,)
    assert found.scores[0] >= MIN_SCORE


def test_a_line_seen_at_both_sizes_is_one_line_and_rather_the_one_that_was_read() -> None:
    first, second, third = [np.array([(x, 0), (x + 90, 0), (x + 90, 30), (x, 30)], np.float32) for x in (0, 70, 140)]
    lines = [(first, 0.5), (first + 2, 0.9), (second, 0.6), (third, 0.7), (third + 2, 0.8)]
    found = regions_of(lines, ["ALAMY", UNREAD, UNREAD, "ALAMY", "ALAMY"])
    assert found.texts == ("ALAMY", UNREAD, "ALAMY")
    assert np.array_equal(found.quads_px, [third + 2, second, first])
    assert found.scores == pytest.approx([0.8, 0.6, 0.5])


def test_every_line_keeps_its_own_score(recognizer: RapidOcrText) -> None:
    region = np.full((300, 300, 3), 90, np.uint8)
    region[:150] = written_on(region[:150], "faint", opacity=0.2, height=0.25)
    region[150:] = written_on(region[150:], "SAMPLE", height=0.25)
    found = recognizer.find([region])[0]
    score_of = dict(zip((quad.mean(axis=0)[1] > 150 for quad in found.quads_px), found.scores, strict=True))
    assert score_of[True] > score_of[False]


@pytest.mark.parametrize(
    ("text", "score", "reading"),
    [
        ("", 0.0, UNREAD),
        ("a", 0.99, UNREAD),
        (" ab ", 0.95, "ab"),
        ("ab", 0.8, UNREAD),
        ("abc", 0.7, "abc"),
        ("abc", 0.4, UNREAD),
    ],
)
def test_short_and_doubtful_readings_are_none(text: str, score: float, reading: str) -> None:
    assert reading_of(text, score) == reading


@pytest.mark.parametrize(
    ("width_px", "height_px", "min_height", "is_line"),
    [
        (120, 30, 0.03, True),
        (120, 30, 0.2, False),
        (220, 210, 0.03, False),
        (280, 140, 0.03, True),
        (30, 5, 0.03, False),
    ],
)
def test_what_is_as_large_as_a_face_or_too_low_for_letters_is_no_line(
    width_px: int, height_px: int, min_height: float, is_line: bool
) -> None:
    detector_pass = Pass(np.zeros((300, 300, 3), np.uint8), 0.5, min_height)
    quad = np.array([(0, 0), (width_px, 0), (width_px, height_px), (0, height_px)], np.float32)
    lines = lines_of(detector_pass, [quad], [0.9])
    assert [score for _, score in lines] == [0.9] * is_line
    assert all(np.array_equal(found, 2 * quad) for found, _ in lines)


def test_the_same_region_reads_the_same_twice(recognizer: RapidOcrText) -> None:
    region = written_on(np.full((200, 200, 3), 90, np.uint8), "Preview", 0.7)
    first, second = recognizer.find([region, region])
    assert first.texts == second.texts
    assert np.array_equal(first.quads_px, second.quads_px)
    assert np.array_equal(first.scores, RapidOcrText().find([region])[0].scores)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 900, 3), (900, 3, 3), (40, 40, 3)])
def test_regions_without_room_for_text_give_an_empty_answer(
    recognizer: RapidOcrText, shape: tuple[int, int, int]
) -> None:
    found = recognizer.find([np.full(shape, 128, np.uint8)])[0]
    assert found.quads_px.shape == (0, 4, 2)
    assert found.texts == ()
    assert found.scores.shape == (0,)


def test_it_is_silent_where_there_is_no_text(
    recognizer: RapidOcrText, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        recognizer.find([np.full((200, 200, 3), 128, np.uint8)])
    assert capfd.readouterr() == ("", "")


def test_other_loggers_keep_their_level() -> None:
    before = logging.getLogger().level
    RapidOcrText()
    assert logging.getLogger().level == before
    assert logging.getLogger("RapidOCR").level == logging.CRITICAL


def test_an_upright_line_is_cut_out_as_it_is_and_a_standing_one_is_turned() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    lying = np.array([(10, 20), (70, 20), (70, 50), (10, 50)], np.float32)
    standing = np.array([(10, 20), (30, 20), (30, 90), (10, 90)], np.float32)
    assert np.array_equal(cut_line(picture, lying), picture[20:50, 10:70])
    assert np.array_equal(cut_line(picture, standing), np.rot90(picture[20:90, 10:30]))


def test_zeros_for_its_smallest_weights_change_nothing_that_the_detector_finds(
    recognizer: RapidOcrText, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    flushed = recognizer._engine.text_det.session.session
    published = ort.InferenceSession(
        RapidOCR().text_det.session.session._model_path, providers=["CPUExecutionProvider"]
    )
    name = published.get_inputs()[0].name
    for picture, faces in portraits[:3]:
        region = cv2.resize(written_on(around(picture, faces), "SAMPLE"), (320, 416)).astype(np.float32) / 127.5 - 1
        asked = {name: np.ascontiguousarray(region.transpose(2, 0, 1)[None])}
        np.testing.assert_allclose(flushed.run(None, asked)[0], published.run(None, asked)[0], atol=1e-6)
