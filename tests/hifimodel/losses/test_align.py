"""Alignment in torch equals OpenCV's."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cv2  # noqa: E402

from hifidata.image.align import TEMPLATE_PX  # noqa: E402
from hifimodel.losses.align import align_faces, crop_corners, similarity_to_template  # noqa: E402

KPS = torch.tensor(TEMPLATE_PX)


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> torch.Tensor:
    """The template turned, scaled and shifted."""
    angle = np.deg2rad(degrees)
    matrix = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    return scale * KPS @ matrix + torch.tensor(shift)


@pytest.mark.parametrize(("degrees", "scale"), [(0.0, 1.0), (25.0, 0.4), (-160.0, 3.0)])
def test_a_similarity_is_found_exactly(degrees: float, scale: float) -> None:
    kps = turned(degrees, scale, (40.0, -7.0))[None]
    matrix = similarity_to_template(kps)
    torch.testing.assert_close(kps @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2], KPS[None])
    assert matrix[0, :, :2].det().item() == pytest.approx(1 / scale**2, rel=1e-4)


def test_noisy_points_get_the_least_squares_similarity() -> None:
    generator = torch.Generator().manual_seed(0)
    kps = (turned(10, 2, (30, 30)) + torch.randn(5, 2, generator=generator) * 4)[None]

    def error(matrix: torch.Tensor) -> float:
        return float((kps @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2] - KPS).square().sum())

    best = similarity_to_template(kps)
    a, b = best[0, 0, 0], best[0, 1, 0]
    for da, db, dx in ((1e-3, 0, 0), (-1e-3, 0, 0), (0, 1e-3, 0), (0, -1e-3, 0), (0, 0, 0.1), (0, 0, -0.1)):
        linear = torch.stack([torch.stack([a + da, -b - db]), torch.stack([b + db, a + da])])
        other = torch.cat([linear, best[0, :, 2:] + dx], dim=1)[None]
        assert error(other) > error(best)


def test_aligned_pixels_equal_those_of_opencv() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.uniform(-1, 1, (150, 200, 3)).astype(np.float32), (0, 0), 2)
    kps = turned(17.0, 1.3, (20.0, 30.0))[None]
    matrix = similarity_to_template(kps)[0].numpy()
    expected = cv2.warpAffine(picture, matrix, (112, 112), flags=cv2.INTER_LINEAR)
    ours = align_faces(torch.from_numpy(picture).permute(2, 0, 1)[None], kps)[0].permute(1, 2, 0).numpy()
    # OpenCV's warp may round its weights to 1/32 of a pixel.
    assert np.abs(ours - expected)[2:-2, 2:-2].max() < 0.03 * np.abs(expected).max()


def test_corners_of_the_crop_lie_where_the_crop_samples() -> None:
    corners = crop_corners(turned(0.0, 2.0, (10.0, 20.0))[None])[0]
    torch.testing.assert_close(corners[[0, 2]], torch.tensor([[10.0, 20.0], [232.0, 242.0]]), atol=1e-2, rtol=0)
