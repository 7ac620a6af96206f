"""The options of a run, and the check that its preset matches the shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hifimodel.config import ModelConfig, PresetConfig, load_preset, require_same_model, require_same_training
from hifimodel.data import DataConfig, ShardFacts
from hifimodel.errors import ConfigError, DataError
from hifimodel.nets.embedder import EMBEDDERS
from hifimodel.training.folders import MODEL_FOLDER, PRESET_FILE

TINY_EMBEDDER = "tiny-random"


@dataclass(frozen=True)
class RunOptions:
    """The options of the command line.

    Attributes:
        shards: dataset folder, folder of tars, or pattern.
        out: folder of the run.
        preset: the preset, later with the model that matches the shards.
        base: see ``hifimodel.nets.loading.build_modules``.
        embedder: file or folder of the recogniser of the identity loss.
        landmarks_weights: see ``hifimodel.landmarks.load_backend``.
    """

    shards: str
    out: Path
    preset: PresetConfig
    base: str | None = None
    embedder: Path | None = None
    landmarks_weights: Path | None = None


def model_for_shards(model: ModelConfig, facts: ShardFacts) -> tuple[ModelConfig, str]:
    """Return the model with the embedder of the shards, and a message about the change, "" for none.

    No shards have vectors of the untrained embedder, so a preset with it uses the embedder of the shards. The checkpoint
    then names that embedder, by hifimodel's name if there is one, else by hifidata's.

    Raises:
        DataError: the preset names another embedder than that of the shards.
    """
    names = {spec.stored_as: name for name, spec in EMBEDDERS.items() if spec.stored_as}
    if model.embedder == TINY_EMBEDDER:
        name = names.get(facts.embedding_model, facts.embedding_model)
        taken = model.model_copy(update={"embedder": name, "embedder_dim": facts.embedding_dim})
        return taken, f"model.embedder: {name} with {facts.embedding_dim} numbers, as in the shards"
    wanted = EMBEDDERS[model.embedder].stored_as if model.embedder in EMBEDDERS else model.embedder
    if (wanted, model.embedder_dim) != (facts.embedding_model, facts.embedding_dim):
        name = names.get(facts.embedding_model, facts.embedding_model)
        loss = "" if name in EMBEDDERS else " (then the identity loss needs --embedder, or train.id_weight=0)"
        raise DataError(
            f"shards: embeddings of {facts.embedding_dim} numbers by {facts.embedding_model}, the preset needs "
            f"{model.embedder_dim} by {wanted} ({model.embedder}); build the shards with `hifidata run ... --set "
            f"verify.model={wanted}`, or set model.embedder={name} and model.embedder_dim={facts.embedding_dim}{loss}"
        )
    return model, ""


def with_record(preset: PresetConfig, model: ModelConfig, facts: ShardFacts) -> PresetConfig:
    """Return the preset with ``model`` and a record of landmarks and matting, so that generation prepares photos like training.

    Raises:
        ConfigError: the preset has other values than training uses.
    """
    done = {"landmarks": preset.train.landmarks, "matting": facts.matting}
    for name, what in done.items():
        said = getattr(model, name)
        if name in model.model_fields_set and said != what:
            source = "train.landmarks" if name == "landmarks" else "the shards' .alpha.png"
            raise ConfigError(
                f"model.{name}: {said}, but {source} give {what}; change that, and remove model.{name}: training records it"
            )
    return preset.model_copy(update={"model": model.model_copy(update=done)})


def require_same_run(preset: PresetConfig, out: Path) -> None:
    """Raise CheckpointError, naming every difference, if ``out`` contains a run of another preset."""
    path = out / PRESET_FILE
    has_trained = (out / MODEL_FOLDER).exists() or any(out.glob("checkpoints/step-*"))
    if has_trained and path.exists():
        before = load_preset(path)
        require_same_model(before.model, preset.model, str(out))
        require_same_training(before.train, preset.train, str(out))


def data_config(options: RunOptions, process: tuple[int, int], clip_px: int, on_gpu: bool) -> DataConfig:
    """Return the loader settings of one process, (rank, number of processes)."""
    model, train = options.preset.model, options.preset.train
    rank, n_processes = process
    return DataConfig(
        options.shards,
        size_px=model.image_px,
        batch_size=train.micro_batch(n_processes),
        min_references=train.min_references,
        max_references=train.max_references,
        text_drop=train.text_drop,
        min_images=train.min_images_per_identity,
        seed=train.seed,
        rank=rank,
        world_size=n_processes,
        workers=train.loader_workers,
        clip_px=clip_px,
        landmarks=train.landmarks,
        landmarks_weights=options.landmarks_weights,
        pin_memory=on_gpu,
    )
