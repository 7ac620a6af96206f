"""PP-Matting, the paper's matting model for reference images: PaddleSeg's exported model, run by Paddle Inference.

Input: (1, 3, H, W) float32 RGB in -1..1, sides in multiples of 32. Output: alpha (1, 1, H, W) or (1, H, W) in 0..1.

Only ``paddlepaddle`` is needed, not PaddleSeg. ``paddlepaddle`` and torch cannot be used in one process. Therefore the matting
stage needs its own worker group with ``runtime_env: {pip: [paddlepaddle, setuptools]}``. ``paddlepaddle`` imports setuptools
without declaring it.

Source: paper, section 3.2; Chen et al., PP-Matting, arXiv:2204.09433; ``deploy.yaml`` of the exported model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hifidata.core.errors import ModelError, UsageError, WeightsError
from hifidata.models.matting.resize import to_alpha, to_network, work_size
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.requirements import PADDLE

MODEL_FILES = ("model.pdmodel", "model.pdiparams")
PROGRAM_START = b"\n"
"""First byte of a program: the Protocol Buffers tag of its blocks."""

_BAD_MODEL = (RuntimeError, ValueError, IndexError, OSError, MemoryError)
"""Errors of Paddle for a damaged model; invalid offsets and sizes give the last two."""


class PpMatting:
    """Computes alpha mattes with PP-Matting, on the GPU if Paddle supports it. As in PaddleSeg, small images are not enlarged.

    Args:
        weights: folder with ``model.pdmodel`` and ``model.pdiparams``.

    Raises:
        UsageError: paddlepaddle cannot be imported.
        WeightsError: a file is missing, or Paddle cannot read it.
    """

    name = "pp_matting"

    def __init__(self, weights: Path) -> None:
        try:
            import paddle
            from paddle import inference
        except (ImportError, RuntimeError) as error:
            raise UsageError(
                f"matting.model: pp_matting needs paddlepaddle, which cannot be imported ({' '.join(str(error).split())}); "
                f"{PADDLE.remedy}"
            ) from error
        missing = [name for name in MODEL_FILES if not (weights / name).is_file()]
        if missing:
            raise WeightsError(
                f"{weights}: {' and '.join(missing)} not found; download them with `hifidata weights pull pp_matting`"
            )
        with (weights / MODEL_FILES[0]).open("rb") as file:
            if file.read(1) != PROGRAM_START:  # Paddle would abort the process
                raise WeightsError(
                    f"{weights / MODEL_FILES[0]}: not a Paddle program; download it again with `hifidata weights pull pp_matting`"
                )
        config = inference.Config(*(str(weights / name) for name in MODEL_FILES))
        config.disable_glog_info()
        config.disable_mkldnn()  # oneDNN kernels of paddlepaddle 3.3 fail on some graphs
        config.set_cpu_math_library_num_threads(1)
        if paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count():
            config.enable_use_gpu(256, 0)
        try:
            self._predictor: Any = inference.create_predictor(config)
        except _BAD_MODEL as error:
            raise WeightsError(
                f"{weights}: Paddle cannot read the model: {' '.join(str(error).split())[:300]}; download it again with "
                "`hifidata weights pull pp_matting`"
            ) from error

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """Compute the alpha (H, W) float32 of each image, 0 background to 1 person. Raises ModelError."""
        return [self._matte_one(picture) for picture in pictures]

    def _matte_one(self, picture: RgbU8) -> F32:
        size = work_size(picture.shape[1], picture.shape[0], enlarge=False)
        predictor = self._predictor
        try:
            predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(to_network(picture, size))
            predictor.run()
            output = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.name}: Paddle refused an image: {' '.join(str(error).split())}") from error
        return to_alpha(np.asarray(output, np.float32), size, picture, self.name)
