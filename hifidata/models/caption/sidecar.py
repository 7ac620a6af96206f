"""Captions from text files beside the images, as kohya's tools and WebDataset have them: ``a.txt`` or ``a.caption`` for ``a.jpg``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hifidata.core.schema import CaptionProblem
from hifidata.models.caption.cleaning import one_line, whole_sentences
from hifidata.models.config import CaptionerConfig
from hifidata.models.protocols import Description

MAX_TEXT_CHARACTERS = 100_000


class SidecarCaptioner:
    """Returns the text that the source found beside an image. Its words stay as they are.

    Args:
        settings: the recipe's caption section.
    """

    name = "sidecar"

    def __init__(self, settings: CaptionerConfig) -> None:
        self._settings = settings

    def caption(self, row: Mapping[str, Any]) -> Description:
        """Return the caption of one row, from its column ``listed_caption``."""
        text = row.get("listed_caption")
        if text is None:
            return Description(None, CaptionProblem.MISSING)
        line = one_line(text[:MAX_TEXT_CHARACTERS])
        if not line:
            return Description(None, CaptionProblem.MISSING)
        return whole_sentences(line, len(text) > MAX_TEXT_CHARACTERS, self._settings.max_characters)
