"""The page is readable on a phone, and chart elements do not overlap."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hifidata.report.html import _TEMPLATES, render_report
from hifidata.report.statistics import Histogram


def rules_below(width_px: int, html: str) -> str:
    """Return the rules of the style sheet for windows up to a width."""
    return html.split(f"@media (max-width: {width_px}px) {{")[1].split("\n}")[0]


def test_wide_tables_become_labelled_lists_on_a_phone(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    html = render_report(*dataset)
    stacked = re.findall(r'<table class="stack">(.*?)</table>', html, re.DOTALL)
    assert len(stacked) == 11, "the files of ten identities, and the models"
    for table in stacked:
        assert re.findall(r"<td(?! )|<td (?![^>]*data-label=\"\w)", table) == []
    assert ".stack td::before { content: attr(data-label)" in rules_below(640, html)


def test_a_phone_does_not_scroll_sideways(dataset: tuple[Path, dict[str, Any]]) -> None:
    html = render_report(*dataset)
    assert [int(px) for px in re.findall(r"min-width: (\d+)px", html) if int(px) > 300] == []
    assert "pre { white-space: pre-wrap" in rules_below(640, html)
    assert ".funnel td.number + td.bar.bar { grid-column: 1 / -1" in rules_below(640, html)


def test_scrolling_elements_have_a_label_a_shadow_and_keyboard_focus(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    html = render_report(*dataset)
    assert re.findall(r'<div class="scroll"(?! tabindex="0" role="region" aria-label="\w)', html) == []
    assert re.search(r"\.scroll, pre \{[^}]*background-attachment: local", html), "a shadow shows hidden content"


@pytest.mark.parametrize(("threshold", "anchor"), [(0.6, "last"), (0.62, "last"), (0.9, "first"), (None, "first")])
def test_the_axis_number_does_not_overlap_a_threshold_at_the_left(threshold: float | None, anchor: str) -> None:
    edges = tuple(0.6 + 0.04 * i for i in range(11))
    chart = Histogram(edges, (0,) * 9 + (72,), (0,) * 10, (0,) * 10, threshold)
    charts: Any = _TEMPLATES.get_template("charts.html.j2").module
    assert re.findall(r'<text class="(\w+)"[^>]*>72</text>', charts.histogram(chart, "Face quality")) == [anchor]


def test_the_last_row_of_tiles_has_no_empty_cell(dataset: tuple[Path, dict[str, Any]]) -> None:
    html = render_report(*dataset)
    assert ".tiles { display: flex; flex-wrap: wrap;" in html
    assert ".tiles div { flex: 1 0 auto;" in html
    assert ".tiles { display: grid; grid-template-columns: 1fr 1fr; }" in rules_below(640, html)


def test_headings_have_space_below_charts(dataset: tuple[Path, dict[str, Any]]) -> None:
    html = render_report(*dataset)
    assert re.search(r'</svg>\s*</div>\s*</div>\s*<h3 id="calibration">', html)
    assert re.search(r"\.charts \+ h3 \{ margin-top: \d{2}px; \}", html)


def test_text_cells_have_space_after_number_cells(dataset: tuple[Path, dict[str, Any]]) -> None:
    rule = re.search(r"\ntd\.number \+ td:not\(\.number\)[^{]*\{ padding-left: (\d+)px; \}", render_report(*dataset))
    assert rule
    assert int(rule.group(1)) >= 24
