"""Captions without a model: one sentence from the measured columns of the manifest.

It leaves out pose and expression, as the paper's prompt demands (section 3.4); the landmarks carry them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Shares of the crop that the face box covers, and the photographers' names of these framings.
CLOSE_UP_SHARE = 0.30
HEAD_AND_SHOULDERS_SHARE = 0.12
NOUNS = {"female": "woman", "male": "man"}


class AttributeCaptioner:
    """Writes a caption from manifest columns."""

    name = "attributes"

    def caption(self, row: Mapping[str, Any]) -> str:
        """Write one caption, such as ``A black-and-white close-up portrait photo of a woman.``

        Args:
            row: holds ``face_area_ratio``, ``is_monochrome`` and ``gender``; a null value leaves its words out.
        """
        words = ["black-and-white"] if row.get("is_monochrome") else []
        words += [
            _framing(row.get("face_area_ratio")),
            "portrait photo of a",
            NOUNS.get(row.get("gender") or "", "person"),
        ]
        sentence = " ".join(word for word in words if word)
        return f"A {sentence}."


def _framing(face_share: float | None) -> str:
    if face_share is None or face_share < HEAD_AND_SHOULDERS_SHARE:
        return ""
    return "close-up" if face_share >= CLOSE_UP_SHARE else "head-and-shoulders"
