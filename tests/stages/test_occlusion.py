"""Answers that count as occlusion, and the stage with real networks on real photos."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hifidata.config import sections as settings
from hifidata.config.recipe import load_recipe
from hifidata.core.reasons import Reason
from hifidata.image.decode import Limits, decode
from hifidata.run.replay import replay
from hifidata.run.run import RunOptions, run
from hifidata.stages.occlusion import Occlusion, terms_in
from hifidata.store.shards import read_samples
from tests.conftest import PROJECT_ROOT


def judged(row: dict[str, Any], section: settings.OcclusionConfig) -> tuple[str | None, Reason | None]:
    row |= {name: values[0] for name, values in Occlusion.derive([row], section).items()}
    verdict = Occlusion.decide(row, section)
    return row["occlusion_terms"], verdict.reason if verdict else None


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("a woman with her hand on her chin", ("hand",)),
        ("a man holding his hands before his face", ("hand",)),
        ("a handsome man in a handmade suit", ()),
        ("a man speaking into a Microphone.", ("microphone",)),
        ("a secondhand-shop owner, left-hand side", ()),
        ("a second-hand coat and a hand-made hat", ()),
        ("her left-hand covers her mouth", ("hand",)),
        ("a woman with a hand-microphone", ("microphone",)),
        ("a microphone-stand", ()),
        ("hands and two microphones", ("hand", "microphone")),
        ("a woman with glasses", ()),
        ("", ()),
    ],
)
def test_terms_match_whole_words_in_singular_or_plural(answer: str, found: tuple[str, ...]) -> None:
    assert terms_in(answer, ("hand", "microphone", "glass of water")) == found


ALL = settings.OcclusionConfig().terms


@pytest.mark.parametrize(
    "answer",
    [
        "There is no hand in front of the face.",
        "a man without a mask",
        "No, there is nothing.",
        "No, there is no hand or object in front of the face",
        "a woman not wearing a mask",
        "She isn't holding a cup.",
        "There are no hands, cups or microphones",
        "no hands, phones, or masks",
        "neither a hand nor a microphone",
        "there does not appear to be a hand in front of the face",
        "I don’t see any hand or microphone",
        "his face is not covered with a mask",
        "nobody, without any kind of mask",
        "no one is holding a microphone",
        "There is nothing blocking it such as a hand",
        "a smiling man. On the other hand, there is no cup",
        "a football player in a World Cup shirt",
        'a sign that says "no phones" (no mask)',
        "a hand drawn portrait of a second hand dealer",
    ],
)
def test_negated_terms_and_idioms_do_not_count(answer: str) -> None:
    assert terms_in(answer, ALL) == ()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("no glasses but a hand over the mouth", ("hand",)),
        ("not wearing a mask, holding a microphone", ("microphone",)),
        ("a man with no shirt holding a microphone", ("microphone",)),
        ("a woman without glasses with a hand on her chin", ("hand",)),
        ("a man without glasses and a hand before his face", ("hand",)),
        ("not smiling with his hand on his chin", ("hand",)),
        ("nothing but a hand", ("hand",)),
        ("no hat – a hand (no cup) over the mouth", ("hand",)),
        ("not only a hand but also a cup", ("hand", "cup")),
        ("There is no hat. A hand covers the mouth.", ("hand",)),
        ("no glasses, a hand or cup over the mouth", ("hand", "cup")),
        ("a man who does not look at the camera in front of a microphone", ("microphone",)),
        ("a hand in front of the face, no microphone", ("hand",)),
        ("a mask and no cup", ("mask",)),
        ("it is not a cup but a phone", ("phone",)),
        ("a man with a cup, on the other hand a mask", ("cup", "mask")),
        ("a knot, a notable hand, another cup, a piano and a northern mask", ("hand", "cup", "mask")),
        ("a man holding a cup and a trophy", ("cup",)),
    ],
)
def test_terms_outside_a_negation_count(answer: str, found: tuple[str, ...]) -> None:
    assert terms_in(answer, ALL) == found


@pytest.mark.parametrize("thing", ["face-mask", "cell-phone", "smartphone", "cellphones", "left-hand", "coffee-cups"])
def test_the_papers_terms_match_compound_words(thing: str) -> None:
    terms = load_recipe(PROJECT_ROOT / "pipelines" / "paper.yaml").occlusion.terms
    assert terms == settings.OcclusionConfig().terms
    assert terms_in(f"a man with a {thing}", terms)
    assert not terms_in("a man wearing headphones and a masked-ball costume", terms)


def test_a_description_is_judged_by_the_recipes_terms() -> None:
    row = {"occlusion_answer": "a man with a cigar", "occlusion_found": None, "occlusion_score": None}
    assert judged(row, settings.OcclusionConfig(terms=("hand",))) == (None, None)
    assert judged(row, settings.OcclusionConfig(terms=("hand", "cigar"))) == ("cigar", "occluded")


@pytest.mark.parametrize(("score", "reason"), [(0.59, None), (0.6, "occluded"), (0.99, "occluded")])
def test_a_named_object_counts_from_the_threshold_on(score: float, reason: Reason | None) -> None:
    row = {"occlusion_answer": "hand at the face", "occlusion_found": "hand", "occlusion_score": score}
    assert judged(row, settings.OcclusionConfig(min_score=0.6, terms=()))[1] == reason


def test_the_answer_of_a_model_that_names_no_object_is_not_searched_for_terms() -> None:
    row = {"occlusion_answer": "no hand at the face", "occlusion_found": "", "occlusion_score": 0.0}
    assert judged(row, settings.OcclusionConfig(min_score=0.6)) == (None, None)


def test_named_objects_without_a_score_count() -> None:
    row = {"occlusion_answer": "yes", "occlusion_found": "hand | cup", "occlusion_score": None}
    assert judged(row, settings.OcclusionConfig(min_score=0.6)) == ("hand | cup", "occluded")


def test_real_photos_with_a_hand_are_dropped_and_replay_needs_no_model(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    person = tmp_path / "photos" / "person_0"
    person.mkdir(parents=True)
    for name in ("a-3", "b-5", "b-6"):
        shutil.copy(assets / "faces" / "human-samples" / f"stock-emotions-{name}.jpg", person)
    overrides = [
        f"source.path={person.parent}", "occlusion.model=hands", "quality.model=null", "watermark.model=null",
        "verify.model=null", "dedup.enabled=false", "executor.kind=local", "crop.output_px=256", "matting.model=selfie",
    ]  # fmt: skip
    run(
        load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", overrides), RunOptions(tmp_path / "out"), lambda _: None
    )
    rows = pq.read_table(tmp_path / "out" / "manifests" / "images.parquet").to_pylist()
    ends = {row["source_uri"][-7:-4]: (row["reason"], row["occlusion_terms"], row["occlusion_model"]) for row in rows}
    assert ends == {
        "a-3": (None, None, "hands"), "b-5": ("occluded", "hand", "hands"), "b-6": ("occluded", "hand", "hands"),
    }  # fmt: skip
    assert replay(tmp_path / "out", ["occlusion.min_score=1.0"]).kept_after == 3
    _, members = read_samples(next((tmp_path / "out").rglob("*.tar")))[0]
    assert decode(members["alpha.png"], Limits()).rgb_u8.shape == (256, 256, 3)
