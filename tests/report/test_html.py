"""The report is complete, self-contained and safe against hostile text."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hifidata.core.errors import DatasetError
from hifidata.report.gallery import GallerySize
from hifidata.report.html import render_report, write_report
from tests.report.synthetic_dataset import replace_column, write_dataset

VOID = {"meta", "img", "line", "rect"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails if tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        """Return all values of an attribute."""
        return [value for attribute, value in self.attributes if attribute == name]

    @property
    def words(self) -> str:
        """Text with single spaces."""
        return " ".join(self.text.split())


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=http://evil.example/x onerror=alert(1)>",
    "'onmouseover='alert(1)",
    "</style><script>alert(2)</script>",
    "</title></table></svg><iframe src=//evil.example>",
    "{{ 7 * 7 }}{% for x in y %}",
    "A" * 3000,
    "محمد \u202e عبد الله",
    "👩🏽‍🚀 Zoë\u0000 &amp; <b>",
    "javascript:alert(1)",
)  # fmt: skip


def test_untrusted_text_is_shown_and_does_not_become_markup(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    manifests = folder / "manifests"
    identities = pq.read_table(manifests / "identities.parquet")
    names = dict(zip(identities["identity_id"].to_pylist(), HOSTILE, strict=True))
    replace_column(manifests / "identities.parquet", "identity_name", list(names.values()))
    of_row = [names[i] for i in pq.read_table(manifests / "images.parquet")["identity_id"].to_pylist()]
    for column in ("identity_name", "source_uri", "text_found", "message", "caption", "licence", "gender"):
        replace_column(manifests / "images.parquet", column, of_row)
    replace_column(manifests / "identities.parquet", "gender", list(names.values()))
    run["name"] = run["recipe_hash"] = HOSTILE[3]
    run["recipe"] = {**run["recipe"], "name": HOSTILE[0], "description": HOSTILE[4]}
    run["models"] = [{"stage": HOSTILE[1], "model": HOSTILE[0], "licence": HOSTILE[2]}]
    run["packages"] = {HOSTILE[0]: HOSTILE[1]}
    page = Page(render_report(folder, run))
    assert not page.tags.keys() & {"script", "iframe", "object", "embed", "form", "b\0", "link", "base"}
    assert page.tags["style"] == page.tags["title"] == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.values("src"))
    for name in (*HOSTILE[:6], HOSTILE[7]):
        assert " ".join(name.split()) in page.words


def test_the_report_is_self_contained(dataset: tuple[Path, dict[str, Any]]) -> None:
    html = render_report(*dataset)
    page = Page(html)
    assert page.tags["img"] > 100
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert page.tags["script"] == page.tags["link"] == 0
    without_images = re.sub(r"data:image/jpeg;base64,[^\"]+", "", html)
    assert not re.findall(r"https?:|url\(|@import|@font-face", without_images)
    assert "default-src 'none'" in html


def test_ids_are_unique_and_every_link_has_a_target(dataset: tuple[Path, dict[str, Any]]) -> None:
    page = Page(render_report(*dataset))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.values("href")} <= set(ids)
    assert len(page.values("href")) > 15


def test_the_navigation_has_the_order_of_the_page() -> None:
    template = (files("hifidata.report") / "templates" / "report.html.j2").read_text(encoding="utf-8")
    navigation, _, page = template.partition("</nav>")
    sections = re.findall(r'<(?:section|header) id="([\w-]+)"', page)
    assert [link for link in re.findall(r'href="#([\w-]+)"', navigation) if link in sections] == sections


def test_every_image_has_an_alternative_text(dataset: tuple[Path, dict[str, Any]]) -> None:
    page = Page(render_report(*dataset))
    assert len(page.values("alt")) == page.tags["img"]
    assert all(page.values("alt"))


def test_missing_values_are_called_unknown(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    kept = pq.read_table(folder / "manifests" / "images.parquet", filters=[("status", "=", "kept")])
    page = Page(render_report(folder, run))
    assert f"unknown for {kept.num_rows} of {kept.num_rows}" in page.words, "age"
    assert f"unknown for {kept['gender'].null_count} of {kept.num_rows}" in page.words


def test_stages_that_did_not_run_are_listed(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    words = Page(render_report(folder, run)).words
    assert "Occlusion was not checked: the recipe sets no model." in words
    assert "Faces were not restored: the recipe sets no model." in words
    run["not_checked"], run["stages"] = [], [{**stage, "ran": True} for stage in run["stages"]]
    assert "was not checked" not in Page(render_report(folder, run)).words


def test_charts_show_the_thresholds_of_the_rows(dataset: tuple[Path, dict[str, Any]]) -> None:
    words = Page(render_report(*dataset)).words
    assert "threshold 0.45" in words
    assert "threshold 0.9" in words


def test_a_dataset_without_portraits_has_a_complete_report(tmp_path: Path) -> None:
    run = write_dataset(tmp_path / "none", keep=False)
    page = Page(render_report(tmp_path / "none", run))
    assert "No portrait was kept from 240 candidates of 10 identities." in page.words
    assert "Nothing was kept. The most frequent reasons: low quality (" in page.words
    assert "No portrait was kept." in page.words
    assert "nan" not in page.words.lower()


def test_a_source_without_candidates_has_a_report(tmp_path: Path) -> None:
    write_dataset(tmp_path / "none", n_identities=0)
    page = Page(render_report(tmp_path / "none", {}))
    assert "The source has no candidates" in page.words
    assert page.tags["img"] == 0


def test_one_portrait_of_one_identity_uses_the_singular(tmp_path: Path) -> None:
    write_dataset(tmp_path / "one", n_identities=1, per_identity=1, seed=1)
    page = Page(render_report(tmp_path / "one", {}))
    assert "1 portrait of 1 identity, selected from 1 candidate." in page.words


@pytest.mark.parametrize(
    "missing", ["recipe", "stages", "not_checked", "models", "packages", "started_at", "finished_at", "name"]
)
def test_any_key_of_the_run_record_may_be_missing(dataset: tuple[Path, dict[str, Any]], missing: str) -> None:
    folder, run = dataset
    del run[missing]
    Page(render_report(folder, run, GallerySize(identities=1)))


def test_a_dataset_without_thumbnails_still_has_a_report(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    (folder / "manifests" / "thumbnails.parquet").unlink()
    page = Page(render_report(folder, run))
    assert page.tags["img"] == 0
    assert "no preview" in page.text


def test_part_files_give_the_same_report_as_one_file(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    whole = render_report(folder, run)
    for name in ("images", "identities", "thumbnails"):
        path = folder / "manifests" / f"{name}.parquet"
        table = pq.read_table(path)
        path.unlink()
        path.mkdir()
        half = table.num_rows // 2
        pq.write_table(table[:half], path / "part-0.parquet")
        pq.write_table(table[half:], path / "part-1.parquet")
    assert render_report(folder, run) == whole


def test_the_same_input_gives_the_same_bytes_whatever_the_order_of_rows(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    first = write_report(folder, run).read_bytes()
    images = folder / "manifests" / "images.parquet"
    pq.write_table(pq.read_table(images)[::-1], images)
    assert write_report(folder, run).read_bytes() == first


def test_writing_leaves_one_file_and_no_temporary_file(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    path = write_report(folder, run)
    assert path == folder / "report" / "index.html"
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]


def test_a_failed_report_keeps_the_previous_report(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    before = write_report(folder, run).read_bytes()
    (folder / "manifests" / "images.parquet").unlink()
    with pytest.raises(DatasetError, match=r"no manifests/images\.parquet"):
        write_report(folder, run)
    assert (folder / "report" / "index.html").read_bytes() == before


def test_a_report_on_200_000_candidates_is_small(tmp_path: Path) -> None:
    run = write_dataset(tmp_path / "large", n_identities=5000, per_identity=40, draw=False)
    html = render_report(tmp_path / "large", run)
    page = Page(html)
    limits = GallerySize()
    in_identities, in_sheets = 2 * limits.identities * limits.images_per_identity, 11 * 2 * 2 * limits.images_per_side
    assert page.tags["img"] <= in_identities + in_sheets
    assert len(html) < 8_000_000
    assert "60 of 5,000 identities are shown" in page.words
    assert "10 of " in page.words
