"""Worker groups share a cluster. A cluster that is too small for all groups is refused."""

from __future__ import annotations

from typing import Any

import pytest

from hifidata.config.recipe import Recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import UsageError
from hifidata.run.executors.ray import pool_sizes


def recipe(*groups: dict[str, Any], workers: int | None = None) -> Recipe:
    cuts = [0, *range(1, len(groups)), len(STAGE_NAMES)]
    parts = [{"name": str(i), "stages": STAGE_NAMES[cuts[i] : cuts[i + 1]], **group} for i, group in enumerate(groups)]
    return Recipe.model_validate(
        {"name": "t", "source": {"kind": "folder"}, "groups": parts, "executor": {"workers": workers}}
    )


@pytest.mark.parametrize(
    ("groups", "cluster", "sizes"),
    [
        ([{}], {"CPU": 8}, [8]),
        ([{"num_cpus": 3}], {"CPU": 8}, [2]),
        ([{}, {}], {"CPU": 8}, [4, 4]),
        ([{"num_cpus": 0.5}, {"num_cpus": 0.5}], {"CPU": 2}, [2, 2]),
        ([{}, {"num_gpus": 1}], {"CPU": 16, "GPU": 2}, [14, 2]),
        ([{"max_workers": 1}, {}], {"CPU": 4}, [1, 3]),
    ],
)
def test_groups_share_the_resources_of_the_cluster(
    groups: list[dict[str, Any]], cluster: dict[str, float], sizes: list[int]
) -> None:
    assert pool_sizes(recipe(*groups), 100, cluster) == sizes


def test_workers_are_limited_by_identities_and_by_the_executor() -> None:
    assert pool_sizes(recipe({}), 3, {"CPU": 8}) == [3]
    assert pool_sizes(recipe({}, workers=2), 100, {"CPU": 8}) == [2]


def test_groups_that_do_not_fit_together_are_refused_with_the_remedy() -> None:
    with pytest.raises(
        UsageError, match=r"together they need 3 CPU \(0 1, 1 1, 2 1\), Ray has 2; lower num_cpus .* recipe's groups"
    ):
        pool_sizes(recipe({}, {}, {}), 100, {"CPU": 2})
    with pytest.raises(UsageError, match=r"Ray has 2; raise executor\.workers, or lower num_cpus"):
        pool_sizes(recipe({}, {}, {}, workers=2), 100, {"CPU": 2})
    with pytest.raises(UsageError, match=r"need 1 GPU \(1 1\), Ray has 0; .*set executor\.use_gpus: false"):
        pool_sizes(recipe({}, {"num_gpus": 1}), 100, {"CPU": 2})
