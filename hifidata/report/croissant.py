"""Croissant metadata: a machine-readable description of the files and columns of a dataset.

Source: Croissant format 1.0 and its responsible-AI vocabulary 1.0, both by MLCommons.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hifidata.core.files import file_sha256, write_bytes
from hifidata.core.schema import IDENTITY_COLUMNS, THUMBNAIL_COLUMNS, Column
from hifidata.report import statistics as stats
from hifidata.report.manifests import Manifests
from hifidata.report.words import vocabulary
from hifidata.stages.table import IMAGE_COLUMNS

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{
        term: f"cr:{term}"
        for term in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
        )
    },
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}  # fmt: skip

_DATA_TYPES = {
    "string": "sc:Text", "bool": "sc:Boolean", "int32": "sc:Integer", "int64": "sc:Integer", "float32": "sc:Float",
    "binary": "sc:ImageObject",
}  # fmt: skip

_MANIFESTS: dict[str, tuple[str, tuple[Column, ...], str]] = {
    "images": ("One row per candidate, kept or not.", IMAGE_COLUMNS, "image_id"),
    "identities": ("One row per identity.", IDENTITY_COLUMNS, "identity_id"),
    "thumbnails": ("Thumbnails of candidates, kept or not, for the report.", THUMBNAIL_COLUMNS, "image_id"),
}


def write_croissant(dataset_dir: Path, run: Mapping[str, Any]) -> Path:
    """Write ``croissant.json`` of a dataset folder.

    Args:
        dataset_dir: folder with ``manifests/*.parquet`` and ``shards/``.
        run: the run record, as in dataset.json; any key may be missing.

    Returns:
        Path of the file; the same input gives the same bytes.

    Raises:
        DatasetError: the folder has no manifests.
    """
    text = json.dumps(croissant(dataset_dir, run), indent=2, ensure_ascii=False, allow_nan=False)
    path = dataset_dir / "croissant.json"
    write_bytes(path, (text + "\n").encode(errors="backslashreplace"))
    return path


def croissant(dataset_dir: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """Build the JSON-LD document; see ``write_croissant``."""
    manifests = Manifests(dataset_dir)
    images = manifests.images(stats.IMAGE_COLUMNS_READ)
    totals = stats.totals(images, manifests.identities(stats.IDENTITY_COLUMNS_READ))
    recipe = run.get("recipe") or {}
    present = [name for name in _MANIFESTS if manifests.path(name).exists()]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": str(run.get("name") or recipe.get("name") or dataset_dir.resolve().name),
        "description": f"{totals.kept} portraits of {totals.identities_kept} identities, selected from {totals.candidates} "
        "candidates. With captions, identity embeddings, facial landmarks, and a reason for each candidate that was not kept.",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "version": f"{run.get('format_version', 1)}.0.0",
        "license": "Each image keeps the licence of its source; see the column licence of images.parquet",
        "keywords": ["faces", "portraits", "identity preservation", "webdataset"],
        "isLiveDataset": False,
        **({"datePublished": str(run["finished_at"])[:10]} if run.get("finished_at") else {}),
        **_responsible_ai(run, images),
        "distribution": [_shards(), *(_resource(manifests.path(name), name) for name in present)],
        "recordSet": [_record_set(manifests.path(name), name, run) for name in present],
    }


def _responsible_ai(run: Mapping[str, Any], images: Any) -> dict[str, Any]:
    source = ((run.get("recipe") or {}).get("source") or {}).get("kind", "unknown kind")
    tools = [
        f"{e.get('stage')}: {e.get('model')} ({e.get('licence') or 'licence not stated'})"
        for e in run.get("models") or ()
    ]
    words = vocabulary(run)
    return {
        "rai:dataCollection": f"The candidates came from a source of the kind '{source}', grouped by identity. "
        "The columns source, source_uri and licence record the origin of each candidate.",
        "rai:dataPreprocessingProtocol": [words.stage(s.stage).does for s in stats.funnel(images, run, words) if s.ran],
        **({"rai:machineAnnotationTools": tools} if tools else {}),
        "rai:dataBiases": [
            "People with more published photos have more images.",
            "Detectors, quality scores and face embeddings have different error rates for different groups of people. "
            "Therefore the share of dropped images differs between groups.",
            "Poses, lighting and expressions with low quality scores are rare.",
        ],
        "rai:dataLimitations": [
            "A model may have verified the identity labels; people did not verify them.",
            "Captions, gender and other attributes are machine-generated and may be wrong; null means unknown.",
            *(words.stage(stage).not_run for stage in stats.stages_not_run(run, words)),
        ],
        "rai:dataReleaseMaintenancePlan": "To remove a person, remove the person's images from the source and make the dataset "
        "again, or delete the samples and manifest rows with the person's identity_id; see README.md.",
        "rai:personalSensitiveInformation": [
            "Photographs of the faces of identifiable people",
            "Names of people (identity_name)",
            "Biometric data: face embeddings and facial landmarks",
            "Gender and age, predicted from names or by models",
        ],
    }


def _shards() -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "description": "WebDataset shards; dataset.json lists the sha256 and the number of samples of each shard.",
        "encodingFormat": "application/x-tar",
        "includes": "shards/**/*.tar",
    }


def _resource(path: Path, name: str) -> dict[str, Any]:
    common = {
        "@id": path.name,
        "name": path.name,
        "description": _MANIFESTS[name][0],
        "encodingFormat": "application/x-parquet",
    }
    if path.is_dir():
        return {"@type": "cr:FileSet", **common, "includes": f"manifests/{path.name}/*.parquet"}
    return {
        "@type": "cr:FileObject",
        **common,
        "contentUrl": f"manifests/{path.name}",
        "contentSize": f"{path.stat().st_size} B",
        "sha256": file_sha256(path),
    }


def _record_set(path: Path, name: str, run: Mapping[str, Any]) -> dict[str, Any]:
    description, columns, key = _MANIFESTS[name]
    if name == "images":
        columns = (*columns, *(Column(**fields) for item in run.get("extensions") or () for fields in item["columns"]))
    kind = "fileSet" if path.is_dir() else "fileObject"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/{key}"},
        "field": [_field(name, column, {kind: {"@id": path.name}}) for column in columns],
    }


def _field(record_set: str, column: Column, resource: Mapping[str, Any]) -> dict[str, Any]:
    element = column.type.removeprefix("list<").split(">")[0]
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column.name}",
        "name": column.name,
        "description": column.meaning + (f" ({column.unit})" if column.unit else ""),
        "dataType": _DATA_TYPES[element],
        **({"repeated": True} if column.type.startswith("list<") else {}),
        "source": {**resource, "extract": {"column": column.name}},
    }
