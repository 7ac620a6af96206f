"""HiFi-Portrait as a diffusers pipeline: SDXL's, with HiFi-Net and any other control branches beside the UNet.

    pipeline = HiFiPortraitPipeline.from_trained("runs/demo", base="stabilityai/stable-diffusion-xl-base-1.0")
    portrait = pipeline("a portrait, in a garden", condition, generator=torch.Generator().manual_seed(0)).images[0]

The steps follow the order of ``__call__``. Prompts, latents, LoRA, textual inversion, IP-Adapter and offload are the parent's.
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
    """Args:
    images: PIL images, an array, or a tensor, as ``output_type`` asked.
    nsfw_content_detected: one bool per image, True where it was blackened; None where nothing was checked.
    """

    images: list[Image.Image] | Any
    nsfw_content_detected: list[bool] | None


def trailing_ddim(scheduler: KarrasDiffusionSchedulers) -> DDIMScheduler:
    """DDIM over the same noise schedule whose first step is the noisiest timestep and whose last lands on the image.

    Source: section 4.1, "DDIM sampler with 8-steps SDXL-Lightning". Lightning is distilled on timesteps counted from the noisy
    end (trailing); diffusers' defaults would start at 875 of 999, clip latents to [-1, 1] and leave a rest of noise.
    """
    return DDIMScheduler.from_config(
        scheduler.config, timestep_spacing="trailing", clip_sample=False, thresholding=False, set_alpha_to_one=True
    )


class HiFiPortraitPipeline(StableDiffusionXLPipeline):
    """Portraits of a person after 1 to 6 photos, with the expression and head pose of another photo.

    Everything that ``StableDiffusionXLPipeline`` can do around its call works here: ``from_pretrained``, ``save_pretrained``,
    other schedulers, ``load_lora_weights``, ``load_ip_adapter``, ``enable_model_cpu_offload``. Any SDXL model can be the base,
    since nothing of the UNet is replaced.

    Args:
        hifinet: the trained net; its config says how the rest has to behave.
        refiner: the trained face refiner.
        face_vision: the CLIP vision tower that it was trained with.
        force_zeros_for_empty_prompt: whether empty prompts are zeros instead of an encoded ""; None: as in training.

    Attributes:
        safety_check: marks images that are not to be shown; see ``hifimodel.inference.safety``.
        requires_safety_check: whether to say so when images were not checked.

    Raises:
        CheckpointError: the parts were not trained together, or on landmark images of another style.
        ConditionError: the base is no SDXL model.
    """

    # HiFi-Net is left out: it alternates with the UNet, and swapping both at every step would cost more than it saves.
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
        """The pipeline of modules that are already there, in the middle of training for example; shares their weights."""
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
        """What ``hifimodel.train`` wrote, over any SDXL base.

        Args:
            folder: a training run's folder, the model folder in it, or what ``save_pretrained`` wrote.
            base: folder or Hub name of an SDXL model in diffusers' layout; None: the one that ``save_pretrained`` put there,
                or the tiny architecture's.

        Raises:
            WeightsError: a part is missing or cannot be loaded.
            CheckpointError, ConditionError: the parts do not fit one another.
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
        """Generates portraits. Arguments are called as in diffusers' SDXL pipelines, and so they are many.

        Args:
            prompt: one, or a list; "" is no text.
            faces: whose portrait, for all prompts or one per prompt; None: the base model alone (and ``branches``).
            negative_prompt: of guidance's other half; one for all, or one per prompt.
            height, width: px; default: the size that HiFi-Net was trained at.
            num_inference_steps: 8 for SDXL-Lightning.
            guidance_scale: 0 or 1: no guidance, as Lightning needs it; an ordinary SDXL model wants about 5 and 30 steps.
            controlnet_conditioning_scale, control_guidance_start, control_guidance_end: of HiFi-Net; see ``Branch``.
            branches: other control nets; see ``hifimodel.inference.branches``.
            num_images_per_prompt: images of one prompt follow each other.
            eta: DDIM's; 0 is deterministic.
            generator: one, or one per image: then an image does not depend on the others of its batch.
            latents: (images, 4, H / 8, W / 8) noise to start from; default: drawn from ``generator``.
            ip_adapter_image_embeds: as in diffusers, after ``load_ip_adapter``.
            output_type: ``pil``, ``np``, ``pt`` or ``latent``; latents are never checked for nudity.
            return_dict: False gives the output's fields as a tuple.
            callback_on_step_end: called as ``f(pipeline, step, timestep, tensors) -> tensors`` after every step.
            callback_on_step_end_tensor_inputs: which of ``_callback_tensor_inputs`` it gets.

        Raises:
            ConditionError: inputs do not fit one another or the model.

        Source: section 4.1 (8 steps, DDIM) and 3.2. What faces the unconditional half sees follows the checkpoint's
        ``face_in_uncond``; the landmarks stay in both halves.
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
            self.scheduler.set_begin_index(0)  # schedulers with repeated timesteps cannot find their place otherwise
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
        people = [faces] if isinstance(faces, PortraitCondition) else list(faces)
        if len(people) not in (1, n_prompts):
            raise ConditionError(
                f"faces: {len(people)} conditions for {n_prompts} prompts; give one for all, or one per prompt"
            )
        with self._safe_vae():
            device, dtype = self._execution_device, self.unet.dtype
            nets = FaceNets(self.hifinet, self.refiner, self.face_vision, self.vae, device, dtype)
            return nets.branch(people, size, self.do_classifier_free_guidance)

    def _encode_text(self, prompts: list[str], negative: str | list[str] | None, n_images: int) -> dict[str, Tensor]:
        """The callback's tensors of text: (B, 77, d) and (B, 1280), the unconditional half first where there is one."""
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
        if self.config.force_zeros_for_empty_prompt:  # the parent does so for the missing negative prompt alone
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
        """Decodes, checks, blackens what was flagged."""
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
                "images were not checked for nudity: no checker is at hand; see hifimodel/inference/safety.py"
            )
        return None

    @contextmanager
    def _safe_vae(self) -> Iterator[None]:
        """SDXL's own VAE overflows in half precision; its config says so."""
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
