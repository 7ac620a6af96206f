"""All reasons and stages have readable texts."""

from __future__ import annotations

from collections import Counter

import pytest

from hifidata.config.sections import STAGE_NAMES
from hifidata.core.reasons import MAX_LABEL, Reason
from hifidata.core.schema import CaptionFlag, CaptionProblem
from hifidata.report.words import CAPTIONS, vocabulary
from hifidata.stages.table import DECLARED, IMAGE_COLUMNS, OUR_STAGES, REASONS


@pytest.mark.parametrize("reason", REASONS.values(), ids=str)
def test_every_reason_has_a_sentence_and_a_short_label(reason: Reason) -> None:
    assert reason.sentence.endswith(".")
    assert len(reason.sentence.split()) >= 4
    assert str(reason) not in reason.sentence
    assert len(reason.label) <= MAX_LABEL, "labels are shown below thumbnails"


def test_labels_and_columns_are_unique() -> None:
    assert len({reason.label for reason in REASONS.values()}) == len(REASONS)
    declared = Counter(str(reason) for stage in DECLARED for reason in stage.reasons)
    assert declared.keys() == REASONS.keys() - {"model_error"}, "model_error belongs to every stage"
    assert [name for name, n in declared.items() if n > 1] == ["bad_row"], "rows of a list, and files of a local source"
    assert len({column.name for column in IMAGE_COLUMNS}) == len(IMAGE_COLUMNS)
    assert all(column.meaning for column in IMAGE_COLUMNS)


def test_limits_name_columns_and_settings_that_exist() -> None:
    from hifidata.report.statistics import DERIVED_COLUMNS

    columns = {column.name for column in IMAGE_COLUMNS} | set(DERIVED_COLUMNS)
    for stage in OUR_STAGES:
        for limit in (reason.limit for reason in stage.reasons if reason.limit):
            section, _, key = limit.setting.partition(".")
            assert limit.column in columns
            assert section == stage.section
            assert key in stage_config(section).model_fields


def stage_config(section: str) -> type:
    from hifidata.config.sections import StageSections

    config = StageSections.model_fields[section].annotation
    assert isinstance(config, type)
    return config


def test_every_stage_has_texts_in_running_order() -> None:
    stages = vocabulary({}).stages
    assert tuple(stages) == ("fetch", *STAGE_NAMES)
    for words in stages.values():
        assert words.not_run.endswith(".")
        assert words.does.endswith(".")


def test_every_caption_problem_and_flag_has_a_text() -> None:
    assert list(CAPTIONS) == [*CaptionProblem, *CaptionFlag]


def test_an_unknown_code_of_a_newer_version_is_its_own_text() -> None:
    words = vocabulary({})
    assert words.reason("bad_moon").label == "Bad moon"
    assert words.stage("moon_phase").not_run == "Moon phase did not run."
