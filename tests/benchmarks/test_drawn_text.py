"""Drawn letters of `benchmarks.drawn_text`: positions, determinism, and counts of the watermark stage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from benchmarks import lettering
from benchmarks.drawn_report import band, wilson
from benchmarks.drawn_text import UNLABELLED, Bench
from benchmarks.lettering import SCRIPTS, STYLES, Font, Lettering
from benchmarks.quality import LABELS, read_labels
from hifidata.config.recipe import load_recipe
from hifidata.models.protocols import F32, RgbU8
from tests.conftest import PROJECT_ROOT

FONT = Font("DejaVu Sans", f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 0)
BOX = np.array([150, 120, 350, 380], np.float32)
WORD = Lettering("word", "Latin", "SAMPLE", FONT, 0.2, 0.0, 0.5, (255, 255, 255), (0.5, 0.4))


def photo() -> RgbU8:
    return np.random.default_rng(0).integers(0, 200, (500, 500, 3), np.uint8)


def ink(what: Lettering) -> F32:
    return lettering.ink_of(what, (500, 500, 3), BOX)


def centre_of(covered: F32) -> tuple[float, float]:
    rows, columns = np.nonzero(covered > 0.5)
    return (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2


@pytest.mark.parametrize("style", STYLES)
def test_the_same_seed_draws_the_same_letters_and_another_seed_draws_others(style: str) -> None:
    first, again, other = [lettering.choose(style, "Latin", [FONT], (7, seed)) for seed in (1, 1, 2)]
    assert first == again != other
    assert np.array_equal(ink(first), ink(again))
    assert not np.array_equal(ink(first), ink(other))


@pytest.mark.parametrize("turn_deg", [0.0, -30.0, 45.0])
def test_a_word_has_its_centre_and_its_size(turn_deg: float) -> None:
    covered = ink(replace(WORD, turn_deg=turn_deg))
    assert centre_of(covered) == pytest.approx((250, 224), abs=2.5)
    upright = ink(WORD)
    assert covered.sum() == pytest.approx(upright.sum(), rel=0.02)
    rows = np.nonzero(upright.max(axis=1) > 0.5)[0]
    assert 0.65 < (np.ptp(rows) + 1) / (WORD.size * 200) < 0.85  # capitals fill seven tenths of a font's height


def test_a_turn_is_counter_clockwise() -> None:
    rows, columns = np.nonzero(ink(replace(WORD, turn_deg=30)) > 0.5)
    assert np.polyfit(columns, -rows, 1)[0] == pytest.approx(np.tan(np.radians(30)), abs=0.1)


def test_letters_change_only_covered_pixels_and_by_their_opacity() -> None:
    plain, covered = photo(), ink(WORD)
    written = lettering.drawn(plain, covered, WORD)
    assert np.array_equal(written[covered == 0], plain[covered == 0])
    full = covered == 1
    assert np.abs(written[full] - (plain[full] * 0.5 + 127.5)).max() <= 0.5
    flat = np.full_like(plain, 155)
    levels = lettering.contrast_levels(flat, lettering.drawn(flat, covered, WORD), covered, BOX)
    assert 38 < levels < 50  # half of the way from 155 to 255, less at soft edges


def test_each_style_covers_its_part_of_the_face() -> None:
    x1, y1, x2, y2 = BOX.astype(int)
    for seed in range(20):
        drawn = {style: ink(lettering.choose(style, "Latin", [FONT], (seed,))) for style in STYLES}
        face = {style: covered[y1:y2, x1:x2] for style, covered in drawn.items()}
        assert face["word"].any()
        assert not face["beside"].any()
        assert drawn["beside"].any()
        halves = np.array_split(face["tiled"], 2, axis=0)
        assert all(quarter.any() for half in halves for quarter in np.array_split(half, 2, axis=1))
        rows, columns = np.nonzero(drawn["line"])
        assert np.hypot(np.ptp(rows), np.ptp(columns)) > x2 - x1
    plain, beside = photo(), lettering.choose("beside", "Latin", [FONT], (0,))
    covered = ink(beside)
    assert lettering.contrast_levels(plain, lettering.drawn(plain, covered, beside), covered, BOX) is None


def test_every_script_is_drawn_within_the_stated_limits() -> None:
    for seed, script in enumerate(sorted(SCRIPTS) * 20):
        what = lettering.choose("word", script, [FONT], (seed,))
        assert what.text in SCRIPTS[script].words
        assert 0.08 <= what.size <= 0.40
        assert 0.35 <= what.opacity <= 1.0
        assert abs(what.turn_deg) <= 45


def test_a_script_without_a_font_is_reported_as_not_measured() -> None:
    fonts, why = lettering.usable_fonts(SCRIPTS["Chinese"], {"DejaVu Sans": FONT})
    assert fonts == []
    assert why.startswith("not measured: none of Noto Sans CJK SC")
    assert lettering.usable_fonts(SCRIPTS["Latin"], {"DejaVu Sans": FONT}) == ([FONT], "")


def test_intervals_and_bands() -> None:
    assert wilson(95, 100) == pytest.approx((0.888, 0.978), abs=0.001)
    assert wilson(0, 50)[0] == 0.0
    assert wilson(0, 0) == (0.0, 1.0)
    assert [band(value, (0, 10, 20)) for value in (0, 9.9, 10, 20)] == ["0-10", "0-10", "10-20", "10-20"]


def test_drops_of_the_watermark_stage_are_counted_on_a_real_photo(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    recipe = PROJECT_ROOT / "pipelines" / "paper-cpu-small.yaml"
    bench = Bench(load_recipe(recipe, [f"source.path={assets}"]))
    face = next(bench.labelled(assets, read_labels(LABELS)))
    assert not bench.plain(face)["is_dropped"]
    for x, y in face.kps:  # the five points must be inside the face box
        assert face.box[0] < x < face.box[2]
        assert face.box[1] < y < face.box[3]
    clear = bench.try_letters(face, replace(WORD, opacity=1.0))
    beside = bench.try_letters(face, replace(WORD, style="beside", centre=(0.5, 1.2)))
    assert clear.counts
    assert clear.is_dropped
    assert clear.read == "SAMPLE"
    assert not beside.counts
    assert not beside.is_dropped


def test_a_folder_without_labels_gives_its_single_large_faces_and_reports_the_other_photos(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    wanted = {
        "one.jpg": "faces/face_recognition/examples__biden.jpg",
        "two.jpg": "faces/face_recognition/examples__two_people.jpg",
        "none.jpg": "edge/no-face/cat__01.jpg",
    }
    for name, original in wanted.items():
        shutil.copy(assets / original, tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    bench = Bench(load_recipe(PROJECT_ROOT / "pipelines" / "paper-cpu-small.yaml", [f"source.path={tmp_path}"]))
    assert [(face.name, face.half) for face in bench.unlabelled(tmp_path)] == [("one.jpg", UNLABELLED)]
    stderr = capsys.readouterr().err
    assert "none.jpg: skipped, no face that is large enough" in stderr
    assert "two.jpg: skipped, 2 counted faces" in stderr
    assert "broken.jpg: skipped, " in stderr
