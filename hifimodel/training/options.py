"""What a run is asked for, and whether the preset fits the shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hifimodel.config import ModelConfig, PresetConfig, load_preset, require_same_model, require_same_training
from hifimodel.data import DataConfig, ShardFacts
from hifimodel.errors import ConfigError, DataError
from hifimodel.nets.embedder import EMBEDDERS

PRESET_FILE = "preset.yaml"
"""The resolved preset in a run's folder."""
TINY_EMBEDDER = "tiny-random"

Say = Callable[[str], None]
"""Takes a line for the person who waits."""


@dataclass(frozen=True)
class RunOptions:
    """What the command line says.

    Attributes:
        shards: a dataset folder, a folder of tars, or a pattern.
        out: the run's folder.
        preset: the resolved preset.
        base: see ``hifimodel.nets.loading.build_modules``.
        embedder: the recogniser's file or folder for the identity loss.
        landmarks_weights: files of the landmark backend, see ``hifimodel.landmarks.load_backend``.
    """

    shards: str
    out: Path
    preset: PresetConfig
    base: str | None = None
    embedder: Path | None = None
    landmarks_weights: Path | None = None


def model_for_shards(model: ModelConfig, facts: ShardFacts) -> tuple[ModelConfig, str]:
    """The model with the embedder whose vectors the shards hold, and a line about what was changed, "" for nothing.

    An untrained embedder's vectors lie in no shard, so a preset that names it takes whatever the shards hold; the
    checkpoint then names that embedder, by our name where it has one and by hifidata's elsewhere.

    Raises:
        DataError: the preset wants a certain embedder, and the shards hold another one's vectors.
    """
    names = {spec.stored_as: name for name, spec in EMBEDDERS.items() if spec.stored_as}
    if model.embedder == TINY_EMBEDDER:
        name = names.get(facts.embedding_model, facts.embedding_model)
        taken = model.model_copy(update={"embedder": name, "embedder_dim": facts.embedding_dim})
        return taken, f"model.embedder: {name} with {facts.embedding_dim} numbers, as the shards hold"
    wanted = EMBEDDERS[model.embedder].stored_as if model.embedder in EMBEDDERS else model.embedder
    if (wanted, model.embedder_dim) != (facts.embedding_model, facts.embedding_dim):
        name = names.get(facts.embedding_model, facts.embedding_model)
        loss = "" if name in EMBEDDERS else " (then the identity loss needs --embedder, or train.id_weight=0)"
        raise DataError(
            f"shards: embeddings of {facts.embedding_dim} numbers by {facts.embedding_model}, the preset wants "
            f"{model.embedder_dim} by {wanted} ({model.embedder}); make them with `hifidata run ... --set "
            f"verify.model={wanted}`, or set model.embedder={name} and model.embedder_dim={facts.embedding_dim}{loss}"
        )
    return model, ""


def with_record(preset: PresetConfig, model: ModelConfig, facts: ShardFacts) -> PresetConfig:
    """The preset with ``model``, into which goes what generation must do to photos because training did it to references.

    Raises:
        ConfigError: the preset says something else than what training does.
    """
    done = {"landmarks": preset.train.landmarks, "matting": facts.matting}
    for name, what in done.items():
        said = getattr(model, name)
        if name in model.model_fields_set and said != what:
            source = "train.landmarks" if name == "landmarks" else "the shards' .alpha.png"
            raise ConfigError(
                f"model.{name}: {said}, but by {source} it is {what}; change that, and leave model.{name} out: training records it"
            )
    return preset.model_copy(update={"model": model.model_copy(update=done)})


def require_same_run(preset: PresetConfig, out: Path) -> None:
    """Raises CheckpointError, naming every difference, where ``out`` holds what a run of another preset has trained."""
    path = out / PRESET_FILE
    has_trained = (out / "model").exists() or any(out.glob("checkpoints/step-*"))
    if has_trained and path.exists():
        before = load_preset(path)
        require_same_model(before.model, preset.model, str(out))
        require_same_training(before.train, preset.train, str(out))


def data_config(options: RunOptions, process: tuple[int, int], clip_px: int, on_gpu: bool) -> DataConfig:
    """Settings of the loader of one process, (rank, number of processes)."""
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
