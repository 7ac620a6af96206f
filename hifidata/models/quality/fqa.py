"""ModelScope's face quality assessment, its ONNX graph alone: the scorer of the paper, with the paper's threshold.

ModelScope's own pipeline adds a second face detector and picks its largest face; here the face is the one that was
detected. Both align to the ArcFace template, so the network sees the same picture.

Source: paper, section 3.4 (scores below 0.45 are removed) and ModelScope's ``cv_manual_face-quality-assessment_fqa``.
"""

from __future__ import annotations

from hifidata.models.quality.aligned import AlignedQuality


class ModelScopeFqa(AlignedQuality):
    """The mean of the network's output vector (1, n), whose length nobody states; ``weights`` is the repository's ``model.onnx``."""

    name = "modelscope_fqa"
    n_values = None
    slack = 0.05
