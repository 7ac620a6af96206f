"""PP-Matting, the paper's matting of reference images: PaddleSeg's exported model, run by Paddle Inference.

PaddleSeg itself is not needed, only ``paddlepaddle``. That package and torch break each other in one process, so the
matting stage gets a worker group of its own with ``runtime_env: {pip: [paddlepaddle, setuptools]}``; it imports the latter and
does not say so.

Source: paper, section 3.2; Chen et al., PP-Matting, arXiv:2204.09433, and the ``deploy.yaml`` of the exported model.
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
"""Tag of a program's first field, its blocks, in Protocol Buffers."""

_BAD_MODEL = (
    RuntimeError,
    ValueError,
    IndexError,
    OSError,
    MemoryError,
)  # an offset or a size that is none gives the last ones


class PpMatting:
    """On the GPU where Paddle was built for one and finds one. Smaller pictures are not enlarged, as in PaddleSeg.

    Args:
        weights: folder with ``model.pdmodel`` and ``model.pdiparams``.

    Raises:
        UsageError: paddlepaddle cannot be imported.
        WeightsError: a file is missing or Paddle cannot read it.
    """

    name = "pp_matting"

    def __init__(self, weights: Path) -> None:
        try:
            import paddle
            from paddle import inference
        except (ImportError, RuntimeError) as error:
            raise UsageError(
                f"matting.model pp_matting: paddlepaddle does not load ({' '.join(str(error).split())}); "
                f"{PADDLE.remedy}"
            ) from error
        missing = [name for name in MODEL_FILES if not (weights / name).is_file()]
        if missing:
            raise WeightsError(
                f"{weights}: {' and '.join(missing)} not found; get them with `hifidata weights pull pp_matting`"
            )
        with (weights / MODEL_FILES[0]).open("rb") as file:
            if file.read(1) != PROGRAM_START:  # Paddle would end the process
                raise WeightsError(
                    f"{weights / MODEL_FILES[0]}: no Paddle program; get it again with `hifidata weights pull pp_matting`"
                )
        config = inference.Config(*(str(weights / name) for name in MODEL_FILES))
        config.disable_glog_info()
        config.disable_mkldnn()  # oneDNN's kernels fail on some graphs in paddlepaddle 3.3
        config.set_cpu_math_library_num_threads(1)
        if paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count():
            config.enable_use_gpu(256, 0)
        try:
            self._predictor: Any = inference.create_predictor(config)
        except _BAD_MODEL as error:
            raise WeightsError(
                f"{weights}: Paddle cannot read the model: {' '.join(str(error).split())[:300]}; get it again with "
                "`hifidata weights pull pp_matting`"
            ) from error

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """One alpha (H, W) float32 per picture, 0 background to 1 person. Raises ModelError."""
        return [self._matte_one(picture) for picture in pictures]

    def _matte_one(self, picture: RgbU8) -> F32:
        size = work_size(picture.shape[1], picture.shape[0], enlarge=False)
        predictor = self._predictor
        try:
            predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(to_network(picture, size))
            predictor.run()
            output = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.name}: Paddle refused a picture: {' '.join(str(error).split())}") from error
        return to_alpha(np.asarray(output, np.float32), size, picture, self.name)
