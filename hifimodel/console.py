"""The terminal: data on stdout, messages on stderr, one line per error. Control characters are escaped."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hifidata.core.errors import HifiError

if TYPE_CHECKING:
    from rich.table import Table

Say = Callable[[str], None]
"""Takes a message for the user."""
INTERRUPTED = 130
PIPE_WIDTH = 160
"""Columns of a table in a pipe or file."""
CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
"""A file name must not move the cursor or change colours."""


def write(data: object) -> None:
    """Print data on stdout."""
    print(_escaped(str(data)))


def write_json(value: Any, indent: int | None = None) -> None:
    """Print a JSON document on stdout."""
    print(json.dumps(value, indent=indent, ensure_ascii=False))


def write_table(table: Table) -> None:
    """Print a table on stdout, as wide as the terminal, or ``PIPE_WIDTH`` in a pipe or file."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(highlight=False, markup=False, emoji=False, width=width).print(table)


def say(message: str) -> None:
    """Print a message on stderr."""
    print(_escaped(message), file=sys.stderr, flush=True)


def show_log() -> None:
    """Print log records of warning level and above as messages."""
    logging.basicConfig(format="%(message)s", handlers=[_Messages()])


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command; an error becomes one line on stderr. Returns the exit code."""
    try:
        return command()
    except HifiError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


class _Messages(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _escaped(text: str) -> str:
    return "\n".join(line.translate(CONTROL_CHARACTERS) for line in text.split("\n"))
