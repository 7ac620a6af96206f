"""The dataset card: README.md with Hugging Face front matter, made from the manifest. It names no person."""

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
"""Licences listed by name; a crawl meets thousands of wordings."""

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

Every candidate picture has one row in `manifests/images.parquet`, kept or not, with every number that was measured and the
reason for which it ended. `report/index.html` shows the dataset in pictures.

## Contents

| | |
|---|---:|
{counts}

| Reason for not keeping a picture | Pictures |
|---|---:|
{reasons}

## Not checked

{not_checked}

## How to load it

Each sample has the members `.jpg` (portrait), `.txt` (caption), `.json` (what the manifest holds about it),
`.embedding.npy` (identity embedding, L2 norm 1) and `.landmarks.npy` (68 points in pixels of the portrait); a stage that
did not run leaves its member out. Samples of one person are contiguous.

```python
from pathlib import Path

import webdataset as wds

shards = sorted(str(path) for path in Path("shards").rglob("*.tar"))
for sample in wds.WebDataset(shards, shardshuffle=False).decode("pil"):
    portrait, caption, facts = sample["jpg"], sample["txt"], sample["json"]
    break
```

## How it was made

{steps}

The recipe, without the place of its source:

{recipe}

| Stage | Model | Licence |
|---|---|---|
{models}

## Licences

The pictures keep the licences of their sources. What the sources state about the kept pictures:

| Licence | Pictures |
|---|---:|
{licences}

## Personal data

This dataset holds faces of identifiable people, their names (column `identity_name`), and face embeddings, which identify
a person and are biometric data under many laws. Gender, where it is given, was guessed from a first name or by a model and
may be wrong. Process it only with a legal basis, keep it no longer than you need it, and do not use it to identify people.

## Removal

To take a person out, remove the person's pictures from the source and make the dataset again into an empty folder. To take
a person out of a copy by hand: find the shard and the sample keys by `identity_id` in
the manifests, delete those samples (with one shard per person: the shard), delete the rows with that `identity_id` from
all files in `manifests/`, and make the report again, since it shows faces too. Embeddings and captions go with the samples.
"""


def write_card(dataset_dir: Path, run: Mapping[str, Any]) -> Path:
    """Writes ``README.md`` of a dataset folder.

    Args:
        dataset_dir: holds ``manifests/*.parquet``.
        run: the run record, which becomes dataset.json; any key may be missing.

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
    did = [words.stage(step.stage).does for step in stats.funnel(images, run, words) if step.ran]
    text = _CARD.format(
        front_matter=_front_matter(name, totals.kept),
        name=_plain(name),
        summary=f"{totals.kept:,} portraits of {totals.identities_kept:,} people, from {totals.candidates:,} candidate pictures.",
        counts=_table(_counts(totals)),
        reasons=_table((words.reason(c.reason).label, f"{c.n:,}") for c in stats.reason_counts(images, words)),
        not_checked="\n".join(f"- {words.stage(stage).not_run}" for stage in not_run) or "Every stage ran.",
        steps="\n".join(f"{i}. {sentence}" for i, sentence in enumerate(did, 1)),
        recipe=_fenced(_publishable(recipe)),
        models=_table(
            (e.get("stage"), e.get("model"), e.get("licence") or "not stated") for e in run.get("models") or ()
        ),
        licences=_table(_licences(images)),
    )
    path = dataset_dir / "README.md"
    write_bytes(path, text.encode())
    return path


def _front_matter(name: str, n_kept: int) -> str:
    fields = {
        "pretty_name": " ".join(name.split()),
        "license": "other",
        "license_name": "licences-of-the-source-pictures",
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
        ("People with at least one portrait", f"{totals.identities_kept:,}"),
        ("People in the source", f"{totals.identities:,}"),
        ("Candidate pictures", f"{totals.candidates:,}"),
        ("Portraits kept", f"{totals.kept:,}"),
        ("Dropped: judged and found wanting", f"{totals.dropped:,}"),
        ("Failed: could not be read or judged", f"{totals.failed:,}"),
        ("Shards", f"{totals.shards:,}"),
    ]


def _licences(images: Any) -> list[tuple[str, str]]:
    kept = images["licence"].filter(pc.equal(images["status"], Status.KEPT))
    counts = [(entry["values"], entry["counts"]) for entry in pc.value_counts(kept).to_pylist()]
    unstated = sum(n for licence, n in counts if not licence)
    ranked = sorted(((licence, n) for licence, n in counts if licence), key=lambda entry: (-entry[1], entry[0]))
    rows = [(licence[:120], f"{n:,}") for licence, n in ranked[:MAX_LICENCES]]
    if others := ranked[MAX_LICENCES:]:
        rows.append((f"{len(others):,} other wordings", f"{sum(n for _, n in others):,}"))
    return [*rows, *([("not stated", f"{unstated:,}")] if unstated else [])]


def _publishable(recipe: Mapping[str, Any]) -> str:
    """The recipe as YAML without its source's location and own files' folders: paths on somebody's disk may name people."""
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
    """One line without anything that Markdown or HTML reads as markup."""
    one_line = " ".join(str(text).split())
    return (
        re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", one_line)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )


def _table(rows: Any) -> str:
    return "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows) or "| none | |"
