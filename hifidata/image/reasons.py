"""Reasons to refuse the bytes of an image file. Their texts appear in the report."""

from __future__ import annotations

from hifidata.core.reasons import Limit, Reason

EMPTY_FILE = Reason("empty_file", "Empty file", "The file has no bytes.", failed=True)
UNREADABLE_FILE = Reason("unreadable_file", "Unreadable file", "The source could not read the file.", failed=True)
TOO_MANY_BYTES = Reason(
    "too_many_bytes", "File too large", "The file is larger than the recipe allows, so it was not opened."
)
NOT_IMAGE = Reason(
    "not_image", "Not an image", "The content is not an image. The file name does not count.", failed=True
)
FORMAT_NOT_ALLOWED = Reason(
    "format_not_allowed", "Format not allowed", "The image has a format that the recipe does not list."
)
TOO_MANY_PIXELS = Reason(
    "too_many_pixels",
    "Too many pixels",
    "The header announces more pixels than the recipe allows, so the image was not decoded.",
)
TOO_SMALL = Reason(
    "too_small",
    "Too small",
    "The shorter side of the image is below the recipe's minimum.",
    limit=Limit("short_side_px", "below", "intake.min_side_px", "shorter side", " px"),
)
BAD_ASPECT = Reason(
    "bad_aspect",
    "Extreme shape",
    "The longer side of the image is far too long for its shorter side.",
    limit=Limit("aspect", "above", "intake.max_aspect", "long over short side"),
)
TRUNCATED = Reason("truncated", "Truncated", "The file ends before the image is complete.", failed=True)
CORRUPT = Reason("corrupt", "Corrupt", "The file starts like an image but cannot be decoded.", failed=True)
ANIMATED = Reason("animated", "Animated", "The file has several frames, and the recipe accepts still images only.")

INTAKE_REASONS = (
    EMPTY_FILE, UNREADABLE_FILE, TOO_MANY_BYTES, NOT_IMAGE, FORMAT_NOT_ALLOWED, TOO_MANY_PIXELS, TOO_SMALL, BAD_ASPECT,
    TRUNCATED, CORRUPT, ANIMATED,
)  # fmt: skip
