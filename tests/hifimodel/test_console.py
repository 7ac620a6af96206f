"""Data goes to stdout, messages to stderr, and no name changes the terminal."""

from __future__ import annotations

import logging

import pytest
from rich.table import Table

from hifimodel import console
from hifimodel.errors import ConfigError, DivergedError

HOSTILE = "a\x1b[31m\rb\x9b\u202ec\udcff"
ESCAPED = r"a\x1b[31m\x0db\x9b\u202ec\xff"


def test_data_goes_to_stdout_and_messages_to_stderr_with_control_characters_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.write(HOSTILE)
    console.say(f"{HOSTILE}\nsecond line")
    shown = capsys.readouterr()
    assert shown.out == f"{ESCAPED}\n"
    assert shown.err == f"{ESCAPED}\nsecond line\n"


def test_a_table_in_a_pipe_is_wide_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", box=None)
    table.add_row("x" * 140)
    console.write_table(table)
    assert "x" * 140 in capsys.readouterr().out


def test_a_log_record_is_a_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    console.show_log()
    logging.getLogger("hifimodel.anything").warning("look: %s", HOSTILE)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"look: {ESCAPED}\n")


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (ConfigError("--seed: x"), 2, "error: --seed: x\n"),
        (DivergedError("NaN"), 1, "error: NaN\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    raised: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise raised

    assert console.exit_code_of(command) == code
    assert capsys.readouterr().err == line
