"""Which answers count as occlusion: pure functions, no model."""

from __future__ import annotations

from typing import Any

import pytest

from hifidata import recipe as settings
from hifidata.schema import Reason
from hifidata.stages.occlusion import Occlusion, terms_in


def judged(row: dict[str, Any], section: settings.Occlusion) -> tuple[str | None, Reason | None]:
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
        ("hands and two microphones", ("hand", "microphone")),
        ("a woman with glasses", ()),
        ("", ()),
    ],
)
def test_terms_are_whole_words_in_singular_or_plural(answer: str, found: tuple[str, ...]) -> None:
    assert terms_in(answer, ("hand", "microphone", "glass of water")) == found


def test_a_description_is_judged_by_the_recipes_terms() -> None:
    row = {"occlusion_answer": "a man with a cigar", "occlusion_found": None, "occlusion_score": None}
    assert judged(row, settings.Occlusion(terms=("hand",))) == (None, None)
    assert judged(row, settings.Occlusion(terms=("hand", "cigar"))) == ("cigar", Reason.OCCLUDED)


@pytest.mark.parametrize(("score", "reason"), [(0.59, None), (0.6, Reason.OCCLUDED), (0.99, Reason.OCCLUDED)])
def test_what_a_model_names_counts_from_the_threshold_on(score: float, reason: Reason | None) -> None:
    row = {"occlusion_answer": "hand at the face", "occlusion_found": "hand", "occlusion_score": score}
    assert judged(row, settings.Occlusion(min_score=0.6, terms=()))[1] is reason


def test_a_model_that_names_nothing_is_not_searched_for_words() -> None:
    row = {"occlusion_answer": "no hand at the face", "occlusion_found": "", "occlusion_score": 0.0}
    assert judged(row, settings.Occlusion(min_score=0.6)) == (None, None)


def test_a_model_without_a_score_is_believed() -> None:
    row = {"occlusion_answer": "yes", "occlusion_found": "hand | cup", "occlusion_score": None}
    assert judged(row, settings.Occlusion(min_score=0.6)) == ("hand | cup", Reason.OCCLUDED)
