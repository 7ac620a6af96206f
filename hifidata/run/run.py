"""A run from start to end: plan, resume, execute, finish. Running it again is how a run is resumed."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from hifidata.config.recipe import Recipe, changes
from hifidata.core.errors import ConservationError, DatasetError, UsageError
from hifidata.core.files import remove
from hifidata.core.schema import CAPTION_FAULTS, FORMAT_VERSION, IdentityTask
from hifidata.run.devices import used
from hifidata.run.executors.ray_cluster import require_address
from hifidata.run.plan import (
    Plan,
    extensions_of,
    is_remote,
    list_tasks,
    make_plan,
    models_of,
    package_versions,
    stage_table,
)
from hifidata.run.requirements import (
    OnDownload,
    ignore,
    require_packages,
    require_services,
    require_weights,
    weights_of,
)
from hifidata.run.worker import Outcome
from hifidata.stages.table import image_columns
from hifidata.store.fragments import MANIFESTS, CommitRecord, compact, read_record
from hifidata.store.layout import DatasetFolder, write_json
from hifidata.store.originals import remove_logs, sweep
from hifidata.store.packs import pack_identities, packed_identities
from hifidata.store.verify import compare_manifests, has_shards, list_manifests, require_manifests


@dataclass
class Progress:
    """Where a run stands; handed to the caller after every committed identity.

    Attributes:
        n_identities, n_images: what this run has to do; images are unknown until people have been searched for.
        done_identities, done_images, kept: what it has done.
        resumed_identities: what earlier runs had already committed.
    """

    n_identities: int
    n_images: int | None
    resumed_identities: int
    done_identities: int = 0
    done_images: int = 0
    kept: int = 0
    failed: int = 0

    def add(self, outcome: Outcome) -> None:
        """Counts one committed identity."""
        self.done_identities += 1
        self.done_images += outcome.n_kept + outcome.n_dropped + outcome.n_failed
        self.kept += outcome.n_kept
        self.failed += outcome.n_failed


@dataclass(frozen=True)
class RunOptions:
    """What the command line adds to a recipe.

    Attributes:
        out: dataset folder.
        address: Ray cluster to use instead of this machine: auto or HOST:PORT.
        limit: at most so many identities of the source.
        accept_recipe_change: redo everything if the folder was made by another recipe.
        retry_failed: fetch URLs again that an earlier run could not fetch, and ask again where a captioner failed.
        on_download: progress of weights that are fetched first, where the recipe says so.
    """

    out: Path
    address: str | None = None
    limit: int | None = None
    accept_recipe_change: bool = False
    retry_failed: bool = False
    on_download: OnDownload = ignore


@dataclass(frozen=True)
class RunResult:
    """A finished run: the contents of dataset.json, and whether the failure budget held."""

    dataset: dict[str, Any]
    report: Path
    over_budget: bool
    did_nothing: bool = False


def run(recipe: Recipe, options: RunOptions, on_progress: Callable[[Progress], None]) -> RunResult:
    """Runs or resumes a recipe on a dataset folder.

    Raises:
        UsageError: the source, the folder, the recipe or a model file does not fit (exit 2).
        FolderLockedError: another run holds the folder (exit 4).
    """
    folder = DatasetFolder(options.out)
    if options.address is not None:
        if recipe.executor.kind != "ray":
            raise UsageError("--address names a Ray cluster, which the local executor does not use")
        require_address(options.address)
    folder.require_state()
    if is_remote(recipe):
        recipe.fetch.require_contact()
        _require_what_is_needed(folder, recipe, options)
        folder.create()  # the index of a long list goes there, and nothing may be touched that another run holds
        with folder.lock():
            return _run(folder, make_plan(recipe, options.limit, folder.root), options, on_progress)
    plan = make_plan(recipe, options.limit)
    _check_out(folder, Path(getattr(recipe.source, "path", "")).absolute())
    _require_what_is_needed(folder, recipe, options)
    folder.create()
    with folder.lock():
        return _run(folder, plan, options, on_progress)


def _run(folder: DatasetFolder, plan: Plan, options: RunOptions, on_progress: Callable[[Progress], None]) -> RunResult:
    recipe = plan.recipe
    started_at = _begin(folder, recipe, options.accept_recipe_change)
    hashes = folder.recipe_hashes()
    packed = _packed(folder) if recipe.output.layout == "packed" else frozenset[str]()
    pending = frozenset(
        task.identity_id
        for task in list_tasks(recipe, plan.candidates_of, options.out)
        if not _is_committed(folder, task, hashes, packed)
    )
    if options.retry_failed:
        pending |= _reopened(folder, plan)
    stale = _stale(folder, plan, pending)
    if not pending and not stale and _is_whole(folder):
        _forget_who_left(folder, plan)
        dataset = folder.read_dataset()
        return RunResult(dataset, report_path(folder), _over_budget(recipe, dataset), did_nothing=True)
    if pending:
        require_services(recipe)
    folder.dataset_json.unlink(missing_ok=True)
    progress = Progress(len(pending), plan.n_candidates_of(pending), len(plan.candidates_of) - len(pending))
    on_progress(progress)
    if pending:
        with closing(_execute(recipe, pending, options)) as outcomes:
            for outcome in outcomes:
                progress.add(outcome)
                on_progress(progress)
    for fragment in stale:
        remove(fragment)
    _check_conservation(folder, plan)
    dataset = finish(folder, recipe, started_at, plan.is_limited)
    _forget_who_left(folder, plan)
    return RunResult(dataset, report_path(folder), _over_budget(recipe, dataset))


def _require_what_is_needed(folder: DatasetFolder, recipe: Recipe, options: RunOptions) -> None:
    """Before a folder is made: packages, model files, and the servers where work is certain.

    Raises:
        UsageError: a package is missing on this machine, where this machine does the work.
        WeightsError: a model file is missing or wrong.
        ServiceError: a server does not answer, or refuses us.
    """
    if not options.address:
        require_packages(recipe)
    require_weights(recipe, options.on_download)
    if not folder.run_json.exists():
        require_services(recipe)


def _forget_who_left(folder: DatasetFolder, plan: Plan) -> None:
    """What a crawl keeps goes with the people and pictures that have left the list, whenever they left."""
    if is_remote(plan.recipe) and not plan.is_limited:
        remove_logs(folder, plan.candidates_of)
        sweep(folder)


def _check_out(folder: DatasetFolder, source: Path) -> None:
    if folder.root.is_relative_to(source):
        raise DatasetError(
            f"--out {folder.root}: lies inside the source {source} and would be read as photos; move it out"
        )


def _reopened(folder: DatasetFolder, plan: Plan) -> frozenset[str]:
    """People some of whose downloads or captions failed; their log forgets the failures, their commit stands meanwhile."""
    from hifidata.run.crawl import reopen

    return frozenset(
        identity_id
        for identity_id in plan.candidates_of
        if reopen(folder, identity_id) or _lacks_captions(folder.fragment_path(identity_id))
    )


def _lacks_captions(fragment: Path) -> bool:
    """Whether a captioner failed on a committed person's pictures; a refusal is not tried again unless it cost the picture."""
    if not fragment.exists():
        return False
    record = read_record(fragment)
    return not CAPTION_FAULTS.isdisjoint(record.stand_ins) or record.ended.get("caption:failed", 0) > 0


def _execute(recipe: Recipe, pending: frozenset[str], options: RunOptions) -> Generator[Outcome, None, None]:
    out = options.out.absolute()
    if recipe.executor.kind == "local":
        from hifidata.run.executors.local import run_local

        return run_local(recipe, pending, out)
    from hifidata.run.executors.ray import run_ray  # ray takes half a second to import

    return run_ray(recipe, pending, out, options.address)


def _begin(folder: DatasetFolder, recipe: Recipe, accept_change: bool) -> str:
    """Records the recipe the folder belongs to; returns when its first run started."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if folder.run_json.exists():
        before = folder.read_run()
        if before["recipe_hash"] == recipe.hash:
            return str(before["started_at"])
        changed = changes(before["recipe"], recipe)
        if not changed:  # an earlier version said the same in other words
            earlier = [*before.get("earlier_hashes", ()), before["recipe_hash"]]
            write_json(folder.run_json, before | {"recipe_hash": recipe.hash, "earlier_hashes": earlier})
            return str(before["started_at"])
        if not accept_change:
            raise DatasetError(
                f"--out {folder.root}: was made by another recipe ({'; '.join(changed)}); choose another --out, or pass "
                "--accept-recipe-change to redo everything with this one"
            )
    content = {"recipe_hash": recipe.hash, "started_at": now, "recipe": recipe.model_dump(mode="json")}
    write_json(folder.run_json, content)
    return now


def _is_whole(folder: DatasetFolder) -> bool:
    """Manifests are small enough to be hashed at every start; shards, which are not, are known by their size."""
    needed = [folder.dataset_json, report_path(folder), *(folder.manifests / f"{name}.parquet" for name in MANIFESTS)]
    return all(path.exists() for path in needed) and not any(compare_manifests(folder).values())


def _packed(folder: DatasetFolder) -> frozenset[str]:
    """Who lies in a pack; a finished dataset that has its packs tells it without identities.parquet, which may be damaged."""
    if folder.dataset_json.exists() and has_shards(folder):
        return frozenset(fragment.stem for fragment in folder.committed())
    try:
        return packed_identities(folder)
    except (OSError, pa.ArrowException):  # these people are done anew
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


def _stale(folder: DatasetFolder, plan: Plan, pending: Container[str]) -> list[Path]:
    """Fragments of people the source no longer has, and those another recipe left that nothing will replace."""
    return [
        fragment
        for fragment in folder.committed()
        if fragment.stem not in pending
        and (
            (fragment.stem not in plan.candidates_of and not plan.is_limited)
            or read_record(fragment).recipe_hash not in folder.recipe_hashes()
        )
    ]


def _check_conservation(folder: DatasetFolder, plan: Plan) -> None:
    """Every candidate that was planned is committed. Raises ConservationError."""
    for identity_id, n_planned in plan.candidates_of.items():
        path = folder.fragment_path(identity_id)
        n_committed = int(read_record(path).identity["n_candidates"]) if path.exists() else 0
        if n_planned not in (None, n_committed) or not path.exists():
            raise ConservationError(
                f"identity {identity_id}: {n_planned} candidates were planned, {n_committed} are committed; "
                "did the source change during the run? The same command goes on from here"
            )


def finish(folder: DatasetFolder, recipe: Recipe, started_at: str, is_limited: bool) -> dict[str, Any]:
    """Everything after the last commit: pack, compact, report, card, and dataset.json as the last file."""
    fragments = folder.committed()
    records = [read_record(fragment) for fragment in fragments]
    moved = pack_identities(folder, records, recipe.output.max_shard_bytes) if recipe.output.layout == "packed" else {}
    _remove_orphan_shards(folder, {shard["path"] for shard in _shard_list(records, moved)})
    compact(fragments, folder.manifests, moved, image_columns(recipe))
    dataset = describe(recipe, records, started_at)
    dataset["is_limited"] = is_limited
    dataset["shards"] = _shard_list(records, moved)
    dataset["manifests"] = list_manifests(folder)
    write_reports(folder, dataset)
    write_json(folder.dataset_json, dataset)
    shutil.rmtree(folder.waiting_originals, ignore_errors=True)  # what kills between commit and tidying up have left
    for record in folder.fragments.glob("??/*.earlier"):
        record.unlink()
    if moved:
        shutil.rmtree(folder.state / "shards")  # the packs hold them now, and dataset.json says so
    return dataset


def _remove_orphan_shards(folder: DatasetFolder, owned: Container[str]) -> None:
    """Shards whose identity is gone, packs of another layout, and what a kill between shard and fragment left."""
    for shard in [*folder.shards.glob("??/*.tar"), *folder.shards.glob("pack-*.tar")]:
        if shard.relative_to(folder.root).as_posix() not in owned:
            remove(shard)


def _shard_list(records: Sequence[CommitRecord], moved: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    shards: dict[str, dict[str, Any]] = {}
    for record in records:
        row = record.identity | moved.get(record.identity["identity_id"], {})
        if row.get("shard"):
            entry = {"path": row["shard"], "sha256": row["shard_sha256"], "bytes": row["shard_bytes"], "samples": 0}
            shards.setdefault(row["shard"], entry)["samples"] += row["n_kept"]
    return [shards[path] for path in sorted(shards)]


def write_reports(folder: DatasetFolder, dataset: dict[str, Any]) -> None:
    """The HTML report, the dataset card and croissant.json. Raises DatasetError where a manifest is not as it was written."""
    from hifidata.report.card import write_card
    from hifidata.report.croissant import write_croissant
    from hifidata.report.html import write_report

    if folder.dataset_json.exists():  # else a run has just written them
        require_manifests(folder, *MANIFESTS)
    write_report(folder.root, dataset)
    write_card(folder.root, dataset)
    write_croissant(folder.root, dataset)


def report_path(folder: DatasetFolder) -> Path:
    """Where the HTML report lies."""
    return folder.root / "report" / "index.html"


def describe(recipe: Recipe, records: Sequence[CommitRecord], started_at: str) -> dict[str, Any]:
    """dataset.json without its shards and manifests."""
    identities = [record.identity for record in records]
    counts = {name: sum(row[f"n_{name}"] for row in identities) for name in ("candidates", "kept", "dropped", "failed")}
    table = stage_table(recipe)
    return {
        "format_version": FORMAT_VERSION,
        "name": recipe.name,
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash,
        "packages": package_versions(),
        "models": models_of(recipe),
        "extensions": extensions_of(recipe),
        "onnx_providers": used(record.providers for record in records),
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


def _over_budget(recipe: Recipe, dataset: dict[str, Any]) -> bool:
    """Whether too many candidates failed, or too many of what is kept for want of a caption."""
    counts, allowed = dataset["counts"], recipe.failures.max_share
    return bool(counts["failed"] > allowed * counts["candidates"] or caption_faults(dataset) > allowed * counts["kept"])


def caption_faults(dataset: Mapping[str, Any]) -> int:
    """Kept pictures with a stand-in for the caption that a server, or its model, failed to give."""
    return sum(dataset.get("caption_stand_ins", {}).get(str(problem), 0) for problem in CAPTION_FAULTS)
