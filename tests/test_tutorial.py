"""The commands of docs/tutorial.md run in order, and print lines like those on the page."""

from __future__ import annotations

import csv
import io
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from examples.demo import server
from hifidata.cli.main import main
from tests.conftest import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEPS: list[tuple[str, str, str]] = re.findall(r"```(bash|python)\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
CLI, CODE_OF = ".venv/bin/hifidata ", '; echo "exit code $?"'
QUICK = ("executor.kind=local", "watermark.model=null", "crop.output_px=256")
SLOW_STAGE = ("watermark", "text_on_face")
"""Lines with these words differ, because ``QUICK`` omits the stage."""


@pytest.fixture
def checkout(demo_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to a folder with the demo's photos, and serve a part of them: five portraits of each guest are enough."""
    photos = shutil.copytree(demo_photos, tmp_path / "datasets" / "demo-photos")
    (tmp_path / "pipelines").symlink_to(PROJECT_ROOT / "pipelines")
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    with server.serving(photos) as table:
        header, *rows = csv.reader(io.StringIO(table.read_text()))
        few = [row for row in rows if not re.search(r"Guest_\d/(portrait_(0[6-9]|[^0])|text_on_face)", row[1])]
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([header, *few])
        yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its file to the collector
def test_the_tutorial_runs_and_prints_what_it_shows(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(STEPS) == len(re.findall("```(?:bash|python)", PAGE)), "each command has its output"
    for language, code, shown in STEPS:
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            if language == "python":
                exec(code, {})
            else:
                for line in code.splitlines():
                    run_line(line, monkeypatch)
        for line in shown.splitlines():
            assert is_printed(line, printed.getvalue()), f"{code}\nshows: {line}\nprints:\n{printed.getvalue()}"


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one line of a command block. ``hifidata`` runs in this process, because its start takes seconds."""
    line = line.replace("make dataset", f"{CLI} run pipelines/demo.yaml --out datasets/demo")
    command = line.removesuffix(CODE_OF)
    if not command.startswith(CLI):
        subprocess.run(shlex.split(command), check=True)
        return
    arguments = shlex.split(command.removeprefix(CLI))
    if arguments[0] == "run":
        arguments += [word for setting in QUICK for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["hifidata", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    if command == line:
        assert not done.value.code, f"{line} exits with {done.value.code}"
    else:
        print(f"exit code {done.value.code}")


def is_printed(line: str, printed: str) -> bool:
    """Return whether a line was printed, with any numbers, hashes and widths, and any text in place of an ellipsis."""
    if any(word in line for word in SLOW_STAGE):
        return True
    parts = re.split(r"(…|\s+|─+|[0-9a-f]{12,}|\d[\d.,:T+-]*)", line.strip())
    varying = {"…": ".*", " ": r"\s+", "─": "─+"}
    pattern = "".join(
        varying.get(part[0], r"[\w.,:+-]+") if i % 2 else re.escape(part) for i, part in enumerate(parts) if part
    )
    return any(re.fullmatch(pattern, found.strip()) for found in printed.splitlines())
