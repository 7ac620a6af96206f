"""The page is readable on a telephone, and nothing in a chart stands on something else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hifidata.report.html import _TEMPLATES, render_report
from hifidata.report.statistics import Histogram


def rules_below(width_px: int, html: str) -> str:
    """What the style sheet says for windows up to a width."""
    return html.split(f"@media (max-width: {width_px}px) {{")[1].split("\n}")[0]


def test_wide_tables_become_lists_on_a_telephone_and_every_value_there_has_its_label(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    html = render_report(*dataset)
    stacked = re.findall(r'<table class="stack">(.*?)</table>', html, re.DOTALL)
    assert len(stacked) == 11, "ten people's files, and the models"
    for table in stacked:
        assert re.findall(r"<td(?! )|<td (?![^>]*data-label=\"\w)", table) == []
    assert ".stack td::before { content: attr(data-label)" in rules_below(640, html)


def test_nothing_forces_a_telephone_to_scroll_sideways(dataset: tuple[Path, dict[str, Any]]) -> None:
    html = render_report(*dataset)
    assert [int(px) for px in re.findall(r"min-width: (\d+)px", html) if int(px) > 300] == []
    assert "pre { white-space: pre-wrap" in rules_below(640, html)
    assert ".funnel td.number + td.bar.bar { grid-column: 1 / -1" in rules_below(640, html)


def test_whatever_scrolls_sideways_says_so_and_can_be_reached_without_a_mouse(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    html = render_report(*dataset)
    assert re.findall(r'<div class="scroll"(?! tabindex="0" role="region" aria-label="\w)', html) == []
    assert re.search(r"\.scroll, pre \{[^}]*background-attachment: local", html), "a shadow where there is more"


@pytest.mark.parametrize(("cut", "anchor"), [(0.6, "last"), (0.62, "last"), (0.9, "first"), (None, "first")])
def test_the_figure_of_the_axis_stands_away_from_a_cut_at_the_left(cut: float | None, anchor: str) -> None:
    edges = tuple(0.6 + 0.04 * i for i in range(11))
    chart = Histogram(edges, (0,) * 9 + (72,), (0,) * 10, (0,) * 10, cut)
    charts: Any = _TEMPLATES.get_template("charts.html.j2").module
    assert re.findall(r'<text class="(\w+)"[^>]*>72</text>', charts.histogram(chart, "Face quality")) == [anchor]


def test_headings_stand_clear_of_the_charts_above_them(dataset: tuple[Path, dict[str, Any]]) -> None:
    html = render_report(*dataset)
    assert re.search(r'</svg>\s*</div>\s*</div>\s*<h3 id="calibration">', html)
    assert re.search(r"\.charts \+ h3 \{ margin-top: \d{2}px; \}", html)


def test_words_stand_clear_of_the_number_before_them(dataset: tuple[Path, dict[str, Any]]) -> None:
    rule = re.search(r"\ntd\.number \+ td:not\(\.number\)[^{]*\{ padding-left: (\d+)px; \}", render_report(*dataset))
    assert rule
    assert int(rule.group(1)) >= 24
