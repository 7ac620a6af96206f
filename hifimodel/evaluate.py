"""``python -m hifimodel.evaluate``: build an evaluation set, make a model's pictures for it, print the paper's Table 1.

python -m hifimodel.evaluate build --shards 'datasets/held-out/shards/**/*.tar' --out evalset
python -m hifimodel.evaluate run --set evalset --model runs/demo --out pictures [-- --base DIR --steps 8 ...]
python -m hifimodel.evaluate --set evalset --pictures pictures
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hifidata.core.errors import HifiError

if TYPE_CHECKING:
    from hifimodel.evaluation.runner import RunCounts

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measures generated portraits: the paper's Table 1, with intervals.",
    epilog="Exit codes: 0 done, 1 failed (with --strict also: sanity rows in the wrong order), 2 usage error, "
    "3 done but some cells failed, 130 interrupted.",
)
PROGRESS_INTERVAL_S = 10.0
JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout")]


@app.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    evalset: Annotated[Path | None, typer.Option("--set", metavar="EVALSET", help="evaluation set, see build")] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="generated pictures; without: the rows of real photos alone"),
    ] = None,
    real: Annotated[Path | None, typer.Option(help="photos that FID compares with; default: the references")] = None,
    recognisers: Annotated[
        list[str],
        typer.Option("--recogniser", help="for Sim_f; may be repeated: give one the model was not trained against"),
    ] = ["arcface", "dlib_resnet"],  # noqa: B006
    detector: Annotated[str, typer.Option(help="finds the faces")] = "dlib_hog",
    face3d: Annotated[str, typer.Option(help="for Exp and Pose: tddfa, deca or points (needs no files)")] = "tddfa",
    face3d_weights: Annotated[Path | None, typer.Option(help="folder of its files; deca needs it")] = None,
    clip: Annotated[Path | None, typer.Option(help="folder of a CLIP model, for CLIP_f")] = None,
    inception: Annotated[Path | None, typer.Option(help="inception-2015-12-05.pt, for FID")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the intervals")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="exit 1 where the sanity rows are in the wrong order")
    ] = False,
    json_out: JsonOption = False,
) -> None:
    """Prints the table; see also the commands build and run."""
    if context.invoked_subcommand:
        return
    if evalset is None:
        raise typer.BadParameter("--set is missing; `build` makes a set")
    from hifimodel.evaluation.evalset import read_evalset
    from hifimodel.evaluation.faces import InstrumentSettings, load_instruments
    from hifimodel.evaluation.report import evaluate
    from hifimodel.evaluation.statistics import Bootstrap
    from hifimodel.evaluation.table import console, print_report, wrong_order

    settings = InstrumentSettings(tuple(recognisers), detector, face3d, face3d_weights, clip, inception)
    found = read_evalset(evalset)
    instruments = load_instruments(settings)
    report = evaluate(found, pictures, instruments, Bootstrap(seed=seed), real, _progress("measured"))
    if json_out:
        typer.echo(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    else:
        print_report(report, console())
    for line in wrong_order(report):
        typer.echo(line, err=True)
    if strict and not report.in_order:
        raise typer.Exit(1)


@app.command()
def build(
    shards: Annotated[list[str], typer.Option(help="dataset folder, or quoted pattern of tars; not the training data")],
    out: Annotated[Path, typer.Option(metavar="EVALSET", help="folder to make")],
    identities: Annotated[int | None, typer.Option(min=1, help="people; default: up to 100")] = None,
    references: Annotated[int, typer.Option(min=1, help="reference photos per person")] = 4,
    prompts: Annotated[Path | None, typer.Option(help="one a line; default: ours, of the package")] = None,
    max_prompts: Annotated[int | None, typer.Option(min=1, help="only the first prompts")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="pictures per prompt and person")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="of the draw")] = 0,
    json_out: JsonOption = False,
) -> None:
    """Draws people, one target and some references each, from shards; the same draw for the same seed."""
    from hifimodel.evaluation.setbuilder import SetSettings, build_evalset, read_prompts

    settings = SetSettings(identities, references, seeds, seed)
    made = build_evalset(shards, out, read_prompts(prompts, max_prompts), settings)
    facts = {
        "set": str(made.folder),
        "digest": made.digest,
        "people": len(made.people),
        "prompts": len(made.prompts),
        "seeds": len(made.seeds),
        "cells": len(made.people) * len(made.prompts) * len(made.seeds),
    }
    typer.echo(json.dumps(facts) if json_out else ", ".join(f"{name} {value}" for name, value in facts.items()))


@app.command()
def run(
    evalset: Annotated[Path, typer.Option("--set", metavar="EVALSET", help="evaluation set, see build")],
    model: Annotated[str, typer.Option(help="a training run's folder, or what --generator takes")],
    out: Annotated[Path, typer.Option(metavar="PICTURES", help="folder for the pictures")],
    generator: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="makes a generator from --model; for other methods")
    ] = "hifimodel.evaluation.generator:load",
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- OPTIONS", help="for the generator; of ours: those of hifimodel.generate"),
    ] = None,
    json_out: JsonOption = False,
) -> None:
    """Makes the picture of every prompt, person and seed; the same command again makes what is not there."""
    from hifimodel.evaluation.evalset import read_evalset
    from hifimodel.evaluation.runner import load_generator, run_cells

    found = read_evalset(evalset)
    cells = sum(1 for _ in found.cells())
    tell = _progress("pictures")

    def update(counts: RunCounts) -> None:
        tell(counts.made + counts.skipped + counts.failed, cells)

    made_with = " ".join([generator, model, *(options or [])])
    counts = run_cells(found, load_generator(generator, model, options or []), made_with, out, update)
    words = f"{cells} cells: {counts.made} made, {counts.skipped} there before, {counts.failed} failed"
    typer.echo(json.dumps(vars(counts)) if json_out else words)
    if counts.failed:
        typer.echo(
            f"{counts.failed} cells failed: see *.failed.json in {out}; the same command tries them again", err=True
        )
        raise typer.Exit(3)


def _progress(what: str) -> Callable[[int, int], None]:
    """A line on stderr every now and then."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_INTERVAL_S:
            last = time.monotonic()
            typer.echo(f"{what} {done}/{total}", err=True)

    return tell


def main() -> None:
    """Entry point: maps errors to exit codes."""
    try:
        app()
    except HifiError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # disk full, permissions: the machine's trouble, not a bug of ours
        typer.echo(f"error: {error}; nothing is half-written, the same command resumes", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
