"""Numbers of one picture on hand-made faces, exact; and the checks of the sanity rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hifimodel.evaluation.faces import Face, light_stops
from hifimodel.evaluation.metrics import Spread, copy_paste, distances, image_scores, spread_of
from hifimodel.evaluation.sanity import OTHER, PASTED, TARGET, sanity_checks
from hifimodel.evaluation.statistics import Estimate

EVEN = Spread({"pose": 1.0, "expression": 1.0, "light": 1.0})


def face(who: tuple[float, float] = (1, 0), expression: float = 0, yaw: float = 0, light: float = 0) -> Face:
    """Two-number identity; expression and light the same in all their numbers."""
    return Face(
        embeddings={"a": np.array(who, np.float32)},
        clip=np.array(who, np.float32),
        expression=np.full(10, float(expression)),
        pose_rad=np.array([yaw, 0.0, 0.0]),
        light=np.full(16, float(light)),
    )


def test_similarity_is_the_mean_cosine_to_all_references() -> None:
    references = [face((1, 0)), face((0, 1)), face((-1, 0)), face((0.6, 0.8))]
    scores = image_scores(face((1, 0)), face(), references, EVEN)
    assert scores["Sim_f a"] == pytest.approx(100 * (1 + 0 - 1 + 0.6) / 4)
    assert scores["CLIP_f"] == pytest.approx(15)


def test_expression_and_pose_are_root_mean_squares_against_the_target() -> None:
    made, target = face(expression=0.5, yaw=0.3), face(expression=0.2, yaw=-0.3)
    scores = image_scores(made, target, [face()], EVEN, expression_factor=10)
    assert scores["Exp"] == pytest.approx(10 * 0.3)
    assert scores["Pose"] == pytest.approx(100 * math.sqrt(0.6**2 / 3))


def test_angles_differ_the_short_way_round() -> None:
    apart = distances(face(yaw=math.pi - 0.1), face(yaw=-math.pi + 0.1))
    assert apart["pose"] == pytest.approx(0.2 / math.sqrt(3))


@pytest.mark.parametrize(
    ("made", "index"),
    [
        (face(expression=0), 0.0),  # the target's look
        (face(expression=4), 1.0),  # a reference's look
        (face(expression=2), 0.5),  # half way
        (face(expression=1), 0.25),
        (face(expression=3), 0.75),
    ],
)
def test_copy_paste_runs_from_the_target_to_the_nearest_reference(made: Face, index: float) -> None:
    references = [face(expression=-9), face(expression=4)]
    assert copy_paste(made, face(expression=0), references, EVEN) == pytest.approx(index)


def test_copy_paste_counts_every_factor_by_how_much_it_usually_differs() -> None:
    spread = Spread({"expression": 1.0, "light": 10.0})
    target, reference = face(), face(expression=1, light=10)
    made = face(expression=1, light=0)  # expression copied, light kept
    assert copy_paste(made, target, [reference], spread) == pytest.approx(0.5)
    assert copy_paste(face(who=(0, 1)), target, [reference], spread) == 0  # who it is has no part in it


def test_copy_paste_says_nothing_where_nothing_can_be_said() -> None:
    assert math.isnan(copy_paste(face(), face(), [face()], EVEN))
    assert math.isnan(copy_paste(face(), face(expression=1), [], EVEN))
    assert math.isnan(copy_paste(face(), face(expression=1), [face()], Spread({})))


def test_spread_is_the_mean_distance_and_leaves_out_what_never_differs() -> None:
    pairs = [(face(expression=0), face(expression=1)), (face(expression=0), face(expression=3))]
    assert spread_of(pairs).by_factor == {"expression": pytest.approx(2)}


def test_what_a_face_lacks_is_not_measured() -> None:
    blind = replace(face(), clip=None, expression=None, pose_rad=None)
    scores = image_scores(blind, face(), [face()], Spread({"light": 1.0}))
    assert scores["Sim_f a"] == 100
    assert all(math.isnan(scores[column]) for column in ("CLIP_f", "Exp", "Pose"))
    without_target = image_scores(face(), None, [face()], EVEN)
    assert math.isnan(without_target["Exp"])
    assert without_target["Sim_f a"] == 100
    assert math.isnan(image_scores(face(), face(), [], EVEN)["Sim_f a"])


def test_light_is_counted_in_stops() -> None:
    dim, bright = np.full((112, 112, 3), 42, np.uint8), np.full((112, 112, 3), 92, np.uint8)
    assert light_stops(bright) - light_stops(dim) == pytest.approx(np.ones(16))  # (92 + 8) is twice (42 + 8)
    left = dim.copy()
    left[:, :56] = 92
    assert (light_stops(left) - light_stops(dim)).reshape(4, 4) == pytest.approx(np.tile([1.0, 1, 0, 0], (4, 1)))


def test_sanity_checks_fail_when_any_neighbours_are_out_of_order() -> None:
    def rows(other: float, target: float, pasted: float) -> dict[str, dict[str, Estimate | None]]:
        values = {OTHER: other, TARGET: target, PASTED: pasted}
        return {row: {"Sim_f a": Estimate(value, None, None, 3), "CLIP_f": None} for row, value in values.items()}

    columns = ["Sim_f a", "CLIP_f"]
    assert [check.holds for check in sanity_checks(rows(5, 60, 80), columns)] == [True, True]
    assert [check.holds for check in sanity_checks(rows(60, 5, 80), columns)] == [False, True]
    assert [check.holds for check in sanity_checks(rows(5, 80, 60), columns)] == [True, False]
    assert not sanity_checks(rows(5, 60, 60), columns)[1].holds
    assert (
        "a random other person (60.0) below the target itself (5.0)" in sanity_checks(rows(60, 5, 80), columns)[0].words
    )
