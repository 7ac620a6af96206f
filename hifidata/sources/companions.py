"""Tell images from the files that other tools put beside them, for folders and tars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hifidata.image.headers.sniff import sniff

PICTURE_SUFFIXES = frozenset(
    {
        "jpg", "jpeg", "jpe", "jfif", "pjpeg", "png", "apng", "webp", "bmp", "dib", "gif", "avif", "tif", "tiff",
        "heic", "heif", "hif", "jxl", "jp2", "j2k", "jpx", "ico", "psd", "svg", "dng", "cr2", "cr3", "nef", "arw",
        "orf", "rw2", "raf", "srw", "pef",
    }
)  # fmt: skip
"""Suffixes of images, also of formats that cannot be decoded: each such file is a candidate and gets a row."""

COMPANION_SUFFIXES = frozenset(
    {
        # texts about images
        "json", "jsonl", "txt", "caption", "cap", "tags", "csv", "tsv", "md", "xml", "xmp", "aae", "yaml", "yml",
        "ini", "url", "html", "htm", "log", "db",
        # arrays and labels
        "npy", "npz", "pt", "pth", "pkl", "pickle", "safetensors", "h5", "mat", "pts", "cls", "id", "index", "parquet",
        # video and sound
        "mp4", "mov", "m4v", "mp", "avi", "mkv", "webm", "mpg", "mpeg", "mts", "3gp", "lrv", "thm", "mp3", "wav",
        "m4a", "aac", "ogg", "flac",
    }
)  # fmt: skip
"""Suffixes of files that cameras, phones and training tools write beside photos. They are no candidates, unless the content
is an image."""

IGNORED_NAMES = frozenset({"Thumbs.db", "desktop.ini", "@eaDir", "__MACOSX"})
N_HEAD_BYTES = 256
"""Bytes that ``is_image`` needs."""
MAX_CAPTION_BYTES = 2**16
CAPTION_SUFFIXES = ("txt", "caption")
_IMAGES = frozenset({"jpeg", "png", "webp", "bmp", "gif", "avif", "tiff", "heic", "jp2", "jxl"})
_MAX_KINDS = 8


def suffix_of(name: str) -> str:
    """Return the last suffix in lower case without its dot; empty for a name without one."""
    return name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name else ""


def is_hidden(name: str) -> bool:
    """Return whether a file manager hides the name, or makes such files itself."""
    return name.startswith(".") or name in IGNORED_NAMES


def is_image(head: bytes) -> bool:
    """Return whether the first ``N_HEAD_BYTES`` bytes of a file are those of an image."""
    return sniff(head) in _IMAGES


def stems(name: str) -> Iterator[str]:
    """Yield the names, without the last suffix, of files that belong to a file: ``a/1.b.jpg`` to ``a/1.b.jpg``, ``a/1.b``, ``a/1``.

    The last one is the key that webdataset uses: the name up to its first dot.
    """
    folder, slash, base = name.rpartition("/")
    parts = base.split(".")
    yield name
    for n in dict.fromkeys((*range(len(parts) - 1, max(len(parts) - 8, 0), -1), 1)):
        yield f"{folder}{slash}{'.'.join(parts[:n])}"


def decoded_caption(data: bytes) -> str | None:
    """Return a caption file's text, or None if it is too long or not UTF-8."""
    try:
        return data.decode("utf-8-sig") if len(data) <= MAX_CAPTION_BYTES else None
    except UnicodeDecodeError:
        return None


def kind_of(name: str) -> str:
    """Return the kind of a file that is no image, for counts: its suffix. It contains nothing else of the name."""
    suffix = suffix_of(name)
    return f".{suffix}" if suffix.isascii() and suffix.isalnum() and len(suffix) <= 12 else "others"


def counted(kinds: Counter[str]) -> str:
    """Return counts as ``7 .json, 7 .txt, 2 others``; the most frequent kind comes first."""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:_MAX_KINDS], sum(n for _, n in ordered[_MAX_KINDS:])
    return ", ".join([*(f"{n} {kind}" for kind, n in shown), *([f"{rest} of further kinds"] if rest else [])])
