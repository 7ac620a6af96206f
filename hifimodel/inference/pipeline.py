"""HiFi-Portrait as a diffusers pipeline: SDXL's, with HiFi-Net and any other control branches beside the UNet.

    pipeline = HiFiPortraitPipeline.from_trained("runs/demo", base="stabilityai/stable-diffusion-xl-base-1.0")
    portrait = pipeline("a portrait, in a garden", condition, generator=torch.Generator().manual_seed(0)).images[0]

The methods are in the order of ``__call__``. Prompts, latents, LoRA, textual inversion, IP-Adapter and offload are the
parent's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from hifimodel.errors import ConditionError
from hifimodel.inference.branches import Branch, StepInputs, summed_residuals
from hifimodel.inference.conditions import PortraitCondition
from hifimodel.inference.face_branch import FaceNets
from hifimodel.inference.safety import SafetyCheck
from hifimodel.nets.checkpoint import require_fit
from hifimodel.nets.face_refiner import FaceRefiner
from hifimodel.nets.hifinet import HiFiNet
from hifimodel.nets.loading import Modules, load_saved, load_trained

logger = logging.getLogger(__name__)

OnStepEnd = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


@dataclass
class PortraitOutput(BaseOutput):
    """The output of the pipeline.

    Attributes:
        images: PIL images, an array, or a tensor, by ``output_type``.
        nsfw_content_detected: one bool per image, True for a flagged image, which is black; None without a check.
    """

    images: list[Image.Image] | Any
    nsfw_content_detected: list[bool] | None


def trailing_ddim(scheduler: KarrasDiffusionSchedulers) -> DDIMScheduler:
    """Make DDIM over the same noise schedule, from the noisiest timestep to the image without noise.

    Source: section 4.1, "DDIM sampler with 8-steps SDXL-Lightning". Lightning is distilled on trailing timesteps, counted from
    the noisiest. diffusers' defaults start at 875 of 999, clip latents to [-1, 1] and leave some noise.
    """
    return DDIMScheduler.from_config(
        scheduler.config, timestep_spacing="trailing", clip_sample=False, thresholding=False, set_alpha_to_one=True
    )


class HiFiPortraitPipeline(StableDiffusionXLPipeline):
    """Portraits of a person from 1 to 6 photos, with the expression and head pose of another photo.

    The other methods of ``StableDiffusionXLPipeline`` work as usual: ``from_pretrained``, ``save_pretrained``, other
    schedulers, ``load_lora_weights``, ``load_ip_adapter``, ``enable_model_cpu_offload``. Any SDXL model can be the base, since
    the UNet is not changed.

    Args:
        hifinet: the trained network; its config defines the behaviour of the other parts.
        refiner: the trained face refiner.
        face_vision: the CLIP vision tower of the training.
        force_zeros_for_empty_prompt: whether empty prompts are zeros instead of an encoded ""; None: as in training.

    Attributes:
        safety_check: flags images that must not be shown; see ``hifimodel.inference.safety``.
        requires_safety_check: whether to warn if images are not checked.

    Raises:
        CheckpointError: the parts were not trained together, or with another landmark style.
        ConditionError: the base is not an SDXL model.
    """

    # HiFi-Net is not in the list: it alternates with the UNet, and moving both at every step would cost more than it saves.
    model_cpu_offload_seq = "text_encoder->text_encoder_2->face_vision->refiner->image_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        hifinet: HiFiNet,
        refiner: FaceRefiner,
        face_vision: CLIPVisionModel,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        force_zeros_for_empty_prompt: bool | None = None,
        add_watermarker: bool | None = None,
    ) -> None:
        require_fit(hifinet, refiner, face_vision, unet)
        zeros = hifinet.choices.empty_text == "zeros"
        super().__init__(
            vae,
            text_encoder,
            text_encoder_2,
            tokenizer,
            tokenizer_2,
            unet,
            scheduler,
            image_encoder,
            feature_extractor,
            zeros if force_zeros_for_empty_prompt is None else force_zeros_for_empty_prompt,
            add_watermarker,
        )
        self.register_modules(hifinet=hifinet, refiner=refiner, face_vision=face_vision)
        self.safety_check: SafetyCheck | None = None
        self.requires_safety_check = True

    @classmethod
    def from_modules(cls, modules: Modules) -> HiFiPortraitPipeline:
        """Make the pipeline of loaded modules, for example during training; shares their weights."""
        base = modules.base
        return cls(
            base.vae,
            base.text_encoder,
            base.text_encoder_2,
            base.tokenizer,
            base.tokenizer_2,
            base.unet,
            trailing_ddim(base.scheduler),
            modules.hifinet,
            modules.refiner,
            modules.face_encoder.vision,
        )

    @classmethod
    def from_trained(cls, folder: str | Path, base: str | Path | None = None) -> HiFiPortraitPipeline:
        """Load a trained model over any SDXL base.

        Args:
            folder: folder of a training run, its model folder, or a folder of ``save_pretrained``.
            base: folder or Hub name of an SDXL model in diffusers' layout; None: the base in a folder of
                ``save_pretrained``, or that of the tiny architecture.

        Raises:
            WeightsError: a part is missing or cannot be loaded.
            CheckpointError, ConditionError: the parts do not match.
        """
        if base is None and (Path(folder) / cls.config_name).is_file():
            return load_saved(cls, Path(folder))
        return cls.from_modules(load_trained(folder, base))

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        faces: PortraitCondition | Sequence[PortraitCondition] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 8,
        guidance_scale: float = 0.0,
        controlnet_conditioning_scale: float = 1.0,
        control_guidance_start: float = 0.0,
        control_guidance_end: float = 1.0,
        branches: Sequence[Branch] = (),
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        ip_adapter_image_embeds: list[Tensor] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: OnStepEnd | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> PortraitOutput | tuple[Any, list[bool] | None]:
        """Generate portraits. The arguments have the names of diffusers' SDXL pipelines.

        Args:
            prompt: one, or a list; "" for no text.
            faces: one condition for all prompts, or one per prompt; None: only the base model and ``branches``.
            negative_prompt: of the unconditional half of guidance; one for all, or one per prompt.
            height, width: px; default: the size of the training.
            num_inference_steps: 8 for SDXL-Lightning.
            guidance_scale: 0 or 1: no guidance, for Lightning; about 5, with 30 steps, for an ordinary SDXL model.
            controlnet_conditioning_scale, control_guidance_start, control_guidance_end: of HiFi-Net; see ``Branch``.
            branches: further control networks; see ``hifimodel.inference.branches``.
            num_images_per_prompt: images per prompt, contiguous in the output.
            eta: of DDIM; 0 is deterministic.
            generator: one, or one per image. With one per image, an image does not depend on the others of its batch.
            latents: (images, 4, H / 8, W / 8) initial noise; default: drawn from ``generator``.
            ip_adapter_image_embeds: as in diffusers, after ``load_ip_adapter``.
            output_type: ``pil``, ``np``, ``pt`` or ``latent``; latents are not checked for nudity.
            return_dict: False returns the fields of the output as a tuple.
            callback_on_step_end: called as ``f(pipeline, step, timestep, tensors) -> tensors`` after every step.
            callback_on_step_end_tensor_inputs: names of its tensors, from ``_callback_tensor_inputs``.

        Raises:
            ConditionError: inputs do not match each other or the model.

        Source: section 4.1 (8 steps, DDIM) and 3.2. The faces of the unconditional half follow ``face_in_uncond`` of the
        checkpoint; the landmarks are in both halves.
        """
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        height, width = (side or self.hifinet.choices.image_px for side in (height, width))
        self._require_call(prompts, height, width, callback_on_step_end_tensor_inputs)
        self._guidance_scale, self._interrupt = guidance_scale, False
        n_images, device = len(prompts) * num_images_per_prompt, self._execution_device

        tensors = self._encode_text(prompts, negative_prompt, num_images_per_prompt)
        tensors["add_time_ids"] = self._time_ids(height, width, len(tensors["prompt_embeds"]))
        image_embeds = self._image_embeds(ip_adapter_image_embeds, n_images)
        own = self._face_branch(faces, len(prompts), (height, width))
        if own is not None:
            start, end = control_guidance_start, control_guidance_end
            branches = [replace(own, scale=controlnet_conditioning_scale, start=start, end=end), *branches]
        branches = [branch.fitted(n_images, tensors["prompt_embeds"]) for branch in branches]

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(0)  # needed by schedulers with repeated timesteps
        channels, dtype = self.unet.config.in_channels, self.unet.dtype
        tensors["latents"] = self.prepare_latents(n_images, channels, height, width, dtype, device, generator, latents)
        step_options = self.prepare_extra_step_kwargs(generator, eta)
        with self.progress_bar(total=len(timesteps)) as bar:
            for step, timestep in enumerate(timesteps):
                if self.interrupt:
                    continue
                noise = self._predict_noise(tensors, timestep, branches, step, image_embeds)
                stepped = self.scheduler.step(noise, timestep, tensors["latents"], **step_options, return_dict=False)
                tensors["latents"] = stepped[0].to(dtype)
                if callback_on_step_end is not None:
                    seen = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    tensors |= callback_on_step_end(self, step, timestep, seen) or {}
                bar.update()

        output = self._finish(tensors["latents"], output_type)
        self.maybe_free_model_hooks()
        return output if return_dict else (output.images, output.nsfw_content_detected)

    def _face_branch(
        self, faces: PortraitCondition | Sequence[PortraitCondition] | None, n_prompts: int, size: tuple[int, int]
    ) -> Branch | None:
        if faces is None:
            return None
        conditions = [faces] if isinstance(faces, PortraitCondition) else list(faces)
        if len(conditions) not in (1, n_prompts):
            raise ConditionError(
                f"faces: {len(conditions)} conditions for {n_prompts} prompts; give one for all, or one per prompt"
            )
        with self._safe_vae():
            device, dtype = self._execution_device, self.unet.dtype
            nets = FaceNets(self.hifinet, self.refiner, self.face_vision, self.vae, device, dtype)
            return nets.branch(conditions, size, self.do_classifier_free_guidance)

    def _encode_text(self, prompts: list[str], negative: str | list[str] | None, n_images: int) -> dict[str, Tensor]:
        """Return the text tensors (B, 77, d) and (B, 1280), with guidance the unconditional half first."""
        guided = self.do_classifier_free_guidance
        negatives = [negative or ""] * len(prompts) if not isinstance(negative, list) else negative
        if len(negatives) != len(prompts):
            raise ConditionError(
                f"negative_prompt: {len(negatives)} for {len(prompts)} prompts; give one for all, or one per prompt"
            )
        text, no_text, pooled, no_pooled = self.encode_prompt(
            prompts,
            num_images_per_prompt=n_images,
            do_classifier_free_guidance=guided,
            negative_prompt=negatives,
        )
        if guided:
            text, pooled, prompts = torch.cat([no_text, text]), torch.cat([no_pooled, pooled]), negatives + prompts
        if self.config.force_zeros_for_empty_prompt:  # the parent only does this for a missing negative prompt
            empty = torch.tensor([not prompt for prompt in prompts], device=text.device).repeat_interleave(n_images)
            text, pooled = text.masked_fill(empty[:, None, None], 0.0), pooled.masked_fill(empty[:, None], 0.0)
        dtype = self.unet.dtype
        return {"prompt_embeds": text.to(dtype), "add_text_embeds": pooled.to(dtype)}

    def _time_ids(self, height: int, width: int, n_rows: int) -> Tensor:
        size, dim = (height, width), self.text_encoder_2.config.projection_dim
        ids = self._get_add_time_ids(size, (0, 0), size, self.unet.dtype, dim)  # (1, 6): a whole photo of this size
        return ids.to(self._execution_device).repeat(n_rows, 1)

    def _image_embeds(self, given: list[Tensor] | None, n_images: int) -> list[Tensor] | None:
        if given is None:
            return None
        guided = self.do_classifier_free_guidance
        return self.prepare_ip_adapter_image_embeds(None, given, self._execution_device, n_images, guided)

    def _predict_noise(
        self,
        tensors: dict[str, Tensor],
        timestep: Tensor,
        branches: Sequence[Branch],
        step: int,
        image_embeds: list[Tensor] | None,
    ) -> Tensor:
        guided = self.do_classifier_free_guidance
        latents = torch.cat([tensors["latents"]] * 2) if guided else tensors["latents"]
        inputs = StepInputs(
            self.scheduler.scale_model_input(latents, timestep),
            timestep,
            tensors["prompt_embeds"],
            tensors["add_text_embeds"],
            tensors["add_time_ids"],
            guided,
        )
        residuals = summed_residuals(branches, inputs, step, self.num_timesteps)
        noise = self.unet(
            inputs.latents,
            timestep,
            encoder_hidden_states=inputs.text,
            added_cond_kwargs=inputs.added if image_embeds is None else inputs.added | {"image_embeds": image_embeds},
            down_block_additional_residuals=None if residuals is None else residuals.down,
            mid_block_additional_residual=None if residuals is None else residuals.mid,
            return_dict=False,
        )[0]
        if not guided:
            return noise
        without, with_text = noise.chunk(2)
        return without + self.guidance_scale * (with_text - without)

    def _finish(self, latents: Tensor, output_type: str) -> PortraitOutput:
        """Decode, check, and make flagged images black."""
        if output_type == "latent":
            return PortraitOutput(images=latents, nsfw_content_detected=None)
        with self._safe_vae():
            scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
            pixels = self.vae.decode(scaled, return_dict=False)[0]  # (B, 3, H, W), about -1 to 1
        if self.watermark is not None:
            pixels = self.watermark.apply_watermark(pixels)
        flagged = self._flagged(pixels)
        if flagged is not None:
            pixels[torch.tensor(flagged, device=pixels.device)] = -1.0
        return PortraitOutput(self.image_processor.postprocess(pixels, output_type), flagged)

    def _flagged(self, pixels: Tensor) -> list[bool] | None:
        if self.safety_check is not None:
            return self.safety_check(self.image_processor.postprocess(pixels, "pil"))
        if self.requires_safety_check:
            logger.warning(
                "images were not checked for nudity: no checker is available; see hifimodel/inference/safety.py"
            )
        return None

    @contextmanager
    def _safe_vae(self) -> Iterator[None]:
        """Use float32 during the block if the VAE overflows in half precision, as its config says of SDXL's own."""
        dtype = self.vae.dtype
        overflows = dtype == torch.float16 and self.vae.config.force_upcast
        if overflows:
            self.vae.to(dtype=torch.float32)
        try:
            yield
        finally:
            if overflows:
                self.vae.to(dtype=dtype)

    def _require_call(self, prompts: list[str], height: int, width: int, callback_inputs: Sequence[str]) -> None:
        if not prompts:
            raise ConditionError('prompt: an empty list; give at least one prompt, "" for none')
        if height % 8 or width % 8:
            raise ConditionError(f"size: {width} x {height} px; both sides must be multiples of 8")
        unknown = set(callback_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ConditionError(
                f"callback_on_step_end_tensor_inputs: {', '.join(sorted(unknown))} unknown; known: "
                f"{', '.join(self._callback_tensor_inputs)}"
            )
