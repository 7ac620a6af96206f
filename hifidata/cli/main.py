"""The command ``hifidata``: ``run``, ``plan``, and the entry point. Other modules contain the other commands."""

from __future__ import annotations

import io
import signal
import sys
from importlib import metadata
from typing import Annotated, Any, Optional

import typer

from hifidata.cli import console, dataset, submit
from hifidata.cli.options import (
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
from hifidata.core.errors import HifiError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn names, URLs or folders of photos into identity-grouped portrait datasets. The manifest records why each "
    "candidate was kept or dropped.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or recipe error, 3 done but over the failure budget, "
    "4 folder locked by another run, 130 interrupted.",
)

app.add_typer(weights_app, name="weights")
app.add_typer(recipes_app, name="recipes")


def _print_version(requested: bool) -> None:
    if requested:
        console.out.print(f"hifidata {metadata.version('hifi-portrait')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and exit")
]


@app.callback()
def options(version: VersionOption = False) -> None:
    """Declare the options of ``hifidata`` itself. Their callbacks do the work."""


@app.command()
@with_run_flags
def run(
    flags: RunFlags,
    recipe: RecipeArg,
    executor: Annotated[Optional[str], typer.Option(help="ray or local; overrides the recipe")] = None,  # noqa: UP045
    address: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="running Ray cluster: auto or HOST:PORT; default: start Ray on this machine"),
    ] = None,
) -> None:
    """Run a recipe. The same command resumes an unfinished run."""
    from hifidata.config.bundled import recipe_path
    from hifidata.config.recipe import load_recipe
    from hifidata.run.devices import gpu_message
    from hifidata.run.finish import count_caption_faults
    from hifidata.run.run import run as run_recipe

    extra = [f"executor.kind={executor}"] if executor else []
    resolved = load_recipe(recipe_path(recipe), [*flags.recipe_overrides, *extra])
    if line := gpu_message(resolved)[0]:
        console.err.print(line)
    try:
        with console.RunDisplay() as display:
            result = run_recipe(
                resolved, flags.run_options(address, display.downloads.update, console.note), display.update
            )
    except KeyboardInterrupt:
        console.err.print("Interrupted. Finished work is safe; run the same command to resume.")
        raise typer.Exit(130) from None
    if flags.json_out:
        console.write_json(result.dataset)
    else:
        console.print_stage_table(result.dataset)
        if result.did_nothing:
            console.out.print("Nothing to do: this dataset is complete.")
        console.out.print(str(result.report))
    console.print_fallback_captions(result.dataset)
    console.print_shared_images(result.dataset)
    if result.over_budget:
        n_caption_faults = count_caption_faults(result.dataset)
        console.print_over_budget(result.dataset, resolved.failures.max_share, n_caption_faults, flags.out)
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
    """Show the plan of a run: candidates, stages, models and worker groups. Writes and downloads nothing.

    Exits with 2 if a run could not start.
    """
    from hifidata.config.bundled import recipe_path
    from hifidata.config.recipe import load_recipe
    from hifidata.run.devices import gpu_message
    from hifidata.run.plan import make_plan

    resolved = load_recipe(recipe_path(recipe), [*overrides, *weights_override(weights)])
    planned = make_plan(resolved, limit).as_dict()
    if json_out:
        console.write_json(planned)
    else:
        _print_plan(planned)
        for note in planned["notes"]:
            console.note(note)
        line, is_available = gpu_message(resolved)
        if not is_available:
            console.err.print(line)
        _print_problems(planned)
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


def _print_problems(planned: dict[str, Any]) -> None:
    wrong = [w for w in planned["weights"] if w["advice"]]
    if wrong or planned["problems"]:
        console.err.print("A run cannot start:")
    for problem in planned["problems"]:
        console.err.print(problem)
    if pulled := [w["name"] for w in wrong if w["can_pull"]]:
        console.err.print(f"download the missing files: `hifidata weights pull {' '.join(pulled)}`")
    for row in wrong:
        if row["problem"] or not row["can_pull"]:
            kind = "altered" if row["problem"] else "download manually" if row["made_from"] is None else "convert"
            console.err.print(f"{kind}: {row['advice']}")


for _command in dataset.COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line, and map exceptions to exit codes. Typer handles usage errors and exits with 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may have bytes that are not UTF-8
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop has the effect of Ctrl-C
    try:
        app()
    except HifiError as error:
        console.error(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of stdout has closed the pipe
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a full disk or missing permissions: a problem of the machine, not a bug
        console.error(f"{error}. Finished work is safe; free the cause and run the same command to resume.")
        sys.exit(1)


if __name__ == "__main__":
    main()
