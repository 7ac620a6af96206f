"""The demo's photos: a folder with one sub-folder per identity, made from images in installed packages.

scikit-image contains NASA's public-domain portrait of the astronaut Eileen Collins, and images without faces. insightface
contains a group photo of six persons, named Guest_1 to Guest_6 here. The code cuts each person out once and renders new
portraits with other framing, tilt, light and backdrop. As in a real folder, some files are blurred, tiny, marked,
duplicated, damaged or mislabelled, or show other persons. ``EXPECTED`` lists the verdict of each file.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image

from hifidata.core.errors import SourceError
from hifidata.core.schema import Status

RgbU8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


class Person(NamedTuple):
    """A person in an image of a package.

    Attributes:
        file: image file of the package.
        centre_px, face_px, tilt_deg: centre, side and clockwise tilt of the face.
        outline_px: rough silhouette of head and shoulders, ``x,y`` pairs as in SVG; ``_silhouette`` refines it.
    """

    file: str
    centre_px: tuple[int, int]
    face_px: int
    tilt_deg: float
    outline_px: str


class Look(NamedTuple):
    """Settings of a rendered portrait.

    Attributes:
        backdrop: key of TEXTURES or GRADIENTS, or the original background: "surroundings" or "bokeh".
        roll_deg: additional rotation; without it, half of the head's tilt is corrected.
        frame: width and height of the portrait, in face sides.
        face_at: position of the face, as shares of the frame.
        turn: perspective: how much further away one side of the portrait is.
    """

    backdrop: str
    mirror: bool = False
    roll_deg: float = 0.0
    face_px: int = 170
    frame: tuple[float, float] = (2.9, 3.2)
    face_at: tuple[float, float] = (0.5, 0.46)
    gamma: float = 1.0
    warmth: float = 0.0
    side_light: float = 0.0
    turn: float = 0.0


# fmt: off
ASTRONAUT, GROUP = "skimage/data/astronaut.png", "insightface/data/images/t1.jpg"
PEOPLE = {
    "Eileen_Collins": Person(ASTRONAUT, (222, 126), 90, 3,
        "153,75 175,25 230,14 280,35 302,85 262,170 305,220 345,260 365,340 500,345 512,512 20,512 40,280 185,150"),
    "Guest_1": Person(GROUP, (122, 337), 110, -27,
        "20,300 50,245 100,233 150,250 185,320 192,388 228,385 230,425 265,450 300,560 300,640 0,640 25,430 18,380"),
    "Guest_2": Person(GROUP, (310, 221), 92, -32,
        "265,130 300,103 360,103 420,130 405,215 470,235 455,340 340,420 290,420 262,340 280,300 330,270 275,200"),
    "Guest_3": Person(GROUP, (508, 352), 117, 15,
        "468,250 490,222 540,218 590,235 608,270 585,360 560,395 580,430 600,640 335,640 340,440 400,382 462,350"),
    "Guest_4": Person(GROUP, (779, 421), 100, 7,
        "748,330 775,300 820,290 870,315 873,380 905,400 910,520 900,620 720,620 640,560 690,490 745,425 755,380"),
    "Guest_5": Person(GROUP, (934, 136), 118, -9,
        "880,50 930,10 1040,20 1058,80 1055,130 1180,155 1190,236 1140,250 1120,430 980,440 880,240 930,205 905,80"),
    "Guest_6": Person(GROUP, (1173, 337), 106, -4,
        "1127,270 1144,244 1168,228 1205,232 1236,248 1268,340 1262,436 1280,620 985,520 1040,440 1122,420 1121,300"),
}
TEXTURES = {  # backdrop: file, tint
    "bricks": ("skimage/data/brick.png", (1.0, 0.66, 0.52)),
    "lawn": ("skimage/data/grass.png", (0.62, 0.85, 0.42)),
    "gravel": ("skimage/data/gravel.png", (0.95, 0.9, 0.82)),
    "stars": ("skimage/data/hubble_deep_field.jpg", (1.0, 1.0, 1.0)),
    "cafe": ("skimage/data/coffee.png", (1.0, 1.0, 1.0)),
}
GRADIENTS = {  # backdrop: from this colour, to that one, direction in degrees (90: downwards)
    "blue_wall": ((38, 62, 120), (176, 204, 232), 25),
    "grey_studio": ((208, 208, 204), (74, 76, 82), 90),
    "green_room": ((214, 226, 196), (44, 84, 62), 140),
    "evening": ((250, 176, 110), (58, 40, 92), 60),
    "pale_hall": ((120, 112, 104), (242, 236, 224), 0),
    "red_curtain": ((130, 24, 30), (46, 8, 16), 200),
}
PLAIN, BRICKS, CLOSE, LAWN, EVENING, GRAVEL, HALL, STARS, CURTAIN, ROOM, CAFE, BOKEH = (
    Look("blue_wall", roll_deg=-3),
    Look("bricks", mirror=True, roll_deg=5, face_px=160, warmth=0.06),
    Look("grey_studio", roll_deg=9, face_px=185, frame=(2.7, 2.9), gamma=0.9),
    Look("lawn", mirror=True, roll_deg=-8, face_at=(0.44, 0.45), side_light=0.2, turn=0.08),
    Look("evening", roll_deg=-10, face_px=155, warmth=0.12, face_at=(0.55, 0.47)),
    Look("gravel", roll_deg=4, frame=(3.3, 3.0), gamma=1.1, turn=-0.08),
    Look("pale_hall", mirror=True, face_px=195, warmth=-0.08, side_light=-0.2),
    Look("stars", roll_deg=11, frame=(3.0, 3.4), side_light=-0.15),
    Look("red_curtain", mirror=True, roll_deg=-5, face_px=180, gamma=0.92, turn=0.1),
    Look("green_room", mirror=True, roll_deg=10, face_at=(0.46, 0.5), warmth=-0.05),
    Look("cafe", roll_deg=-6, face_px=150, frame=(3.4, 3.1), face_at=(0.58, 0.45), side_light=0.15),
    Look("bokeh", mirror=True, roll_deg=2, frame=(3.0, 3.1)),
)
OFFICIAL = Look("surroundings", frame=(4.0, 3.6), face_at=(0.5, 0.33))
PORTRAITS = {  # looks of portrait_01, portrait_02, ...; no two of them are near-duplicates
    "Eileen_Collins": (BRICKS, LAWN, CLOSE, EVENING, GRAVEL, STARS, CAFE),
    "Guest_1": (PLAIN, BRICKS, CLOSE, LAWN, EVENING, GRAVEL, STARS),
    "Guest_2": (PLAIN, CLOSE, GRAVEL, LAWN, ROOM, BOKEH),
    "Guest_3": (LAWN, EVENING, GRAVEL, STARS, CURTAIN, ROOM, CAFE),
    "Guest_4": (PLAIN, BRICKS, CLOSE, LAWN, HALL, STARS, ROOM),
    "Guest_5": (BOKEH, CLOSE, GRAVEL),
    "Guest_6": (LAWN, CLOSE, BRICKS, EVENING, GRAVEL, HALL, CAFE),
}
# fmt: on


def _read_image(file: str) -> RgbU8:
    package = "insightface" if file.startswith("insightface/") else "scikit-image"
    try:
        with Image.open(str(distribution(package).locate_file(file))) as image:
            return np.asarray(image.convert("RGB"))
    except (PackageNotFoundError, OSError):
        raise SourceError(f"{file}: not found; {package} contains it: pip install 'hifi-portrait[demo]'") from None


def take(name: str, look: Look | str) -> RgbU8:
    """Render a person with a look, or read an image of a package: (H, W, 3) uint8 RGB.

    Raises:
        SourceError: the package is not installed.
    """
    if isinstance(look, str):
        return _read_image(look)
    person = PEOPLE[name]
    width, height = (round(side * look.face_px) for side in look.frame)
    view = partial(cv2.warpPerspective, M=_camera(person, look), dsize=(width, height), flags=cv2.INTER_CUBIC)
    scene = view(_read_image(person.file), borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    scene += scene - cv2.GaussianBlur(scene, (0, 0), 1.6)  # sharpens the face, because it was enlarged
    if look.backdrop != "surroundings":
        alpha = view(_silhouette(person.file, person.outline_px))[..., None] / np.float32(255)
        scene = scene * alpha + _backdrop(look.backdrop, scene) * (1 - alpha)
    light = 1 + look.side_light * np.linspace(-1, 1, width)[:, None] + look.warmth * np.array([1, 0, -1])
    return _u8(255 * (np.clip(scene, 0, 255) / 255) ** look.gamma * light.astype(np.float32))


def _backdrop(name: str, scene: F32) -> F32:
    """Return a slightly blurred backdrop: (H, W, 3) float32."""
    height, width = scene.shape[:2]
    if name == "bokeh":
        return np.asarray(cv2.GaussianBlur(scene, (0, 0), width / 14), np.float32)
    if name in GRADIENTS:
        start, end, direction_deg = GRADIENTS[name]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        along = x * np.cos(np.deg2rad(direction_deg)) + y * np.sin(np.deg2rad(direction_deg))
        return np.asarray(start + np.clip(along / 2.4 + 0.5, 0, 1)[..., None] * np.subtract(end, start), np.float32)
    file, tint = TEXTURES[name]
    part = cv2.resize(np.rot90(_read_image(file)), (width, height))  # the rows of brick.png are vertical
    return np.asarray(cv2.GaussianBlur(part, (0, 0), 2.0) * np.array(tint, np.float32))


@cache
def _silhouette(file: str, outline_px: str) -> RgbU8:
    """Segment a person: (H, W) uint8 mask with a soft edge. Source: Rother et al., GrabCut, SIGGRAPH 2004."""
    image = _read_image(file)
    disc = partial(cv2.getStructuringElement, cv2.MORPH_ELLIPSE)
    outline = np.array([point.split(",") for point in outline_px.split()], np.int32)
    rough = cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), [outline], 1)
    labels = np.where(rough, cv2.GC_PR_FGD, np.where(cv2.dilate(rough, disc((17, 17))), cv2.GC_PR_BGD, cv2.GC_BGD))
    labels[cv2.erode(rough, disc((19, 19)), borderValue=1) == 1] = cv2.GC_FGD
    (x1, y1), (x2, y2) = np.maximum(outline.min(axis=0) - 30, 0), outline.max(axis=0) + 30
    near, labels = np.ascontiguousarray(image[y1:y2, x1:x2]), labels[y1:y2, x1:x2].astype(np.uint8)
    cv2.setRNGSeed(0)
    cv2.grabCut(near, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(labels & 1)  # odd labels: certain or probable foreground
    body = (parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8) * 255
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[y1:y2, x1:x2] = cv2.morphologyEx(body, cv2.MORPH_OPEN, disc((5, 5)))
    return np.asarray(cv2.GaussianBlur(cv2.erode(mask, disc((3, 3)), borderValue=255), (0, 0), 1.2), np.uint8)


def _camera(person: Person, look: Look) -> NDArray[np.float64]:
    """Return the (3, 3) homography from the package's image to the frame."""
    angle = np.deg2rad(look.roll_deg - person.tilt_deg / 2)
    cos, sin = np.array([np.cos(angle), np.sin(angle)]) * look.face_px / person.face_px
    side = -1 if look.mirror else 1
    x_px, y_px = person.centre_px
    to_face = np.array([[1, 0, -x_px], [0, 1, -y_px], [0, 0, 1]])
    turned = np.array([[side * cos, -side * sin, 0], [sin, cos, 0], [0, 0, 1]])
    away = np.array([[1, 0, 0], [0, 1, 0], [look.turn / (look.frame[0] * look.face_px), 0, 1]])
    x_px, y_px = np.array(look.frame) * look.face_at * look.face_px
    return np.asarray(np.array([[1, 0, x_px], [0, 1, y_px], [0, 0, 1]]) @ away @ turned @ to_face)


def _u8(values: ArrayLike) -> RgbU8:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _saved(rgb_u8: RgbU8, kind: str = "JPEG", mode: str = "RGB", exif: Image.Exif | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb_u8).convert(mode).save(file, kind, quality=92, exif=exif or Image.Exif())
    return file.getvalue()


def _from_phone(rgb_u8: RgbU8) -> bytes:
    exif = Image.Exif()  # stored rotated, with the orientation tag and with GPS data of the Johnson Space Center
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (29.0, 33.0, 30.0), 3: "W", 4: (95.0, 5.0, 20.0)}
    return _saved(np.rot90(rgb_u8), exif=exif)


def _stamped(rgb_u8: RgbU8) -> bytes:
    stamped, (height, width) = rgb_u8.copy(), rgb_u8.shape[:2]
    at_px, font = (round(0.17 * width), round(0.44 * height)), cv2.FONT_HERSHEY_DUPLEX
    cv2.putText(stamped, "SAMPLE PHOTO", at_px, font, width / 370, (255, 255, 255), 2, cv2.LINE_AA)
    return _saved(_u8(0.2 * rgb_u8 + 0.8 * stamped))


def _shrunk(rgb_u8: RgbU8, longest_px: int) -> bytes:
    scale = longest_px / max(rgb_u8.shape[:2])
    return _saved(_u8(cv2.resize(rgb_u8, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)))


class Photo(NamedTuple):
    """One file of the demo.

    Attributes:
        path: ``<identity>/<file>``.
        expected: status ``kept``, or the expected reason.
        look: look of the rendered portrait, or an image file of a package.
        encode: encodes the pixels.
        persons: persons in the photo, side by side; empty: the folder's identity.
    """

    path: str
    expected: str
    look: Look | str
    encode: Callable[[RgbU8], bytes] = _saved
    persons: tuple[str, ...] = ()


# fmt: off
PHOTOS = (
    *(Photo(f"{name}/portrait_{i:02}.jpg", Status.KEPT if len(looks) > 4 else "identity_too_small", look)
      for name, looks in PORTRAITS.items() for i, look in enumerate(looks, 1)),
    *(Photo(f"{name}/text_on_face.jpg", "text_on_face", look[0], _stamped) for name, look in PORTRAITS.items()),
    *(Photo(f"{name}/blurred.jpg", "low_quality", look[1], lambda p: _saved(_u8(cv2.GaussianBlur(p, (0, 0), 3.0))))
      for name, look in PORTRAITS.items()),
    *(Photo(f"{name}/wrong_person.jpg", "other_person", PORTRAITS[name][2], persons=(f"Guest_{other}",))
      for name, other in zip(PORTRAITS, (4, 3, 3, 2, 2, None, 4), strict=True) if other),
    Photo("Eileen_Collins/portrait_official.jpg", Status.KEPT, OFFICIAL),
    Photo("Eileen_Collins/portrait_from_phone.jpg", Status.KEPT, BOKEH, _from_phone),
    Photo("Eileen_Collins/portrait_png_named.jpg", Status.KEPT, ROOM, lambda p: _saved(p, "PNG")),
    Photo("Guest_1/portrait_cmyk.jpg", Status.KEPT, BOKEH, lambda p: _saved(p, mode="CMYK")),
    Photo("Guest_2/portrait_16_bit.png", Status.KEPT, EVENING,
          lambda p: cv2.imencode(".png", p[..., ::-1] * np.uint16(257))[1].tobytes()),
    Photo("Guest_3/portrait_webp.webp", Status.KEPT, BOKEH, lambda p: _saved(p, "WEBP")),
    Photo("Guest_4/portrait_palette.gif", Status.KEPT, CAFE, lambda p: _saved(p, "GIF")),
    Photo("Guest_6/portrait_grey.jpg", Status.KEPT, BOKEH, lambda p: _saved(p, mode="L")),
    Photo("Eileen_Collins/same_bytes_as_portrait_01.jpg", "duplicate_bytes", BRICKS),
    Photo("Guest_4/smaller_copy_of_portrait_04.jpg", "near_duplicate", LAWN, lambda p: _shrunk(p, 440)),
    Photo("Guest_2/two_faces.jpg", "several_faces", GRAVEL, persons=("Guest_2", "Guest_3")),
    Photo("Guest_1/cat.jpg", "no_face", "skimage/data/chelsea.png"),
    Photo("Guest_3/coffee.jpg", "no_face", "skimage/data/coffee.png"),
    Photo("Eileen_Collins/far_away.jpg", "face_share_too_low", OFFICIAL, lambda p: _shrunk(p, 290)),
    Photo("Guest_4/small_picture.jpg", "crop_too_small", HALL, lambda p: _shrunk(p, 240)),
    Photo("Guest_6/chip.jpg", "crop_too_small", "insightface/data/images/Tom_Hanks_54745.png"),
    Photo("Guest_2/thumbnail.jpg", "too_small", CLOSE, lambda p: _shrunk(p, 60)),
    Photo("Guest_6/cut_off.jpg", "face_cut_off", HALL._replace(face_at=(0.08, 0.46))),
    Photo("Eileen_Collins/dark.jpg", "low_quality", HALL, lambda p: _saved(_u8(p * 0.1))),
    Photo("Guest_2/overexposed.jpg", "low_quality", ROOM, lambda p: _saved(_u8(p * 2.4 + 70))),
    Photo("Guest_3/truncated.jpg", "truncated", BRICKS, lambda p: _saved(p)[:30_000]),
    Photo("Guest_4/tiff_named.jpg", "format_not_allowed", LAWN, lambda p: _saved(p, "TIFF")),
    Photo("Guest_2/web_page_named.jpg", "not_image", PLAIN, lambda _: b"<!DOCTYPE html><p>Not found"),
)
# fmt: on
EXPECTED: dict[str, str] = {photo.path: str(photo.expected) for photo in PHOTOS}
"""Expected status or reason of each file, with the defaults of the recipe."""


def build_demo_photos(out: Path) -> Path:
    """Write the photos to ``out``, one sub-folder per identity, and return ``out``. Raises SourceError."""
    for photo in PHOTOS:
        path = out / photo.path
        images = [take(name, photo.look) for name in photo.persons or (path.parent.name,)]
        encoded = photo.encode(np.hstack(images))
        path.parent.mkdir(parents=True, exist_ok=True)
        # With a new mtime, a resumed run would reprocess the identity.
        if not path.is_file() or path.read_bytes() != encoded:
            path.write_bytes(encoded)
    return out


def main() -> None:
    """Build the photos and print their folder."""
    parser = argparse.ArgumentParser(description="Build the demo's photos and print their folder.")
    parser.add_argument("out", type=Path, help="folder for the photos")
    try:
        sys.stdout.write(f"{build_demo_photos(parser.parse_args().out)}\n")
    except (SourceError, OSError) as error:
        parser.exit(SourceError.exit_code, f"{error}\n")


if __name__ == "__main__":
    main()
