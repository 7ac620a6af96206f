"""The parts of a run, new or restored from a checkpoint."""

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
from hifimodel.console import Say
from hifimodel.data import Loader, StoredLandmarks, describe_shards
from hifimodel.errors import ConfigError
from hifimodel.nets.loading import Modules, build_modules, save_trained
from hifimodel.training import checkpoint
from hifimodel.training.draws import DrawSettings
from hifimodel.training.frozen import FrozenModels, Latents
from hifimodel.training.identity import identity_term
from hifimodel.training.latent_cache import LatentCache
from hifimodel.training.metrics import MetricSums
from hifimodel.training.options import RunOptions, data_config, model_for_shards, require_same_run, with_record
from hifimodel.training.samples import FixedSamples
from hifimodel.training.step import Step, TrainedNets


@dataclass
class Run:
    """The state of a run between two steps.

    Attributes:
        nets: ``TrainedNets``, prepared by accelerate.
        done: optimizer steps so far.
        loader: of this process.
        latents: of the targets, optionally cached.
        draws: settings of the noise.
        sums: sums since the last row of metrics.
        base: digest of the frozen base.
        embedder: name and digest of the recogniser of the identity loss; "" without that loss.
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
    sums: MetricSums
    base: str
    embedder: str
    done: int = 0

    @property
    def settings(self) -> TrainConfig:
        """The section ``train`` of the preset."""
        return self.options.preset.train

    @property
    def bare_nets(self) -> nn.Module:
        """``TrainedNets`` without the DDP wrapper."""
        return self.accelerator.unwrap_model(self.nets)

    def optimizer_step(self) -> bool:
        """Step the optimizer; returns False after an fp16 overflow, which leaves the weights unchanged and lowers the scale.

        The scale detects the overflow. ``accelerator.optimizer_step_was_skipped`` only detects whether the optimizer was
        called, and a fused optimizer is called at every step and skips internally.
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
        """Use the EMA's weights during the block, if there is an EMA."""
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
        """Write ``refiner/`` and ``hifinet/`` for generation: with averaged weights if there is an EMA."""
        with self.averaged_weights():
            save_trained(self.modules, folder)

    def save(self, position: dict[str, Any]) -> None:
        """Write a checkpoint; ``position`` is that of the last trained batch."""
        accelerator = self.accelerator
        shared: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            "ema": None,
        }
        if self.ema is not None:  # the checkpoint stores the averages as its networks, not a second time
            shared["ema"] = {name: value for name, value in self.ema.state_dict().items() if name != "shadow_params"}
            shared["weights"] = [weight.detach() for weight in self.modules.trainable()]
        own = {"loader": position, "window": self.sums.state, "generators": checkpoint.generators()}
        facts = checkpoint.CheckpointFacts(self.done, accelerator.num_processes, self.base, self.embedder)
        checkpoint.save(self.options.out, facts, self.write_nets, shared, own, accelerator)
        if accelerator.is_main_process:
            checkpoint.prune(self.options.out, self.settings.keep_checkpoints)


def resolved(options: RunOptions, say: Say) -> RunOptions:
    """Return the options with the model that matches the shards.

    Raises:
        DataError: the shards have another embedder than the preset, or no usable image.
        CheckpointError: the folder contains a run of another preset.
        ConfigError: the preset has other values for landmarks or matting than training uses.
        LandmarkError: the landmark backend does not exist, or a file is missing.
    """
    StoredLandmarks(options.preset.train.landmarks, options.landmarks_weights).load()
    facts = describe_shards(data_config(options, (0, 1), clip_px=224, on_gpu=False))
    model, note = model_for_shards(options.preset.model, facts)
    if note:
        say(note)
    preset = with_record(options.preset, model, facts)
    require_same_run(preset, options.out)
    return replace(options, preset=preset)


def set_up(options: RunOptions, accelerator: Accelerator, say: Say) -> Run:
    """Build a run, and restore its newest checkpoint if there is one; ``options`` are those of ``resolved``."""
    model, train = options.preset.model, options.preset.train
    modules = build_modules(model, options.base)
    saved = None
    if found := checkpoint.checkpoints(options.out):
        saved = checkpoint.load(found[-1], modules, accelerator.process_index, accelerator.num_processes)
        say(f"resuming after step {saved.facts.step}")
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
    if saved is None:
        loader = Loader(config)
    else:
        with checkpoint.readable(found[-1]):
            loader = Loader(config, saved.own["loader"])
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
        sums=MetricSums(accelerator.device),
        base=base,
        embedder=embedder,
    )
    if saved is not None:
        with checkpoint.readable(found[-1]):
            _restore(run, saved)
    return run


def fixed_samples(run: Run) -> FixedSamples:
    """Return the samples of probe and grid: the first of a separate stream, equal in all runs on these shards."""
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
    if run.ema is not None:  # it started with the averages, which are the networks of the checkpoint
        run.ema.load_state_dict(saved.shared["ema"])
        run.ema.to(run.accelerator.device)
        if (
            "weights" in saved.shared
        ):  # older checkpoints have the weights as trained, and the averages in the state of the EMA
            with torch.no_grad():
                for weight, trained in zip(run.modules.trainable(), saved.shared["weights"], strict=True):
                    weight.copy_(trained)
    run.sums.restore(saved.own["window"])
    checkpoint.restore_generators(saved.own["generators"])
