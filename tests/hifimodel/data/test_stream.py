"""The stream: every picture its turn, no target among its references, the same again after a stop."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hifidata.store.shards import pack, write_shard
from hifimodel.data import Loader
from hifimodel.errors import DataError
from tests.factories.training_shards import paint, person, person_id, quick, same

SIZES = {1: 5, 2: 6, 3: 9, 4: 5, 5: 7, 6: 8, 7: 3}
"""Pictures by person; the last has too few."""
TARGETS = sorted(f"{person_id(number)}_{image:04d}" for number, n in SIZES.items() if n >= 5 for image in range(n))


@pytest.fixture(scope="module")
def own_tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    for number, n_images in SIZES.items():
        write_shard(root / f"{person_id(number)}.tar", person(number, n_images))
    return root


@pytest.fixture(scope="module")
def packs(own_tars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packs")
    pack(sorted(own_tars.glob("*.tar")), root, max_bytes=300_000)
    assert 1 < len(list(root.iterdir())) < 4
    return root


@pytest.fixture(params=["one tar per person", "packs"])
def shards(request: pytest.FixtureRequest, own_tars: Path, packs: Path) -> Path:
    return packs if request.param == "packs" else own_tars


def test_each_picture_is_a_target_once_per_epoch_over_two_ranks_of_two_workers(shards: Path) -> None:
    keys, skipped = [], 0
    for rank in range(2):
        loader = Loader(quick(shards, rank=rank, world_size=2, workers=2, batch_size=2), paint=paint)
        keys += [key for batch in loader for key in batch.keys]
        skipped += loader.counts.too_few
    assert sorted(keys) == TARGETS
    assert skipped == 1


@pytest.mark.parametrize("readers", [1, 2, 3, 5, 8])
def test_however_many_ranks_share_the_shards_every_epoch_is_whole(shards: Path, readers: int) -> None:
    keys = Counter[str]()
    for rank in range(readers):
        config = quick(shards, rank=rank, world_size=readers, epochs=2, min_images=5)
        keys.update(key for batch in Loader(config, paint=paint) for key in batch.keys)
    assert keys == dict.fromkeys(TARGETS, 2)


def test_a_few_tars_of_one_person_each_are_spread_over_more_readers(tmp_path: Path) -> None:
    for number in range(4):
        write_shard(tmp_path / f"{number}.tar", person(number, 5))
    streams = [Loader(quick(tmp_path, rank=rank, world_size=6), paint=paint) for rank in range(6)]
    assert sorted(len(list(stream)) for stream in streams) == [0, 0, 5, 5, 5, 5]


def test_references_are_other_pictures_of_the_same_person_and_one_to_four(shards: Path) -> None:
    numbers = Counter[int]()
    for batch in Loader(quick(shards, epochs=12), paint=paint):
        (target,), references = batch.keys, batch.reference_keys
        assert target not in references
        assert len(set(references)) == len(references) == batch.counts[0]
        assert {key.partition("_")[0] for key in references} == {target.partition("_")[0]}
        numbers[batch.counts[0]] += 1
    total = numbers.total()
    assert set(numbers) == {1, 2, 3, 4}
    # 480 even draws: five standard deviations are 0.1
    assert all(abs(number / total - 0.25) < 0.1 for number in numbers.values())


def test_the_landmark_shape_is_one_of_the_references_and_each_of_them_at_times(own_tars: Path) -> None:
    places = Counter[int]()
    for batch in Loader(quick(own_tars, epochs=6, min_references=4), paint=paint):
        target, shape = (f"{person_id(int(p[0]))}_{int(p[1]):04d}" for p in batch.landmarks_u8[0, 0, :2])
        assert target == batch.keys[0]
        places[batch.reference_keys.index(shape)] += 1
    assert set(places) == {0, 1, 2, 3}


def test_text_is_dropped_anew_each_epoch_at_the_rate_that_is_asked(own_tars: Path) -> None:
    dropped: list[tuple[str, int]] = []
    loader = Loader(quick(own_tars, epochs=12, text_drop=0.1), paint=paint)
    for number, batch in enumerate(loader):
        if batch.captions == [""]:
            dropped.append((batch.keys[0], number // len(TARGETS)))
        else:
            _, person_number, _, image = batch.captions[0].split()
            assert batch.keys[0] == f"{person_id(int(person_number))}_{int(image):04d}"
    rate = len(dropped) / (12 * len(TARGETS))
    assert abs(rate - 0.1) < 5 * np.sqrt(0.09 / (12 * len(TARGETS)))
    assert len({epoch for _, epoch in dropped}) > 6
    assert len({key for key, _ in dropped}) > len(TARGETS) / 2  # no caption is dropped for ever, or never


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(shards: Path) -> None:
    first, again = (list(Loader(quick(shards, batch_size=3), paint=paint)) for _ in range(2))
    other = list(Loader(quick(shards, batch_size=3, seed=1), paint=paint))
    assert len(first) == len(again)
    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    assert [batch.keys for batch in first] != [batch.keys for batch in other]


def test_samples_of_a_window_are_mixed_so_that_a_batch_is_not_one_person(own_tars: Path) -> None:
    people = [
        len({key.partition("_")[0] for key in batch.keys})
        for batch in Loader(quick(own_tars, batch_size=4), paint=paint)
    ]
    assert np.mean(people[:-1]) > 2


@pytest.mark.parametrize("window", [1, 3, 16])
def test_a_stop_after_any_batch_resumes_bit_for_bit(shards: Path, window: int) -> None:
    config = quick(shards, batch_size=3, epochs=2, window_identities=window)
    whole = list(Loader(config, paint=paint))
    for place in range(0, len(whole), 7):
        state = json.loads(json.dumps(whole[place].position))
        rest = list(Loader(config, state, paint))
        assert len(rest) == len(whole) - place - 1
        assert all(same(one, two) for one, two in zip(whole[place + 1 :], rest, strict=True))


def test_a_stop_resumes_bit_for_bit_with_worker_processes(shards: Path) -> None:
    config = quick(shards, batch_size=2, workers=2, epochs=None, window_identities=2)
    whole = list(itertools.islice(Loader(config, paint=paint), 24))
    state = json.loads(json.dumps(whole[8].position))  # an odd number of batches: the second worker is next
    assert state["next"] == 1
    rest = list(itertools.islice(Loader(config, state, paint), 15))
    assert all(same(one, two) for one, two in zip(whole[9:], rest, strict=True))


def test_a_loader_iterated_again_goes_on_where_it_was(own_tars: Path) -> None:
    config = quick(own_tars, batch_size=3)
    whole = list(Loader(config, paint=paint))
    loader = Loader(config, paint=paint)
    parts = [*itertools.islice(loader, 4), *loader]
    assert all(same(one, two) for one, two in zip(whole, parts, strict=True))


def test_a_position_is_small_enough_for_every_checkpoint(own_tars: Path) -> None:
    loader = Loader(quick(own_tars, epochs=None), paint=paint)
    batch = next(itertools.islice(loader, 100, None))
    assert len(json.dumps(batch.position)) < 1000


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 5}, "seed was 0, is 5"),
        ({"workers": 3}, "workers was 0, is 3"),
        ({"batch_size": 2}, "batch_size was 1, is 2"),
    ],
)
def test_a_position_of_other_settings_is_refused_by_name(own_tars: Path, changed: dict[str, int], named: str) -> None:
    state = Loader(quick(own_tars), paint=paint).state
    with pytest.raises(DataError, match=named) as error:
        Loader(quick(own_tars, **changed), state, paint)
    assert "\n" not in str(error.value)


def test_a_position_of_other_shards_is_refused(own_tars: Path, packs: Path) -> None:
    state = Loader(quick(own_tars), paint=paint).state
    with pytest.raises(DataError, match="the shards' names or sizes changed"):
        Loader(quick(packs), state, paint)


@pytest.mark.parametrize("state", [{}, {"version": 1}, {"version": 2}, {"version": 9}])
def test_a_state_that_is_none_is_refused_in_one_line(own_tars: Path, state: dict[str, int]) -> None:
    with pytest.raises(DataError, match="loader state") as error:
        Loader(quick(own_tars), state, paint)
    assert "\n" not in str(error.value)
