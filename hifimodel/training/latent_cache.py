"""Latents of target pictures on disk: a target's latent never changes, and encoding it costs a fifth of a step."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hifimodel.training.folders import TEMPORARY_PREFIX
from hifimodel.training.frozen import Frozen


class LatentCache:
    """``frozen.encode_targets`` that remembers.

    A batch of which one picture is missing is encoded whole, so that what is stored depends on the batches alone and not on
    what an interrupted run had stored before.

    Args:
        folder: a run's; files lie in a folder below it that belongs to these pictures, this VAE and this precision.
        frozen: has the VAE.
        shards: digest of the shards, from the loader's state.
    """

    def __init__(self, folder: Path, frozen: Frozen, shards: str) -> None:
        self._frozen = frozen
        self._folder = folder / _digest(frozen, shards)
        self.hits = 0

    def __call__(self, keys: list[str], pictures: Tensor) -> Tensor:
        """(B, 4, h, w) latents of pictures (B, 3, S, S) uint8."""
        device = self._frozen.device
        known = [self._read(key) for key in keys]
        if all(latents is not None for latents in known):
            self.hits += len(keys)
            return torch.stack([latents for latents in known if latents is not None]).to(device)
        made = self._frozen.encode_targets(keys, pictures)
        for place, (key, latents) in enumerate(zip(keys, known, strict=True)):
            if latents is None:
                self._write(key, made[place])
            else:
                made[place] = latents
        return made

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> Tensor | None:
        try:
            return load_file(self._path(key))["latents"]
        except FileNotFoundError:
            return None
        except SafetensorError:  # cut off by a crash of the machine: made again
            return None

    def _write(self, key: str, latents: Tensor) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
        save_file({"latents": latents.cpu().contiguous()}, temporary)
        temporary.replace(path)


def _digest(frozen: Frozen, shards: str) -> str:
    vae = frozen.base.vae
    digest = hashlib.sha256(f"{shards} {frozen.model.image_px} {vae.dtype} {vae.config['scaling_factor']}".encode())
    for part in vae.encoder.state_dict().values():
        digest.update(part.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
