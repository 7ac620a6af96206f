"""Damaged shards: what is whole is used, what is not is counted, and too much of it stops the run in one line."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from hifidata.store.shards import pack, write_shard
from hifimodel.data import Loader, describe_shards, find_shards
from hifimodel.data.config import Counts
from hifimodel.data.shards import read_identities
from hifimodel.errors import DataError
from tests.factories.training_shards import SIDE_PX, paint, person, person_id, quick, same

Members = dict[str, bytes]


@pytest.fixture
def one_person(tmp_path: Path) -> Path:
    write_shard(tmp_path / "a.tar", person(1, 8))
    return tmp_path


def npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def npz_of_text() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("shape", "of a note")
    return buffer.getvalue()


def scrambled(jpeg: bytes) -> bytes:
    return jpeg[:300] + bytes(len(jpeg) - 302) + b"\xff\xd9"


def changed(facts: bytes, **values: object) -> bytes:
    return json.dumps(json.loads(facts) | values).encode()


DAMAGES: dict[str, tuple[str, Callable[[Members], object]]] = {
    "truncated jpg": ("jpg cut off", lambda m: m.update(jpg=m["jpg"][: len(m["jpg"]) // 2])),
    "no jpg at all": ("jpg cut off", lambda m: m.update(jpg=b"")),
    "a jpg whose header is rubbish": ("jpg header unreadable", lambda m: m.update(jpg=b"\xff\xd8rubbish\xff\xd9")),
    "missing txt": ("txt missing", lambda m: m.pop("txt")),
    "txt in another encoding": ("txt is not UTF-8", lambda m: m.update(txt="é".encode("latin-1"))),
    "missing embedding": ("embedding.npy missing", lambda m: m.pop("embedding.npy")),
    "npy cut": ("landmarks.npy unreadable", lambda m: m.update({"landmarks.npy": m["landmarks.npy"][:200]})),
    "npy header cut": ("embedding.npy unreadable", lambda m: m.update({"embedding.npy": m["embedding.npy"][:20]})),
    "npy of objects": ("embedding.npy unreadable", lambda m: m.update({"embedding.npy": npy(np.array([{}, None]))})),
    "npy of text": ("embedding.npy unreadable", lambda m: m.update({"embedding.npy": npy(np.array(["a", "b"]))})),
    "npy that promises a terabyte": (
        "embedding.npy unreadable",
        lambda m: m.update({"embedding.npy": npy(np.zeros(8)).replace(b"(8,), }", b"(10**11,), }"[:7])}),
    ),
    "embedding with nan": ("embedding.npy not finite", lambda m: m.update({"embedding.npy": npy(np.full(8, np.nan))})),
    "npy of records": (
        "embedding.npy unreadable",
        lambda m: m.update({"embedding.npy": npy(np.zeros(8, [("a", "f4"), ("b", "f4")]))}),
    ),
    "npy of records of one number": (
        "embedding.npy unreadable",
        lambda m: m.update({"embedding.npy": npy(np.eye(8).view([("a", "f8")])[0])}),
    ),
    "npy of complex numbers": (
        "embedding.npy unreadable",
        lambda m: m.update({"embedding.npy": npy(np.eye(8, dtype=complex)[0])}),
    ),
    "npy of dates": (
        "landmarks.npy unreadable",
        lambda m: m.update({"landmarks.npy": npy(np.full((68, 2), "2024-01-01", "datetime64[D]"))}),
    ),
    "npy of numbers beyond float32": (
        "landmarks.npy not finite",
        lambda m: m.update({"landmarks.npy": npy(np.full((68, 2), 1e300))}),
    ),
    "embedding of zeros": (
        "embedding.npy not of norm 1",
        lambda m: m.update({"embedding.npy": npy(np.zeros(8, np.float32))}),
    ),
    "embedding that was never normalised": (
        "embedding.npy not of norm 1",
        lambda m: m.update({"embedding.npy": npy(np.full(8, 7, np.float32))}),
    ),
    "face3d of records": (
        "face3d.npz unreadable",
        lambda m: m.update({"face3d.npz": npz(model="tddfa", shape=np.zeros(40, [("a", "f4"), ("b", "f4")]))}),
    ),
    "json with a crop of 400 digits": (
        "json lacks numbers",
        lambda m: m.update(json=changed(m["json"], crop_x1_px=-(10**400))),
    ),
    "json with points of 400 digits": (
        "json lacks numbers",
        lambda m: m.update(json=changed(m["json"], face_kps=[10**400] * 10)),
    ),
    "json with points beyond float32": (
        "json lacks numbers",
        lambda m: m.update(json=changed(m["json"], face_kps=[1e300] * 10)),
    ),
    "json of a crop as wide as numbers go": (
        "json lacks numbers",
        lambda m: m.update(json=changed(m["json"], crop_x1_px=-1.7e308, crop_x2_px=1.7e308)),
    ),
    "json of a crop narrower than a pixel": (
        "json of an empty crop",
        lambda m: m.update(json=changed(m["json"], crop_x1_px=0, crop_x2_px=1e-320)),
    ),
    "five landmarks": ("npy of another shape", lambda m: m.update({"landmarks.npy": npy(np.zeros((5, 2)))})),
    "json garbage": ("json unreadable", lambda m: m.update(json=b"{")),
    "json list": ("json is no object", lambda m: m.update(json=b"[1]")),
    "json without a face": ("json lacks numbers", lambda m: m.update(json=changed(m["json"], face_x1_px=None))),
    "json with four numbers for five points": (
        "json lacks numbers",
        lambda m: m.update(json=changed(m["json"], face_kps=[1, 2, 3, 4])),
    ),
    "json of an empty crop": ("json of an empty crop", lambda m: m.update(json=changed(m["json"], crop_x2_px=20))),
    "landmarks a mile away": (
        "face far outside the image",
        lambda m: m.update({"landmarks.npy": npy(np.full((68, 2), 1e9, np.float32))}),
    ),
    "missing matte": ("alpha.png missing", lambda m: m.update(json=changed(m["json"], matting_model="modnet"))),
    "matte of another format": (
        "alpha.png is no PNG",
        lambda m: m.update({"alpha.png": bytes(cv2.imencode(".tiff", np.zeros((SIDE_PX, SIDE_PX), np.uint8))[1])}),
    ),
    "matte of another size": (
        "alpha.png of another size",
        lambda m: m.update({"alpha.png": bytes(cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1])}),
    ),
    "face3d with a member that is no array": (
        "face3d.npz unreadable",
        lambda m: m.update({"face3d.npz": npz_of_text()}),
    ),
    "face3d cut": ("face3d.npz unreadable", lambda m: m.update({"face3d.npz": b"PK\x03\x04 not a zip"})),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_corrupt_member_costs_its_sample_alone_and_is_counted_by_name(name: str, tmp_path: Path) -> None:
    reason, damage = DAMAGES[name]
    samples = person(1, 7)
    damage(samples[2][1])
    write_shard(tmp_path / "a.tar", samples)
    loader = Loader(quick(tmp_path, max_bad_share=0.5), paint=paint)
    keys = [key for batch in loader for key in batch.keys + batch.reference_keys]
    assert samples[2][0] not in keys
    assert len(set(keys)) == 6
    assert loader.counts.corrupt == {reason: 1}
    assert loader.counts.samples == 7


def test_a_picture_that_only_decoding_finds_broken_is_counted_once_per_epoch_and_replaced_as_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = person(1, 7)
    samples[2][1]["jpg"] = scrambled(samples[2][1]["jpg"])
    write_shard(tmp_path / "a.tar", samples)
    config = quick(tmp_path, max_bad_share=0.5, epochs=2, min_references=4)
    loader = Loader(config, paint=paint)
    batches = list(loader)
    if loader.counts.corrupt:  # libjpeg conceals some damage
        assert loader.counts.corrupt == {"jpg undecodable": 2}
        assert len(batches) == 12
    assert all(batch.counts == [4] for batch in batches)
    for place in (0, 5, 8):
        rest = list(Loader(config, batches[place].position, paint))
        assert all(same(one, two) for one, two in zip(batches[place + 1 :], rest, strict=True))


def test_a_pickle_in_a_member_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    samples = person(1, 7)
    samples[0][1]["embedding.npy"] = npy(np.array([Trap()], object))
    samples[1][1]["landmarks.npy"] = pickle.dumps(Trap())
    write_shard(tmp_path / "a.tar", samples)
    loader = Loader(quick(tmp_path, max_bad_share=0.5), paint=paint)
    assert len(list(loader)) == 5
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0.55, 0.8, 0.99])
def test_a_tar_cut_anywhere_gives_what_is_whole_and_counts_as_damaged(share: float, one_person: Path) -> None:
    path = one_person / "a.tar"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data.rstrip(b"\0")) * share)])
    loader = Loader(quick(one_person, max_bad_share=1.0, max_references=3, min_images=4), paint=paint)
    keys = [key for batch in loader for key in batch.keys]
    assert len(keys) == int(8 * share)
    assert loader.counts.damaged_shards == loader.counts.shards == 1
    assert loader.counts.corrupt.total() == 1


def test_a_scrambled_header_inside_a_pack_is_not_taken_for_its_end(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_shard(tmp_path / f"own/{number}.tar", person(number, 5))
    pack(sorted((tmp_path / "own").iterdir()), tmp_path / "packs", 10**9)
    (path,) = (tmp_path / "packs").iterdir()
    data = bytearray(path.read_bytes())
    header = data.index(f"{person_id(2)}_0003.jpg".encode())
    data[header : header + 512] = bytes(range(256)) * 2
    path.write_bytes(data)
    counts = Counts()
    found = [(raw.identity_id, len(raw.samples)) for raw in read_identities(path, counts=counts)]
    assert found == [(person_id(1), 5), (person_id(2), 4)]  # the fourth has only what stands before its picture
    assert counts.damaged_shards == 1


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(600)], ids=["empty", "html", "zeros"])
def test_a_file_that_is_no_tar_is_a_damaged_shard_beside_good_ones(content: bytes, one_person: Path) -> None:
    (one_person / "b.tar").write_bytes(content)
    loader = Loader(quick(one_person, max_bad_share=0.6), paint=paint)
    assert len(list(loader)) == 8
    assert loader.counts.damaged_shards == (0 if content == bytes(600) else 1)  # zeros are an empty tar


def test_random_damage_never_stops_the_stream_but_by_the_promised_error(one_person: Path) -> None:
    path = one_person / "a.tar"
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 12):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        with suppress(DataError):
            list(Loader(quick(one_person, max_bad_share=1.0, min_images=2, max_references=1), paint=paint))


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_corrupt_samples_stop_the_run_in_one_line_with_the_numbers(tmp_path: Path, workers: int) -> None:
    for number in (1, 2):
        samples = person(number, 10)
        samples[0][1].pop("txt")
        write_shard(tmp_path / f"{number}.tar", samples)
    loader = Loader(quick(tmp_path, max_bad_share=0.05, epochs=None, workers=workers), paint=paint)
    with pytest.raises(DataError, match=r"over max_bad_share 0\.05: .*txt missing") as error:
        for _ in zip(loader, range(100), strict=False):
            pass
    assert "\n" not in str(error.value)


def test_a_run_of_one_epoch_is_judged_at_its_end(one_person: Path) -> None:
    samples = person(2, 8)
    samples[0][1].pop("txt")
    write_shard(one_person / "b.tar", samples)
    with pytest.raises(DataError, match=r"over max_bad_share 0\.05"):
        list(Loader(quick(one_person), paint=paint))


def test_too_many_damaged_tars_stop_the_run(tmp_path: Path) -> None:
    for number in range(1, 11):
        write_shard(tmp_path / f"{number}.tar", person(number, 5))
    (tmp_path / "3.tar").write_bytes(b"not a tar")
    loader = Loader(quick(tmp_path, max_bad_share=0.05, epochs=None), paint=paint)
    with pytest.raises(DataError, match=r"\d damaged"):
        for _ in zip(loader, range(100), strict=False):
            pass


def refused(tmp_path: Path) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """(case, what the line says, what is done)."""
    good, few, old = tmp_path / "good", tmp_path / "few", tmp_path / "old"
    write_shard(good / "shards" / "aa" / "1.tar", person(1, 6))
    write_shard(few / "1.tar", person(1, 4))
    samples = person(1, 6)
    samples[0][1]["json"] = changed(samples[0][1]["json"], format_version=2)
    write_shard(old / "1.tar", samples)
    yield "nothing there", "no tar found; give", lambda: find_shards(tmp_path / "nowhere" / "*.tar")
    yield "an empty list", "no tar found; give", lambda: find_shards([])
    yield (
        "too few images",
        "no usable identity.*lower min_images",
        lambda: list(Loader(quick(few, epochs=None), paint=paint)),
    )
    yield (
        "a member of another version",
        "format version 2, expected 1",
        lambda: list(Loader(quick(old), paint=paint)),
    )
    (good / "dataset.json").write_text('{"format_version": 7}')
    yield "a dataset of another version", "dataset.json: format version 7", lambda: find_shards(good)
    yield "the same by its tars", "dataset.json: format version 7", lambda: find_shards(str(good / "shards/**/*.tar"))
    (good / "dataset.json").write_text("[]")
    yield "a dataset.json that is none", "cannot be read", lambda: find_shards(good)
    (few / "1.tar").write_bytes(bytes(1024))
    yield "an empty tar", "no usable image", lambda: describe_shards(quick(few))


def test_what_cannot_work_is_refused_in_one_line_with_the_remedy(tmp_path: Path) -> None:
    for case, says, action in refused(tmp_path):
        with pytest.raises(DataError, match=says) as error:
            action()
        assert "\n" not in str(error.value), case
        assert len(str(error.value)) < 500, case


@pytest.mark.parametrize(("usable", "unusable", "readers"), [(1, 0, 2), (2, 4, 6), (2, 0, 5)])
def test_readers_take_turns_where_usable_people_are_fewer(
    usable: int, unusable: int, readers: int, tmp_path: Path
) -> None:
    for number in range(usable + unusable):
        write_shard(tmp_path / f"{number}.tar", person(number, 5 if number < usable else 4))
    for rank in range(readers):
        config = quick(tmp_path, epochs=None, rank=rank, world_size=readers)
        batches = list(itertools.islice(Loader(config, paint=paint), 20 * usable))
        assert {batch.keys[0][:-5] for batch in batches} == {person_id(number) for number in range(usable)}
        resumed = Loader(config, batches[6].position, paint=paint)
        assert all(same(*pair) for pair in zip(batches[7:], resumed, strict=False))


def test_nobody_for_any_reader_is_an_error_that_says_for_how_many(tmp_path: Path) -> None:
    for number in range(4):
        write_shard(tmp_path / f"{number}.tar", person(number, 4))
    with pytest.raises(DataError, match=r"for any of 3 readers \(ranks x workers\); read 4 shards .*lower min_images"):
        next(iter(Loader(quick(tmp_path, epochs=None, world_size=3), paint=paint)))


def test_embeddings_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    samples = person(1, 6)
    samples[3][1]["json"] = changed(samples[3][1]["json"], embedding_model="another")
    write_shard(tmp_path / "a.tar", samples)
    with pytest.raises(DataError, match=r"verify\.model"):
        list(Loader(quick(tmp_path), paint=paint))


@pytest.mark.parametrize("mattings", [(None, "modnet"), ("modnet", None), ("selfie", "modnet")])
def test_references_with_and_without_background_are_not_mixed(
    mattings: tuple[str | None, str | None], tmp_path: Path
) -> None:
    for number, matting in enumerate(mattings, 1):
        samples = person(number, 5)
        for _, members in samples:
            if matting:
                members["alpha.png"] = bytes(cv2.imencode(".png", np.full((SIDE_PX, SIDE_PX), 255, np.uint8))[1])
            members["json"] = changed(members["json"], matting_model=matting)
        write_shard(tmp_path / f"{person_id(number)}.tar", samples)
    with pytest.raises(DataError, match=r"references of matting .*with the same `matting\.model`") as error:
        list(Loader(quick(tmp_path), paint=paint))
    assert all(str(matting).lower() in str(error.value) for matting in mattings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"min_references": 0}, {"min_references": 5}, {"max_references": 5}, {"text_drop": 1.5}, {"rank": 1}, {"workers": -1},
     {"size_px": 0}, {"batch_size": 0}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, float]) -> None:
    with pytest.raises(DataError, match=next(iter(settings))) as error:
        quick("x", **settings)
    assert "\n" not in str(error.value)


def test_a_face_that_cannot_be_drawn_costs_its_sample_and_the_cause_is_told(one_person: Path) -> None:
    def refuse(*_: object) -> object:
        raise ValueError("the 3D face is missing")

    with pytest.raises(DataError, match=r"landmarks cannot be drawn.*the 3D face is missing"):
        list(Loader(quick(one_person, epochs=None), paint=refuse))  # type: ignore[arg-type]


def test_a_tar_that_exists_is_taken_by_its_name_even_where_that_is_a_pattern_too(tmp_path: Path) -> None:
    (tmp_path / "take[2]").mkdir()
    for place in (tmp_path / "take[2]" / "a.tar", tmp_path / "b[1].tar"):
        write_shard(place, person(1, 6))
        assert find_shards(place) == [place]
    assert find_shards(f"{tmp_path}/b*.tar") == [tmp_path / "b[1].tar"]
