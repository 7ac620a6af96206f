"""The command line: exit codes, one-line errors with the remedy, data on stdout, messages on stderr."""

from __future__ import annotations

import json
import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from hifidata.cli import console
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.factories.cli import hifidata

FOLDER = str(PROJECT_ROOT / "pipelines" / "folder.yaml")


@pytest.fixture(scope="module")
def dataset(twelve_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "out"
    sets = [word for value in (f"source.path={twelve_people}", *QUICK_RECIPE) for word in ("--set", value)]
    done = hifidata("run", FOLDER, "--out", out, "--limit", 2, *sets)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(str(out / "report" / "index.html"))
    assert ["stage", "in", "passed", "dropped", "failed", "ms/image"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    return out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", FOLDER, "--out", "{tmp}/o", "--set", "source.path={tmp}/nope"], "no such folder"),
        (["run", FOLDER, "--out", "{tmp}/o", "--set", "quality.min_scor=1"], "did you mean min_score?"),
        (["run", "nope.yaml", "--out", "{tmp}/o"], "no such file"),
        (["run", FOLDER], "Missing option '--out'"),
        (["run", FOLDER, "--out", "{tmp}/o"], "source.path: missing"),
        (["run", FOLDER, "--out", "{tmp}/p/o", "--set", "source.path={tmp}/p"], "is inside the source folder"),
        (["run", FOLDER, "--out", "{tmp}/o", "--executor", "spark"], "executor.kind"),
        (["plan", FOLDER, "--set", "source.path={tmp}/p/ann"], "expected one sub-folder of photos per person"),
        (["status", "{tmp}"], "not a dataset folder"),
        (["inspect", "{tmp}", "x"], "not a dataset folder"),
        (["failures", "{tmp}"], "not a dataset folder"),
        (["replay", "{tmp}"], "not a dataset folder"),
        (["report", "{tmp}"], "not a finished dataset"),
        (["calibrate", "{tmp}"], "not a finished dataset"),
        (["check", "{tmp}"], "not a finished dataset"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_input_exits_with_2_and_names_the_problem(args: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "p" / "ann").mkdir(parents=True)
    (tmp_path / "p" / "ann" / "1.jpg").write_bytes(b"x")
    done = hifidata(*(arg.replace("{tmp}", str(tmp_path)) for arg in args))
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_version_is_that_of_the_package() -> None:
    assert hifidata("--version").stdout == f"hifidata {metadata.version('hifi-portrait')}\n"


def test_plan_writes_nothing(twelve_people: Path, tmp_path: Path) -> None:
    done = hifidata("plan", FOLDER, "--set", f"source.path={twelve_people}", "--json")
    plan = json.loads(done.stdout)
    assert (plan["identities"], plan["candidates"]) == (12, 48)
    assert list(tmp_path.iterdir()) == []


def test_status_json_counts_add_up(dataset: Path) -> None:
    found = json.loads(hifidata("status", dataset, "--json").stdout)
    assert found["finished"]
    assert found["candidates"] == found["kept"] + found["dropped"] + found["failed"] == 8


def test_inspect_finds_an_identity_by_name_and_an_image_by_file_id_and_key(dataset: Path) -> None:
    identity = json.loads(hifidata("inspect", dataset, "person_00", "--json").stdout)
    assert identity["identity"]["identity_name"] == "person_00"
    kept = next(row for row in identity["images"] if row["status"] == "kept")
    for handle in (kept["image_id"], kept["key"], kept["source_uri"][-20:]):
        found = json.loads(hifidata("inspect", dataset, handle, "--json").stdout)["images"]
        assert kept["image_id"] in [row["image_id"] for row in found]
    columns = hifidata("inspect", dataset, kept["image_id"]).stdout
    assert "quality_score" in columns
    assert "face_x1_px" in columns
    assert re.search(r"face_kps +\[(\d{1,4}, ){9}\d{1,4}\]", columns), "three digits, as single numbers"
    assert hifidata("inspect", dataset, "nobody").returncode == 2


def test_inspect_names_the_common_folder_of_an_identity_once(dataset: Path, twelve_people: Path) -> None:
    shown = hifidata("inspect", dataset, "person_00").stdout.splitlines()
    assert f"images in {twelve_people}/person_00/" in [line.rstrip() for line in shown]
    assert sum(str(twelve_people) in line for line in shown) == 1
    assert [line.split()[1] for line in shown[-4:]] == ["0.jpg", "1.jpg", "2.jpg", "broken.jpg"]
    assert all(line.strip() for line in shown), "no empty line instead of headers"


def test_failures_are_one_json_object_per_line(dataset: Path) -> None:
    rows = [json.loads(line) for line in hifidata("failures", dataset, "--json").stdout.splitlines()]
    assert len(rows) == 2
    assert {row["status"] for row in rows} == {"failed"}
    assert all(row["source_uri"].endswith("broken.jpg") for row in rows)


def test_check_names_altered_missing_and_unlisted_shards_of_a_copy(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(dataset / "dataset.json", copy)
    shutil.copytree(dataset / "shards", copy / "shards")
    right = hifidata("check", copy)
    assert (right.returncode, right.stdout.strip()) == (0, "2 of 2 shards are unaltered")
    assert "2 of 2 shards and 3 of 3 manifests are unaltered" in hifidata("check", dataset).stdout
    first, second = sorted((copy / "shards").rglob("*.tar"))
    data = bytearray(first.read_bytes())
    data[700] ^= 1
    first.write_bytes(data)
    second.rename(second.with_name("stray.tar"))
    wrong = hifidata("check", copy, "--json")
    found = json.loads(wrong.stdout)
    assert (wrong.returncode, found["n_shards"], found["n_right"]) == (1, 2, 0)
    assert [problem.split(";")[0].split(",")[0] for problem in found["problems"].values()] == [
        "sha256 differs",
        "missing",
        "not in dataset.json",
    ]
    with open(first, "ab") as file:
        file.write(b"more")
    assert f"{len(data) + 4} bytes, expected {len(data)}" in " ".join(hifidata("check", copy).stdout.split())


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"shards": null}',
        '{"shards": ["a"]}',
        '{"shards": [{"path": "../x.tar", "bytes": 1, "sha256": ""}]}',
    ],
)
def test_check_refuses_a_malformed_list_of_shards(content: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(content)
    done = hifidata("check", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "dataset.json: invalid list of shards" in done.stderr


def test_check_ignores_hidden_files_and_continues_after_unreadable_ones(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(dataset / "dataset.json", copy)
    shutil.copytree(dataset / "shards", copy / "shards")
    first = min((copy / "shards").rglob("*.tar"))
    first.with_name("._hidden.tar").write_bytes(b"written by another operating system")
    assert hifidata("check", copy).returncode == 0
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(first, tmp_path / "elsewhere" / "x.tar")
    (copy / "shards" / "linked").symlink_to(tmp_path / "elsewhere")
    first.unlink()
    first.mkdir()
    found = json.loads(hifidata("check", copy, "--json").stdout)
    assert (found["n_shards"], found["n_right"]) == (2, 1)
    assert [problem.split(";")[0].split(",")[0] for problem in found["problems"].values()] == [
        "not a file",
        "not in dataset.json",
    ]


def test_replay_prints_before_and_after(dataset: Path) -> None:
    done = hifidata("replay", dataset, "--set", "quality.min_score=1.0")
    assert done.returncode == 0, done.stderr
    assert "quality.min_score: 0.1 -> 1.0" in done.stdout
    assert "-> 0 of 8" in done.stdout
    assert ["low_quality", "0", "6"] in [line.split() for line in done.stdout.splitlines()]
    assert "corrupt" not in done.stdout, "only reasons that change"


def test_replay_gives_a_range_where_only_a_run_can_decide(twelve_people: Path, tmp_path: Path) -> None:
    settings = [f"source.path={twelve_people}", *QUICK_RECIPE, "quality.min_score=1.0"]
    sets = [word for value in settings for word in ("--set", value)]
    assert hifidata("run", FOLDER, "--out", tmp_path / "out", "--limit", 1, *sets).returncode == 0
    done = hifidata("replay", tmp_path / "out", "--set", "quality.min_score=0.1")
    assert "kept: 0 -> 0 to 3 of 4 (0 newly kept, 0 newly dropped, 3 undecided)" in done.stdout
    assert "3 images are undecided: they would now reach `embed`" in done.stdout


def test_markup_in_names_is_printed_literally(tmp_path: Path) -> None:
    person = tmp_path / "photos" / "[bold]red"
    person.mkdir(parents=True)
    (person / "[link=x].jpg").write_bytes(b"not an image")
    sets = [word for value in QUICK_RECIPE for word in ("--set", value)]
    out = tmp_path / "out"
    done = hifidata("run", FOLDER, "--out", out, "--set", f"source.path={tmp_path / 'photos'}", *sets)
    assert done.returncode == 3, done.stderr
    assert "[bold]red" in hifidata("inspect", out, "[bold]red").stdout
    assert "[link=x].jpg" in hifidata("failures", out).stdout


def test_names_reach_json_unchanged_and_the_terminal_without_control_characters(tmp_path: Path) -> None:
    person = tmp_path / "photos" / ":smile: \x1b[31m"
    person.mkdir(parents=True)
    (person / "1.jpg").write_bytes(b"not an image")
    sets = [word for value in QUICK_RECIPE for word in ("--set", value)]
    hifidata("run", FOLDER, "--out", tmp_path / "out", "--set", f"source.path={tmp_path / 'photos'}", *sets)
    found = json.loads(hifidata("inspect", tmp_path / "out", person.name, "--json").stdout)
    assert found["identity"]["identity_name"] == ":smile: \x1b[31m"
    shown = hifidata("inspect", tmp_path / "out", person.name).stdout
    assert ":smile: \\x1b[31m" in shown
    assert "\x1b" not in shown


def test_numbers_of_a_table_have_three_digits_and_no_exponent(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("", ("", " "), [("corners", [0.123456, 1234.5, 12])])
    assert capsys.readouterr().out.split(maxsplit=1) == ["corners", "[0.123, 1234, 12]\n"]


def test_the_title_of_a_narrow_table_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    title = f"images in /{'a-long-folder/' * 20}"
    console.table(title, ("a", "b"), [(1, 2)])
    assert capsys.readouterr().out.splitlines()[0] == title


HOSTILE = "a\x1b[31m\r\u202eb\u2066\x9b\udcff\u2028c"
ESCAPED = r"a\x1b[31m\x0d\u202eb\u2066\x9b\xff\u2028c"


@pytest.mark.parametrize("stream", ["out", "err"])
def test_every_way_to_print_escapes_controls_and_bidirectional_marks(
    stream: str, capsys: pytest.CaptureFixture[str]
) -> None:
    getattr(console, stream).print(f"{HOSTILE}\nnext line")
    console.error(HOSTILE)
    console.table(HOSTILE, (HOSTILE,), [(HOSTILE,), ([HOSTILE],)])
    console.DownloadDisplay().update(HOSTILE, 1, None)
    console.write_json({HOSTILE: HOSTILE})
    console.write_json_lines([{"x": HOSTILE}])
    console.job_log(HOSTILE.replace("\r", "").replace("\u2028", ""))
    shown = capsys.readouterr()
    assert not set(HOSTILE) & {*shown.out, *shown.err} - set(ESCAPED)
    assert f"{ESCAPED}\nnext line\n" in getattr(shown, stream)
    assert json.loads(shown.out.splitlines()[-1]) == {"x": HOSTILE}


def test_an_error_that_quotes_a_server_prints_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("the server answers: \x1b[31mred\x9b; start it\nor correct its address")
    expected = "error: the server answers: \\x1b[31mred\\x9b; start it\nor correct its address\n"
    assert capsys.readouterr().err == expected


def test_an_unknown_reason_is_refused_with_the_nearest_one(dataset: Path) -> None:
    done = hifidata("failures", dataset, "--reason", "low_qualty")
    assert done.returncode == 2
    assert "did you mean low_quality?" in done.stderr
