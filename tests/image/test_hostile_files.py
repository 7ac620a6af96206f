"""Any bytes give an image or a declared reason, within limits of time and memory."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hifidata.core.errors import IntakeError
from hifidata.core.reasons import Reason
from hifidata.image.decode import Limits, decode
from tests.conftest import PROJECT_ROOT
from tests.factories.images import ANY_SIZE, png_chunk, png_header, png_with, saved, scene

MAX_CPU_S = 2.0
INTAKE_REASONS = {
    "empty_file", "too_many_bytes", "not_image", "format_not_allowed", "too_many_pixels",
    "too_small", "bad_aspect", "truncated", "corrupt", "animated",
}  # fmt: skip

# Expected outcome of each awkward file: (format, mode, orientation, frames) or the reason.
AWKWARD: dict[str, tuple[str, str, int, int] | Reason] = {
    "formats-compreface/corrupted.png": "corrupt",
    "formats-compreface/empty.png": "not_image",
    "formats-compreface/truncated.jpg": "truncated",
    "formats-compreface/einstein.bmp": ("bmp", "RGBA", 1, 1),
    "formats-compreface/einstein.gif": ("gif", "P", 1, 1),
    "formats-compreface/einstein.ico": "format_not_allowed",
    "formats-compreface/einstein.jpeg": ("jpeg", "RGB", 1, 1),
    "formats-compreface/einstein.png": ("png", "P", 1, 1),
    "formats-compreface/einstein.tiff": "format_not_allowed",
    "formats-compreface/einstein.webp": ("webp", "RGB", 1, 1),
    "formats-pillow/anim_frame1.webp": ("webp", "RGB", 1, 1),
    "formats-pillow/apng__mode_16bit.png": ("png", "RGBA", 1, 3),
    "formats-pillow/avif__exif.avif": ("avif", "RGB", 1, 1),
    "formats-pillow/avif__rot0mir0.avif": ("avif", "RGB", 4, 1),
    "formats-pillow/avif__rot3mir1.avif": ("avif", "RGB", 5, 1),
    "formats-pillow/avif__transparency.avif": ("avif", "RGBA", 1, 1),
    "formats-pillow/broken_data_stream.png": "corrupt",
    "formats-pillow/decompression_bomb.gif": "too_many_pixels",
    "formats-pillow/decompression_bomb_extents.gif": ("gif", "P", 1, 2),  # its second frame is the bomb
    "formats-pillow/empty_gps_ifd.jpg": "too_small",
    "formats-pillow/exif_imagemagick_orientation.png": ("png", "RGB", 3, 1),
    "formats-pillow/flower.jpg": ("jpeg", "RGB", 1, 1),
    "formats-pillow/flower2.webp": ("webp", "RGB", 1, 1),
    "formats-pillow/hopper-XYZ.png": ("png", "RGB", 1, 1),
    "formats-pillow/hopper.bmp": ("bmp", "RGB", 1, 1),
    "formats-pillow/hopper.tif": "format_not_allowed",
    "formats-pillow/hopper_16bit_qtables.jpg": ("jpeg", "RGB", 1, 1),
    "formats-pillow/hopper_gray.jpg": ("jpeg", "L", 1, 1),
    "formats-pillow/hopper_orientation_7.jpg": ("jpeg", "RGB", 7, 1),
    "formats-pillow/hopper_zero_comment_subblocks.gif": ("gif", "P", 1, 1),
    "formats-pillow/icc_profile_big.jpg": ("jpeg", "RGB", 1, 1),
    "formats-pillow/invalid-exif.jpg": ("jpeg", "RGB", 1, 1),
    "formats-pillow/iss634.webp": ("webp", "RGBA", 1, 42),
    "formats-pillow/multiple_comments.gif": ("gif", "P", 1, 5),
    "formats-pillow/pil_sample_cmyk.jpg": ("jpeg", "CMYK", 1, 1),
    "formats-pillow/pillow3.icns": "format_not_allowed",
    "formats-pillow/transparent.png": ("png", "RGBA", 1, 1),
    "formats-pillow/truncated_app14.jpg": ("jpeg", "RGB", 1, 1),
    "formats-pillow/truncated_image.png": "truncated",
    "formats-pillow/xmp_tags_orientation.png": ("png", "RGBA", 3, 1),
    "formats-pillow/zero_height.j2k": "format_not_allowed",
    "inspireface/RD__d1.jpeg": ("webp", "RGB", 1, 1),
    "inspireface/bulk__image_T1.jpeg": ("jpeg", "RGB", 6, 1),
    "inspireface/bulk__kun.jpg": ("png", "RGBA", 1, 1),
}


def outcome(data: bytes, limits: Limits = ANY_SIZE) -> tuple[str, str, int, int] | Reason:
    """Decode. A warning, or an exception other than IntakeError, fails the test."""
    started_s = time.process_time()
    try:
        picture = decode(data, limits)
    except IntakeError as error:
        result: tuple[str, str, int, int] | Reason = error.reason
    else:
        result = picture.format, picture.mode, picture.exif_orientation, picture.n_frames
        assert picture.rgb_u8.ndim == 3
        assert picture.rgb_u8.dtype == np.uint8
    assert time.process_time() - started_s < MAX_CPU_S
    assert isinstance(result, tuple) or result in INTAKE_REASONS
    return result


def test_awkward_files_have_their_expected_outcome(assets: Path) -> None:
    assert {name: outcome((assets / "edge" / name).read_bytes(), Limits()) for name in AWKWARD} == AWKWARD


def test_every_real_file_decodes_or_is_listed_as_awkward(assets: Path) -> None:
    paths = [path for folder in ("edge", "faces") for path in sorted((assets / folder).rglob("*")) if path.is_file()]
    assert len(paths) > 450
    for path in paths:
        result = outcome(path.read_bytes(), Limits())
        expected = (
            AWKWARD.get(path.relative_to(assets / "edge").as_posix()) if path.is_relative_to(assets / "edge") else None
        )
        assert isinstance(result, tuple) or result == expected, path


def damaged(originals: list[bytes]) -> Iterator[bytes]:
    """Yield cut, flipped, shortened and lengthened copies, the same ones in every run."""
    chance = random.Random(2024)
    for original in originals:
        for share in (0.001, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99):
            yield original[: int(len(original) * share)]
        yield original[:-1]
        for n_bytes, reach in ((1, 64), (3, 400), (3, 4000), (10, 400), (1, None), (5, None), (40, None), (400, None)):
            flipped = bytearray(original)
            for _ in range(n_bytes):
                flipped[chance.randrange(min(len(flipped), reach or len(flipped)))] ^= 1 << chance.randrange(8)
            yield bytes(flipped)
        at = chance.randrange(len(original))
        yield original[:at] + original[at + 50 :]
        yield original[:at] + chance.randbytes(30) + original[at:]


def test_three_hundred_damaged_files_end_in_declared_outcomes(assets: Path) -> None:
    names = (
        "flower.jpg", "pil_sample_cmyk.jpg", "hopper_orientation_6.jpg", "flower2.webp", "iss634.webp", "transparent.png",
        "xmp_tags_orientation.png", "apng__mode_16bit.png", "hopper.bmp", "multiple_comments.gif", "avif__rot3mir1.avif",
        "avif__transparency.avif",
    )  # fmt: skip
    originals = [(assets / "edge" / "formats-pillow" / name).read_bytes() for name in names]
    frames = [Image.fromarray(np.roll(scene(), 30 * at, axis=0)) for at in range(3)]
    originals += [saved(frames[0], kind, save_all=True, append_images=frames[1:]) for kind in ("MPO", "GIF", "AVIF")]
    originals += [saved(scene(), "JPEG", progressive=True), saved(frames[0].convert("P"), "BMP")]
    results = [outcome(data) for data in damaged(originals)]
    kinds = Counter(result if isinstance(result, Reason) else "picture" for result in results)
    assert len(results) >= 300
    assert kinds["picture"] >= 50
    assert kinds["truncated"] >= 50
    assert kinds["corrupt"] >= 30


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_no_truncated_file_decodes(kind: str) -> None:
    data = saved(scene(), kind)
    for share in np.linspace(0.05, 0.95, 19):
        assert isinstance(outcome(data[: int(len(data) * share)]), Reason)


def test_avif_with_a_stopped_clock_is_corrupt() -> None:
    frames = [Image.fromarray(scene()), Image.fromarray(scene()[::-1])]
    data = saved(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    clock = data.index(b"mdhd") + 4 + 4 + 16  # version and flags, two 64-bit times, then ticks per second
    assert outcome(data[:clock] + bytes(4) + data[clock + 4 :]) == "corrupt"


def test_files_of_countless_empty_parts_are_refused_quickly() -> None:
    frame = b"," + struct.pack("<4HB", 0, 0, 64, 64, 0) + b"\x02\x00"
    hostile = [
        b"\xff\xd8" + b"\xff\xe1\x00\x02" * 4_000_000,
        png_with(png_chunk(b"tIME", b"") * 1_000_000, scene()),
        b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0) + frame * 1_000_000,
        saved(scene(), "WEBP") + b"ANMF\x00\x00\x00\x00" * 1_000_000,
    ]
    assert [outcome(data) for data in hostile] == ["corrupt"] * 4


def test_jpeg_with_too_many_scans_is_refused_before_decoding() -> None:
    progressive = saved(scene(), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    assert outcome(progressive[:-2] + scan * 60 + b"\xff\xd9") == "corrupt"


BOMBS = """
import resource, sys
from pathlib import Path
from hifidata.core.errors import IntakeError
from hifidata.image.decode import Limits, decode
paths = [Path(name) for name in sys.argv[1:]]
decode(paths[0].read_bytes(), Limits())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in paths[1:]:
    try:
        decode(path.read_bytes(), Limits())
        print("picture")
    except IntakeError as error:
        print(error.reason)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_bombs_raise_memory_by_less_than_100_mb(assets: Path, tmp_path: Path) -> None:
    text = zlib.compress(("a" * (2**20 - 4) + "\U0001f600").encode())
    gif_canvas = b"GIF89a" + struct.pack("<HHBBB", 65500, 65500, 0, 0, 0)
    gif_frame = b"," + struct.pack("<4HB", 0, 0, 100, 100, 0) + b"\x02\x02\x4c\x01\x00;"
    gif = saved(Image.fromarray(scene()).convert("P"), "GIF")
    blocks_start = 13 + (6 << (gif[10] & 7))
    disposed_frame = b"!\xf9\x04\x08\x00\x00\x00\x00" + gif_frame.replace(struct.pack("<HH", 100, 100), b"\xc8\x32" * 2)
    frames = [Image.fromarray(np.roll(scene(), 30 * at, axis=0)) for at in range(2)]
    webp = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    chunks = webp + b"abcd\x00\x00\x00\x00" * 2**21
    bombs = {
        "header.png": png_header(65500, 65500)
        + png_chunk(b"IDAT", zlib.compress(bytes(2**21)))
        + png_chunk(b"IEND", b""),
        "canvas.gif": gif_canvas + gif_frame,
        "disposal.gif": b"GIF89a" + struct.pack("<HHBBB", 13000, 13000, 0, 0, 0) + disposed_frame,
        "canvas.webp": webp[:24] + (13000).to_bytes(3, "little") * 2 + webp[30:],
        "chunks.webp": chunks[:4] + struct.pack("<I", len(chunks) - 8) + chunks[8:],
        "header.bmp": saved(scene(), "BMP")[:18] + struct.pack("<ii", 65500, 65500) + saved(scene(), "BMP")[26:],
        "texts.png": png_with(b"".join(png_chunk(b"zTXt", b"k\x00\x00" + text) for _ in range(300)), scene()),
        "comment.gif": gif[:blocks_start] + b"!\xfe" + b"\x01a" * 2**22 + b"\x00" + gif[blocks_start:],
        "lines.png": png_with(png_chunk(b"tEXt", b"Raw profile type exif\x00" + b"\n" * 2**23), scene()),
        "profile.png": png_with(png_chunk(b"iCCP", b"x\x00\x00" + zlib.compress(bytes(2**28))), scene()),
    }
    jpeg = saved(scene(), "JPEG")
    size_at = jpeg.index(b"\xff\xc0") + 5
    bombs["header.jpg"] = jpeg[:size_at] + struct.pack(">HH", 65500, 65500) + jpeg[size_at + 4 :]
    (tmp_path / "warm_up.jpg").write_bytes(jpeg)
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / "warm_up.jpg", *(tmp_path / name for name in sorted(bombs))]
    paths += [assets / "edge" / "formats-pillow" / f"decompression_bomb{end}.gif" for end in ("", "_extents")]
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, *map(str, paths)], capture_output=True, text=True, cwd=PROJECT_ROOT, check=True
    )
    *outcomes, growth_kib = done.stdout.split()
    expected = dict.fromkeys(bombs, "too_many_pixels") | {"chunks.webp": "corrupt"}
    expected |= dict.fromkeys(["texts.png", "comment.gif", "lines.png", "profile.png"], "picture")
    assert outcomes == [*(expected[name] for name in sorted(bombs)), "too_many_pixels", "picture"]
    assert int(growth_kib) < 100 * 1024
    assert not done.stderr
