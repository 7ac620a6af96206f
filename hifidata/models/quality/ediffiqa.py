"""eDifFIQA: face quality, distilled from a diffusion model; weights under CC-BY-4.0.

Input: (1, 3, 112, 112) float32 RGB in -1..1, an aligned face. Output: one value, about 0..1.

Source: Babnik et al., eDifFIQA, IEEE TBIOM 2024; graphs of OpenCV's model zoo, whose page gives 0.5 as limit of good faces.
"""

from __future__ import annotations

from hifidata.models.quality.aligned import AlignedQuality


class EDifFiqa(AlignedQuality):
    """Scores faces with eDifFIQA; ``weights`` is a graph of size T, S, M or L."""

    name = "ediffiqa"
    n_values = 1
    slack = 0.25
    """The last layer is linear, so a very good or poor face may be outside 0..1."""
