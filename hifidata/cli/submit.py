"""``hifidata submit``: run a recipe as a job on a Ray cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hifidata.cli import console
from hifidata.cli.options import RecipeArg, RunFlags, with_run_flags


@with_run_flags
def submit(
    flags: RunFlags,
    recipe: RecipeArg,
    address: Annotated[str, typer.Option(metavar="URL", help="URL of the cluster's dashboard, http://head:8265")],
    wait: Annotated[bool, typer.Option(help="wait for the end of the job; Ctrl-C stops the job")] = True,
) -> None:
    """Run a recipe as a job on a Ray cluster, and exit with its exit code. Paths are paths on the cluster's machines."""
    from hifidata.config.bundled import recipe_path
    from hifidata.config.recipe import read_recipe, validate
    from hifidata.run.executors import ray_cluster

    data = read_recipe(recipe_path(recipe), flags.recipe_overrides)
    validate(data, f"recipe {recipe}")
    ray_cluster.require_absolute_paths(data, str(flags.out))
    try:
        job = ray_cluster.submit(data, flags.arguments, address, console.job_log, wait)
    except KeyboardInterrupt:
        console.err.print("Interrupted. The job is stopped. Finished work is safe; run the same command to resume.")
        raise typer.Exit(130) from None
    if job.message:
        console.error(f"{job.id}: {job.message}")
    if flags.json_out:
        console.write_json(asdict(job))
    else:
        console.out.print(f"{job.id}: {'submitted' if job.exit_code is None else f'ended with {job.exit_code}'}")
    raise typer.Exit(job.exit_code or 0)
