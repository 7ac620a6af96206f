"""The dataset card is correct, publishable and without names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from hifidata.report.card import write_card
from tests.report.synthetic_dataset import NAMES, replace_column, write_dataset, write_shards


def test_the_front_matter_is_valid_and_the_counts_match_the_manifest(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    text = write_card(folder, run).read_text(encoding="utf-8")
    front_matter = yaml.safe_load(text.split("---\n")[1])
    assert front_matter["pretty_name"] == "synthetic"
    assert front_matter["size_categories"] == ["n<1K"]
    n_kept = pq.read_table(folder / "manifests" / "images.parquet", filters=[("status", "=", "kept")]).num_rows
    assert f"| Portraits kept | {n_kept} |" in text
    assert "Occlusion was not checked" in text
    for word in ("## Personal data", "## Removal", "CC0-1.0", "CC-BY-4.0", "min_images: 5"):
        assert word in text


def test_the_card_contains_no_name_and_no_private_path(dataset: tuple[Path, dict[str, Any]]) -> None:
    text = write_card(*dataset).read_text(encoding="utf-8")
    assert not [name for name in NAMES if name in text]
    assert "holiday" not in text, "the path of the source is private"


def test_the_loading_example_runs(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    write_shards(folder, run)
    (code,) = re.findall(r"```python\n(.*?)```", write_card(folder, run).read_text(encoding="utf-8"), re.DOTALL)
    code += '\nimport sys\nsys.stdout.write(f\'{portrait.size} {caption} {facts["similarity"]} {sample["landmarks.npy"].shape}\')'
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == "(160, 160) A portrait. 0.9 (68, 2)", done.stderr


def test_hostile_text_stays_inside_its_cell_or_fence(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    path = folder / "manifests" / "images.parquet"
    n = pq.read_table(path, columns=["image_id"]).num_rows
    replace_column(path, "licence", ["a | b\n# heading <script> [x](http://evil.example)"] * n)
    run["name"] = "name\n---\nlicense: mit"
    run["recipe"] = {**run["recipe"], "description": "```\n# out of the fence"}
    text = write_card(folder, run).read_text(encoding="utf-8")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "other"
    assert "<script>" not in text
    assert "](http" not in text
    outside = re.sub(r"(`{3,})yaml\n.*?\n\1", "", text, flags=re.DOTALL)
    assert "out of the fence" not in outside
    assert "\n# heading" not in text


def test_many_licence_texts_give_a_short_table(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    path = folder / "manifests" / "images.parquet"
    n = pq.read_table(path, columns=["image_id"]).num_rows
    replace_column(path, "licence", [f"licence {i}" for i in range(n)])
    assert "other licence texts" in write_card(folder, run).read_text(encoding="utf-8")


def test_the_card_of_an_empty_result_is_written_and_repeatable(tmp_path: Path) -> None:
    write_dataset(tmp_path / "none", n_identities=0)
    first = write_card(tmp_path / "none", {}).read_bytes()
    assert b"0 portraits of 0 identities" in first
    assert write_card(tmp_path / "none", {}).read_bytes() == first
