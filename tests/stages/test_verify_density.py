"""``verify.method: density`` keeps one person of a folder, or says that it cannot tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hifidata.config.sections import VerifyConfig
from hifidata.core.errors import RecipeError
from hifidata.models import registry
from hifidata.stages import density
from hifidata.stages.density import find_groups
from hifidata.stages.verify import Verify

SECTION = VerifyConfig(
    method="density", min_pair_similarity=0.4, min_similarity=0.6, max_second_group=0.6, min_images=5
)
F32 = NDArray[np.float32]


def people(*sizes: int, seed: int = 0, likeness: float = 0.65) -> F32:
    """Return synthetic embeddings: images of one person have a mean cosine of ``likeness``, of two people of 0."""
    rng = np.random.default_rng(seed)
    centres = np.eye(128)[: len(sizes)]
    noise = rng.normal(size=(sum(sizes), 128)) / np.sqrt(128)
    rows = np.repeat(centres, sizes, axis=0) + noise * np.sqrt(1 / likeness - 1)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def judged(embeddings: F32, section: VerifyConfig = SECTION) -> tuple[list[str | None], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = [{"embedding": embedding} for embedding in embeddings]
    for name, values in Verify.derive(rows, section).items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return [v.reason if (v := Verify.decide(row, section)) else None for row in rows], rows


@pytest.mark.parametrize(
    ("sizes", "n_kept"),
    [
        ((6, 6, 6), 0), ((7, 6, 5), 0), ((5, 5, 5, 5), 0), ((7, 7), 0), ((8, 6, 3), 0), ((11, 9), 0),
        ((8, 4, 4), 8), ((9, 5), 9), ((14, *[1] * 6), 14), ((10, *[1] * 10), 10), ((16, 4), 16), ((5,), 5), ((40,), 40),
    ],
)  # fmt: skip
def test_a_folder_of_several_people_keeps_one_of_them_or_none(sizes: tuple[int, ...], n_kept: int) -> None:
    for seed in range(5):
        reasons, rows = judged(people(*sizes, seed=seed))
        if n_kept:
            assert reasons == [None] * n_kept + ["other_person"] * (sum(sizes) - n_kept)
        else:
            assert set(reasons) == {"several_people"}
            assert {0, 1} <= {row["cluster"] for row in rows}
            assert {row["n_second_group"] for row in rows} <= {*sizes}


def test_the_paper_mixes_the_people_that_density_refuses() -> None:
    reasons, _ = judged(people(6, 6, 6), VerifyConfig(method="paper", k=2, min_similarity=0.35))
    assert reasons.count(None) > 6


def test_the_order_of_the_images_changes_nothing() -> None:
    embeddings = np.concatenate([people(9, 5, likeness=0.5), people(3, 1, seed=1), people(9)[:2]])
    _, expected = judged(embeddings)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(embeddings))
        _, rows = judged(embeddings[order])
        for row, i in zip(rows, order, strict=True):
            assert {k: v for k, v in row.items() if k != "embedding"} == {
                k: v for k, v in expected[i].items() if k != "embedding"
            }


@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_no_one_and_equal_images_raise_no_error(n: int) -> None:
    reasons, rows = judged(np.repeat(people(1), n, axis=0))
    assert reasons == ([None] if n >= 5 else ["identity_too_small"]) * n
    assert {row["cluster"] for row in rows} <= {0}


def test_images_that_all_differ_are_too_few() -> None:
    reasons, _ = judged(np.eye(16, dtype=np.float32))
    assert set(reasons) == {"other_person", "identity_too_small"}


def test_the_similarity_matrix_is_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_groups(people(20, 8), 0.4, 0.6)
    monkeypatch.setattr(density, "BLOCK_ROWS", 3)
    in_blocks = find_groups(people(20, 8), 0.4, 0.6)
    assert (whole.labels.tolist(), whole.n_second) == (in_blocks.labels.tolist(), in_blocks.n_second)


@pytest.mark.parametrize("model", list(registry.EMBEDDERS))
def test_each_embedder_has_limits_for_density(model: str) -> None:
    spec = registry.chosen("verify", VerifyConfig(model=model, method="density"))
    assert spec is not None
    assert set(spec.defaults or {}) == {"min_pair_similarity", "min_similarity", "max_second_group"}


def test_an_embedder_of_another_package_without_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.EMBEDDERS, "theirs", replace(registry.EMBEDDERS["arcface"], defaults={"k": 2}))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"verify\.min_pair_similarity: model theirs has no default .* set"):
        registry.chosen("verify", VerifyConfig(model="theirs", method="density"))
    with pytest.raises(RecipeError, match=r"verify\.min_similarity: model theirs"):
        registry.chosen("verify", VerifyConfig(model="theirs", method="density", min_pair_similarity=0.4))
