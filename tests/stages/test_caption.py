"""Captions in the pipeline: checks of their words, fallback captions, and recorded problems."""

from __future__ import annotations

import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow.parquet as pq
import pytest
from PIL import Image

from hifidata.config.recipe import load_recipe
from hifidata.core.errors import RecipeError, ServiceError
from hifidata.core.schema import CaptionFlag, CaptionProblem
from hifidata.models.caption.cleaning import description_of, plain
from hifidata.run.run import RunOptions, RunResult, run
from hifidata.stages.caption_checks import flags_of
from hifidata.store.query import missing_captions
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest
from tests.factories.cli import hifidata
from tests.servers.openai_server import log_of, mend, serving

GOOD = (
    "A woman with long brown hair in a green coat, wearing round glasses and small earrings, in front of a brick wall."
)


@pytest.mark.parametrize(
    ("caption", "flags"),
    [
        (GOOD, []),
        (f"{GOOD} She is smiling warmly.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} She has a neutral expression.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} Her mouth is open.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} He has a stern look.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} He is raising his eyebrows.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} She raises one eyebrow.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} His eyebrows are slightly raised.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} A furrowed brow.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} Her lips are curved upwards.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} His lips curl into something.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} With pursed lips.", [CaptionFlag.EXPRESSION]),
        (f"{GOOD} She has full red lips and thin arched eyebrows.", []),
        (f"{GOOD} He wears a coat with a raised collar and an open shirt.", []),
        (f"{GOOD} A curved lamp and the mouth of a cave are behind him.", []),
        (f"{GOOD} Her hair falls over her brow and gives a vintage look.", []),
        (f"{GOOD} Behind her is the stern of a boat and a closed door.", []),
        (f"{GOOD} A lip ring, a pressed flower and lifted curtains.", []),
        (f"{GOOD} Her head is slightly tilted.", [CaptionFlag.POSE]),
        (f"{GOOD} She is looking directly at the camera.", [CaptionFlag.POSE]),
        (f"{GOOD} A poster of a facial cream hangs on the wall.", []),  # neither a pose nor an expression
        (f"{GOOD} See https://example.org", [CaptionFlag.MARKUP]),
        ("A woman.", [CaptionFlag.TOO_SHORT]),
        ("Une femme aux cheveux longs et bruns, devant un mur de briques rouges.", [CaptionFlag.OTHER_LANGUAGE]),
        ("一位留着棕色长发的女士站在砖墙前，她穿着一件绿色的大衣。", [CaptionFlag.OTHER_LANGUAGE]),
        ("женщина", [CaptionFlag.TOO_SHORT, CaptionFlag.OTHER_LANGUAGE]),
    ],
)
def test_a_caption_is_flagged_only_for_features_that_the_prompt_excludes(
    caption: str, flags: list[CaptionFlag]
) -> None:
    assert list(flags_of(caption, "en")) == flags


def test_language_any_flags_no_language() -> None:
    assert flags_of("Une femme aux cheveux longs et bruns, devant un mur.", "any") == ()


@pytest.mark.parametrize(
    "text",
    [
        "I’m sorry, I can't help with that.",
        "Sorry, no.",
        "As an AI model, I do not see.",
        "As a language model, I cannot describe people in images.",
        "As a large language model I am not built to look at people.",
        "I cannot identify people.",
        "I apologize, but I am unable to describe.",
        "I'm not comfortable describing real people.",
        "Unfortunately, the image cannot be described.",
        "Unfortunately I won't do that.",
        "It is not possible for me to describe this person.",
        "It's not appropriate to identify somebody from a face.",
        "This image can't be processed.",
        "I don't see an image here; please send one.",
        "抱歉，我无法描述这张图片。",
        "很抱歉，我不能提供这方面的帮助。",
        "对不起，我不能识别图中的人物。",
        "我无法描述这张照片中的人。",
        "作为一个人工智能语言模型，我看不到图片。",
        "無法描述此人。",
        "这张图片无法识别。",
        "Sure! Unfortunately, describing real people is against my policy.",
        "Thank you for the photo. I can't identify people in it.",
        "Certainly, I'm unable to help with that.",
    ],
)
def test_a_refusal_is_no_caption(text: str) -> None:
    assert description_of(text, False, 500).problem is CaptionProblem.REFUSED


@pytest.mark.parametrize(
    "text",
    [
        "A man with a sorry-looking hat.",
        "Sorry-looking flowers stand beside a woman in a red dress.",
        "In this portrait, a man has a beard.",
        "I see a man in a suit.",
        "A man who unfortunately lost his hat in the wind wears a grey coat.",
        "Unfortunately dressed for the rain, a woman in a light blouse stands in a park.",
        "A woman whose face cannot be described as young, in a blue scarf.",
        "As a model, she wears a long silver gown before a white wall.",
        "As an artist would have it, the light falls on a green coat.",
        "This portrait shows a man who is unable to button his tight coat.",
        "The person cannot be older than thirty and wears a green scarf.",
        "The image shows an AI assistant's logo on a man's black shirt.",
        "It is not a suit but a uniform that the man wears.",
        "一位留着棕色长发的女士站在砖墙前，她穿着一件绿色的大衣。",
        "这张图片展示了一位穿着深色西装的男子。",
        "照片中的男子无法系上扣子，穿着灰色外套。",
        "作为背景的是一面白墙，一位女士戴着眼镜。",
        "Sure! Here is the description: a man with a hat.",
        "Okay, so a man in a grey coat stands by a wall.",
    ],
)
def test_a_caption_is_no_refusal(text: str) -> None:
    assert description_of(text, False, 500).text == text


def test_a_repeated_prompt_is_no_caption() -> None:
    prompt = "Dear model,\nplease describe  this portrait."
    assert description_of(prompt, False, 500, prompt).problem is CaptionProblem.EMPTY
    assert description_of(f"{prompt} A man with a hat.", False, 500, prompt).text == "A man with a hat."


@pytest.mark.timeout(60)  # seconds of work; a quadratic pattern takes hours
@pytest.mark.parametrize(
    "unit", ["\n", " ", "\r\n", "\n ", "\n- ", "- ", "<think>", "</think>", "`", "#", "!", '."', "sure ", "As a ", "。"]
)
def test_half_a_million_characters_of_any_kind_are_read_at_once(unit: str) -> None:
    answer = unit * (500_000 // len(unit))
    for text in (answer, f"<think>{answer}", f"A man.{answer}", f"Sure,{answer}"):
        assert len(description_of(text, False, 500).text or "") <= 500


def test_markdown_and_reasoning_are_removed() -> None:
    assert plain("<think>\nlong\n</think>\n## Portrait\n- **Hair**: brown\n1. `coat`") == "Portrait Hair: brown coat"


@pytest.mark.parametrize(
    "answer",
    [
        "hmm the user wants</think>A man with a tie.",
        "hmm</think> no, wait\n</THINK>\n\nA man with a tie.",
        "<think>a tie <think>again</think> hm</think>A man with a tie.",
        "<thinking>hm</thinking>A man with a tie.",
        "A man with a tie.<think>was that right?</think>",
        "A man with a tie.<think>was that",
    ],
)
def test_reasoning_is_removed_with_and_without_an_opening_tag(answer: str) -> None:
    assert plain(answer) == "A man with a tie."


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("caption.model=openai", "model openai needs server.base_url and server.model"),
        ("caption.server=yi_visoin", "unknown preset; known: yi_vision"),
        ("caption.server.base_url=http://key@host/v1", "without credentials"),
        ("caption.server.base_url=http://a..b/v1", "a..b is not a host name"),
        ("caption.server.extra={x: 2020-01-01}", "cannot be sent as JSON"),
        ("caption.server.extra={x: .nan}", "cannot be sent as JSON"),
        ("caption.server.concurency=3", "did you mean concurrency?"),
        ("caption.folder=models", "caption.folder: model attributes reads no model files"),
    ],
)
def test_a_wrong_caption_section_is_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [override])
    assert message in str(caught.value)


def test_the_address_of_the_caption_server_does_not_change_the_hash() -> None:
    def hash_of(*overrides: str) -> str:
        base = ["caption.model=openai", "caption.server.model=m", "caption.server.base_url=http://a/v1"]
        return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [*base, *overrides]).hash

    assert hash_of("caption.server.base_url=http://b/v1", "caption.server.concurrency=3") == hash_of()
    assert hash_of("caption.server.model=n") != hash_of()
    assert hash_of("caption.prompt=plain") != hash_of()


ON_RAY = (
    "executor.kind=ray",
    "executor.workers=1",
    "groups=[{name: a, num_cpus: 0.5, stages: [intake, detect, crop, quality, watermark, occlusion, embed, dedup, verify, "
    "restore, matting, face3d, landmarks, attributes]}, {name: b, num_cpus: 0.5, stages: [caption]}]",
)


def run_with(
    photos: Path, out: Path, address: str, model: str, *overrides: str, retry_failed: bool = False
) -> RunResult:
    server = f"{{base_url: '{address}/v1', model: {model}, tries: 1, max_errors: 4}}"
    recipe = load_recipe(
        PROJECT_ROOT / "pipelines" / "folder.yaml",
        [f"source.path={photos}", *QUICK_RECIPE, "caption.model=openai", f"caption.server={server}", *overrides],
    )
    return run(recipe, RunOptions(out, limit=2, retry_failed=retry_failed), lambda progress: None)


def kept(out: Path) -> list[dict[str, object]]:
    rows = pq.read_table(out / "manifests" / "images.parquet").to_pylist()
    return [row for row in rows if row["status"] == "kept"]


def test_captions_of_the_server_reach_manifest_shards_and_report(
    twelve_people: Path, tmp_path: Path, ray_here: str
) -> None:
    with serving() as address:
        run_with(twelve_people, tmp_path / "a", address, "slow")
        assert log_of(address)["most_at_once"] >= 2
        run_with(twelve_people, tmp_path / "b", address, "slow")
        run_with(twelve_people, tmp_path / "c", address, "slow", *ON_RAY)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") == digest(tmp_path / "c")
    for row in kept(tmp_path / "a"):
        assert str(row["caption"]).startswith("A person with brown hair")
        assert (row["caption_model"], row["caption_problem"], row["caption_flags"]) == ("openai/slow", None, None)
    assert "openai/slow" in (tmp_path / "a" / "report" / "index.html").read_text()


def test_a_refused_image_gets_a_fallback_caption(twelve_people: Path, tmp_path: Path) -> None:
    with serving() as address:
        run_with(twelve_people, tmp_path / "a", address, "refusing")
        run_with(twelve_people, tmp_path / "b", address, "refusing", "caption.on_error=fail", "failures.max_share=1")
    rows = kept(tmp_path / "a")
    assert rows
    for row in rows:
        assert str(row["caption"]).startswith("A ")
        assert (row["caption_model"], row["caption_problem"], row["caption_flags"]) == ("attributes", "refused", None)
    assert not kept(tmp_path / "b")
    failed = [
        r for r in pq.read_table(tmp_path / "b" / "manifests" / "images.parquet").to_pylist() if r["stage"] == "caption"
    ]
    assert {(row["status"], row["reason"]) for row in failed} == {("failed", "no_caption")}
    assert failed[0]["message"] == "openai/refusing returned no caption: refused"


def test_a_run_starts_only_if_the_server_answers_and_resumes_when_it_answers_again(
    twelve_people: Path, tmp_path: Path
) -> None:
    out, one_by_one = tmp_path / "out", ("caption.server.concurrency=1", "caption.server.max_errors=2")
    with serving() as address:
        with pytest.raises(ServiceError, match="failed on 2 portraits in a row"):
            run_with(twelve_people, out, address, "broken-twice", *one_by_one)
        assert not (out / "dataset.json").exists()
        run_with(twelve_people, out, address, "broken-twice", *one_by_one)
    rows = kept(out)
    assert rows
    assert {row["caption_problem"] for row in rows} == {None}
    with pytest.raises(ServiceError, match=r"no answer \(ConnectError\)"):
        run_with(twelve_people, tmp_path / "other", address, "honest")
    assert not (tmp_path / "other").exists()  # as in a run without a model file
    run_with(twelve_people, out, address, "broken-twice", *one_by_one)  # a complete dataset needs no server
    assert ServiceError.exit_code == 2


@pytest.mark.parametrize(("behaviour", "problem"), [("broken", "server_error"), ("nothing", "empty")])
def test_failed_captions_are_reported_count_against_the_budget_and_are_retried(
    behaviour: str, problem: str, twelve_people: Path, tmp_path: Path
) -> None:
    def command(address: str, *options: str) -> CompletedProcess[str]:
        server = f"{{base_url: '{address}/v1', model: {behaviour}-until-mended, tries: 1, max_errors: 99}}"
        values = [f"source.path={twelve_people}", *QUICK_RECIPE, "caption.model=openai", f"caption.server={server}"]
        sets = [part for value in values for part in ("--set", value)]
        return hifidata("run", "folder", "--out", tmp_path / "out", "--limit", "2", *sets, *options)

    with serving() as address:
        broken = command(address)
        n_kept = len(kept(tmp_path / "out"))
        assert (broken.returncode, n_kept > 0) == (3, True), broken.stderr
        assert f"captions: {n_kept} of {n_kept} are fallback captions ({problem} {n_kept})" in broken.stderr
        assert f"the captions of {n_kept} of {n_kept} kept images failed, the recipe allows 50%" in broken.stderr
        assert "run the same command with --retry failed" in broken.stderr
        assert [row["caption_problem"] for row in missing_captions(tmp_path / "out")] == [problem] * n_kept
        mend(address)
        assert command(address).returncode == 3  # without --retry the dataset does not change
        retried = command(address, "--retry", "failed")
    assert (retried.returncode, "fallback captions" in retried.stderr) == (0, False), retried.stderr
    assert {row["caption_problem"] for row in kept(tmp_path / "out")} == {None}


@pytest.mark.parametrize(
    ("behaviour", "problem", "is_over"),
    [
        ("nothing", "empty", True),
        ("only-thinking", "truncated", True),
        ("cut-early", "truncated", True),
        ("truncated", "", False),
    ],
)
def test_unusable_answers_count_against_the_budget_and_complete_sentences_of_a_truncated_one_do_not(
    behaviour: str, problem: str, is_over: bool, twelve_people: Path, tmp_path: Path
) -> None:
    with serving() as address:
        result = run_with(twelve_people, tmp_path / "out", address, behaviour)
    n_kept = len(kept(tmp_path / "out"))
    assert result.dataset["caption_stand_ins"] == ({problem: n_kept} if problem else {})
    assert result.over_budget == is_over


def test_retry_repeats_images_that_failed_for_their_caption(twelve_people: Path, tmp_path: Path) -> None:
    with serving() as address:
        overrides = ("caption.on_error=fail", "caption.server.max_errors=99")
        result = run_with(twelve_people, tmp_path / "out", address, "nothing-until-mended", *overrides)
        assert (result.over_budget, kept(tmp_path / "out")) == (True, [])
        mend(address)
        run_with(twelve_people, tmp_path / "out", address, "nothing-until-mended", *overrides, retry_failed=True)
    assert kept(tmp_path / "out")


def test_captions_survive_a_failed_shard_write_and_a_damaged_fragment_is_not_reused(
    twelve_people: Path, tmp_path: Path
) -> None:
    photos, out = shutil.copytree(twelve_people, tmp_path / "photos"), tmp_path / "out"
    with serving() as address:

        def count_requests() -> int:
            before = len(log_of(address)["asked"])
            run_with(photos, out, address, "honest")
            return len(log_of(address)["asked"]) - before

        n_kept = count_requests()
        fragment = sorted((out / "state" / "fragments").glob("??/*.parquet"))[0]
        shard = out / "shards" / fragment.parent.name / f"{fragment.stem}.tar"
        own = [row for row in kept(out) if row["identity_id"] == fragment.stem]
        assert 0 < len(own) < n_kept
        shard.unlink()
        shard.mkdir()
        with pytest.raises(OSError, match="directory"):
            count_requests()
        shard.rmdir()
        assert count_requests() == 0
        assert not list(out.rglob("*.earlier"))
        column = pq.ParquetFile(fragment).metadata.row_group(0).column(list(own[0]).index("caption"))
        assert column.path_in_schema == "caption"
        content = bytearray(fragment.read_bytes())
        content[column.data_page_offset - 1] ^= 1  # the end of the dictionary page, which holds the captions
        fragment.write_bytes(content)
        shard.unlink()
        assert count_requests() == len(own)
    assert all(str(row["caption"]).startswith("A person with brown hair") for row in kept(out))


def test_a_refusal_is_an_answer_and_is_not_requested_again(twelve_people: Path, tmp_path: Path) -> None:
    photos, out = shutil.copytree(twelve_people, tmp_path / "photos"), tmp_path / "out"
    with serving() as address:
        run_with(photos, out, address, "refusing")
        before = len(log_of(address)["asked"])
        person = Path(str(kept(out)[0]["source_uri"])).parent
        (person / "more.jpg").write_bytes(b"not an image")
        run_with(photos, out, address, "refusing")
        assert len(log_of(address)["asked"]) == before
    assert {row["caption_problem"] for row in kept(out)} == {"refused"}


def test_an_image_with_a_caption_is_not_sent_to_the_captioner_again(twelve_people: Path, tmp_path: Path) -> None:
    photos = shutil.copytree(twelve_people, tmp_path / "photos")
    with serving() as address:

        def count_requests(out: Path, *, retry_failed: bool = False) -> int:
            before = len(log_of(address)["asked"])
            run_with(photos, out, address, "nothing-once", retry_failed=retry_failed)
            return len(log_of(address)["asked"]) - before

        assert count_requests(tmp_path / "a") == len(kept(tmp_path / "a")) > 2
        assert count_requests(tmp_path / "a", retry_failed=True) == 1
        assert count_requests(tmp_path / "b") == len(kept(tmp_path / "b"))
        assert digest(tmp_path / "a") == digest(tmp_path / "b")
        changed = Path(str(kept(tmp_path / "a")[0]["source_uri"]))
        encoded = Image.open(changed).convert("RGB")
        encoded.save(changed, "JPEG", quality=93)
        assert count_requests(tmp_path / "a") == 1
    assert {row["caption_model"] for row in kept(tmp_path / "a")} == {"openai/nothing-once"}


def test_a_run_with_two_worker_groups_retries_only_the_missing_caption(
    twelve_people: Path, tmp_path: Path, ray_here: str
) -> None:
    out = tmp_path / "out"
    with serving() as address:
        run_with(twelve_people, out, address, "nothing-once", *ON_RAY)
        assert len(list(missing_captions(out))) == 1
        before = len(log_of(address)["asked"])
        run_with(twelve_people, out, address, "nothing-once", *ON_RAY, retry_failed=True)
        assert len(log_of(address)["asked"]) == before + 1
    assert not list(missing_captions(out))


def test_refusals_are_counted_but_not_against_the_budget(twelve_people: Path, tmp_path: Path) -> None:
    with serving() as address:
        result = run_with(twelve_people, tmp_path / "out", address, "refusing")
    assert result.dataset["caption_stand_ins"] == {"refused": len(kept(tmp_path / "out"))}
    assert not result.over_budget
