"""``hifidata submit``: a run as a job on a Ray cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hifidata.cli import console
from hifidata.cli.options import (
    AcceptOption,
    JsonOption,
    LimitOption,
    OutOption,
    RecipeArg,
    RetryOption,
    SetOption,
    WeightsOption,
    weights_override,
)


def submit(
    recipe: RecipeArg,
    address: Annotated[str, typer.Option(metavar="URL", help="dashboard of the cluster, http://head:8265")],
    out: OutOption,
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    weights: WeightsOption = None,
    accept_recipe_change: AcceptOption = False,
    retry: RetryOption = None,
    wait: Annotated[bool, typer.Option(help="wait for its end, and stop it with Ctrl-C")] = True,
    json_out: JsonOption = False,
) -> None:
    """Runs a recipe as a job on a Ray cluster, and ends as the job ends; every path is one that the cluster's machines see."""
    from hifidata.config.recipe import read_recipe, validate
    from hifidata.run.executors import ray_cluster

    data = read_recipe(recipe, [*overrides, *weights_override(weights)])
    validate(data, f"recipe {recipe}")
    ray_cluster.require_absolute_paths(data, str(out))
    arguments = [f"--out={out}", *([f"--limit={limit}"] if limit else []), *([f"--retry={retry}"] if retry else [])]
    arguments += ["--accept-recipe-change"] if accept_recipe_change else []
    try:
        job = ray_cluster.submit(data, arguments, address, console.job_log, wait)
    except KeyboardInterrupt:
        console.err.print("interrupted; the job was stopped, nothing is half-written, the same command resumes")
        raise typer.Exit(130) from None
    if job.message:
        console.error(f"{job.id}: {job.message}")
    if json_out:
        console.write_json(asdict(job))
    else:
        console.out.print(f"{job.id}: {'submitted' if job.exit_code is None else f'ended with {job.exit_code}'}")
    raise typer.Exit(job.exit_code or 0)
