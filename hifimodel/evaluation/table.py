"""A report as a table, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hifimodel.evaluation.metrics import COPY_PASTE
from hifimodel.evaluation.report import Report
from hifimodel.evaluation.rows import Row
from hifimodel.evaluation.statistics import Estimate

PIPE_WIDTH = 160
HIGHER, LOWER = " \u2191", " \u2193"


def console(stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or wide enough for a table in a pipe or a file."""
    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=PIPE_WIDTH)


def print_report(report: Report, to: Console) -> None:
    """Rows as in the paper's Table 1, then what the columns are, what is missing and why, and the checks."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    table.add_column("")
    table.add_column("faces", justify="right")
    for name in report.columns:
        table.add_column(_heading(name, report.columns), justify="right")
    for row in report.rows:
        cells = [_cell(row.values.get(name), report.missing.get(name)) for name in report.columns]
        table.add_row(Text(row.name), Text(_faces(row)), *cells)
    to.print(table)
    for line in _legend(report):
        to.print(line, soft_wrap=True)


def _legend(report: Report) -> Iterator[str]:
    yield from (f"{name}: {about}" for name, about in {n.split(" ")[0]: a for n, a in report.columns.items()}.items())
    yield "[low, high]: 95 % intervals, people resampled; faces: pictures with a usable face, of those that are there"
    yield from (f"{name} is not measured: {why}" for name, why in report.missing.items())
    yield from (f"note: {note}" for note in report.notes)
    n_wrong = sum(not check.holds for check in report.checks)
    verdict = f"{n_wrong} of {len(report.checks)} checks fail" if n_wrong else f"all {len(report.checks)} checks hold"
    yield f"order of the rows of real photos: {verdict}"


def wrong_order(report: Report) -> list[str]:
    """One line for each check that fails; the numbers of that column then mean little."""
    return [
        f"sanity: expected {check.words}; do not trust {check.column} on this set: look at its photos, or measure more people"
        for check in report.checks
        if not check.holds
    ]


def _heading(name: str, columns: Mapping[str, str]) -> Text:
    arrow = "" if name == COPY_PASTE else HIGHER if columns[name].startswith("higher") else LOWER
    return Text(name.replace(" ", "\n") + arrow)


def _cell(estimate: Estimate | None, why_missing: str | None) -> Text:
    if estimate is None:
        return Text("not measured" + (f": {why_missing.split(' (')[0]}" if why_missing else ""), "dim")
    text = Text(f"{estimate.value:.1f}")
    if estimate.low is not None:
        text.append(f"\n[{estimate.low:.1f}, {estimate.high:.1f}]", "dim")
    return text


def _faces(row: Row) -> str:
    expected = f"\n({row.n_expected} expected)" if row.n_expected != row.n_pictures else ""
    return f"{row.n_faces}/{row.n_pictures}{expected}"
