"""Everything a run consists of, new or as a checkpoint left it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from hifimodel.config import TrainConfig
from hifimodel.data import Loader, StoredLandmarks, describe_shards
from hifimodel.errors import ConfigError
from hifimodel.nets.loading import Modules, build_modules, save_trained
from hifimodel.training import checkpoint
from hifimodel.training.draws import DrawSettings
from hifimodel.training.frozen import FrozenModels, Latents
from hifimodel.training.identity import identity_term
from hifimodel.training.latent_cache import LatentCache
from hifimodel.training.metrics import MetricSums
from hifimodel.training.options import RunOptions, Say, data_config, model_for_shards, require_same_run, with_record
from hifimodel.training.samples import FixedSamples
from hifimodel.training.step import Step, TrainedNets


@dataclass
class Run:
    """A run between two steps.

    Attributes:
        nets: ``TrainedNets`` as accelerate prepared it.
        done: optimizer steps so far.
        loader: of this process.
        latents: of the targets, perhaps from a cache.
        draws: settings of the noise.
        window: sums since the last row of metrics.
        base: digest of the frozen base.
        embedder: name and digest of the identity loss' recogniser, "" where that loss is turned off.
    """

    options: RunOptions
    accelerator: Accelerator
    modules: Modules
    frozen: FrozenModels
    step: Step
    nets: nn.Module
    optimizer: Any
    ema: EMAModel | None
    loader: Loader
    latents: Latents
    draws: DrawSettings
    window: MetricSums
    base: str
    embedder: str
    done: int = 0

    @property
    def settings(self) -> TrainConfig:
        """The preset's section ``train``."""
        return self.options.preset.train

    @property
    def bare_nets(self) -> nn.Module:
        """``TrainedNets`` without what DDP wraps around it."""
        return self.accelerator.unwrap_model(self.nets)

    def optimizer_step(self) -> bool:
        """False where fp16's scaler met an overflow: the weights stay as they were, and the next step scales by less.

        The scale says so. ``accelerator.optimizer_step_was_skipped`` does not: it notices whether the optimizer was called,
        and a fused one is called at every step and skips by itself.
        """
        scaler = self.accelerator.scaler
        if scaler is None:
            self.optimizer.step()
            return True
        scale = scaler.get_scale()
        self.optimizer.step()
        return bool(scaler.get_scale() >= scale)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within it the nets hold the EMA's weights, where there is one."""
        if self.ema is None:
            yield
            return
        parameters = self.modules.trainable()
        self.ema.store(parameters)
        self.ema.copy_to(parameters)
        try:
            yield
        finally:
            self.ema.restore(parameters)

    def write_nets(self, folder: Path) -> None:
        """``refiner/`` and ``hifinet/`` as generation takes them: with averaged weights, where there is an EMA."""
        with self.averaged_weights():
            save_trained(self.modules, folder)

    def save(self, position: dict[str, Any]) -> None:
        """Writes a checkpoint; ``position`` is that of the last batch that was trained on."""
        accelerator = self.accelerator
        shared: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            "ema": None,
        }
        if self.ema is not None:  # the averages are the nets that the checkpoint holds, and are not stored twice
            shared["ema"] = {name: value for name, value in self.ema.state_dict().items() if name != "shadow_params"}
            shared["weights"] = [weight.detach() for weight in self.modules.trainable()]
        own = {"loader": position, "window": self.window.state, "generators": checkpoint.generators()}
        facts = checkpoint.CheckpointFacts(self.done, accelerator.num_processes, self.base, self.embedder)
        checkpoint.save(self.options.out, facts, self.write_nets, shared, own, accelerator)
        if accelerator.is_main_process:
            checkpoint.prune(self.options.out, self.settings.keep_checkpoints)


def resolved(options: RunOptions, report: Say) -> RunOptions:
    """The options with the model that fits the shards.

    Raises:
        DataError: the shards hold another embedder's vectors than the preset wants, or nothing usable.
        CheckpointError: the folder holds a run of another preset.
        ConfigError: the preset says of references or landmarks what training does not do.
        LandmarkError: the landmark backend does not exist, or lacks its files.
    """
    StoredLandmarks(options.preset.train.landmarks, options.landmarks_weights).load()
    facts = describe_shards(data_config(options, (0, 1), clip_px=224, on_gpu=False))
    model, note = model_for_shards(options.preset.model, facts)
    if note:
        report(note)
    preset = with_record(options.preset, model, facts)
    require_same_run(preset, options.out)
    return replace(options, preset=preset)


def set_up(options: RunOptions, accelerator: Accelerator, report: Say) -> Run:
    """Builds the run, and goes on from its newest checkpoint where there is one; ``options`` are resolved."""
    model, train = options.preset.model, options.preset.train
    modules = build_modules(model, options.base)
    saved = None
    if found := checkpoint.checkpoints(options.out):
        saved = checkpoint.load(found[-1], modules, accelerator.process_index, accelerator.num_processes)
        report(f"going on after step {saved.facts.step}")
    base = checkpoint.base_digest(modules.base)
    frozen = FrozenModels(modules, model, train, accelerator.device)
    identity = identity_term(modules.base, model, train, accelerator.device, options.embedder)
    embedder = "" if identity is None else identity.recogniser
    if saved is not None:
        checkpoint.require_same_embedder(found[-1], saved.facts, embedder)
    nets, optimizer = accelerator.prepare(*_trained(modules, options, accelerator.device))
    side = model.image_px // 2 ** (len(modules.base.vae.config["block_out_channels"]) - 1)
    process = accelerator.process_index, accelerator.num_processes
    config = data_config(options, process, modules.face_encoder.image_px, accelerator.device.type == "cuda")
    loader = Loader(config, None if saved is None else saved.own["loader"])
    run = Run(
        options=options,
        accelerator=accelerator,
        modules=modules,
        frozen=frozen,
        step=Step(frozen, identity, train.id_weight),
        nets=nets,
        optimizer=optimizer,
        ema=None if train.ema_decay is None else EMAModel(modules.trainable(), train.ema_decay, foreach=True),
        loader=loader,
        latents=LatentCache(options.out / "latents", frozen, loader.state["shards"])
        if train.latent_cache
        else frozen.encode_targets,
        draws=DrawSettings(
            train.seed, side, modules.base.scheduler.config["num_train_timesteps"], model.face_drop_rate
        ),
        window=MetricSums(accelerator.device),
        base=base,
        embedder=embedder,
    )
    if saved is not None:
        _restore(run, saved)
    return run


def fixed_samples(run: Run) -> FixedSamples:
    """The samples of probe and grid: the first of a stream of their own, the same in every run of these shards."""
    config = data_config(run.options, (0, 1), run.modules.face_encoder.image_px, on_gpu=False)
    n_samples = run.settings.samples
    first = replace(config, batch_size=n_samples, window_identities=n_samples, workers=0, text_drop=0.0, epochs=None)
    batch = next(iter(Loader(first)))
    return FixedSamples(batch, run.frozen.prepare(batch, run.frozen.encode_targets))


def _trained(modules: Modules, options: RunOptions, device: torch.device) -> tuple[TrainedNets, torch.optim.Optimizer]:
    train = options.preset.train
    nets = TrainedNets(modules, options.preset).to(device).train()
    if train.channels_last:
        nets.hifinet.to(memory_format=torch.channels_last)
    if train.gradient_checkpointing:
        nets.hifinet.enable_gradient_checkpointing()
    if train.compile:
        nets.hifinet.compile()
    betas = (train.adam_beta1, train.adam_beta2)
    if train.optimizer == "adam":
        return nets, torch.optim.Adam(nets.parameters(), train.learning_rate, betas, fused=True)
    try:
        from bitsandbytes.optim import Adam8bit
    except ImportError as error:
        raise ConfigError(
            "train.optimizer: adam8bit needs the package bitsandbytes; install it, or set it to adam"
        ) from error
    return nets, Adam8bit(nets.parameters(), train.learning_rate, betas)


def _restore(run: Run, saved: checkpoint.SavedCheckpoint) -> None:
    run.done = saved.facts.step
    run.optimizer.load_state_dict(saved.shared["optimizer"])
    if run.accelerator.scaler is not None:
        run.accelerator.scaler.load_state_dict(saved.shared["scaler"])
    if run.ema is not None:  # it began with the nets of the checkpoint: the averages
        run.ema.load_state_dict(saved.shared["ema"])
        run.ema.to(run.accelerator.device)
        if "weights" in saved.shared:  # older checkpoints held the nets as trained, and the averages in the EMA's state
            with torch.no_grad():
                for weight, trained in zip(run.modules.trainable(), saved.shared["weights"], strict=True):
                    weight.copy_(trained)
    run.window.restore(saved.own["window"])
    checkpoint.restore_generators(saved.own["generators"])
