"""Train HiFi-Portrait on shards.

    python -m hifimodel.train --shards 'datasets/demo/shards/**/*.tar' --preset tiny --out runs/demo
    accelerate launch -m hifimodel.train --shards ... --preset sdxl --base stabilityai/stable-diffusion-xl-base-1.0 --out ...

The same command resumes from the newest checkpoint. OUT contains preset.yaml (every setting), metrics.csv, probe.csv, loss.png,
samples/ (grids: reference, landmarks, target, generated), checkpoints/, and after the last step model/.

Exit codes: 0 done, 1 failed, 2 usage or data error, 4 OUT is locked by another run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hifimodel import console
from hifimodel.config import load_preset, preset_names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return console.exit_code_of(lambda: _train(arguments))


def _train(arguments: argparse.Namespace) -> int:
    preset = load_preset(arguments.preset, arguments.set)
    from hifimodel.training.loop import train  # slow to import: a wrong preset fails before
    from hifimodel.training.options import RunOptions

    options = RunOptions(
        arguments.shards, arguments.out, preset, arguments.base, arguments.embedder, arguments.landmarks_weights
    )
    if not train(options, console.say):
        return console.INTERRUPTED
    if os.environ.get("RANK", "0") == "0":
        console.write(arguments.out / "model")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hifimodel.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True, help="dataset folder, folder of tars, or quoted pattern")
    parser.add_argument("--preset", required=True, help=f"{', '.join(preset_names())}, or a YAML file")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run; an existing run is resumed")
    parser.add_argument("--base", help="SDXL model: folder or Hub name; `random`: its shapes with random weights")
    parser.add_argument(
        "--embedder",
        type=Path,
        metavar="FILE|DIR",
        help="recogniser of the identity loss: its ONNX file, identified by name, or the folder that contains it",
    )
    parser.add_argument(
        "--landmarks-weights",
        type=Path,
        metavar="DIR",
        help="files of the landmark backend; default: hifidata's weight folders (required for train.landmarks=deca)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="preset value, for example train.steps=1000"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
