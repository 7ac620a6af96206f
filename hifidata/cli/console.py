"""Terminal output: live progress, tables, JSON. Data is printed to stdout, everything else to stderr."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from hifidata.core.text import printable, printable_json

if TYPE_CHECKING:
    from hifidata.run.run import Progress as RunProgress

PLAIN_INTERVAL_S = 30.0

PIPE_WIDTH = 2000
"""Width of tables in a pipe or a file. It is large, so that no path is folded that a script reads."""

_COLOURS = re.compile(r"\x1b\[[\d;]*m")


class SafeConsole(Console):
    """A console that prints untrusted text without control characters. Every line of a command passes through ``print``."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects; texts are escaped, except for their line breaks."""
        super().print(*(printable(item, lines=True) if isinstance(item, str) else item for item in objects), **options)


_OPTIONS: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False, "emoji": False}
out = SafeConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH, **_OPTIONS)
err = SafeConsole(stderr=True, **_OPTIONS)


def write_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(printable_json(value, indent=2) + "\n")


def write_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line to stdout."""
    for row in rows:
        sys.stdout.write(printable_json(row) + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[str] = ()) -> None:
    """Print a table to stdout. The columns in ``right`` are aligned to the right; blank titles and headers are omitted."""
    header = any(name.strip() for name in columns)
    if title:  # not the table's own title, which is folded to the width of the table
        out.print(Text(_plain(title), style="italic"))
    shown = Table(box=None, pad_edge=False, show_header=header, header_style="bold")
    for name in columns:
        shown.add_column(printable(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if value is None else _plain(value)) for value in row))
    out.print(shown, soft_wrap=False)


def error(message: str) -> None:
    """Print ``error: ...`` to stderr."""
    err.print(f"error: {message}")


def note(message: str) -> None:
    """Print a fact about the source, or a warning, to stderr."""
    err.print(printable(message))


def job_log(text: str) -> None:
    """Print output of a job on a cluster to stderr, without colours."""
    lines = (_plain(_COLOURS.sub("", line.expandtabs())) for line in text.splitlines())
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    digits = ".0f" if isinstance(value, float) and abs(value) >= 1000 else ".3g"  # no exponents of pixel positions
    text = f"{value:{digits}}" if isinstance(value, float) else str(value)
    return printable(text)


class RunDisplay(AbstractContextManager["RunDisplay"]):
    """Progress of a run: a live line on a terminal, a plain line every 30 s elsewhere.

    Attributes:
        downloads: progress of the model downloads before the run.
    """

    def __init__(self) -> None:
        self.downloads = DownloadDisplay()
        self._began = self._last_line = time.monotonic()
        self._task: TaskID | None = None
        self._live = (
            Progress(
                TextColumn("{task.fields[text]}", markup=False),
                BarColumn(bar_width=None),  # the rest of the line: on 80 columns the text is more important
                console=err,
                transient=True,
                expand=True,
            )
            if err.is_terminal
            else None
        )

    def __enter__(self) -> RunDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.downloads.stop()
        if self._live:
            self._live.stop()

    def update(self, progress: RunProgress) -> None:
        """Show the progress of the run."""
        now = time.monotonic()
        text = self._line(progress, now - self._began)
        if self._live is None:
            if progress.done_identities == 0 or now - self._last_line >= PLAIN_INTERVAL_S:
                self._last_line = now
                err.print(text)
            return
        if self._task is None:
            self.downloads.stop()  # rich allows one live display per terminal
            self._live.start()
            self._task = self._live.add_task("", total=1.0, text=text)
        self._live.update(self._task, completed=_share_done(progress), text=text)

    @staticmethod
    def _line(progress: RunProgress, seconds: float) -> str:
        """Return the progress line. The least important part is last, because a narrow terminal cuts the end."""
        done, n_images = progress.done_images, "?" if progress.n_images is None else progress.n_images
        head = f"identities {progress.done_identities}/{progress.n_identities}  images {done}/{n_images}"
        tail = f"  resumed identities: {progress.resumed_identities}" if progress.resumed_identities else ""
        if not done:
            return f"{head}  loading models{tail}"
        eta_s = round(seconds * (1 / _share_done(progress) - 1))
        clock = f"{eta_s // 3600:02d}:{eta_s // 60 % 60:02d}:{eta_s % 60:02d}"
        rate = done / max(seconds, 1e-6)
        return f"{head}  kept {progress.kept / done:.0%}  eta {clock}  {rate:.1f} images/s{tail}"


def _share_done(progress: RunProgress) -> float:
    """Return the share of processed images, or of identities if the number of images is unknown."""
    if progress.n_images is None:
        return progress.done_identities / max(progress.n_identities, 1)
    return progress.done_images / max(progress.n_images, 1)


class DownloadDisplay(AbstractContextManager["DownloadDisplay"]):
    """Progress of downloads on stderr: a bar per file on a terminal, otherwise a line per file and every 30 s."""

    def __init__(self) -> None:
        self._name, self._last_line = "", 0.0
        self._task: TaskID | None = None
        self._live: Progress | None = None

    def __enter__(self) -> DownloadDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the live display, so that another display can start."""
        if self._live:
            self._live.stop()
            self._live = self._task = None

    def update(self, name: str, n_bytes: int, total: int | None) -> None:
        """Show the progress of one file."""
        is_new, self._name = name != self._name, name
        if err.is_terminal:
            self._draw(name, n_bytes, total, is_new)
        elif is_new or time.monotonic() - self._last_line >= PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            err.print(f"{name}: {n_bytes / 1e6:.1f} MB" + (f" of {total / 1e6:.1f} MB" if total else ""))

    def _draw(self, name: str, n_bytes: int, total: int | None, is_new: bool) -> None:
        if self._live is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                DownloadColumn(),
                TimeRemainingColumn(),
            )
            self._live = Progress(*columns, console=err)
            self._live.start()
        if is_new or self._task is None:
            self._task = self._live.add_task(printable(name), total=total)
        self._live.update(self._task, completed=n_bytes, total=total)


def print_stage_table(dataset: Mapping[str, Any]) -> None:
    """Print the counts and the time per image of each stage, and the totals, to stdout."""
    rows = [
        (s["stage"], s["in"], s["kept"], s["dropped"], s["failed"], s["ms_per_image"]) if s["ran"]
        else (s["stage"], "not run", None, None, None, None)
        for s in dataset["stages"]
    ]  # fmt: skip
    numbers = ("in", "passed", "dropped", "failed", "ms/image")
    table(f"{dataset['name']}: stages", ("stage", *numbers), rows, right=numbers)
    counts = dataset["counts"]
    out.print(
        f"{counts['candidates']} candidates = {counts['kept']} kept + {counts['dropped']} dropped + {counts['failed']} failed; "
        f"{counts['identities_kept']} of {counts['identities']} identities kept"
    )


def print_fallback_captions(dataset: Mapping[str, Any]) -> None:
    """Print the number of fallback captions, if there are any, to stderr."""
    problems: Mapping[str, int] = dataset.get("caption_stand_ins") or {}
    if problems:
        words = ", ".join(f"{name} {n}" for name, n in sorted(problems.items()))
        err.print(f"captions: {sum(problems.values())} of {dataset['counts']['kept']} are fallback captions ({words})")


def print_shared_images(dataset: Mapping[str, Any]) -> None:
    """Print the number of images whose bytes belong to several identities, if there are any, to stderr."""
    shared: Mapping[str, int] = dataset.get("shared_images") or {}
    if shared.get("images"):
        err.print(
            f"warning: images with the same bytes in two or more identities: {shared['images']}, in {shared['identities']} "
            f"identities; kept more than once: {shared['kept']}; the report names them"
        )


def print_over_budget(dataset: Mapping[str, Any], max_share: float, n_caption_faults: int, out_dir: Path) -> None:
    """Print the exceeded part of the failure budget, and the remedy, to stderr."""
    counts = dataset["counts"]
    if counts["failed"] > max_share * counts["candidates"]:
        err.print(
            f"over the failure budget: {counts['failed']} of {counts['candidates']} candidates failed, the recipe allows "
            f"{max_share:.0%}; run `hifidata failures {out_dir}` for the reasons"
        )
    if n_caption_faults > max_share * counts["kept"]:
        err.print(
            f"over the failure budget: the captions of {n_caption_faults} of {counts['kept']} kept images failed, the recipe "
            f"allows {max_share:.0%}; run `hifidata failures {out_dir} --captions` for the reasons, fix them, and run the "
            "same command with --retry failed"
        )
