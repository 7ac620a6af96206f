"""Control characters are escaped in the report as in the terminal."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from markupsafe import Markup

from hifidata.report.escape import escape_controls, escape_lines
from hifidata.report.html import render_report
from tests.report.synthetic_dataset import replace_column

ODD = "red\x1b[31m new\nline  tab\t \x9b\x7f\x00"
SHOWN = r"red\x1b[31m new\x0aline  tab\x09 \x9b\x7f\x00"


def test_control_characters_of_names_files_messages_and_captions_are_escaped(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    folder, run = dataset
    manifests = folder / "manifests"
    for table, columns in (
        ("identities", ("identity_name",)),
        ("images", ("identity_name", "source_uri", "message", "caption", "text_found", "caption_model")),
    ):
        path = manifests / f"{table}.parquet"
        for column in columns:
            replace_column(path, column, [ODD] * pq.read_metadata(path).num_rows)
    run["name"] = ODD
    run["recipe"] = {**run["recipe"], "name": ODD, "description": ODD}
    run["models"] = [{"stage": "detect", "model": ODD, "licence": ODD}]
    page = html.unescape(render_report(folder, run))
    assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", page)
    for where in (
        "<title>",
        '<h1 dir="auto">',
        '<bdi class="clamp" title="',
        '<span dir="auto">',
        '<td data-label="Model">',
    ):
        assert where + SHOWN in page


def test_repeated_spaces_in_names_are_kept(dataset: tuple[Path, dict[str, Any]]) -> None:
    assert "bdi, [dir=auto] { white-space: pre-wrap; }" in render_report(*dataset)


def test_markup_numbers_and_line_breaks_are_kept() -> None:
    assert (escape_controls(Markup("<b>\n</b>")), escape_controls(7), escape_controls(None)) == ("<b>\n</b>", 7, None)
    assert escape_lines("a: <1>\nb: \x1b") == "a: &lt;1&gt;\nb: \\x1b"
