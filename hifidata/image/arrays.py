"""Array types of images and points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RgbU8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
