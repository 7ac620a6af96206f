"""Pictures that were too small show their size, which only their message tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hifidata.core.errors import IntakeError
from hifidata.image.decode import Limits, decode
from hifidata.report import statistics as stats
from hifidata.report.html import render_report
from hifidata.report.manifests import Manifests
from hifidata.report.near_threshold import with_derived
from hifidata.report.sizes import with_said_sizes
from tests.report.synthetic_dataset import draw_face, replace_column


@pytest.fixture
def refused(dataset: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """As intake leaves it: a picture that is too small has no size in the manifest, and a message of 40 x 40 pixels."""
    with pytest.raises(IntakeError) as caught:
        decode(draw_face(np.random.default_rng(0), 0, None, side_px=40), Limits(min_side_px=64))
    path = dataset[0] / "manifests" / "images.parquet"
    rows = pq.read_table(path, columns=["reason", "width_px", "height_px", "message", "score", "threshold"]).to_pylist()
    for row in rows:
        if row["reason"] == "too_small":
            row.update(width_px=None, height_px=None, score=None, threshold=None, message=str(caught.value))
    for column in ("width_px", "height_px", "score", "threshold", "message"):
        replace_column(path, column, [row[column] for row in rows])
    return dataset


def test_sizes_come_from_the_message_where_the_picture_was_refused_and_from_nowhere_else(
    refused: tuple[Path, dict[str, Any]],
) -> None:
    manifests = Manifests(refused[0])
    before = manifests.images(stats.IMAGE_COLUMNS_READ)
    after = with_derived(with_said_sizes(before, manifests))
    too_small = np.asarray(before["reason"]) == "too_small"
    assert set(np.asarray(after["short_side_px"])[too_small].tolist()) == {40}
    assert after["height_px"].filter(pa.array(~too_small)).equals(before["height_px"].filter(pa.array(~too_small)))


def test_a_picture_that_was_too_small_and_one_that_passed_both_show_pixels(
    refused: tuple[Path, dict[str, Any]],
) -> None:
    sheet = render_report(*refused).split('id="reason-too_small"')[1].split("</article>")[0]
    dropped, passed = sheet.split("<b>Passed</b>")
    assert dropped.count('<span dir="auto">40 px</span>') == dropped.count("<figure")
    assert passed.count(" px</span>") == passed.count("<figure")
