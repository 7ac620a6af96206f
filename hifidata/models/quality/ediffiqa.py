"""eDifFIQA: face quality distilled from a diffusion model's difficulty with a face; weights under CC-BY-4.0.

Source: Babnik et al., eDifFIQA, IEEE TBIOM 2024; the graphs of OpenCV's model zoo, whose page puts good faces above 0.5.
"""

from __future__ import annotations

from hifidata.models.quality.aligned import AlignedQuality


class EDifFiqa(AlignedQuality):
    """One number; ``weights`` is any of the sizes T, S, M and L."""

    name = "ediffiqa"
    n_values = 1
    slack = 0.25
    """Its last layer is linear: a very good or bad face may leave 0 to 1."""
