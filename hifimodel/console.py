"""The terminal: data on stdout, messages on stderr, one line per error. Untrusted text is escaped."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hifidata.core.errors import HifiError
from hifidata.core.text import printable, printable_json

if TYPE_CHECKING:
    from rich.table import Table

Say = Callable[[str], None]
"""Takes a message for the user."""
INTERRUPTED = 130
PIPE_WIDTH = 160
"""Columns of a table in a pipe or file."""


def write(data: object) -> None:
    """Print data on stdout."""
    print(printable(str(data), lines=True))


def write_json(value: Any, indent: int | None = None) -> None:
    """Print a JSON document on stdout."""
    print(printable_json(value, indent))


def write_table(table: Table) -> None:
    """Print a table on stdout, as wide as the terminal, or ``PIPE_WIDTH`` in a pipe or file."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(highlight=False, markup=False, emoji=False, width=width).print(table)


def say(message: str) -> None:
    """Print a message on stderr."""
    print(printable(message, lines=True), file=sys.stderr, flush=True)


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
