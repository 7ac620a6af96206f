"""Intervals cover what they say they cover, and FID is the Frechet distance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from hifimodel.evaluation.fid import fid_estimate, frechet_distance
from hifimodel.evaluation.statistics import Bootstrap, mean_estimate


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # 40 people who differ more than their 6 pictures do, which intervals over pictures would overlook.
    rng, covered, n_trials = np.random.default_rng(1), 0, 400
    for _ in range(n_trials):
        people = rng.normal(60, 5, (40, 1))
        found = mean_estimate((people + rng.normal(0, 2, (40, 6))).tolist(), Bootstrap(resamples=300))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low < 60 < found.high
    assert 0.90 < covered / n_trials < 0.98


def test_an_interval_of_many_people_is_the_normal_one() -> None:
    numbers = np.random.default_rng(0).normal(size=(400, 1))
    found = mean_estimate(numbers.tolist(), Bootstrap(resamples=8000))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    sides = np.array([found.value - found.low, found.high - found.value]) / (numbers.std() / np.sqrt(400))
    assert sides == pytest.approx(np.full(2, 1.96), abs=0.1)


def test_pictures_of_few_people_do_not_make_a_mean_surer() -> None:
    rng = np.random.default_rng(2)
    people = rng.normal(60, 5, (20, 1))
    few = mean_estimate(people.repeat(2, axis=1).tolist(), Bootstrap())
    many = mean_estimate(people.repeat(200, axis=1).tolist(), Bootstrap())
    assert few is not None
    assert many is not None
    assert (few.low, few.high) == pytest.approx((many.low, many.high))


def test_the_mean_is_over_pictures_and_leaves_out_what_was_not_measured() -> None:
    found = mean_estimate([[1.0, 2.0, float("nan")], [6.0], [float("nan")], []], Bootstrap())
    assert found is not None
    assert (found.value, found.n) == (3.0, 3)
    assert (found.low, found.high) == pytest.approx((1.5, 6.0))  # both people are one of the two, one time in four each


def test_one_person_has_no_interval_and_nobody_has_no_mean() -> None:
    one = mean_estimate([[1.0, 3.0]], Bootstrap())
    assert one is not None
    assert (one.value, one.low, one.high) == (2.0, None, None)
    assert mean_estimate([[], [float("nan")]], Bootstrap()) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    numbers = np.random.default_rng(0).normal(size=(9, 4)).tolist()
    assert mean_estimate(numbers, Bootstrap(seed=3)) == mean_estimate(numbers, Bootstrap(seed=3))
    assert mean_estimate(numbers, Bootstrap(seed=3)) != mean_estimate(numbers, Bootstrap(seed=4))


@pytest.mark.parametrize(("n_made", "n_real"), [(40, 60), (7, 60), (60, 7), (5, 4)])
def test_frechet_distance_equals_the_matrix_root(n_made: int, n_real: int) -> None:
    # More pictures than features (20), fewer, and both: small sets have singular covariances.
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(20, 20))
    made, real = rng.normal(size=(n_made, 20)), rng.normal(0.3, 1, (n_real, 20)) @ mix
    c1, c2 = np.cov(made, rowvar=False), np.cov(real, rowvar=False)
    eigenvalues = linalg.eigvals(c1 @ c2).real.clip(0)
    expected = np.square(made.mean(0) - real.mean(0)).sum() + np.trace(c1 + c2) - 2 * np.sqrt(eigenvalues).sum()
    assert frechet_distance(made, real) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_a_shift_is_its_square() -> None:
    made = np.random.default_rng(0).normal(size=(30, 5))
    assert frechet_distance(made, made + np.array([3, 0, 0, 0, 4])) == pytest.approx(25)
    assert frechet_distance(made, made) == pytest.approx(0, abs=1e-9)


def test_fid_lies_inside_its_interval_and_needs_two_pictures() -> None:
    rng = np.random.default_rng(0)
    made = [list(rng.normal(person / 9, 1, (3, 6)).astype(np.float32)) for person in range(12)]
    real = [list(rng.normal(person / 9, 1, (4, 6)).astype(np.float32)) for person in range(12)]
    for against in (real, [[feature for features in real for feature in features]]):
        found = fid_estimate(made, against, Bootstrap(fid_resamples=50))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high
        assert found.n == 36
    assert fid_estimate([[made[0][0]], []], real[:2], Bootstrap()) is None
    alone = fid_estimate([made[0], []], real[:2], Bootstrap())
    assert alone is not None
    assert alone.low is None
