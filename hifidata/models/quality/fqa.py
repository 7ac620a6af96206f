"""ModelScope's face quality assessment (FQA): the scorer of the paper, with the paper's threshold.

Input: (1, 3, 112, 112) float32 RGB in -1..1, aligned to the ArcFace template. Output: (1, n) values in 0..1; the quality is
their mean.

Source: paper, section 3.4 (scores below 0.45 are removed); ModelScope ``cv_manual_face-quality-assessment_fqa``. Our use: only
the ONNX graph, on the face of the detect stage. ModelScope's pipeline runs its own detector and uses the largest face.
"""

from __future__ import annotations

from hifidata.models.quality.aligned import AlignedQuality


class ModelScopeFqa(AlignedQuality):
    """Scores faces with FQA; ``weights`` is the repository's ``model.onnx``. The length n of its output is not documented."""

    name = "modelscope_fqa"
    n_values = None
    slack = 0.05
