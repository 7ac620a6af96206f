"""A run: plan, find pending identities, execute, finish. A second run with the same recipe resumes the first."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from hifidata.config.recipe import Recipe
from hifidata.core.errors import DatasetError, UsageError
from hifidata.core.files import remove
from hifidata.run.executors.ray_cluster import require_address
from hifidata.run.finish import check_conservation, clean_up_crawl, finish, is_over_budget, report_path
from hifidata.run.plan import Plan, is_remote, make_plan
from hifidata.run.requirements import OnDownload, no_progress, require_packages, require_services, require_weights
from hifidata.run.resume import begin, is_complete, outdated_fragments, pending_identities
from hifidata.run.worker import Outcome
from hifidata.store.layout import DatasetFolder
from hifidata.store.originals import Originals


@dataclass
class Progress:
    """Progress of a run. The caller receives it after every committed identity.

    Attributes:
        n_identities, n_images: pending identities and candidates; n_images is None before the search of names.
        done_identities, done_images, kept, failed: counts of this run so far.
        resumed_identities: identities that earlier runs committed.
    """

    n_identities: int
    n_images: int | None
    resumed_identities: int
    done_identities: int = 0
    done_images: int = 0
    kept: int = 0
    failed: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one committed identity."""
        self.done_identities += 1
        self.done_images += outcome.n_kept + outcome.n_dropped + outcome.n_failed
        self.kept += outcome.n_kept
        self.failed += outcome.n_failed


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that are not part of the recipe.

    Attributes:
        out: dataset folder.
        address: address of a running Ray cluster, auto or HOST:PORT; None: this machine.
        limit: most identities of the source to process.
        accept_recipe_change: reprocess everything if another recipe made the folder.
        retry_failed: retry failed downloads, failed searches and failed captions of earlier runs.
        on_download: receives the progress of model downloads before the run.
        on_note: receives each of the plan's notes.
    """

    out: Path
    address: str | None = None
    limit: int | None = None
    accept_recipe_change: bool = False
    retry_failed: bool = False
    on_download: OnDownload = no_progress
    on_note: Callable[[str], None] = lambda note: None


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        dataset: content of dataset.json.
        report: path of the HTML report.
        over_budget: whether the run exceeded the failure budget.
        did_nothing: whether the dataset was already complete.
    """

    dataset: dict[str, Any]
    report: Path
    over_budget: bool
    did_nothing: bool = False


def run(recipe: Recipe, options: RunOptions, on_progress: Callable[[Progress], None]) -> RunResult:
    """Run a recipe on a dataset folder, or resume it.

    Raises:
        UsageError: the source, the folder, the recipe or a model file does not fit (exit 2).
        FolderLockedError: another run holds the folder's lock (exit 4).
    """
    folder = DatasetFolder(options.out)
    if options.address is not None:
        if recipe.executor.kind != "ray":
            raise UsageError(
                f"--address {options.address}: the local executor uses no Ray cluster; omit --address, or pass --executor ray"
            )
        require_address(options.address)
    folder.require_state()
    if is_remote(recipe):
        recipe.fetch.require_contact()
        _check_requirements(folder, recipe, options)
        folder.create()  # first, because the plan writes the index of a long list to the folder, under the lock
        with folder.lock():
            return _run(folder, make_plan(recipe, options.limit, folder.root), options, on_progress)
    plan = make_plan(recipe, options.limit)
    _check_out(folder, Path(getattr(recipe.source, "path", "")).absolute())
    _check_requirements(folder, recipe, options)
    folder.create()
    with folder.lock():
        return _run(folder, plan, options, on_progress)


def _run(folder: DatasetFolder, plan: Plan, options: RunOptions, on_progress: Callable[[Progress], None]) -> RunResult:
    recipe = plan.recipe
    for note in plan.notes:
        options.on_note(note)
    started_at = begin(folder, recipe, options.accept_recipe_change)
    pending = pending_identities(folder, plan, options.retry_failed)
    outdated = outdated_fragments(folder, plan, pending)
    if not pending and not outdated and is_complete(folder):
        clean_up_crawl(folder, plan)
        dataset = folder.read_dataset("name", "counts", "stages")
        return RunResult(dataset, report_path(folder), is_over_budget(recipe, dataset), did_nothing=True)
    if pending:
        require_services(recipe)
    folder.dataset_json.unlink(missing_ok=True)
    progress = Progress(len(pending), plan.n_candidates_of(pending), len(plan.candidates_of) - len(pending))
    on_progress(progress)
    originals = Originals(folder, recipe.fetch.keep_originals)
    if pending:
        with closing(_execute(recipe, pending, options)) as outcomes:
            for outcome in outcomes:
                if is_remote(recipe):  # not by the worker: Ray repeats a call whose outcome was lost
                    originals.forget(outcome.identity_id)
                progress.add(outcome)
                on_progress(progress)
    for fragment in outdated:
        for packed in (False, True):  # first, because the fragment tells that the shard is of this dataset
            remove(folder.shard_path(fragment.stem, packed))
        remove(fragment)
    check_conservation(folder, plan)
    dataset = finish(folder, recipe, started_at, plan)
    clean_up_crawl(folder, plan)
    return RunResult(dataset, report_path(folder), is_over_budget(recipe, dataset))


def _check_requirements(folder: DatasetFolder, recipe: Recipe, options: RunOptions) -> None:
    """Check packages and model files, and the servers of a new dataset, before a folder is created.

    Raises:
        UsageError: a package is missing on this machine, and the run uses this machine.
        WeightsError: a model file is missing or wrong.
        ServiceError: a server does not answer, or refuses the request.
    """
    if not options.address:
        require_packages(recipe)
    require_weights(recipe, options.on_download)
    if not folder.run_json.exists():
        require_services(recipe)


def _check_out(folder: DatasetFolder, source: Path) -> None:
    if folder.root.resolve().is_relative_to(source.resolve()):
        raise DatasetError(
            f"--out {folder.root}: is inside the source folder {source}, which would read the output as photos; choose "
            "another folder"
        )


def _execute(recipe: Recipe, pending: frozenset[str], options: RunOptions) -> Generator[Outcome, None, None]:
    out, run_id = options.out.absolute(), uuid4().hex
    if recipe.executor.kind == "local":
        from hifidata.run.executors.local import run_local

        return run_local(recipe, pending, out, run_id)
    from hifidata.run.executors.ray import run_ray  # the import of ray takes half a second

    return run_ray(recipe, pending, out, run_id, options.address)
