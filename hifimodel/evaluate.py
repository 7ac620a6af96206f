"""Build an evaluation set, generate a model's images for it, and print the paper's Table 1.

python -m hifimodel.evaluate build --shards 'datasets/held-out/shards/**/*.tar' --out evalset
python -m hifimodel.evaluate run --set evalset --model runs/demo --out pictures [-- --base DIR --steps 8 ...]
python -m hifimodel.evaluate --set evalset --pictures pictures
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hifimodel import console

if TYPE_CHECKING:
    from hifimodel.evaluation.runner import RunCounts

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure generated portraits: the paper's Table 1, with intervals.",
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
        typer.Option("--pictures", metavar="DIR", help="generated images; default: only the rows of real photos"),
    ] = None,
    real: Annotated[Path | None, typer.Option(help="photos for FID; default: the references")] = None,
    recognisers: Annotated[
        list[str],
        typer.Option("--recogniser", help="for Sim_f; can be repeated: add one that the model was not trained with"),
    ] = ["arcface", "dlib_resnet"],  # noqa: B006
    detector: Annotated[str, typer.Option(help="face detector")] = "dlib_hog",
    face3d: Annotated[str, typer.Option(help="for Exp and Pose: tddfa, deca or points (no files)")] = "tddfa",
    face3d_weights: Annotated[Path | None, typer.Option(help="folder of its files; required for deca")] = None,
    clip: Annotated[Path | None, typer.Option(help="folder of a CLIP model, for CLIP_f")] = None,
    inception: Annotated[Path | None, typer.Option(help="inception-2015-12-05.pt, for FID")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the intervals")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 if the sanity rows are in the wrong order")] = False,
    json_out: JsonOption = False,
) -> None:
    """Print the table; see also the commands build and run."""
    if context.invoked_subcommand:
        return
    if evalset is None:
        raise typer.BadParameter("--set is missing; make a set with `build`")
    from hifimodel.evaluation.evalset import read_evalset
    from hifimodel.evaluation.faces import InstrumentSettings, load_instruments
    from hifimodel.evaluation.report import evaluate
    from hifimodel.evaluation.statistics import Bootstrap
    from hifimodel.evaluation.table import print_report, wrong_order

    settings = InstrumentSettings(tuple(recognisers), detector, face3d, face3d_weights, clip, inception)
    found = read_evalset(evalset)
    instruments = load_instruments(settings)
    report = evaluate(found, pictures, instruments, Bootstrap(seed=seed), real, _progress("measured"))
    if json_out:
        console.write_json(report.as_json(), indent=1)
    else:
        print_report(report)
    for line in wrong_order(report):
        console.say(line)
    if strict and not report.in_order:
        raise typer.Exit(1)


@app.command()
def build(
    shards: Annotated[list[str], typer.Option(help="dataset folder, or quoted pattern of tars; not the training data")],
    out: Annotated[Path, typer.Option(metavar="EVALSET", help="folder to write")],
    identities: Annotated[int | None, typer.Option(min=1, help="number of identities; default: up to 100")] = None,
    references: Annotated[int, typer.Option(min=1, help="reference photos per identity")] = 4,
    prompts: Annotated[
        Path | None, typer.Option(help="text file, one prompt per line; default: the packaged file")
    ] = None,
    max_prompts: Annotated[int | None, typer.Option(min=1, help="use only the first N prompts")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="images per prompt and identity")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="seed of the draw")] = 0,
    json_out: JsonOption = False,
) -> None:
    """Draw identities, each with a target and references, from shards; the same seed gives the same draw."""
    from hifimodel.evaluation.setbuilder import SetSettings, build_evalset, read_prompts

    settings = SetSettings(identities, references, seeds, seed)
    made = build_evalset(shards, out, read_prompts(prompts, max_prompts), settings)
    facts = {
        "set": str(made.folder),
        "digest": made.digest,
        "people": len(made.identities),
        "prompts": len(made.prompts),
        "seeds": len(made.seeds),
        "cells": len(made.identities) * len(made.prompts) * len(made.seeds),
    }
    if json_out:
        console.write_json(facts)
    else:
        console.write(", ".join(f"{name} {value}" for name, value in facts.items()))


@app.command()
def run(
    evalset: Annotated[Path, typer.Option("--set", metavar="EVALSET", help="evaluation set, see build")],
    model: Annotated[str, typer.Option(help="folder of a training run, or the model of --generator")],
    out: Annotated[Path, typer.Option(metavar="PICTURES", help="folder for the images")],
    generator: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="loads --model; for other methods")
    ] = "hifimodel.evaluation.generator:load",
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- OPTIONS", help="for the generator; the default takes those of hifimodel.generate"),
    ] = None,
    json_out: JsonOption = False,
) -> None:
    """Generate an image per prompt, identity and seed; the same command resumes."""
    from hifimodel.evaluation.evalset import read_evalset
    from hifimodel.evaluation.runner import load_generator, run_cells

    found = read_evalset(evalset)
    cells = sum(1 for _ in found.cells())
    tell = _progress("images")
    console.show_log()

    def update(counts: RunCounts) -> None:
        tell(counts.made + counts.skipped + counts.failed, cells)

    made_with = " ".join([generator, model, *(options or [])])
    counts = run_cells(found, load_generator(generator, model, options or []), made_with, out, update)
    if json_out:
        console.write_json(vars(counts))
    else:
        console.write(f"{cells} cells: {counts.made} generated, {counts.skipped} existed, {counts.failed} failed")
    if counts.failed:
        console.say(f"{counts.failed} cells failed: see *.failed.json in {out}; the same command retries them")
        raise typer.Exit(3)


def _progress(what: str) -> Callable[[int, int], None]:
    """Return a function that prints progress on stderr, at most every ``PROGRESS_INTERVAL_S``."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_INTERVAL_S:
            last = time.monotonic()
            console.say(f"{what} {done}/{total}")

    return tell


def main() -> None:
    """Run the command line."""
    try:
        sys.exit(console.exit_code_of(app))
    except OSError as error:  # disk full, no permission: not a bug
        console.say(f"error: {error}; finished work is safe, run the same command to resume")
        sys.exit(1)


if __name__ == "__main__":
    main()
