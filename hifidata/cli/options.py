"""Arguments and options that several commands share.

``RunFlags`` holds the common options of ``run`` and ``submit``. A new option needs a field here and in ``RunOptions``.
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
        metavar="RECIPE", help="YAML file, or the name of a bundled recipe, such as folder (`hifidata recipes list`)"
    ),
]
DatasetArg = Annotated[Path, typer.Argument(metavar="DIR", help="dataset folder")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a key of the recipe; may be repeated")
]
JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout")]
WeightsOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--weights", metavar="DIR", help="folder with model files, used read-only; overrides HIFI_WEIGHTS"),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="dataset folder to create or resume")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-recipe-change", help="reprocess everything if another recipe made the folder")
]
RetryOption = Annotated[
    Optional[Literal["failed"]],  # noqa: UP045
    typer.Option("--retry", help="retry failed downloads, searches and captions of earlier runs"),
]
LimitOption = Annotated[Optional[int], typer.Option("--limit", min=1, help="largest number of identities")]  # noqa: UP045


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

    def run_options(self, address: str | None, on_download: OnDownload, on_note: Callable[[str], None]) -> RunOptions:
        """Return the options of ``hifidata.run.run``."""
        from hifidata.run.run import RunOptions

        return RunOptions(
            self.out, address, self.limit, self.accept_recipe_change, self.retry == "failed", on_download, on_note
        )

    @property
    def arguments(self) -> list[str]:
        """Arguments of ``hifidata run`` for a job, without overrides (the job's recipe contains them) and --json."""
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("overrides", "weights", "json_out") or value in (None, False):
                continue
            option = f"--{field.name.replace('_', '-')}"
            found.append(option if value is True else f"{option}={value}")
        return found


def with_run_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the first parameter of a command, a ``RunFlags``, by one option for each field."""
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
    del wrapper.__wrapped__  # Typer would inspect the wrapped command instead
    return wrapper


def weights_override(folder: Path | None) -> list[str]:
    """Return ``--weights`` as an override of the recipe."""
    return [f"weights.folder={json.dumps(str(folder.absolute()))}"] if folder else []
