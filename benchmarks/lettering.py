"""Drawn lettering over faces: selection from a seed, drawing, and measurement of the contrast.

The fonts are fonts of the system that ``fc-list`` lists, by full name. On Debian: fonts-dejavu, fonts-liberation,
fonts-noto-core (Arabic, Devanagari), fonts-noto-cjk and fonts-wqy-microhei (Chinese, Japanese, Korean).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from hifidata.models.protocols import F32, RgbU8

COLOURS_RGB = ((255, 255, 255), (0, 0, 0), (200, 200, 200), (220, 30, 30), (240, 220, 40), (40, 60, 200))
MIN_OPACITY = 0.35
SIZES = (0.08, 0.40)
TILED_SIZES = (0.08, 0.16)
LINE_SIZES = (0.08, 0.14)
MAX_TURN_DEG = 45.0
UPRIGHT_SHARE = 0.4
"""Share of upright words and lines. The others are rotated by up to ``MAX_TURN_DEG``. Tiles are always rotated."""

STYLES = ("word", "line", "tiled", "beside")
"""A word on the face, a line that is longer than the face, a repeated word, a word close to the face."""

_LATIN_FONTS = (
    "DejaVu Sans", "DejaVu Sans Bold", "DejaVu Sans ExtraLight", "DejaVu Serif", "DejaVu Sans Mono", "Liberation Sans Bold",
    "Liberation Sans Italic", "Liberation Sans Narrow", "Liberation Serif", "Noto Sans Regular", "Noto Serif Bold",
    "Noto Serif Display Italic",
)  # fmt: skip
_LINES = (
    "www.picture-archive.example  © 2021  all rights reserved", "PRESS PHOTO - NOT FOR PUBLICATION - PRESS PHOTO",
    "Image courtesy of the agency, for editorial use only",
)  # fmt: skip
_MARGIN_PX = 2


@dataclass(frozen=True)
class Script:
    """Words in a script, and the full names of its fonts.

    Attributes:
        is_joined: whether the script needs a text shaping engine.
    """

    words: tuple[str, ...]
    fonts: tuple[str, ...]
    is_joined: bool = False


SCRIPTS: Mapping[str, Script] = {
    "Latin": Script(
        ("SAMPLE", "gettyimages", "© Photo", "stockphoto.com", "shutterstock", "PREVIEW", "Alamy", "John Doe", "2021",
         "www.site.org"), _LATIN_FONTS,
    ),
    "Cyrillic": Script(("ОБРАЗЕЦ", "фотобанк", "Пример", "РИА Новости", "Фото: Иванов"), _LATIN_FONTS),
    "Chinese": Script(
        ("样本", "视觉中国", "版权所有", "图片来自网络", "新浪娱乐", "请勿转载"),
        ("Noto Sans CJK SC", "Noto Sans CJK SC Bold", "Noto Serif CJK SC", "WenQuanYi Micro Hei"),
    ),
    "Japanese": Script(
        ("サンプル", "見本", "無断転載禁止", "写真素材", "フォトライブラリー"),
        ("Noto Sans CJK JP", "Noto Sans CJK JP Bold", "Noto Serif CJK JP"),
    ),
    "Korean": Script(
        ("샘플", "견본", "무단전재 금지", "연합뉴스", "사진 제공"),
        ("Noto Sans CJK KR", "Noto Sans CJK KR Bold", "Noto Serif CJK KR"),
    ),
    "Arabic": Script(
        ("عينة", "صورة للعرض", "حقوق النشر محفوظة", "وكالة الأنباء", "نموذج"),
        ("Noto Sans Arabic Regular", "Noto Naskh Arabic Regular", "Noto Naskh Arabic Bold", "Noto Kufi Arabic Regular"),
        is_joined=True,
    ),
    "Devanagari": Script(
        ("नमूना", "कॉपीराइट", "फोटो साभार", "समाचार एजेंसी", "दैनिक समाचार"),
        ("Noto Sans Devanagari Regular", "Noto Sans Devanagari Bold", "Noto Serif Devanagari Regular"),
        is_joined=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Font:
    """A face of a font file."""

    name: str
    path: str
    index: int


@dataclass(frozen=True)
class Lettering:
    """Text, position and style of a drawn lettering.

    Attributes:
        style: one of ``STYLES``.
        size: height of the font (em) over the width of the face box.
        turn_deg: rotation, counter-clockwise.
        opacity: 0 to 1.
        centre: centre of the text, in widths and heights of the face box from its upper left corner.
    """

    style: str
    script: str
    text: str
    font: Font
    size: float
    turn_deg: float
    opacity: float
    colour_rgb: tuple[int, int, int]
    centre: tuple[float, float]


def installed_fonts() -> dict[str, Font]:
    """Return the installed fonts of ``SCRIPTS`` by full name; empty without ``fc-list``."""
    if shutil.which("fc-list") is None:
        return {}
    command = ["fc-list", "-f", "%{fullname[0]}|%{file}|%{index}\n"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    fonts = [Font(name, path, int(index)) for name, path, index in (line.split("|") for line in sorted(listed))]
    wanted = {name for script in SCRIPTS.values() for name in script.fonts}
    return {font.name: font for font in reversed(fonts) if font.name in wanted}


def usable_fonts(script: Script, installed: Mapping[str, Font]) -> tuple[list[Font], str]:
    """Return the fonts for a script, and the problem if there is none."""
    if script.is_joined and not features.check("raqm"):
        return [], "not measured: Pillow has no raqm, which is needed to join letters"
    fonts = [installed[name] for name in script.fonts if name in installed]
    return fonts, "" if fonts else f"not measured: none of {', '.join(script.fonts)} is installed"


def choose(style: str, script: str, fonts: Sequence[Font], seed: Iterable[int]) -> Lettering:
    """Choose a lettering from a seed."""
    rng = np.random.default_rng(list(seed))
    sizes = {"tiled": TILED_SIZES, "line": LINE_SIZES, "beside": TILED_SIZES}.get(style, SIZES)
    size = rng.uniform(*sizes)
    turn_deg = rng.uniform(-MAX_TURN_DEG, MAX_TURN_DEG)
    is_upright = style == "beside" or (style != "tiled" and rng.random() < UPRIGHT_SHARE)
    x, y = rng.uniform(0.25, 0.75), rng.uniform(0.15, 0.90)
    if style == "beside":  # below the box by half an em and a tenth of the box
        y = 1.1 + size / 2
    texts = _LINES if style == "line" else SCRIPTS[script].words
    return Lettering(
        style=style,
        script=script,
        text=str(rng.choice(texts)),
        font=fonts[rng.integers(len(fonts))],
        size=float(size),
        turn_deg=0.0 if is_upright else float(turn_deg),
        opacity=float(rng.uniform(MIN_OPACITY, 0.6 if style == "tiled" else 1.0)),
        colour_rgb=COLOURS_RGB[rng.integers(len(COLOURS_RGB))],
        centre=(float(x), float(y)),
    )


def ink_of(lettering: Lettering, shape: tuple[int, ...], box: F32) -> F32:
    """Return the share of each pixel that the letters cover.

    Args:
        lettering: lettering to draw.
        shape: height and width of the image.
        box: (4,) face box in image pixels.

    Returns:
        (H, W) float32 in 0..1, without the opacity.
    """
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    sign = _sign(lettering, max(6, round(lettering.size * width)))
    if lettering.style == "tiled":
        sign = _tiled(sign, 4 * max(width, height))
    centre = (box[0] + lettering.centre[0] * width, box[1] + lettering.centre[1] * height)
    warp = cv2.getRotationMatrix2D(((sign.shape[1] - 1) / 2, (sign.shape[0] - 1) / 2), lettering.turn_deg, 1.0)
    warp[:, 2] += np.subtract(centre, ((sign.shape[1] - 1) / 2, (sign.shape[0] - 1) / 2))
    ink_u8 = cv2.warpAffine(sign, warp, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(ink_u8 / np.float32(255), np.float32)


def drawn(rgb_u8: RgbU8, ink: F32, lettering: Lettering) -> RgbU8:
    """Draw the letters on an image (H, W, 3)."""
    alpha = (ink * np.float32(lettering.opacity))[..., None]
    return np.asarray(np.round(rgb_u8 * (1 - alpha) + np.array(lettering.colour_rgb, np.float32) * alpha), np.uint8)


def contrast_levels(plain: RgbU8, written: RgbU8, ink: F32, box: F32) -> float | None:
    """Return the contrast of the letters in the face box (4,), 0 to 255; None without letters in it.

    It is the mean change, weighted by ink, of the channel with the largest change.
    """
    x1, y1, x2, y2 = np.maximum(np.round(box), 0).astype(int)
    inside = (slice(y1, y2), slice(x1, x2))
    weights = ink[inside]
    if not np.any(weights > 0):
        return None
    change = np.abs(written[inside].astype(np.int16) - plain[inside]).max(axis=2)
    return float(np.average(change, weights=weights))


def _sign(lettering: Lettering, em_px: int) -> NDArray[np.uint8]:
    """Render the text with a small margin: (H, W) uint8 coverage."""
    font = ImageFont.truetype(lettering.font.path, em_px, lettering.font.index)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(lettering.text))
    sign = Image.new("L", (right - left + 2 * _MARGIN_PX, bottom - top + 2 * _MARGIN_PX), 0)
    ImageDraw.Draw(sign).text((_MARGIN_PX - left, _MARGIN_PX - top), lettering.text, fill=255, font=font)
    return np.asarray(sign)


def _tiled(sign: NDArray[np.uint8], side_px: float) -> NDArray[np.uint8]:
    """Repeat the sign over a square of about ``side_px``; every second row is shifted by half, as in agency watermarks."""
    height = sign.shape[0]
    cell = np.pad(sign, ((height, height), (height, height)))
    repeats = int(side_px / cell.shape[1]) + 1
    row = np.tile(cell, (1, repeats))
    pair = np.concatenate([row, np.roll(row, cell.shape[1] // 2, axis=1)])
    return np.tile(pair, (int(side_px / pair.shape[0]) + 1, 1))
