"""The Croissant file describes the files of the dataset folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hifidata.core.schema import IDENTITY_COLUMNS
from hifidata.report.croissant import write_croissant
from hifidata.stages.table import IMAGE_COLUMNS
from tests.report.synthetic_dataset import NAMES, write_dataset


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all JSON objects inside a document."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def test_every_column_is_a_described_field(dataset: tuple[Path, dict[str, Any]]) -> None:
    document = load(write_croissant(*dataset))
    fields = {record_set["@id"]: record_set["field"] for record_set in document["recordSet"]}
    assert [f["name"] for f in fields["images"]] == [column.name for column in IMAGE_COLUMNS]
    assert [f["name"] for f in fields["identities"]] == [column.name for column in IDENTITY_COLUMNS]
    assert all(f["description"] for group in fields.values() for f in group)
    (embedding,) = (f for f in fields["images"] if f["name"] == "embedding")
    assert (embedding["dataType"], embedding["repeated"]) == ("sc:Float", True)


def test_references_point_to_existing_ids(dataset: tuple[Path, dict[str, Any]]) -> None:
    document = load(write_croissant(*dataset))
    body = {key: value for key, value in document.items() if key != "@context"}
    named = [node["@id"] for node in nodes(body) if "@type" in node and "@id" in node]
    assert len(named) == len(set(named))
    assert {node["@id"] for node in nodes(body) if set(node) == {"@id"}} <= set(named)


def test_files_have_their_sha256_and_size(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    files = [entry for entry in load(write_croissant(folder, run))["distribution"] if entry["@type"] == "cr:FileObject"]
    assert len(files) == 3
    for entry in files:
        content = (folder / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["contentSize"] == f"{len(content)} B"


def test_part_files_are_described_as_a_set(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    path = folder / "manifests" / "images.parquet"
    table = pq.read_table(path)
    path.unlink()
    path.mkdir()
    pq.write_table(table, path / "part-0.parquet")
    document = load(write_croissant(folder, run))
    (entry,) = (entry for entry in document["distribution"] if entry["@id"] == "images.parquet")
    assert (entry["@type"], entry["includes"]) == ("cr:FileSet", "manifests/images.parquet/*.parquet")
    assert document["recordSet"][0]["field"][0]["source"]["fileSet"] == {"@id": "images.parquet"}


def test_responsible_ai_fields_say_what_was_not_checked_and_name_no_person(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    path = write_croissant(*dataset)
    document = load(path)
    for key in (
        "dataCollection",
        "dataBiases",
        "dataLimitations",
        "dataReleaseMaintenancePlan",
        "personalSensitiveInformation",
    ):
        assert document[f"rai:{key}"]
    assert any("Occlusion was not checked" in sentence for sentence in document["rai:dataLimitations"])
    text = path.read_text(encoding="utf-8")
    assert not [name for name in NAMES if name in text]
    assert "holiday" not in text


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "none", n_identities=0)
    first = write_croissant(tmp_path / "none", {}).read_bytes()
    assert write_croissant(tmp_path / "none", {}).read_bytes() == first
