"""The parts of a training run, each for what the whole relies on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("accelerate")

from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from hifimodel.config import load_preset  # noqa: E402
from hifimodel.data import Batch  # noqa: E402
from hifimodel.errors import ConfigError  # noqa: E402
from hifimodel.nets.loading import find_model, load_trained, save_trained  # noqa: E402
from hifimodel.training import checkpoint, latent_cache, samples  # noqa: E402
from hifimodel.training.draws import DrawSettings, draw  # noqa: E402
from hifimodel.training.folders import remove_leftovers  # noqa: E402
from hifimodel.training.identity import GateDetector  # noqa: E402
from hifimodel.training.metrics import CsvTable, MetricSums, read_csv  # noqa: E402
from hifimodel.training.options import RunOptions  # noqa: E402
from hifimodel.training.setup import Run, fixed_samples, resolved, set_up  # noqa: E402

pytestmark = pytest.mark.usefixtures("accelerate_alone")


def new_run(shards: Path, out: Path, *settings: str) -> Run:
    common = ("model.image_px=64", "train.batch_size=2", "train.samples=2")
    preset = load_preset("tiny", [*common, *settings])
    accelerator = Accelerator(
        cpu=True,
        mixed_precision=preset.train.mixed_precision,
        gradient_accumulation_steps=preset.train.gradient_accumulation,
    )
    options = resolved(RunOptions(str(shards), out, preset), lambda line: None)
    return set_up(options, accelerator, lambda line: None)


def losses_of(run: Run, n_batches: int) -> list[float]:
    """Losses of the first batches, with their gradients accumulated and no step taken."""
    losses = []
    for number, batch in enumerate(itertools.islice(run.loader, n_batches)):
        result = run.step(run.nets, batch, run.frozen.prepare(batch, run.latents), draw(batch.keys, number, run.draws))
        result.loss.backward()
        losses.append(result.loss.item())
    return losses


def gradients(run: Run) -> Tensor:
    return torch.cat([p.grad.flatten() for p in run.nets.parameters() if p.grad is not None])


def test_only_refiner_and_hifinet_get_gradients_and_the_unets_encoder_keeps_no_graph(
    shards: Path, tmp_path: Path
) -> None:
    run = new_run(shards, tmp_path)
    needs_grad: dict[str, bool] = {}

    def watch(name: str, part: nn.Module) -> None:
        def note(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            needs_grad[name] = (output if isinstance(output, Tensor) else output[0]).requires_grad

        part.register_forward_hook(note)

    unet = run.modules.base.unet
    for name, part in (("down", unet.down_blocks[-1]), ("middle", unet.mid_block), ("up", unet.up_blocks[0])):
        watch(name, part)
    losses_of(run, 1)
    assert needs_grad == {"down": False, "middle": False, "up": True}
    assert all(p.grad is not None for p in run.nets.parameters())
    base, encoder = run.modules.base, run.modules.face_encoder
    frozen = [base.unet, base.vae, base.text_encoder, base.text_encoder_2, encoder]
    assert not any(p.requires_grad or p.grad is not None for module in frozen for p in module.parameters())


def test_checkpointing_and_channels_last_change_nothing_but_memory(shards: Path, tmp_path: Path) -> None:
    plain = new_run(shards, tmp_path)
    expected = losses_of(plain, 2)
    lean = new_run(shards, tmp_path, "train.gradient_checkpointing=true", "train.channels_last=true")
    assert lean.modules.base.unet.up_blocks[0].gradient_checkpointing
    assert not lean.modules.base.unet.down_blocks[0].gradient_checkpointing
    assert losses_of(lean, 2) == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(gradients(lean), gradients(plain), atol=1e-5, rtol=1e-3)


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch(shards: Path, tmp_path: Path) -> None:
    whole = new_run(shards, tmp_path, "train.batch_size=4")
    batch = next(iter(whole.loader))
    whole.step(
        whole.nets, batch, whole.frozen.prepare(batch, whole.latents), draw(batch.keys, 0, whole.draws)
    ).loss.backward()
    AcceleratorState._reset_state(reset_partial_state=True)
    parts = new_run(shards, tmp_path, "train.batch_size=4", "train.gradient_accumulation=2")
    for batch in itertools.islice(parts.loader, 2):
        assert len(batch.keys) == 2
        with parts.accelerator.accumulate(parts.nets):
            prepared = parts.frozen.prepare(batch, parts.latents)
            parts.accelerator.backward(parts.step(parts.nets, batch, prepared, draw(batch.keys, 0, parts.draws)).loss)
    torch.testing.assert_close(gradients(parts), gradients(whole), atol=1e-6, rtol=1e-3)


def part_of(batch: Batch, start: int, end: int) -> Batch:
    """The samples from ``start`` to ``end``."""
    references = slice(sum(batch.counts[:start]), sum(batch.counts[:end]))
    cuts = {"position": slice(None)} | {name: references for name in vars(batch) if name.startswith("reference")}
    return Batch(**{
        name: value if name == "position" else value[cuts.get(name, slice(start, end))]
        for name, value in vars(batch).items()
    })  # fmt: skip


def test_every_split_of_a_batch_gives_its_gradient_and_its_numbers_with_the_identity_loss(
    shards: Path, tmp_path: Path
) -> None:
    run = new_run(shards, tmp_path, "train.batch_size=8", "train.id_weight=1")
    for layer in (*run.modules.hifinet.controlnet_down_blocks, run.modules.hifinet.controlnet_mid_block):
        nn.init.normal_(layer.weight, std=0.05)  # zero at the start: no gradient would reach the refiner
    batch = next(iter(run.loader))
    found = {}
    for n_parts in (1, 2, 8):
        size, results = 8 // n_parts, []
        for start in range(0, 8, size):
            part = part_of(batch, start, start + size)
            results.append(
                run.step(run.nets, part, run.frozen.prepare(part, run.latents), draw(part.keys, 3, run.draws))
            )
            (results[-1].loss / n_parts).backward()
        window = MetricSums(run.accelerator.device)
        window.add(results, 8, torch.zeros(()))
        found[n_parts] = gradients(run), window.means(run.accelerator), [one.identity.n_gated for one in results]
        run.optimizer.zero_grad()
    whole, row, _ = found.pop(1)
    assert 0 < row["faces_share"] < 1
    assert row["loss"] == pytest.approx(row["noise_mse"] + row["identity_loss"], rel=1e-5)
    for gradient, means, n_gated in found.values():
        assert len(set(n_gated)) > 1  # else every mean would do
        assert float((gradient - whole).norm() / whole.norm()) < 1e-3
        assert means == pytest.approx(row, rel=1e-4)


def test_bf16_is_near_float32_and_keeps_the_trained_weights_in_float32(shards: Path, tmp_path: Path) -> None:
    expected = losses_of(new_run(shards, tmp_path), 2)
    AcceleratorState._reset_state(reset_partial_state=True)
    half = new_run(shards, tmp_path, "train.mixed_precision=bf16")
    assert half.modules.base.unet.dtype == half.modules.base.vae.dtype == torch.bfloat16
    assert {p.dtype for p in half.nets.parameters()} == {torch.float32}
    assert losses_of(half, 2) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("policy", ["zeros", "learned"])
def test_dropped_faces_cut_the_references_off(shards: Path, tmp_path: Path, policy: str) -> None:
    run = new_run(shards, tmp_path, "model.face_drop_rate=0.999999", f"model.face_in_uncond={policy}")
    nn.init.normal_(run.modules.hifinet.controlnet_mid_block.weight)  # zero at the start: nothing would come through
    batch = next(iter(run.loader))
    prepared, draws = run.frozen.prepare(batch, run.latents), draw(batch.keys, 0, run.draws)
    others = replace(prepared, embeddings=-prepared.embeddings, clip_tokens=-prepared.clip_tokens)
    kept = torch.zeros_like(draws.faces_dropped)
    for dropped, is_equal in ((draws.faces_dropped, True), (kept, False)):
        one, two = (run.nets(draws.noise, draws.timesteps, part, dropped)[1] for part in (prepared, others))
        assert torch.allclose(one, two, atol=1e-5) == is_equal


def test_latents_come_from_the_cache_bit_for_bit(shards: Path, tmp_path: Path) -> None:
    run = new_run(shards, tmp_path, "train.latent_cache=true", "train.channels_last=true")
    batch = next(iter(run.loader))
    pictures = batch.pixels_u8.permute(0, 3, 1, 2)
    first = run.latents(batch, pictures)
    cached = run.latents(batch, pictures * 0)
    assert torch.equal(cached, first)
    assert cached.stride() == first.stride()  # or other kernels run, which round otherwise
    assert torch.equal(first, run.frozen.encode_targets(batch, pictures))
    path = next(tmp_path.glob("latents/*/*/*.safetensors"))
    flipped = bytearray(path.read_bytes())
    flipped[-9] ^= 1
    for damaged in (b"cut off", flipped):
        path.write_bytes(damaged)
        assert torch.equal(run.latents(batch, pictures), first)


def test_what_a_kill_left_of_a_latent_goes_at_the_next_start_and_whole_latents_stay(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(shards, tmp_path, "train.latent_cache=true")
    first, second = itertools.islice(run.loader, 2)
    run.latents(first, first.pixels_u8.permute(0, 3, 1, 2))
    whole = set(tmp_path.rglob("*.safetensors"))

    def die(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(latent_cache, "save_file", die)
    with pytest.raises(KeyboardInterrupt):
        run.latents(second, second.pixels_u8.permute(0, 3, 1, 2))
    assert len(set(tmp_path.rglob("*.safetensors")) - whole) == 1
    remove_leftovers(tmp_path)
    assert set(tmp_path.rglob("*.safetensors")) == whole


def test_the_cache_tells_two_pictures_of_one_key_apart(shards: Path, tmp_path: Path) -> None:
    run = new_run(shards, tmp_path, "train.latent_cache=true")
    batch = next(iter(run.loader))
    other = replace(batch, pixels_u8=255 - batch.pixels_u8)
    for part in (batch, other, batch, other):
        pictures = part.pixels_u8.permute(0, 3, 1, 2)
        assert torch.equal(run.latents(part, pictures), run.frozen.encode_targets(part, pictures))
    assert run.latents.hits == 2 * len(batch.keys)


def test_draws_belong_to_the_sample_and_the_step() -> None:
    settings = DrawSettings(seed=3, latent_side=4, n_timesteps=1000, face_drop_rate=0.25)
    keys = [f"person_{number:04d}" for number in range(2000)]
    together = draw(keys, 7, settings)
    alone = draw(keys[11:12], 7, settings)
    assert torch.equal(alone.noise[0], together.noise[11])
    assert alone.timesteps[0] == together.timesteps[11]
    assert not torch.equal(draw(keys[:1], 8, settings).noise, together.noise[:1])
    assert not torch.equal(draw(keys[:1], 7, replace(settings, seed=4)).noise, together.noise[:1])
    assert together.timesteps.float().mean() == pytest.approx(499.5, abs=30)
    assert together.faces_dropped.float().mean() == pytest.approx(0.25, abs=0.04)
    assert together.noise.std() == pytest.approx(1, abs=0.02)


def test_sampler_finds_the_picture_and_the_probe_is_zero_when_the_noise_is_predicted_exactly(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(shards, tmp_path)
    fixed = fixed_samples(run)
    kept = run.modules.base.scheduler.alphas_cumprod

    def oracle(
        nets: nn.Module, prepared: samples.PreparedBatch, noisy: Tensor, timesteps: Tensor, dropped: Tensor
    ) -> Tensor:
        a = kept[timesteps].view(-1, 1, 1, 1)
        return (noisy - a.sqrt() * prepared.latents) / (1 - a).sqrt()

    before = samples.probe(run.step, run.nets, fixed, run.draws)
    assert before == samples.probe(run.step, run.nets, fixed, run.draws) > 0.5
    monkeypatch.setattr(run.step, "predict", oracle)
    assert samples.probe(run.step, run.nets, fixed, run.draws) == pytest.approx(0, abs=1e-6)
    pictures = samples.generate(run.step, run.nets, fixed.prepared, 5, run.draws)
    vae = run.modules.base.vae
    truth = vae.decode(fixed.prepared.latents / vae.config["scaling_factor"]).sample * 127.5 + 127.5
    assert (pictures.float() - truth.clamp(0, 255)).abs().max() < 2


def test_a_save_that_dies_midway_leaves_the_checkpoint_before(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(shards, tmp_path, "train.keep_checkpoints=2")
    for run.done in (1, 2, 3):
        run.save(run.loader.state)
    names = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["step-00000002", "step-00000003"]

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    run.done = 4
    with pytest.raises(KeyboardInterrupt):
        run.save(run.loader.state)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == names
    assert find_model(tmp_path).name == "step-00000003"


def test_averaged_weights_are_the_emas_and_only_for_a_while(shards: Path, tmp_path: Path) -> None:
    run = new_run(shards, tmp_path, "train.ema_decay=0.9")
    weight = run.modules.refiner.local_in.weight
    first = weight.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            weight += 1
        run.ema.step(run.modules.trainable())
    last = weight.detach().clone()
    with run.averaged_weights():
        # diffusers' decay warms up: 0, then 2/11, then 3/12
        inside = (weight - first).mean().item()
    assert inside == pytest.approx(3 - 3 / 12 * (1 + 2 / 11), abs=1e-4)
    assert torch.equal(weight, last)


def copies(weights: Iterable[Tensor]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]


def all_equal(some: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("is_older", [False, True])
def test_a_checkpoints_nets_are_the_averages_and_a_resumed_run_has_both_them_and_the_weights_as_trained(
    shards: Path, tmp_path: Path, is_older: bool
) -> None:
    run = new_run(shards, tmp_path, "train.ema_decay=0.9", "train.channels_last=true")
    for run.done in (1, 2, 3):
        with torch.no_grad():
            for weight in run.modules.trainable():
                weight += torch.randn_like(weight)
        run.ema.step(run.modules.trainable())
    trained, averages = copies(run.modules.trainable()), copies(run.ema.shadow_params)
    assert not all_equal(trained, averages)
    run.save(run.loader.state)
    assert all_equal(run.modules.trainable(), trained)
    (path,) = checkpoint.checkpoints(tmp_path)
    shared = torch.load(path / "optimizer.pt", weights_only=True)
    if is_older:  # the nets were as trained, the averages in the EMA's state
        save_trained(run.modules, path)
        state = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps({key: state[key] for key in ("step", "n_processes", "base")}))
        torch.save(
            {"optimizer": shared["optimizer"], "scaler": None, "ema": run.ema.state_dict()}, path / "optimizer.pt"
        )
    else:
        assert all_equal(load_trained(tmp_path).trainable(), averages)
        assert "shadow_params" not in shared["ema"]
    again = new_run(shards, tmp_path, "train.ema_decay=0.9", "train.channels_last=true")
    assert (again.done, again.ema.optimization_step) == (3, 3)
    assert all_equal(again.modules.trainable(), trained)
    assert all_equal(again.ema.shadow_params, averages)


def test_metrics_go_on_after_the_checkpoint_without_rows_of_the_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = CsvTable(path, ("step", "loss"), 0)
    for step in (2, 4, 6):
        table.add({"step": step, "loss": 1 / 3 / step})
    with open(path, "a", encoding="utf-8") as file:
        file.write("8,0.04")  # cut off
    CsvTable(path, ("step", "loss"), 4).add({"step": 6, "loss": 0.5})
    rows = read_csv(path)
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert float(rows[1]["loss"]) == 1 / 3 / 4
    assert rows[2]["loss"] == "0.5"


def test_a_run_killed_before_its_first_checkpoint_leaves_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "probe.csv"
    for value in (1.5, 0.5):
        CsvTable(path, ("step", "probe_mse"), 0).add({"step": 0, "probe_mse": value})
    CsvTable(path, ("step", "probe_mse"), 4)
    assert read_csv(path) == [{"step": "0", "probe_mse": "0.5"}]


@pytest.mark.parametrize(
    "text", [b"step,loss\nabc,1\n", b"step,loss\n1,much\n", b"loss\n1\n", b"step,loss\n1\n", b"\xff\n\n"]
)
def test_a_table_that_holds_something_else_is_one_line_with_a_remedy(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(text)
    with pytest.raises(
        ConfigError, match=r"metrics.csv: not the metrics of a run \(.+\); repair or remove it"
    ) as caught:
        CsvTable(path, ("step", "loss"), 4)
    assert "\n" not in str(caught.value)


def test_the_detector_gate_uses_a_real_detector() -> None:
    pytest.importorskip("dlib")
    data = pytest.importorskip("skimage.data")
    detector = GateDetector("dlib_hog")
    face = np.ascontiguousarray(data.astronaut()[:256, 96:352])
    points, nothing = detector(np.stack([face, np.zeros_like(face)]))
    assert nothing is None
    left_eye, right_eye = points[:2]
    assert 80 < left_eye[0] < right_eye[0] < 180
