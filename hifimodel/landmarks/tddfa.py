"""3DDFA_V2 as a landmark backend: shape (40), expression (10) and pose of a morphable face."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.face3d import tddfa
from hifidata.models.face3d.base import angles_deg
from hifidata.models.protocols import F32, RgbU8
from hifidata.weights.find import find_weight
from hifimodel.errors import LandmarkError
from hifimodel.landmarks.base import FaceShape, stored_face, swapped

BASIS = {
    "3ddfa_bfm_u_base": "u_base.txt",
    "3ddfa_bfm_w_shp_base": "w_shp_base.txt",
    "3ddfa_bfm_w_exp_base": "w_exp_base.txt",
}
NETWORK = {"3ddfa_mb05": "mb05_120x120.onnx", "3ddfa_mean_std": "param_mean_std_62d_120x120.npz"}
"""Files by their names in hifidata's catalogue of weights."""


class TddfaBackend:
    """Loads the network in ``encode``; training from shards only needs the basis.

    Args:
        weights: folder of the files; None: hifidata's weight folders.

    Raises:
        WeightsError: a file is missing or has other contents.

    Source: paper 3.3, with 3DDFA_V2's 40 + 10 basis instead of DECA's 100 + 50. The swap keeps the region of the target, so
    the landmarks are in the image of the target.
    """

    name = "tddfa"

    def __init__(self, weights: Path | None = None) -> None:
        self._folder = weights
        self._basis = tddfa.Morphable(*self._files(BASIS))

    @cached_property
    def _fitter(self) -> tddfa.TddfaFitter:
        return tddfa.TddfaFitter(*self._files(NETWORK), *self._files(BASIS))

    def _files(self, names: Mapping[str, str]) -> list[Path]:
        if self._folder is None:
            return [find_weight(name) for name in names]
        paths = [self._folder / file for file in names.values()]
        for path in paths:
            if not path.is_file():
                wanted = ", ".join([*BASIS.values(), *NETWORK.values()])
                raise WeightsError(f"{path} is missing; put 3DDFA's files into that folder: {wanted}")
        return paths

    def encode(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """See LandmarkBackend; landmarks only place the input region of the network."""
        try:
            return self._fitter.fit(rgb_u8, kps_px, landmarks_px)
        except ModelError as error:
            raise LandmarkError(str(error)) from error

    def from_stored(self, landmarks_px: F32 | None, face3d: Mapping[str, Any] | None) -> FaceShape:
        """See LandmarkBackend; reads ``.face3d.npz``."""
        sizes = {"shape": tddfa.N_SHAPE, "expression": tddfa.N_EXPRESSION, "pose": tddfa.N_POSE, "camera": 3}
        return stored_face(self.name, sizes, face3d)

    def swap(self, reference: FaceShape, target: FaceShape) -> FaceShape:
        """See LandmarkBackend."""
        return swapped(reference, target)

    def project(self, face: FaceShape) -> F32:
        """See LandmarkBackend."""
        return self._basis.points_px(face)

    def angles_deg(self, face: FaceShape) -> tuple[float, float, float]:
        """See LandmarkBackend."""
        return angles_deg(tddfa.rotation_of(face.pose))
