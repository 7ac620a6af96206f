"""Intake: are the bytes a picture that the recipe accepts? Decodes it once."""

from __future__ import annotations

from collections.abc import Sequence

from hifidata.core.schema import Column
from hifidata.image.reasons import INTAKE_REASONS
from hifidata.stages.base import Columns, Sample, Stage


class Intake(Stage):
    """Sniffs, checks the limits in the header, decodes upright to sRGB; every refusal is an IntakeError."""

    name = "intake"
    title = "Intake"
    does = (
        "Files are recognised by content, limited in bytes and pixels, decoded, turned upright and converted to sRGB."
    )
    not_run = "Files were not checked before decoding: the intake stage did not run."
    columns = (
        Column("content_sha256", "string", "sha256 of the bytes as read"),
        Column(
            "original_format",
            "string",
            "format of the bytes, whatever the file name says: jpeg, png, webp, bmp, gif, avif",
        ),
        Column("original_bytes", "int64", "size of the file"),
        Column("width_px", "int32", "width after EXIF orientation"),
        Column("height_px", "int32", "height after EXIF orientation"),
        Column("exif_orientation", "int32", "orientation tag that was applied, 1 to 8"),
        Column("colour_mode", "string", "mode of the file before conversion to sRGB (RGB, CMYK, P, I;16, ...)"),
        Column("n_frames", "int32", "frames of an animated or multi-picture file; the first is used"),
    )
    reasons = INTAKE_REASONS

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Size, format and colour facts; the pixels stay with the sample. Raises IntakeError."""
        columns: Columns = {"width_px": [], "height_px": [], "exif_orientation": [], "colour_mode": [], "n_frames": []}
        for sample in samples:
            picture = sample.picture
            columns["height_px"].append(picture.height_px)
            columns["width_px"].append(picture.width_px)
            columns["exif_orientation"].append(picture.exif_orientation)
            columns["colour_mode"].append(picture.mode)
            columns["n_frames"].append(picture.n_frames)
        return columns
