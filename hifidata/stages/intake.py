"""Intake: checks that the bytes are an image that the recipe accepts, and decodes it once."""

from __future__ import annotations

from collections.abc import Sequence

from hifidata.core.schema import Column
from hifidata.image.reasons import INTAKE_REASONS
from hifidata.sources.reasons import LOCAL_REASONS
from hifidata.stages.base import Columns, Sample, Stage


class Intake(Stage):
    """Recognises the format, checks the limits in the header, and decodes to upright sRGB. A refusal is an IntakeError."""

    name = "intake"
    title = "Intake"
    does = "Files are recognised by content, checked against the limits, and decoded to upright sRGB images."
    not_run = "Files were not checked before decoding: the intake stage did not run."
    columns = (
        Column("content_sha256", "string", "sha256 of the original bytes"),
        Column("original_format", "string", "format, recognised by content: jpeg, png, webp, bmp, gif or avif"),
        Column("original_bytes", "int64", "size of the file"),
        Column("width_px", "int32", "width after EXIF orientation"),
        Column("height_px", "int32", "height after EXIF orientation"),
        Column("exif_orientation", "int32", "orientation tag that was applied, 1 to 8"),
        Column("colour_mode", "string", "colour mode before conversion to sRGB (RGB, CMYK, P, I;16, ...)"),
        Column("n_frames", "int32", "frames of an animated or multi-picture file; the first frame is used"),
    )
    reasons = (*LOCAL_REASONS, *INTAKE_REASONS)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Decode the images and return size and colour columns. The sample keeps the pixels. Raises IntakeError."""
        columns: Columns = {"width_px": [], "height_px": [], "exif_orientation": [], "colour_mode": [], "n_frames": []}
        for sample in samples:
            picture = sample.picture
            columns["height_px"].append(picture.height_px)
            columns["width_px"].append(picture.width_px)
            columns["exif_orientation"].append(picture.exif_orientation)
            columns["colour_mode"].append(picture.mode)
            columns["n_frames"].append(picture.n_frames)
        return columns
