"""The end of a run, after the last commit: pack, compact, and write reports and dataset.json."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.core.errors import ConservationError
from hifidata.core.files import remove
from hifidata.core.schema import CAPTION_FAULTS, FORMAT_VERSION
from hifidata.run.devices import used_providers
from hifidata.run.plan import Plan, extensions_of, is_remote, models_of, package_versions, stage_table
from hifidata.run.requirements import weights_of
from hifidata.stages.table import image_columns
from hifidata.store.fragments import MANIFESTS, CommitRecord, compact, read_record
from hifidata.store.layout import DatasetFolder, write_json
from hifidata.store.originals import remove_logs, sweep
from hifidata.store.packs import pack_identities, packs_of
from hifidata.store.verify import list_manifests, require_manifests


def check_conservation(folder: DatasetFolder, plan: Plan) -> None:
    """Check that all planned candidates are committed. Raises ConservationError."""
    for identity_id, n_planned in plan.candidates_of.items():
        path = folder.fragment_path(identity_id)
        n_committed = int(read_record(path).identity["n_candidates"]) if path.exists() else 0
        if n_planned not in (None, n_committed) or not path.exists():
            raise ConservationError(
                f"identity {identity_id}: expected {n_planned} committed candidates, got {n_committed}; the source may have "
                "changed during the run. Run the same command to resume"
            )


def finish(folder: DatasetFolder, recipe: Recipe, started_at: str, plan: Plan) -> dict[str, Any]:
    """Finish a dataset whose identities are all committed. dataset.json is written last.

    Returns:
        Content of dataset.json.
    """
    fragments = folder.committed()
    records = [read_record(fragment) for fragment in fragments]
    moved = pack_identities(folder, records, recipe.output.max_shard_bytes) if recipe.output.layout == "packed" else {}
    shards = _shard_list(records, moved)
    _remove_orphan_shards(folder, {shard["path"] for shard in shards})
    compact(fragments, folder.manifests, moved, image_columns(recipe))
    dataset = dataset_facts(recipe, records, started_at)
    dataset["is_limited"] = plan.is_limited
    dataset["source_notes"] = list(plan.notes)
    dataset["shared_images"] = _count_shared(folder)
    dataset["shards"] = shards
    dataset["manifests"] = list_manifests(folder)
    write_reports(folder, dataset)
    write_json(folder.dataset_json, dataset)
    folder.yield_order.unlink(missing_ok=True)
    shutil.rmtree(folder.waiting_originals, ignore_errors=True)  # a kill between commit and clean-up leaves such files
    for record in folder.fragments.glob("??/*.earlier"):
        record.unlink()
    if moved:
        shutil.rmtree(folder.state / "shards")  # last, because dataset.json now names the packs
    return dataset


def clean_up_crawl(folder: DatasetFolder, plan: Plan) -> None:
    """Delete crawl logs and originals of identities no longer in the source."""
    if is_remote(plan.recipe) and not plan.is_limited:
        remove_logs(folder, plan.candidates_of)
        sweep(folder)


def write_reports(folder: DatasetFolder, dataset: dict[str, Any]) -> None:
    """Write the HTML report, the dataset card and croissant.json. Raises DatasetError if a manifest was altered."""
    from hifidata.report.card import write_card
    from hifidata.report.croissant import write_croissant
    from hifidata.report.html import write_report

    if folder.dataset_json.exists():  # otherwise this run has just written the manifests
        require_manifests(folder, *MANIFESTS)
    folder.require_no_links(folder.report)
    write_report(folder.root, dataset)
    write_card(folder.root, dataset)
    write_croissant(folder.root, dataset)


def report_path(folder: DatasetFolder) -> Path:
    """Return the path of the HTML report."""
    return folder.report / "index.html"


def is_over_budget(recipe: Recipe, dataset: dict[str, Any]) -> bool:
    """Return whether more candidates, or more captions of kept images, failed than the recipe allows."""
    counts, allowed = dataset["counts"], recipe.failures.max_share
    return bool(
        counts["failed"] > allowed * counts["candidates"] or count_caption_faults(dataset) > allowed * counts["kept"]
    )


def count_caption_faults(dataset: Mapping[str, Any]) -> int:
    """Count the kept images whose caption the server or its model failed to write."""
    return sum(dataset.get("caption_stand_ins", {}).get(str(problem), 0) for problem in CAPTION_FAULTS)


def dataset_facts(recipe: Recipe, records: Sequence[CommitRecord], started_at: str) -> dict[str, Any]:
    """Return the content of dataset.json without shards and manifests."""
    identities = [record.identity for record in records]
    counts = {name: sum(row[f"n_{name}"] for row in identities) for name in ("candidates", "kept", "dropped", "failed")}
    table = stage_table(recipe)
    return {
        "format_version": FORMAT_VERSION,
        "name": recipe.name,
        "recipe": recipe.published,
        "recipe_hash": recipe.hash,
        "packages": package_versions(),
        "models": models_of(recipe),
        "extensions": extensions_of(recipe),
        "onnx_providers": used_providers(record.providers for record in records),
        "weights": [{"name": row["name"], "sha256": row["sha256"]} for row in weights_of(recipe)],
        "counts": {
            "identities": len(identities),
            "identities_kept": sum(row["n_kept"] > 0 for row in identities),
            **counts,
        },
        "stages": _stage_counts(table, records),
        "caption_stand_ins": dict(sum((Counter(record.stand_ins) for record in records), Counter[str]())),
        "not_checked": [name for name, runs, _ in table if not runs],
        "started_at": started_at,
        "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _count_shared(folder: DatasetFolder) -> dict[str, int]:
    """Count the images whose bytes belong to several identities."""
    from hifidata.report.manifests import Manifests
    from hifidata.report.same_bytes import COLUMNS, same_bytes

    found = same_bytes(Manifests(folder.root).images(COLUMNS))
    return {"images": found.n_images, "kept": found.n_kept, "identities": found.n_identities}


def _remove_orphan_shards(folder: DatasetFolder, named: Container[str]) -> None:
    """Remove shards of this dataset that no fragment names: of another layout, or left by a kill. Other files stay."""
    begun = {path.stem for path in folder.fragments.glob("??/*")}
    for shard in [*map(folder.shard_path, sorted(begun)), *packs_of(folder)]:
        if shard.exists() and shard.relative_to(folder.root).as_posix() not in named:
            remove(shard)


def _shard_list(records: Sequence[CommitRecord], moved: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    shards: dict[str, dict[str, Any]] = {}
    for record in records:
        row = record.identity | moved.get(record.identity["identity_id"], {})
        if row.get("shard"):
            entry = {"path": row["shard"], "sha256": row["shard_sha256"], "bytes": row["shard_bytes"], "samples": 0}
            shards.setdefault(row["shard"], entry)["samples"] += row["n_kept"]
    return [shards[path] for path in sorted(shards)]


def _stage_counts(
    table: Sequence[tuple[str, bool, str | None]], records: Sequence[CommitRecord]
) -> list[dict[str, Any]]:
    seconds: defaultdict[str, float] = defaultdict(float)
    entered, ended = Counter[str](), Counter[str]()
    for record in records:
        for name, spent in record.seconds.items():
            seconds[name] += spent
        entered.update(record.entered)
        ended.update(record.ended)
    rows = []
    for name, runs, model in table:
        n_in, dropped, failed = entered[name], ended[f"{name}:dropped"], ended[f"{name}:failed"]
        rows.append(
            {
                "stage": name,
                "model": model,
                "ran": runs,
                "in": n_in,
                "kept": n_in - dropped - failed,
                "dropped": dropped,
                "failed": failed,
                "ms_per_image": round(1000 * seconds[name] / n_in, 2) if n_in else None,
            }
        )
    return rows
