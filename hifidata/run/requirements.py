"""Which model files a recipe needs, whether they are here and right, and whether their licences fit the recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.core.errors import UsageError, WeightsError
from hifidata.models import registry
from hifidata.models.spec import ModelSpec, stage_spec
from hifidata.run.devices import OWN_PACKAGES
from hifidata.run.trial import try_extensions
from hifidata.stages.table import OUR_STAGES, stages_of
from hifidata.weights.catalogue import Made, Weight
from hifidata.weights.find import expected_files, look
from hifidata.weights.messages import Found, can_pull, lacking, looked_in, wrong_message
from hifidata.weights.pins import PINS_FILE, read_pins
from hifidata.weights.search_path import places, searching

NAMED_FILES = 6
"""Missing files that one line names."""
OnDownload = Callable[[str, int, "int | None"], None]


def ignore(name: str, n_bytes: int, total: int | None) -> None:
    """Progress that nobody watches."""


def needed_weights(recipe: Recipe) -> list[Weight]:
    """Catalogue entries of the recipe's models, each once, in the order of the stages."""
    weights = (weight for _, spec in _specs(recipe) for weight in spec.weights)
    return list({weight.name: weight for weight in weights}.values())


def check_licences(recipe: Recipe) -> None:
    """Raises WeightsError where ``licence_policy: permissive`` meets a model that nobody may use commercially."""
    if recipe.licence_policy != "permissive":
        return
    refused = [problem for model, spec in _specs(recipe) for problem in _restrictions(model, spec)]
    if refused:
        raise WeightsError(
            f"licence_policy permissive refuses {'; '.join(refused)}: choose other models, or set licence_policy: research"
        )


def weights_of(recipe: Recipe) -> list[dict[str, Any]]:
    """One row per needed file, for ``hifidata plan`` and dataset.json: what it is, where it lies, whether it is right."""
    with searching(recipe.weights.folder):
        return [describe(weight) for weight in needed_weights(recipe)]


def describe(weight: Weight, fresh: bool = False) -> dict[str, Any]:
    """An entry of the catalogue and its state on this machine.

    Args:
        weight: the entry.
        fresh: hash its bytes even where the unchanged file was hashed before.
    """
    found = look(weight, fresh)
    homes = [folder for folder in places() if found.path is None or found.path.is_relative_to(folder)]
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
        "made_from": weight.origin.source.name if isinstance(weight.origin, Made) else None,
        "licence": weight.licence,
        "commercial": weight.commercial,
        "commercial_use": {True: "yes", False: "no", None: "unknown"}[weight.commercial],
        "needed_by": registry.needed_by(weight.name),
        "state": found.state,
        "path": None if found.path is None else str(found.path),
        "problem": found.problem or None,
        "can_pull": can_pull(weight),
        "advice": wrong_message(weight, found) if found.is_wrong else None,
    }


def require_weights(recipe: Recipe, on_download: OnDownload = ignore) -> None:
    """Makes sure of every needed file before any work: fetches what is missing where the recipe says so.

    Raises:
        WeightsError: a licence does not fit, or a file is missing or altered; one line for all of them.
    """
    check_licences(recipe)
    with searching(recipe.weights.folder):
        try_own_files(recipe)
        looked = [(weight, look(weight)) for weight in needed_weights(recipe)]
        wrong = [(weight, found) for weight, found in looked if found.is_wrong]
        if wrong and recipe.weights.download:
            from hifidata.weights.download import pull

            pull([weight for weight, _ in wrong], on_download, make=registry.make)
        elif wrong:
            raise WeightsError(_refusal(wrong))
        _try_unknown_files(recipe)
        try_extensions(recipe)


def require_services(recipe: Recipe) -> None:
    """Asks the servers that stages will ask, before any work. Raises ServiceError where one is down or refuses us."""
    if recipe.caption.model == "openai":
        from hifidata.models.caption.chat_server import check_server  # aiohttp, which other runs do not need

        check_server(recipe.caption.server)


def explained(error: WeightsError, recipe: Recipe) -> WeightsError:
    """Adds to what a model said of its file that only a pin vouches for that file, where it is so."""
    with searching(recipe.weights.folder):
        for weight in needed_weights(recipe):
            found = look(weight)
            pinned = not expected_files(weight, None) and found.state in ("present", "altered")
            if pinned and str(found.path) in str(error):
                return WeightsError(
                    f"{error}; nobody publishes its hash, {PINS_FILE} pins what was downloaded first: `hifidata weights pull "
                    f"--replace {weight.name}` gets it anew"
                )
    return error


def require_packages(recipe: Recipe) -> None:
    """Raises UsageError where a model takes packages that a plain install lacks; a group may have packages of its own."""
    for stage, section, spec in _named(recipe):
        if spec.extra is None or _has_own_packages(recipe, stage):
            continue
        if absent := [name for name in spec.extra.packages if not _is_installed(name)]:
            raise UsageError(f"{stage}.model {section.model}: {', '.join(absent)} not installed; {spec.extra.remedy}")


def _has_own_packages(recipe: Recipe, stage: str) -> bool:
    """Whether the stage's workers are in another environment than this one."""
    groups = [] if recipe.executor.kind == "local" else recipe.worker_groups
    return any(group.runtime_env.keys() & OWN_PACKAGES for group in groups if stage in group.stages)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it is loaded, without saying from where
        return True


def try_own_files(recipe: Recipe) -> None:
    """Loads, once and here, the files that a recipe brings itself: another model's file is found before any work.

    Raises:
        WeightsError: one is missing, or fits no model that the recipe names; folders are only looked for.
    """
    _require_own_paths(recipe)
    for stage, section, spec in _named(recipe):
        in_folder = registry.custom_paths(spec, section)
        if getattr(section, "file", None) or (in_folder and not any(path.is_dir() for path in in_folder)):
            registry.load(stage, section.model, section)


def _try_unknown_files(recipe: Recipe) -> None:
    """Likewise files of the catalogue that no hash vouches for."""
    for stage in registry.BY_STAGE:
        section = getattr(recipe, stage)
        spec = registry.chosen(stage, section)
        unknown = spec and [weight for weight in spec.weights if look(weight).state == "unpinned"]
        if unknown and not any(weight.is_folder for weight in unknown):
            registry.load(stage, section.model, section)


def _require_own_paths(recipe: Recipe) -> None:
    """Raises WeightsError where a folder that a recipe names is none, or lacks a file of its model."""
    for stage, section, spec in _named(recipe):
        for path, weight in zip(registry.custom_paths(spec, section), spec.weights, strict=False):
            if not (path.is_dir() if weight.is_folder else path.is_file()):
                kind, wanted = ("folder", "the model") if weight.is_folder else ("file", path.name)
                raise WeightsError(
                    f"{stage}.folder: {path} is no {kind}; name a folder that holds {wanted}, or set it to null"
                )


def _named(recipe: Recipe) -> Iterator[tuple[str, Any, ModelSpec]]:
    """Stage, section and table entry of every model that the recipe names, whether its files are the catalogue's or not."""
    for stage in registry.BY_STAGE:
        section = getattr(recipe, stage)
        if section.model is not None:
            yield stage, section, registry.find(stage, section.model)


def _refusal(wrong: Sequence[tuple[Weight, Found]]) -> str:
    """One line: all there is to say of one file, of several the names and what to do."""
    if len(wrong) == 1:
        return wrong_message(*wrong[0])
    altered = [weight.file for weight, found in wrong if found.state == "altered"]
    missing = [weight.file for weight, found in wrong if found.state != "altered"]
    pulled = [weight.name for weight, _ in wrong if can_pull(weight)]
    made = [weight.name for weight, _ in wrong if lacking(weight)]
    takes = dict.fromkeys(name for weight, _ in wrong for name in lacking(weight))
    by_hand = [weight.name for weight, _ in wrong if weight.origin is None]
    ways = [f"run `hifidata weights pull {' '.join(pulled)}`"] if pulled else []
    ways += [f"`pip install {' '.join(takes)}`, then `hifidata weights pull {' '.join(made)}`"] if made else []
    ways += [f"bring by hand: {', '.join(by_hand)}"] if by_hand else []
    unnamed = f" and {len(missing) - NAMED_FILES} more" if len(missing) > NAMED_FILES else ""
    words = [f"not in {looked_in()}: {', '.join(missing[:NAMED_FILES])}{unnamed}"] if missing else []
    words += [f"not the right file: {', '.join(altered)}"] if altered else []
    return f"model files {'; '.join(words)}; {'; '.join(ways)}; `hifidata plan` says more of each"


def _specs(recipe: Recipe) -> Iterator[tuple[str, ModelSpec]]:
    """``stage:model`` and the spec of every model that the recipe names, stages of other packages among them."""
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
            unknown = "" if weight.commercial is False else "commercial use not known: "
            yield f"{model}'s {weight.file} ({unknown}{weight.licence})"
