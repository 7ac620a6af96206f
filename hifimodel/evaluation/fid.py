"""FID with an interval: Inception features, and the Frechet distance of two normal distributions.

torchmetrics and clean-fid both bring torchvision in, which must not be installed beside this package, and neither gives an
interval; the distance itself is four lines. Nothing is downloaded: the network's file comes from the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hifidata.core.errors import WeightsError
from hifidata.models.protocols import F32, RgbU8
from hifimodel.evaluation.statistics import F64, NORMAL_QUANTILE, Bootstrap, Estimate

INPUT_PX, N_FEATURES = 299, 2048


def load_inception(path: Path) -> Callable[[RgbU8], F32]:
    """The feature extractor of clean-fid: ``inception-2015-12-05.pt``, a TorchScript file, with antialiased resizing.

    Returns:
        A function from a picture (H, W, 3) uint8 to (2048,) float32.

    Raises:
        WeightsError: no TorchScript file, or one without the network's ``layers``.
    """
    import torch

    try:
        with warnings.catch_warnings():  # torch would like another format; this is the one that exists
            warnings.simplefilter("ignore", DeprecationWarning)
            layers = torch.jit.load(str(path), map_location="cpu").eval().layers
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        raise WeightsError(
            f"--inception {path}: not the TorchScript network that clean-fid and StyleGAN2 use "
            f"({' '.join(str(error).split())[:120]}); expected inception-2015-12-05.pt"
        ) from error

    @torch.inference_mode()
    def features(rgb_u8: RgbU8) -> F32:
        """(H, W, 3) uint8 to the network's pooled features, (2048,)."""
        # Channel by channel as floats: rounding to 8 bits after the resize moves FID.
        size = (INPUT_PX, INPUT_PX)
        planes = (Image.fromarray(rgb_u8[..., c].astype(np.float32)) for c in range(3))
        small = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
        pixels = np.stack(small).clip(0, 255)  # (3, 299, 299)
        found = layers(torch.from_numpy((pixels - 128) / 128)[None]).numpy().ravel()
        if found.shape != (N_FEATURES,):
            raise WeightsError(f"--inception {path}: gives {found.size} numbers per picture, expected {N_FEATURES}")
        return np.asarray(found, np.float32)

    return features


def frechet_distance(first: F64, second: F64) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    The root's trace is the sum of the singular values of X1 X2^T, X the centred features over sqrt(n - 1): exact however
    few pictures there are, and cheap where they are fewer than the features.

    Args:
        first: (n1, d) features, n1 >= 2.
        second: (n2, d) features, n2 >= 2.

    Source: Heusel et al., arXiv:1706.08500, equation 6; paper section 4.1 names neither the real pictures nor the network.
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
    """FID of generated against real pictures.

    The interval is the value plus and minus 1.96 standard deviations over resampled people, whose generated and real
    pictures are drawn together. Percentiles would not do: a resample repeats pictures, and repetition alone raises FID.

    Args:
        made: features of the generated pictures by person.
        real: features of the real pictures by the same people; or one group, which is then never resampled.

    Returns:
        None where either side has fewer than two pictures.
    """
    n_made = sum(map(len, made))
    if n_made < 2 or sum(map(len, real)) < 2:
        return None

    def distance(people: Sequence[int]) -> float:
        return frechet_distance(_stack(made, people), _stack(real, people if len(real) > 1 else [0]))

    value = distance(range(len(made)))
    usable = [place for place, pictures in enumerate(made) if pictures]
    if len(usable) < 2:
        return Estimate(value, None, None, n_made)
    drawn = np.array(usable)[bootstrap.draws(len(usable), bootstrap.fid_resamples)]
    spread = float(np.std([distance(people) for people in drawn], ddof=1)) * NORMAL_QUANTILE
    return Estimate(value, value - spread, value + spread, n_made)


def _stack(by_person: Sequence[Sequence[F32]], people: Sequence[int]) -> F64:
    return np.stack([features for place in people for features in by_person[place]]).astype(np.float64)
