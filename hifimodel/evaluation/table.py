"""A report as a table and its legend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from hifidata.core.text import printable
from hifimodel import console
from hifimodel.evaluation.metrics import COPY_PASTE
from hifimodel.evaluation.report import Report
from hifimodel.evaluation.rows import Row
from hifimodel.evaluation.statistics import Estimate

HIGHER, LOWER = " \u2191", " \u2193"


def print_report(report: Report) -> None:
    """Print rows as in the paper's Table 1, then the meaning of the columns, missing columns and the sanity checks."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    table.add_column("")
    table.add_column("faces", justify="right")
    for name in report.columns:
        table.add_column(_heading(name, report.columns), justify="right")
    for row in report.rows:
        cells = [_cell(row.values.get(name), report.missing.get(name)) for name in report.columns]
        table.add_row(Text(printable(row.name)), Text(_faces(row)), *cells)
    console.write_table(table)
    for line in _legend(report):
        console.write(line)


def _legend(report: Report) -> Iterator[str]:
    yield from (f"{name}: {about}" for name, about in {n.split(" ")[0]: a for n, a in report.columns.items()}.items())
    yield "[low, high]: 95 % intervals over resampled identities; faces: images with a usable face, of the existing images"
    yield from (f"{name} is not measured: {why}" for name, why in report.missing.items())
    yield from (f"note: {note}" for note in report.notes)
    n_wrong = sum(not check.holds for check in report.checks)
    verdict = f"{n_wrong} of {len(report.checks)} checks fail" if n_wrong else f"all {len(report.checks)} checks hold"
    yield f"order of the rows of real photos: {verdict}"


def wrong_order(report: Report) -> list[str]:
    """Return one line for each check that fails; the numbers of that column are then not reliable."""
    return [
        f"sanity: expected {check.words}; do not trust {check.column} on this set: check its photos, or measure more identities"
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
