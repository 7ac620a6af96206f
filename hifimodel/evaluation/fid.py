"""FID with an interval: Inception features, and the Frechet distance of two normal distributions.

torchmetrics and clean-fid depend on torchvision, which must not be installed with this package, and neither gives an interval.
The distance itself is four lines. Nothing is downloaded: the user provides the file of the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hifidata.core.errors import WeightsError
from hifidata.models.protocols import F32, RgbU8
from hifimodel.errors import one_line
from hifimodel.evaluation.statistics import F64, NORMAL_QUANTILE, Bootstrap, Estimate

INPUT_PX, N_FEATURES = 299, 2048


def load_inception(path: Path) -> Callable[[RgbU8], F32]:
    """Load the feature extractor of clean-fid: ``inception-2015-12-05.pt`` (TorchScript), with antialiased resizing.

    Returns:
        A function from an image (H, W, 3) uint8 to (2048,) float32.

    Raises:
        WeightsError: not a TorchScript file, or without ``layers``.
    """
    import torch

    try:
        with warnings.catch_warnings():  # torch recommends another format, but the file is TorchScript
            warnings.simplefilter("ignore", DeprecationWarning)
            layers = torch.jit.load(str(path), map_location="cpu").eval().layers
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        raise WeightsError(
            f"--inception {path}: not the TorchScript network that clean-fid and StyleGAN2 use "
            f"({one_line(error, 120)}); expected inception-2015-12-05.pt"
        ) from error

    @torch.inference_mode()
    def features(rgb_u8: RgbU8) -> F32:
        """Return the pooled features (2048,) of an image (H, W, 3) uint8."""
        # Channel by channel as floats: rounding to 8 bits after the resize changes FID.
        size = (INPUT_PX, INPUT_PX)
        planes = (Image.fromarray(rgb_u8[..., c].astype(np.float32)) for c in range(3))
        small = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
        pixels = np.stack(small).clip(0, 255)  # (3, 299, 299)
        found = layers(torch.from_numpy((pixels - 128) / 128)[None]).numpy().ravel()
        if found.shape != (N_FEATURES,):
            raise WeightsError(f"--inception {path}: gives {found.size} numbers per image, expected {N_FEATURES}")
        return np.asarray(found, np.float32)

    return features


def frechet_distance(first: F64, second: F64) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    The trace of the root is the sum of the singular values of X1 X2^T, with X the centred features over sqrt(n - 1). This is
    exact for any number of images, and fast for fewer images than features.

    Args:
        first: (n1, d) features, n1 >= 2.
        second: (n2, d) features, n2 >= 2.

    Source: Heusel et al., arXiv:1706.08500, equation 6. Paper section 4.1 states neither the real images nor the network.
    """
    means = [features.mean(axis=0) for features in (first, second)]
    centred = [(x - m) / np.sqrt(len(x) - 1) for x, m in zip((first, second), means, strict=True)]
    few, many = sorted(centred, key=len)
    if len(few) > few.shape[1]:
        few = np.asarray(np.linalg.qr(few, mode="r"))  # (d, d), the same few.T @ few
    root_trace = np.linalg.svd(few @ many.T, compute_uv=False).sum()
    shift = np.square(means[0] - means[1]).sum()
    return float(shift + sum(np.square(x).sum() for x in centred) - 2 * root_trace)


def fid_estimate(made: Sequence[Sequence[F32]], real: Sequence[Sequence[F32]], bootstrap: Bootstrap) -> Estimate | None:
    """Return FID of generated against real images.

    The interval is the value plus and minus 1.96 standard deviations over resampled identities, whose generated and real
    images are drawn together. Percentiles are not suitable: a resample repeats images, and repetition alone raises FID.

    Args:
        made: features of the generated images per identity.
        real: features of the real images per identity, in the same order; or one group, which is never resampled.

    Returns:
        None if either side has fewer than two images.
    """
    n_made = sum(map(len, made))
    if n_made < 2 or sum(map(len, real)) < 2:
        return None

    def distance(identities: Sequence[int]) -> float:
        return frechet_distance(_stack(made, identities), _stack(real, identities if len(real) > 1 else [0]))

    value = distance(range(len(made)))
    usable = [place for place, features in enumerate(made) if features]
    if len(usable) < 2:
        return Estimate(value, None, None, n_made)
    drawn = np.array(usable)[bootstrap.draws(len(usable), bootstrap.fid_resamples)]
    spread = float(np.std([distance(identities) for identities in drawn], ddof=1)) * NORMAL_QUANTILE
    return Estimate(value, value - spread, value + spread, n_made)


def _stack(by_identity: Sequence[Sequence[F32]], identities: Sequence[int]) -> F64:
    return np.stack([features for place in identities for features in by_identity[place]]).astype(np.float64)
