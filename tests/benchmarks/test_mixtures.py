"""The benchmark of folders with several people draws what it says, and counts what it sees."""

from __future__ import annotations

import numpy as np

from benchmarks.mixtures import CASES, Tally, folders_of, judge
from hifidata.config.sections import VerifyConfig
from hifidata.stages.verify import OTHER_PERSON, SEVERAL_PEOPLE


def test_density_mixes_no_drawn_folder_and_the_paper_does() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(64)[:8], 16, axis=0) + 0.07 * rng.normal(size=(128, 64))
    units = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    folders = folders_of({f"person {i}": list(units[16 * i : 16 * i + 16]) for i in range(8)}, draws=2)
    assert list(folders) == list(CASES)
    sizes = [np.bincount(people).tolist() for _, people in folders["8 + 6 + 3"]]
    assert sizes == [[8, 6, 3]] * 2
    assert {np.mean(np.array(people) == 0) for _, people in folders["50 % strangers"]} == {0.5}
    density = VerifyConfig(method="density", min_pair_similarity=0.4, min_similarity=0.5, max_second_group=0.65)
    tallies = {name: judge(drawn, density) for name, drawn in folders.items()}
    assert not any(tally.mixed for tally in tallies.values())
    assert {name for name, tally in tallies.items() if tally.refused} == {
        "6 + 6 + 6", "7 + 6 + 5", "5 + 5 + 5 + 5", "7 + 7", "8 + 6 + 3", "one other person, 45 %",
    }  # fmt: skip
    assert judge(folders["6 + 6 + 6"], VerifyConfig(k=2, min_similarity=0.4)).mixed == 2


def test_a_tally_counts_mixed_and_lost_images() -> None:
    tally = Tally()
    tally.add([0, 0, 0, 1, 1], [None, None, OTHER_PERSON, None, OTHER_PERSON])
    tally.add([0, 0], [SEVERAL_PEOPLE] * 2)
    tally.add([0, 1, 1], [None, OTHER_PERSON, OTHER_PERSON])
    assert tally.cells() == (3, 1, 1, 1, 0, 1, "1 of 4")
