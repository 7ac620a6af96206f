"""BLIP-2 behind the occlusion stage. No real checkpoint is at hand: a tiny one of the same files proves the code around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hifidata.config.sections import OcclusionConfig
from hifidata.core.errors import WeightsError
from hifidata.models.config import OcclusionCheckerConfig
from hifidata.models.protocols import F32, OcclusionAnswer, RgbU8
from hifidata.stages.occlusion import counted_terms, terms_in
from tests.factories.models import tiny_blip2, tiny_llava

torch = pytest.importorskip("torch", reason="BLIP-2 needs the vlm extra")
pytest.importorskip("transformers", reason="BLIP-2 needs the vlm extra")

ASKED = OcclusionCheckerConfig(mode="ask", question="is there a hand in front of the face ?")
BOX = np.array([20, 20, 60, 60], np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["opt", "t5"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip2(tmp_path_factory.mktemp("blip2") / request.param, request.param)


def pictures(n: int) -> list[RgbU8]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (80, 80, 3), np.uint8) for _ in range(n)]


def check(folder: Path, settings: OcclusionCheckerConfig, shown: list[RgbU8]) -> list[OcclusionAnswer]:
    from hifidata.models.occlusion.blip2 import Blip2Occlusion

    boxes: list[F32] = [BOX] * len(shown)
    return Blip2Occlusion(folder, settings).check(shown, boxes)


def test_a_tiny_random_blip2_proves_that_the_prompt_is_cut_from_what_an_opt_model_repeats_not_what_it_sees(
    checkpoint: Path,
) -> None:
    from PIL import Image

    from hifidata.models.occlusion.blip2 import Blip2Occlusion, around

    blip2 = Blip2Occlusion(checkpoint, ASKED)
    opened = blip2._blip2
    (picture,) = pictures(1)
    image, prompt = Image.fromarray(around(picture, BOX)), "Question: is there a hand in front of the face ? Answer:"
    inputs = opened.processor(images=[image], text=[prompt], return_tensors="pt")
    raw = opened.processor.batch_decode(
        opened.model.generate(**inputs, max_new_tokens=10, do_sample=False), skip_special_tokens=True
    )[0]
    echo = "question : is there a hand in front of the face ? answer :"
    assert (echo in raw) == (checkpoint.name == "opt")
    (answer,) = blip2.check([picture], [BOX])
    assert answer.answer == raw.replace(echo, "").strip()
    assert answer.answer


def test_a_tiny_random_blip2_proves_batching_a_batch_gives_each_picture_the_answer_it_gets_alone(
    checkpoint: Path,
) -> None:
    settings = OcclusionCheckerConfig(prompt="a photo of a person")
    shown = pictures(3)
    together = check(checkpoint, settings, shown)
    assert [answer.terms for answer in together] == [None] * 3
    assert together == [check(checkpoint, settings, [picture])[0] for picture in shown]
    assert len({answer.answer for answer in together}) > 1  # or the order would not show


def test_a_tiny_random_blip2_proves_that_the_face_and_not_the_whole_picture_is_seen() -> None:
    from hifidata.models.occlusion.blip2 import around

    picture = np.zeros((100, 200, 3), np.uint8)
    picture[30:50, 100:120] = 255
    seen = around(picture, np.array([100, 30, 120, 50], np.float32))
    assert seen.shape == (40, 40, 3)
    assert (seen[10:30, 10:30] == 255).all()
    assert around(picture, np.array([-30, -30, 5, 5], np.float32)).shape[0] > 0
    assert around(picture, np.array([190, 90, 230, 130], np.float32)).shape[:2] == (30, 30)


def test_yes_and_no_are_understood_and_anything_else_is_a_description() -> None:
    from hifidata.models.occlusion.blip2 import COVERED, _answered
    from hifidata.models.runtime.transformers import GeneratedText

    assert _answered(GeneratedText("Yes, a microphone.", False)).terms == (COVERED,)
    assert _answered(GeneratedText("no", False)).terms == ()
    unclear = _answered(GeneratedText("the person holds a microphone", False))
    assert unclear.terms is None
    row = {"occlusion_answer": unclear.answer, "occlusion_found": None}
    assert counted_terms(row, OcclusionConfig()) == ("microphone",)
    assert _answered(GeneratedText("No, there is nothing", False)).terms == ()
    denied = _answered(GeneratedText("There is no hand", False))
    assert denied.terms is None
    assert counted_terms({"occlusion_answer": denied.answer, "occlusion_found": None}, OcclusionConfig()) == ()


@pytest.mark.parametrize(
    ("answer", "terms"),
    [
        ("a handsome man with a handlebar moustache", ()),
        ("a hand-made scarf", ()),
        ("a man with two hands before his face", ("hand",)),
        ("A woman speaking into a Microphone.", ("microphone",)),
        ("a doctor in a mask, phone in hand", ("hand", "phone", "mask")),
        ("a masked singer at a headphone stand", ()),
    ],
)
def test_terms_are_whole_words(answer: str, terms: tuple[str, ...]) -> None:
    assert terms_in(answer, OcclusionConfig().terms) == terms


def test_a_folder_that_holds_no_whole_blip2_is_refused_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    empty = tmp_path / "empty"
    empty.mkdir()
    cut = Path(shutil.copytree(checkpoint, tmp_path / "cut"))
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    other = tiny_llava(tmp_path / "llava", None)
    for folder, words in (
        (empty, "not a complete vision-language model"),
        (cut, "not a complete vision-language model"),
        (other, "expected BLIP-2"),
    ):
        with pytest.raises(WeightsError, match=words) as caught:
            check(folder, ASKED, pictures(1))
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "weights pull" in str(caught.value)
