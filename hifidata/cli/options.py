"""Arguments and options that several commands have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

RecipeArg = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file, for example pipelines/folder.yaml")]
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
    typer.Option("--retry", help="failed: try again what earlier runs could not fetch, or get a caption for"),
]
LimitOption = Annotated[Optional[int], typer.Option("--limit", min=1, help="at most so many identities")]  # noqa: UP045


def weights_override(folder: Path | None) -> list[str]:
    """``--weights`` as an override of the recipe."""
    return [f"weights.folder={json.dumps(str(folder.absolute()))}"] if folder else []
