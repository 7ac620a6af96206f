"""What is in a batch: the right pixels at the right place, in the stated ranges, and at SDXL's coordinates."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import webdataset as wds

from hifidata.image.align import norm_crop
from hifidata.models.protocols import Faces
from hifidata.store.shards import write_shard
from hifimodel.data import Loader, describe_shards
from hifimodel.data.faces import decode_jpeg
from hifimodel.data.group import make_reference, time_ids
from hifimodel.data.sample import CorruptSample, Sample, parse_sample
from hifimodel.faces.clip_crop import ClipView, clip_crop
from hifimodel.faces.photo import Preparation, prepare_reference
from tests.factories.training_shards import KPS_PX, SIDE_PX, jpeg, paint, person, picture, quick, sample


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    write_shard(tmp_path / "a.tar", person(1, 6))
    return tmp_path


@pytest.mark.parametrize("size_px", [64, 100, 256, 300])
def test_a_batch_holds_what_it_says(shard: Path, size_px: int) -> None:
    (batch,) = Loader(quick(shard, size_px=size_px, batch_size=6, clip_px=224, text_drop=0), paint=paint)
    n_references = sum(batch.counts)
    assert batch.pixel_values.shape == batch.landmark_pixels.shape == (6, 3, size_px, size_px)
    assert batch.pixel_values.is_contiguous()
    assert batch.pixel_values.dtype == torch.float32
    assert -1 <= batch.pixel_values.min() < batch.pixel_values.max() <= 1
    assert batch.landmark_pixels.min() == -1  # black
    assert batch.reference_clip.shape == (n_references, 3, 224, 224)
    assert batch.reference_faces.shape == (n_references, 3, 112, 112)
    assert batch.reference_clip.dtype == batch.reference_faces.dtype == torch.uint8
    assert batch.reference_embeddings.shape == (n_references, 8)
    assert batch.reference_embeddings.dtype == batch.time_ids.dtype == batch.target_kps.dtype == torch.float32
    for place, key in enumerate(batch.keys):
        image = int(key[-4:])
        wanted = cv2.resize(picture(1, image), (size_px, size_px), interpolation=cv2.INTER_AREA)
        got = batch.pixels_u8[place].numpy()
        assert np.abs(got.astype(int) - wanted).mean() < 3
        assert batch.captions[place] == f"person 1 picture {image}"
        # the white dots lie where target_kps says
        dots = (batch.target_kps[place] + 0.5).floor().long()
        assert batch.pixel_values[place][:, dots[:, 1], dots[:, 0]].mean() > 0.1


def test_target_points_follow_the_picture_into_its_new_size(shard: Path) -> None:
    for size_px in (64, 256, 512):
        batch = next(iter(Loader(quick(shard, size_px=size_px), paint=paint)))
        wanted = (KPS_PX + 0.5) * size_px / SIDE_PX - 0.5
        np.testing.assert_allclose(batch.target_kps[0], wanted, atol=1e-3)


def test_time_ids_are_the_photo_the_cut_and_the_target_in_sdxls_order() -> None:
    # The photo is 300 wide and 320 high; the cut of 128 px began at x 20, y 30, so in a photo enlarged 8 times at 160, 240.
    assert time_ids(parse_sample(*sample(1, 0)), 1024).tolist() == [320, 300, 240, 160, 1024, 1024]


def test_the_clip_crop_is_the_square_around_the_face_box_also_beyond_the_edge() -> None:
    rgb = np.zeros((200, 200, 3), np.uint8)
    rgb[:100], rgb[100:, 100:] = 90, 200
    crop = clip_crop(rgb, np.array([80, 70, 119, 129], np.float32), 1.0, 59)
    np.testing.assert_array_equal(crop, rgb[70:129, 70:129])
    beyond = clip_crop(rgb, np.array([160, 160, 240, 240], np.float32), 1.5, 60)
    assert (beyond == 200).all()  # edge pixels repeat


class OneFace:
    """A detector that finds what a sample says."""

    name = "one face"

    def __init__(self, parsed: Sample) -> None:
        self._faces = Faces(parsed.face_xyxy_px[None], np.ones(1, np.float32), parsed.kps_px[None], None)

    def detect(self, pictures: object) -> list[Faces]:
        return [self._faces]


def large_sample() -> Sample:
    """A made-up picture of 1024 px."""
    key, members = sample(1, 3)
    return parse_sample(key, members | {"jpg": jpeg(cv2.resize(picture(1, 3), (1024, 1024)))})


def test_the_aligned_face_is_sampled_from_the_whole_picture_with_its_background() -> None:
    alpha = np.zeros((64, 64), np.uint8)
    alpha[16:48, 16:48] = 255  # where the face is
    parsed = replace(large_sample(), alpha_png=bytes(cv2.imencode(".png", alpha)[1]))
    made = make_reference(parsed, quick("x", clip_px=64))
    np.testing.assert_array_equal(made.face_u8, norm_crop(decode_jpeg(parsed.jpeg), parsed.kps_px))
    assert (made.clip_u8[:6] == 255).all()


@pytest.mark.parametrize("matted", [False, True])
@pytest.mark.parametrize("box", [[300, 260, 700, 700], [-40, 10, 300, 380]], ids=["inside", "beyond the edge"])
def test_clip_sees_a_photo_in_generation_bit_for_bit_as_the_loader_shows_it_in_training(
    matted: bool, box: list[float]
) -> None:
    alpha = cv2.GaussianBlur(np.pad(np.full((900, 900), 255, np.uint8), 62), (0, 0), 9)
    png = bytes(cv2.imencode(".png", alpha)[1]) if matted else None
    parsed = replace(large_sample(), face_xyxy_px=np.array(box, np.float32), alpha_png=png)
    trained = make_reference(parsed, quick("x", clip_px=64))
    how = Preparation((lambda _: alpha / np.float32(255)) if matted else None, ClipView(64))
    generated = prepare_reference("a", decode_jpeg(parsed.jpeg), OneFace(parsed), how)
    np.testing.assert_array_equal(trained.clip_u8, generated.clip_rgb_u8)
    np.testing.assert_array_equal(trained.face_u8, generated.aligned_rgb_u8)
    assert generated.is_matted == matted


def test_a_matte_that_loses_the_face_is_not_used_in_training_either() -> None:
    plain = large_sample()
    lost = replace(plain, alpha_png=bytes(cv2.imencode(".png", np.zeros((1024, 1024), np.uint8))[1]))
    config = quick("x", clip_px=64)
    np.testing.assert_array_equal(make_reference(lost, config).clip_u8, make_reference(plain, config).clip_u8)


def test_a_face_box_without_area_is_corrupt() -> None:
    parsed = replace(large_sample(), face_xyxy_px=np.array([300, 300, 300, 300], np.float32))
    with pytest.raises(CorruptSample, match="face without extent"):
        make_reference(parsed, quick("x"))


@pytest.mark.parametrize("factor", [2, 4])
def test_the_clip_crop_of_a_reduced_picture_is_that_of_the_whole(factor: int) -> None:
    parsed = large_sample()
    config = quick("x", clip_px=512 // factor, clip_face_margin=1.0)
    made = make_reference(parsed, config)
    whole = decode_jpeg(parsed.jpeg)
    whole_clip = clip_crop(whole, parsed.face_xyxy_px, 1.0, config.clip_px)
    assert np.abs(made.clip_u8.astype(int) - whole_clip).mean() < 2


def test_a_matte_replaces_the_background_of_references_and_leaves_targets_alone(tmp_path: Path) -> None:
    samples = person(1, 6)
    alpha = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    alpha[64:192, 64:192] = 255
    for _, members in samples:
        members["alpha.png"] = bytes(cv2.imencode(".png", alpha)[1])
    write_shard(tmp_path / "a.tar", samples)
    batch = next(iter(Loader(quick(tmp_path, clip_face_margin=1.6, matte_u8=10), paint=paint)))
    assert batch.reference_clip[0, :, :3].float().mean() == 10
    assert abs(batch.pixels_u8[0, 0, 0].float().mean() - 128) < 3


def test_five_points_come_from_the_landmarks_where_the_detector_gave_none() -> None:
    key, members = sample(1, 0)
    members["json"] = members["json"].replace(b'"face_kps": [', b'"face_kps": null, "x": [')
    parsed = parse_sample(key, members)
    np.testing.assert_allclose(parsed.kps_px[0], parsed.landmarks_px[36:42].mean(axis=0))
    np.testing.assert_allclose(parsed.kps_px[2], parsed.landmarks_px[30])


def test_a_shard_that_webdataset_wrote_reads_the_same(shard: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "a.tar"
    copy.parent.mkdir()
    with open(copy, "wb") as file, wds.TarWriter(file) as writer:  # type: ignore[attr-defined]
        for key, members in person(1, 6):
            writer.write({"__key__": key, **members})
    ours, theirs = (next(iter(Loader(quick(path), paint=paint))) for path in (shard / "a.tar", copy))
    assert ours.keys == theirs.keys
    assert ours.pixels_u8.equal(theirs.pixels_u8)


def test_describe_tells_what_a_model_must_know(shard: Path) -> None:
    facts = describe_shards(quick(shard))
    assert (facts.embedding_model, facts.embedding_dim) == ("made_up", 8)


def test_a_batch_moves_as_a_whole(shard: Path) -> None:
    batch = next(iter(Loader(quick(shard), paint=paint)))
    moved = batch.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.keys == batch.keys


def test_every_tensor_of_a_batch_is_pinned_where_that_is_asked_for(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    next(iter(Loader(quick(shard), paint=paint)))
    assert not pinned
    batch = next(iter(Loader(quick(shard, pin_memory=True), paint=paint)))
    tensors = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    assert [id(tensor) for tensor in pinned] == [id(tensor) for tensor in tensors]


def test_reading_shards_loads_no_model_library_and_nothing_of_the_toolkit_above_images() -> None:
    code = (
        "import sys, hifimodel.data\n"
        "unwanted = {'ray', 'pyarrow', 'dlib', 'onnxruntime', 'transformers', 'diffusers'} & set(sys.modules)\n"
        "unwanted |= {name for name in sys.modules if name.startswith(('hifidata.config', 'hifidata.store', 'hifidata.weights'))}\n"
        "sys.exit(f'imported {unwanted}' if unwanted else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_member_order_and_folders_inside_a_tar_do_not_matter(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, members in person(1, 6):
            for suffix in sorted(members, reverse=True):
                info = tarfile.TarInfo(f"train/{key}.{suffix}")
                info.size = len(members[suffix])
                tar.addfile(info, io.BytesIO(members[suffix]))
    assert len(list(Loader(quick(tmp_path), paint=paint))) == 6
