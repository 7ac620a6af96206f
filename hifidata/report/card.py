"""The dataset card: README.md with Hugging Face front matter, made from the manifests. It contains no names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import yaml

from hifidata.core.files import write_bytes
from hifidata.core.schema import Status
from hifidata.report import statistics as stats
from hifidata.report.manifests import Manifests
from hifidata.report.words import vocabulary

MAX_LICENCES = 10
"""Maximum number of listed licences; a crawl finds thousands of different texts."""

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

_CARD = """\
---
{front_matter}---

# {name}

{summary}

`manifests/images.parquet` has one row for each candidate, kept or not, with all measured values and the reason why it was
not kept. `report/index.html` shows images and statistics.

## Contents

| | |
|---|---:|
{counts}

| Reason for not keeping a candidate | Candidates |
|---|---:|
{reasons}

## Stages not run

{not_run}

## How to load the dataset

Each sample has the members `.jpg` (portrait), `.txt` (caption), `.json` (columns of the manifest), `.embedding.npy`
(identity embedding, L2 norm 1) and `.landmarks.npy` (68 points in pixels of the portrait). If a stage did not run, its
member is missing. The samples of an identity are contiguous.

```python
from pathlib import Path

import webdataset as wds

shards = sorted(str(path) for path in Path("shards").rglob("*.tar"))
for sample in wds.WebDataset(shards, shardshuffle=False).decode("pil"):
    portrait, caption, facts = sample["jpg"], sample["txt"], sample["json"]
    break
```

## How the dataset was made

{steps}

The recipe, without the path of its source:

{recipe}

| Stage | Model | Licence |
|---|---|---|
{models}

## Licences

The images keep the licences of their sources. The sources state these licences for the kept images:

| Licence | Images |
|---|---:|
{licences}

## Personal data

This dataset contains faces of identifiable people, their names (column `identity_name`) and face embeddings. Embeddings
identify a person and are biometric data under many laws. Gender was predicted from a first name or by a model, and may be
wrong. Process the data only with a legal basis, keep it no longer than necessary, and do not use it to identify people.

## Removal

To remove a person from the dataset, remove the person's images from the source and make the dataset again in an empty
folder.

To remove a person from a copy:

1. Find the shard and the sample keys by `identity_id` in the manifests.
2. Delete these samples with their embeddings and captions. If each identity has its own shard, delete the shard.
3. Delete the rows with this `identity_id` from all files in `manifests/`.
4. Make the report again, because it shows faces.
"""


def write_card(dataset_dir: Path, run: Mapping[str, Any]) -> Path:
    """Write ``README.md`` of a dataset folder.

    Args:
        dataset_dir: folder with ``manifests/*.parquet``.
        run: the run record, as in dataset.json; any key may be missing.

    Returns:
        Path of the card; the same input gives the same bytes.

    Raises:
        DatasetError: the folder has no manifests.
    """
    manifests = Manifests(dataset_dir)
    images = manifests.images((*stats.IMAGE_COLUMNS_READ, "licence"))
    totals = stats.totals(images, manifests.identities(stats.IDENTITY_COLUMNS_READ))
    recipe = run.get("recipe") or {}
    name = str(run.get("name") or recipe.get("name") or dataset_dir.resolve().name)
    words = vocabulary(run)
    not_run = stats.stages_not_run(run, words)
    steps = [words.stage(step.stage).does for step in stats.funnel(images, run, words) if step.ran]
    text = _CARD.format(
        front_matter=_front_matter(name, totals.kept),
        name=_plain(name),
        summary=f"{totals.kept:,} portraits of {totals.identities_kept:,} identities, selected from {totals.candidates:,} "
        "candidates.",
        counts=_table(_counts(totals)),
        reasons=_table((words.reason(c.reason).label, f"{c.n:,}") for c in stats.reason_counts(images, words)),
        not_run="\n".join(f"- {words.stage(stage).not_run}" for stage in not_run) or "All stages ran.",
        steps="\n".join(f"{i}. {sentence}" for i, sentence in enumerate(steps, 1)),
        recipe=_fenced(_publishable(recipe)),
        models=_table(
            (e.get("stage"), e.get("model"), e.get("licence") or "not stated") for e in run.get("models") or ()
        ),
        licences=_table(_licences(images)),
    )
    path = dataset_dir / "README.md"
    write_bytes(path, text.encode(errors="backslashreplace"))
    return path


def _front_matter(name: str, n_kept: int) -> str:
    fields = {
        "pretty_name": " ".join(name.split()),
        "license": "other",
        "license_name": "licences-of-the-source-images",
        "license_link": "README.md#licences",
        "language": ["en"],
        "task_categories": ["text-to-image", "image-to-image"],
        "size_categories": [next((label for limit, label in _SIZES if n_kept < limit), "n>10M")],
        "annotations_creators": ["machine-generated"],
        "tags": ["webdataset", "portraits", "face", "identity-preservation", "personal-data"],
        "configs": [{"config_name": "default", "data_files": "shards/**/*.tar"}],
    }
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


def _counts(totals: stats.Totals) -> list[tuple[str, str]]:
    return [
        ("Identities with at least one portrait", f"{totals.identities_kept:,}"),
        ("Identities in the source", f"{totals.identities:,}"),
        ("Candidates", f"{totals.candidates:,}"),
        ("Portraits kept", f"{totals.kept:,}"),
        ("Dropped by a stage", f"{totals.dropped:,}"),
        ("Failed: unreadable, or a model failed", f"{totals.failed:,}"),
        ("Shards", f"{totals.shards:,}"),
    ]


def _licences(images: Any) -> list[tuple[str, str]]:
    kept = images["licence"].filter(pc.equal(images["status"], Status.KEPT))
    counts = [(entry["values"], entry["counts"]) for entry in pc.value_counts(kept).to_pylist()]
    unstated = sum(n for licence, n in counts if not licence)
    ranked = sorted(((licence, n) for licence, n in counts if licence), key=lambda entry: (-entry[1], entry[0]))
    rows = [(licence[:120], f"{n:,}") for licence, n in ranked[:MAX_LICENCES]]
    if others := ranked[MAX_LICENCES:]:
        rows.append((f"{len(others):,} other licence texts", f"{sum(n for _, n in others):,}"))
    return [*rows, *([("not stated", f"{unstated:,}")] if unstated else [])]


def _publishable(recipe: Mapping[str, Any]) -> str:
    """Format the recipe as YAML without the source path and without folders of model files: local paths may contain names."""
    plain = json.loads(json.dumps(recipe, default=str))
    if isinstance(plain.get("source"), dict):
        plain["source"] = {key: value for key, value in plain["source"].items() if key in ("kind", "licence")}
    for section in plain.values():
        if isinstance(section, dict) and section.get("file"):
            section["file"] = Path(section["file"]).name
    return (
        yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
        if plain
        else "# not recorded\n"
    )


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text}{fence}"


def _plain(text: Any) -> str:
    """Escape text for Markdown and HTML, as one line."""
    one_line = " ".join(str(text).split())
    return (
        re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", one_line)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )


def _table(rows: Any) -> str:
    return "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows) or "| none | |"
