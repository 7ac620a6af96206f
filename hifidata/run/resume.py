"""Resume: compares the committed identities with the plan, and selects the pending ones."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa

from hifidata.config.recipe import Recipe, changes
from hifidata.core.errors import DatasetError
from hifidata.core.schema import CAPTION_FAULTS, IdentityTask
from hifidata.image.reasons import UNREADABLE_FILE
from hifidata.run.finish import report_path
from hifidata.run.plan import Plan, list_tasks
from hifidata.store.fragments import MANIFESTS, read_record, read_rows
from hifidata.store.layout import DatasetFolder
from hifidata.store.packs import packed_identities
from hifidata.store.verify import compare_manifests, has_shards


def begin(folder: DatasetFolder, recipe: Recipe, accept_change: bool) -> str:
    """Record the recipe in the dataset folder, and return the start time of the folder's first run.

    Raises:
        DatasetError: another recipe made the folder, and ``accept_change`` is false.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if folder.run_json.exists():
        before = folder.read_run()
        if before["recipe_hash"] == recipe.hash:
            return str(before["started_at"])
        changed = changes(before["recipe"], recipe)
        if not changed:  # an earlier version of hifidata hashed an equivalent recipe differently
            earlier = [*before.get("earlier_hashes", ()), before["recipe_hash"]]
            folder.write_run(before | {"recipe_hash": recipe.hash, "earlier_hashes": earlier})
            return str(before["started_at"])
        if not accept_change:
            raise DatasetError(
                f"--out {folder.root}: was made by another recipe ({'; '.join(changed)}); choose another --out, or pass "
                "--accept-recipe-change to reprocess everything with this recipe"
            )
    content = {"recipe_hash": recipe.hash, "started_at": now, "recipe": recipe.model_dump(mode="json")}
    folder.write_run(content)
    return now


def pending_identities(folder: DatasetFolder, plan: Plan, retry_failed: bool) -> frozenset[str]:
    """Return the ids of the identities to process.

    Args:
        folder: the dataset folder.
        plan: the plan of this run.
        retry_failed: include identities with failed downloads, searches or captions, and forget these failures.
    """
    hashes = folder.recipe_hashes()
    packed = _packed_identities(folder) if plan.recipe.output.layout == "packed" else frozenset[str]()
    pending = frozenset(
        task.identity_id
        for task in list_tasks(plan.recipe, plan.candidates_of, folder.root)
        if not _is_committed(folder, task, hashes, packed)
    )
    return pending | _identities_to_retry(folder, plan) if retry_failed else pending


def outdated_fragments(folder: DatasetFolder, plan: Plan, pending: Container[str]) -> list[Path]:
    """Return the fragments to remove: of identities no longer in the source, and of another recipe.

    Fragments of pending identities are not among them: the commit replaces those.
    """
    return [
        fragment
        for fragment in folder.committed()
        if fragment.stem not in pending
        and (
            (fragment.stem not in plan.candidates_of and not plan.is_limited)
            or read_record(fragment).recipe_hash not in folder.recipe_hashes()
        )
    ]


def is_complete(folder: DatasetFolder) -> bool:
    """Return whether all files of a finished dataset exist and all manifests have their recorded hash.

    Manifests are small enough to be hashed at every start. Shards are not; ``pending_identities`` compares their size.
    """
    needed = [folder.dataset_json, report_path(folder), *(folder.manifests / f"{name}.parquet" for name in MANIFESTS)]
    return all(path.exists() for path in needed) and not any(compare_manifests(folder).values())


def _identities_to_retry(folder: DatasetFolder, plan: Plan) -> frozenset[str]:
    """Remove the failures from the crawl logs, and return the identities with failed downloads, searches or captions."""
    from hifidata.run.crawl import forget_failures

    return frozenset(
        identity_id
        for identity_id in plan.candidates_of
        if forget_failures(folder, identity_id, _unreadable(folder.fragment_path(identity_id)))
        or _lacks_captions(folder.fragment_path(identity_id))
    )


def _unreadable(fragment: Path) -> frozenset[str]:
    """Return the sha256 of an identity's downloaded files that were missing or damaged."""
    if not fragment.exists() or not read_record(fragment).ended.get("intake:failed"):
        return frozenset()
    rows = read_rows(fragment, ["content_sha256", "reason"])
    return frozenset(row["content_sha256"] for row in rows if row["reason"] == UNREADABLE_FILE)


def _lacks_captions(fragment: Path) -> bool:
    """Return whether the captioner failed on images of an identity. A refusal counts only if the image failed."""
    if not fragment.exists():
        return False
    record = read_record(fragment)
    return not CAPTION_FAULTS.isdisjoint(record.stand_ins) or record.ended.get("caption:failed", 0) > 0


def _packed_identities(folder: DatasetFolder) -> frozenset[str]:
    """Return the identities in packs.

    A finished dataset with all its packs contains all committed identities. Then identities.parquet, which may be damaged,
    is not read.
    """
    if folder.dataset_json.exists() and has_shards(folder):
        return frozenset(fragment.stem for fragment in folder.committed())
    try:
        return packed_identities(folder)
    except (OSError, pa.ArrowException):  # these identities are processed again
        return frozenset()


def _is_committed(folder: DatasetFolder, task: IdentityTask, hashes: Container[str], packed: Container[str]) -> bool:
    path = folder.fragment_path(task.identity_id)
    if not path.exists():
        return False
    record = read_record(path)
    if record.fingerprint != task.fingerprint or record.recipe_hash not in hashes:
        return False
    if not record.identity.get("shard") or task.identity_id in packed:
        return True
    shard = folder.root / record.identity["shard"]
    return shard.exists() and bool(shard.stat().st_size == record.identity["shard_bytes"])
