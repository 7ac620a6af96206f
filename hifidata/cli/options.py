"""Arguments and options that several commands have.

``RunFlags`` are the options that ``run`` and ``submit`` share: a new one is a field here and a field of ``RunOptions``.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, get_type_hints

import typer

if TYPE_CHECKING:
    from hifidata.run.requirements import OnDownload
    from hifidata.run.run import RunOptions

RecipeArg = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="YAML file, or a recipe of the package, such as folder (`hifidata recipes list`)"
    ),
]
DatasetArg = Annotated[Path, typer.Argument(metavar="DIR", help="dataset folder")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a recipe value; may be repeated")
]
JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout")]
WeightsOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--weights", metavar="DIR", help="folder of model files, used as it is; overrides HIFI_WEIGHTS"),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="dataset folder to make or resume")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-recipe-change", help="redo everything if DIR was made by another recipe")
]
RetryOption = Annotated[
    Optional[Literal["failed"]],  # noqa: UP045
    typer.Option("--retry", help="retry downloads and captions that failed earlier"),
]
LimitOption = Annotated[Optional[int], typer.Option("--limit", min=1, help="at most this many identities")]  # noqa: UP045


@dataclass(frozen=True)
class RunFlags:
    """Options of ``run`` and ``submit``."""

    out: OutOption
    overrides: SetOption
    limit: LimitOption = None
    weights: WeightsOption = None
    accept_recipe_change: AcceptOption = False
    retry: RetryOption = None
    json_out: JsonOption = False

    @property
    def recipe_overrides(self) -> list[str]:
        """``--set`` and ``--weights`` as overrides of the recipe."""
        return [*self.overrides, *weights_override(self.weights)]

    def run_options(self, address: str | None, on_download: OnDownload) -> RunOptions:
        """The same for ``hifidata.run.run``."""
        from hifidata.run.run import RunOptions

        return RunOptions(self.out, address, self.limit, self.accept_recipe_change, self.retry == "failed", on_download)

    @property
    def arguments(self) -> list[str]:
        """The same as arguments of ``hifidata run``, without what travels in the recipe or concerns this terminal."""
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("overrides", "weights", "json_out") or value in (None, False):
                continue
            option = f"--{field.name.replace('_', '-')}"
            found.append(option if value is True else f"{option}={value}")
        return found


def with_run_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose first parameter is a ``RunFlags`` an option for each of its fields."""
    hints = get_type_hints(RunFlags, include_extras=True)
    own = inspect.signature(command, eval_str=True).parameters
    _, *rest = own.values()
    kind = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(f.name, kind, default=getattr(RunFlags, f.name, []), annotation=hints[f.name])
        if f.name != "out"
        else inspect.Parameter(f.name, kind, annotation=hints[f.name])
        for f in fields(RunFlags)
    ]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        flags = RunFlags(**{field.name: values.pop(field.name) for field in fields(RunFlags)})
        command(flags, **values)

    parameters = [*(p.replace(kind=kind) for p in rest), *shared]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    del wrapper.__wrapped__  # Typer would look through it
    return wrapper


def weights_override(folder: Path | None) -> list[str]:
    """``--weights`` as an override of the recipe."""
    return [f"weights.folder={json.dumps(str(folder.absolute()))}"] if folder else []
