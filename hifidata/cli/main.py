"""``hifidata ...``: parses, calls, prints. Everything it does is a function elsewhere."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from hifidata.cli import console, submit
from hifidata.cli.options import (
    DatasetArg,
    JsonOption,
    LimitOption,
    RecipeArg,
    RunFlags,
    SetOption,
    WeightsOption,
    weights_override,
    with_run_flags,
)
from hifidata.cli.recipes import app as recipes_app
from hifidata.cli.weights import app as weights_app
from hifidata.core.errors import HifiError, UsageError

if TYPE_CHECKING:
    from hifidata.report.calibration import Calibration

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turns names, URLs or folders of photos into identity-grouped portrait datasets, and records why every candidate was kept or dropped.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or recipe error, 3 done but over the failure budget, "
    "4 folder locked by another run, 130 interrupted.",
)

app.add_typer(weights_app, name="weights")
app.add_typer(recipes_app, name="recipes")


def _print_version(asked: bool) -> None:
    if asked:
        console.out.print(f"hifidata {metadata.version('hifi-portrait')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and leave")
]


@app.callback()
def options(version: VersionOption = False) -> None:
    """Options of ``hifidata`` itself; their callbacks have done it all."""


@app.command()
@with_run_flags
def run(
    flags: RunFlags,
    recipe: RecipeArg,
    executor: Annotated[Optional[str], typer.Option(help="ray or local; overrides the recipe")] = None,  # noqa: UP045
    address: Annotated[Optional[str], typer.Option(help="Ray cluster: auto or HOST:PORT")] = None,  # noqa: UP045
) -> None:
    """Run a recipe; the same command again resumes it."""
    from hifidata.config.bundled import recipe_path
    from hifidata.config.recipe import load_recipe
    from hifidata.run.devices import gpu_line
    from hifidata.run.run import caption_faults
    from hifidata.run.run import run as run_recipe

    extra = [f"executor.kind={executor}"] if executor else []
    resolved = load_recipe(recipe_path(recipe), [*flags.recipe_overrides, *extra])
    if line := gpu_line(resolved)[0]:
        console.err.print(line)
    try:
        with console.RunDisplay() as display:
            result = run_recipe(resolved, flags.run_options(address, display.downloads.update), display.update)
    except KeyboardInterrupt:
        console.err.print("interrupted; nothing is half-written, the same command resumes")
        raise typer.Exit(130) from None
    if flags.json_out:
        console.write_json(result.dataset)
    else:
        console.closing_table(result.dataset)
        if result.did_nothing:
            console.out.print("Nothing to do: this dataset is complete.")
        console.out.print(str(result.report))
    console.caption_line(result.dataset)
    if result.over_budget:
        console.over_budget(result.dataset, resolved.failures.max_share, caption_faults(result.dataset), flags.out)
        raise typer.Exit(3)


app.command()(submit.submit)


@app.command()
def plan(
    recipe: RecipeArg,
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    weights: WeightsOption = None,
    json_out: JsonOption = False,
) -> None:
    """Shows what would run where, on how many candidates; writes and downloads nothing. Exit 2 where a run would not start."""
    from hifidata.config.bundled import recipe_path
    from hifidata.config.recipe import load_recipe
    from hifidata.run.devices import gpu_line
    from hifidata.run.plan import make_plan

    resolved = load_recipe(recipe_path(recipe), [*overrides, *weights_override(weights)])
    planned = make_plan(resolved, limit).as_dict()
    if json_out:
        console.write_json(planned)
    else:
        _print_plan(planned)
        line, as_asked = gpu_line(resolved)
        if not as_asked:
            console.err.print(line)
        _print_what_is_wrong(planned)
    if planned["problems"] or any(weight["advice"] for weight in planned["weights"]):
        raise typer.Exit(2)


def _print_plan(planned: dict[str, Any]) -> None:
    console.out.print(
        f"{planned['name']}: {planned['identities']} identities, "
        f"{'an unknown number of' if planned['candidates'] is None else planned['candidates']} candidates"
    )
    console.table(
        "stages",
        ("stage", "runs", "model", "drops"),
        [(s["stage"], "yes" if s["runs"] else "no", s["model"], "; ".join(s["drops"])) for s in planned["stages"]],
    )
    console.table(
        "worker groups", ("group", "cpus", "gpus", "onnx models on", "stages"),
        [(g["name"], g["num_cpus"], g["num_gpus"], g["onnx_provider"], " ".join(g["stages"])) for g in planned["groups"]],
    )  # fmt: skip
    console.table(
        "models",
        ("stage", "model", "licence", "thresholds from"),
        [(m["stage"], m["model"], m["licence"], m["thresholds_from"]) for m in planned["models"]],
    )
    if planned["weights"]:
        rows = [(w["name"], w["state"], w["bytes"], w["path"] or w["file"], w["licence"]) for w in planned["weights"]]
        console.table("weights", ("name", "state", "bytes", "file", "licence"), rows, right=("bytes",))


def _print_what_is_wrong(planned: dict[str, Any]) -> None:
    wrong = [w for w in planned["weights"] if w["advice"]]
    if wrong or planned["problems"]:
        console.err.print("a run would not start:")
    for problem in planned["problems"]:
        console.err.print(problem)
    if pulled := [w["name"] for w in wrong if w["can_pull"]]:
        console.err.print(f"pull what is missing: `hifidata weights pull {' '.join(pulled)}`")
    for row in wrong:
        if row["problem"] or not row["can_pull"]:
            kind = "altered" if row["problem"] else "bring by hand" if row["made_from"] is None else "to be made"
            console.err.print(f"{kind}: {row['advice']}")


@app.command()
def status(dataset: DatasetArg, json_out: JsonOption = False) -> None:
    """Shows whether a dataset is finished and what it holds so far."""
    from hifidata.store.query import status as look

    found = look(dataset)
    if json_out:
        console.write_json(found)
    else:
        console.table("", ("", " "), list(found.items()))


@app.command()
def check(dataset: DatasetArg, json_out: JsonOption = False) -> None:
    """Compares every shard and manifest with dataset.json; exit 1 where one is not as it was written."""
    from hifidata.store.verify import check as compare

    found = compare(dataset)
    if json_out:
        console.write_json(asdict(found))
    else:
        if found.problems:
            console.table("", ("file", "problem"), list(found.problems.items()))
        manifests = f" and {found.n_manifests_right} of {found.n_manifests} manifests" if found.n_manifests else ""
        console.out.print(f"{found.n_right} of {found.n_shards} shards{manifests} are as they were written")
    if found.problems:
        raise typer.Exit(1)


@app.command()
def inspect(
    dataset: DatasetArg,
    what: Annotated[str, typer.Argument(help="identity id or name, image id, sample key, or end of a file name")],
    json_out: JsonOption = False,
) -> None:
    """Shows one identity, or one image with its whole history."""
    from hifidata.store.query import find

    identity, rows = find(dataset, what)
    if json_out:
        console.write_json({"identity": identity, "images": rows})
    elif identity is not None:
        console.table("identity", ("", " "), _facts(identity))
        columns = ("image_id", "source_uri", "status", "stage", "reason", "quality_score", "similarity")
        console.table("images", columns, [[row[name] for name in columns] for row in rows])
    else:
        for row in rows:
            console.table(f"image {row['image_id']}", ("column", "value"), _facts(row))


def _facts(row: dict[str, Any]) -> list[tuple[str, Any]]:
    long = {"embedding", "target_embedding", "face_landmarks", "portrait_landmarks"}
    return [
        (name, f"{len(value)} numbers" if name in long else value) for name, value in row.items() if value is not None
    ]


@app.command()
def failures(
    dataset: DatasetArg,
    dropped: Annotated[bool, typer.Option("--dropped", help="also what was judged and dropped")] = False,
    reason: Annotated[Optional[str], typer.Option(help="only this reason")] = None,  # noqa: UP045
    captions: Annotated[
        bool, typer.Option("--captions", help="instead: kept pictures that lack their caption, or have a part of it")
    ] = False,
    json_out: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
) -> None:
    """Lists candidates that failed, with the reason and the file."""
    from hifidata.report.words import require_reason
    from hifidata.store.layout import DatasetFolder
    from hifidata.store.query import failures as look
    from hifidata.store.query import missing_captions

    if captions and (dropped or reason):
        raise UsageError("--captions lists kept pictures: leave out --dropped and --reason")
    if reason:
        require_reason(reason, DatasetFolder(dataset))
    rows = missing_captions(dataset) if captions else look(dataset, dropped, reason)
    if json_out:
        console.write_json_lines(rows)
    else:
        facts = ("caption_model", "caption_problem") if captions else ("stage", "reason", "message")
        columns = ("source_uri", *facts)
        console.table("", columns, [[row[name] for name in columns] for row in rows])


@app.command()
def replay(dataset: DatasetArg, overrides: SetOption = [], json_out: JsonOption = False) -> None:  # noqa: B006
    """Says what other thresholds would have kept, from stored numbers alone; runs no model, writes nothing."""
    from hifidata.run.replay import replay as redecide

    result = redecide(dataset, overrides)
    if json_out:
        console.write_json(vars(result) | {"unknown_by_stage": result.unknown_by_stage})
        return
    for change in result.changes or ["no setting changes"]:
        console.out.print(change)
    console.out.print(
        f"kept: {result.kept_before} -> {result.kept_after} of {result.n_candidates} "
        f"({len(result.newly_kept)} newly kept, {len(result.newly_dropped)} newly dropped)"
    )
    reasons = sorted(result.reasons_before.keys() | result.reasons_after.keys())
    rows = [(reason, result.reasons_before[reason], result.reasons_after[reason]) for reason in reasons]
    console.table("", ("reason", "before", "after"), rows, right=("before", "after"))
    if result.dependent:
        console.out.print(
            f"{len(result.dependent)} images are judged together with pictures of the same person that were never measured "
            "(below), so theirs is open too."
        )
    for stage, count in sorted(result.unknown_by_stage.items()):
        console.out.print(
            f"{count} images would now reach `{stage}`, but were never measured there: they had been dropped before it. "
            "Whether they would be kept, only a run can tell."
        )


@app.command()
def calibrate(
    dataset: DatasetArg,
    far: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--far",
            help="share of strangers that may pass for somebody; the report shows it from then on. Default: the rate chosen "
            "before, else the smallest usual one that the dataset supports",
        ),
    ] = None,
    json_out: JsonOption = False,
) -> None:
    """Says which verify.min_similarity the dataset itself supports, from stored embeddings; `--far` is kept for the report."""
    from hifidata.report.calibration import calibrate as fit
    from hifidata.report.calibration import choose
    from hifidata.report.html import write_report
    from hifidata.store.layout import DatasetFolder

    folder = DatasetFolder(dataset)
    record = folder.read_dataset()
    found = fit(dataset, far, record["recipe"]["verify"]["min_similarity"])
    if json_out:
        console.write_json(asdict(found) | {"why": found.why})
    else:
        _print_calibration(found)
    if far is not None:
        choose(dataset, far)
        console.err.print(f"kept for this dataset, and shown by its report: {write_report(folder.root, record)}")


def _print_calibration(found: Calibration) -> None:
    console.out.print(
        f"{found.embedding_model}: {found.n_comparisons:,} comparisons of {found.n_pictures:,} images with the centres of "
        f"other identities; {found.n_people:,} identities"
    )
    rows = [(t.source, f"{t.value:.3f}", f"{t.strangers_accepted:.3%}", f"{t.own_lost:.1%}") for t in found.thresholds]
    columns = ("threshold of", "similarity above", "false accept rate", "false reject rate")
    console.table("", columns, rows, right=columns[1:])
    console.out.print(
        f"Threshold: {found.threshold:.3f} (95 % confidence interval: {found.low:.3f} to {found.high:.3f}). {found.why}"
    )
    for warning in found.warnings:
        console.out.print(warning)
    first, second = found.closest
    console.out.print(
        f"Closest pair: {first} / {second} (cosine {found.closest_similarity:.3f}); possible duplicate identity."
    )


@app.command()
def report(dataset: DatasetArg) -> None:
    """Writes the HTML report, the dataset card and croissant.json again from the manifests."""
    from hifidata.run.run import report_path, write_reports
    from hifidata.store.layout import DatasetFolder

    folder = DatasetFolder(dataset)
    write_reports(folder, folder.read_dataset())
    console.out.print(str(report_path(folder)))


def main() -> None:
    """Entry point: maps the exception tree to exit codes; usage errors are Typer's own and exit with 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is treated like Ctrl-C
    try:
        app()
    except HifiError as error:
        console.error(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of stdout has seen enough
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # disk full, permissions: the machine's trouble, not a bug of ours
        console.error(f"{error}; nothing is half-written, the same command resumes")
        sys.exit(1)


if __name__ == "__main__":
    main()
