"""Every reason and every stage has words that a person can read."""

from __future__ import annotations

import pytest

from hifidata.config.recipe import STAGE_NAMES
from hifidata.core.schema import CaptionFlag, CaptionProblem, Reason
from hifidata.report.words import CAPTIONS, REASONS, STAGES, reason_words, stage_words


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_every_reason_has_a_human_sentence(reason: Reason) -> None:
    words = REASONS[reason]
    assert words.sentence.endswith(".")
    assert len(words.sentence.split()) >= 4
    assert str(reason) not in words.sentence
    assert len(words.title) <= 18, "titles stand under thumbnails"


def test_titles_tell_reasons_apart() -> None:
    assert len({words.title for words in REASONS.values()}) == len(Reason)


def test_every_stage_of_the_recipe_has_words_in_running_order() -> None:
    assert tuple(STAGES) == ("fetch", *STAGE_NAMES)
    for words in STAGES.values():
        assert words.not_run.endswith(".")
        assert words.did.endswith(".")


def test_everything_odd_about_captions_has_words() -> None:
    assert list(CAPTIONS) == [*CaptionProblem, *CaptionFlag]


def test_a_word_of_a_newer_version_stands_for_itself() -> None:
    assert reason_words("bad_moon").title == "Bad moon"
    assert stage_words("moon_phase").not_run == "Moon phase did not run."
