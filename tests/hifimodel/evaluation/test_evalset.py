"""Sets are drawn the same every time, and a run goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from hifidata.core.errors import HifiError  # noqa: E402
from hifidata.store.shards import write_shard  # noqa: E402
from hifimodel.errors import ConditionError, ConfigError, DataError  # noqa: E402
from hifimodel.evaluate import app  # noqa: E402
from hifimodel.evaluation.evalset import EvalSet, read_evalset  # noqa: E402
from hifimodel.evaluation.runner import Request, load_generator, run_cells  # noqa: E402
from hifimodel.evaluation.setbuilder import SetSettings, build_evalset, read_prompts  # noqa: E402
from tests.conftest import PROJECT_ROOT  # noqa: E402
from tests.factories.training_shards import person, person_id  # noqa: E402

PROMPTS = ("a person by the sea", "a person in the snow")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people; the last has three pictures only."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(6):
        write_shard(folder / f"{person_id(number)}.tar", person(number, 3 if number == 5 else 7))
    return folder


@pytest.fixture
def evalset(shards: Path, tmp_path: Path) -> EvalSet:
    return build_evalset(shards, tmp_path / "set", PROMPTS, SetSettings(identities=2, references=2, seeds=2))


def grey(request: Request) -> np.ndarray:
    """A picture that tells its cell."""
    return np.full((8, 8, 3), 10 * request.seed + len(request.prompt), np.uint8)


def pictures_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*.png")
    }


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(shards: Path, tmp_path: Path) -> None:
    settings = SetSettings(identities=3)
    sets = [build_evalset(shards, tmp_path / name, PROMPTS, settings) for name in ("a", "b")]
    assert sets[0].digest == sets[1].digest
    other = build_evalset(shards, tmp_path / "c", PROMPTS, SetSettings(identities=3, seed=1))
    photos = [{(made.folder / entry.target).read_bytes() for entry in made.identities} for made in (sets[0], other)]
    assert photos[0] != photos[1]


def test_everybody_has_one_target_and_four_other_references_as_they_lie_in_the_shards(
    shards: Path, tmp_path: Path
) -> None:
    made = build_evalset(shards, tmp_path / "set", PROMPTS)
    assert {entry.identity_id for entry in made.identities} == {
        person_id(number) for number in range(5)
    }  # not the last
    in_shards = {members["jpg"] for number in range(5) for _, members in person(number, 7)}
    for entry in made.identities:
        photos = [(made.folder / name).read_bytes() for name in (entry.target, *entry.references)]
        assert len(entry.references) == 4
        assert len(set(photos)) == 5
        assert set(photos) <= in_shards
    assert len(list(made.cells())) == 5 * 2 * 3


def test_a_person_keeps_their_photos_whoever_else_is_drawn(shards: Path, tmp_path: Path) -> None:
    many = build_evalset(shards, tmp_path / "many", PROMPTS, SetSettings(identities=5))
    few = build_evalset(shards, tmp_path / "few", PROMPTS, SetSettings(identities=2))
    for entry in few.identities:
        assert (few.folder / entry.target).read_bytes() == (many.folder / entry.target).read_bytes()


def test_the_command_builds_a_set_with_our_prompts(shards: Path, tmp_path: Path) -> None:
    command = [
        "build",
        "--shards",
        str(shards / "*.tar"),
        "--out",
        str(tmp_path / "set"),
        "--identities",
        "2",
        "--json",
    ]
    facts = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
    n_prompts = len(read_prompts())
    assert (facts["people"], facts["prompts"], facts["seeds"], facts["cells"]) == (2, n_prompts, 3, 2 * n_prompts * 3)
    assert read_evalset(tmp_path / "set").digest == facts["digest"]


def test_too_few_people_and_another_set_in_the_folder_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"5 identities with 5 usable photos, expected 9; read .*choose fewer"):
        build_evalset(shards, tmp_path / "set", PROMPTS, SetSettings(identities=9))
    build_evalset(shards, tmp_path / "set", PROMPTS)
    build_evalset(shards, tmp_path / "set", PROMPTS)  # the same again is no quarrel
    with pytest.raises(DataError, match="contains another evaluation set"):
        build_evalset(shards, tmp_path / "set", PROMPTS[:1])


def test_our_prompts_are_many_and_name_no_gender() -> None:
    prompts = read_prompts()
    assert 20 <= len(prompts) <= 30
    assert len(set(prompts)) == len(prompts)
    words = {word.strip(",.") for prompt in prompts for word in prompt.lower().split()}
    assert not words & {"man", "woman", "boy", "girl", "he", "she", "his", "her", "smiling", "young", "old man"}
    assert read_prompts(limit=2) == prompts[:2]


def test_our_prompts_come_with_the_package_without_the_repository(tmp_path: Path) -> None:
    shutil.copytree(PROJECT_ROOT / "hifimodel", tmp_path / "hifimodel")
    code = "import hifimodel.evaluation.setbuilder as it; print(it.__file__); print(len(it.read_prompts()))"
    paths = os.pathsep.join(map(str, (tmp_path, PROJECT_ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    place, n_prompts = done.stdout.split()
    assert Path(place).is_relative_to(tmp_path)
    assert int(n_prompts) == len(read_prompts())


def test_a_broken_set_is_named(tmp_path: Path, evalset: EvalSet) -> None:
    with pytest.raises(DataError, match="no such file; make a set"):
        read_evalset(tmp_path / "none")
    stored = json.loads((evalset.folder / "evalset.json").read_text())
    for change, message in (
        ({"format_version": 9}, "format version 9, expected 1"),
        ({"people": []}, "no identities"),
        ({"people": [{"identity_id": "../x", "photos": []}]}, "not an evaluation set"),
        ({"prompts": None}, "not an evaluation set"),
    ):
        broken = tmp_path / "broken"
        broken.mkdir(exist_ok=True)
        (broken / "evalset.json").write_text(json.dumps(stored | change))
        with pytest.raises(DataError, match=message) as caught:
            read_evalset(broken)
        assert "\n" not in str(caught.value)
    (evalset.folder / evalset.identities[0].target).unlink()
    with pytest.raises(DataError, match="1 photos are missing, the first is pictures/"):
        read_evalset(evalset.folder)


def test_every_cell_gets_its_own_picture_and_a_second_run_makes_nothing(evalset: EvalSet, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", []

    def generate(request: Request) -> np.ndarray:
        asked.append(request)
        return grey(request)

    assert vars(run_cells(evalset, generate, "m", out)) == {"made": 8, "skipped": 0, "failed": 0}
    assert {(r.prompt, r.seed, r.target) for r in asked} == {
        (prompt, seed, evalset.folder / entry.target)
        for prompt in PROMPTS
        for seed in (0, 1)
        for entry in evalset.identities
    }
    assert all(len(r.references) == 2 and all(path.is_file() for path in r.references) for r in asked)
    before = pictures_in(out)
    assert vars(run_cells(evalset, generate, "m", out)) == {"made": 0, "skipped": 8, "failed": 0}
    assert pictures_in(out) == before


def test_a_cell_that_fails_is_recorded_and_tried_again(evalset: EvalSet, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def sometimes(request: Request) -> np.ndarray:
        if request.seed == 1 and request.prompt == PROMPTS[1]:
            raise ConditionError("reference: no face")
        return grey(request)

    assert vars(run_cells(evalset, sometimes, "m", out)) == {"made": 6, "skipped": 0, "failed": 2}
    records = sorted(out.rglob("*.failed.json"))
    assert [record.name for record in records] == ["p01_s1.failed.json"] * 2
    assert json.loads(records[0].read_text())["error"] == "ConditionError: reference: no face"
    assert vars(run_cells(evalset, grey, "m", out)) == {"made": 2, "skipped": 6, "failed": 0}
    assert not list(out.rglob("*.failed.json"))


def test_a_generator_that_never_works_stops_the_run(shards: Path, tmp_path: Path) -> None:
    evalset = build_evalset(shards, tmp_path / "set", PROMPTS, SetSettings(seeds=9))
    asked = []

    def never(request: Request) -> np.ndarray:
        asked.append(request)
        raise RuntimeError("out of memory")

    with pytest.raises(HifiError, match=r"10 cells in a row failed, the last .* out of memory"):
        run_cells(evalset, never, "m", tmp_path / "out")
    assert len(asked) == 10

    def wrong(request: Request) -> np.ndarray:
        return np.zeros((8, 8), np.float32)

    with pytest.raises(ConditionError, match="got float32 of shape"):
        run_cells(evalset, wrong, "m", tmp_path / "out")

    def bug(request: Request) -> np.ndarray:
        raise KeyError("typo")

    with pytest.raises(KeyError):
        run_cells(evalset, bug, "m", tmp_path / "out")


def test_pictures_of_another_model_or_set_are_not_mixed(shards: Path, evalset: EvalSet, tmp_path: Path) -> None:
    run_cells(evalset, grey, "m", tmp_path / "out")
    with pytest.raises(DataError, match="of another model; choose another --out"):
        run_cells(evalset, grey, "n", tmp_path / "out")
    other = build_evalset(shards, tmp_path / "other", PROMPTS, SetSettings(identities=2, references=2, seeds=3))
    with pytest.raises(DataError, match="of another set"):
        run_cells(other, grey, "m", tmp_path / "out")


def test_a_killed_run_leaves_whole_pictures_and_goes_on(evalset: EvalSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import sys, time, numpy as np\n"
        "from pathlib import Path\n"
        "from hifimodel.evaluation.evalset import read_evalset\n"
        "from hifimodel.evaluation.runner import run_cells\n"
        "def slow(request):\n"
        "    time.sleep(0.05)\n"
        "    return np.full((8, 8, 3), 10 * request.seed + len(request.prompt), np.uint8)\n"
        "run_cells(read_evalset(Path(sys.argv[1])), slow, 'm', Path(sys.argv[2]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    worker = subprocess.Popen([sys.executable, "-c", code, str(evalset.folder), str(out)], env=environment)
    try:
        deadline = time.monotonic() + 60
        while len(list(out.rglob("*.png"))) < 2 and time.monotonic() < deadline and worker.poll() is None:
            time.sleep(0.01)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    n_before = len(pictures_in(out))
    assert n_before >= 2
    counts = run_cells(evalset, grey, "m", out)
    assert (counts.skipped, counts.made) == (n_before, 8 - n_before)
    run_cells(evalset, grey, "m", tmp_path / "fresh")
    assert {name: data for name, (_, data) in pictures_in(out).items()} == {
        name: data for name, (_, data) in pictures_in(tmp_path / "fresh").items()
    }


def test_other_methods_bring_their_own_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def load(model, options):\n    return lambda request: [model, *options]\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_generator("mine:load", "m", ["--fast"])(None) == ["m", "--fast"]  # type: ignore[arg-type]
    for wrong in ("mine:nothing", "nowhere:load", "mine"):
        with pytest.raises(ConfigError, match=f"--generator {wrong}: cannot be imported"):
            load_generator(wrong, "m")
