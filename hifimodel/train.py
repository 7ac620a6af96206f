"""Trains HiFi-Portrait on shards: parse, call, report.

    python -m hifimodel.train --shards 'datasets/demo/shards/**/*.tar' --preset tiny --out runs/demo
    accelerate launch -m hifimodel.train --shards ... --preset sdxl --base stabilityai/stable-diffusion-xl-base-1.0 --out ...

The same command again goes on from the newest checkpoint. In OUT: preset.yaml (every setting), metrics.csv, probe.csv, loss.png,
samples/ (grids: reference, landmarks, target, generated), checkpoints/, and at the end model/.

Exit codes: 0 done, 1 failed, 2 something to mend in the call or the data, 4 another run holds OUT, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hifidata.core.errors import HifiError
from hifimodel.config import load_preset, preset_names

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        preset = load_preset(arguments.preset, arguments.set)
        from hifimodel.training.loop import train  # slow to import: a wrong preset is told before
        from hifimodel.training.options import RunOptions

        options = RunOptions(
            arguments.shards, arguments.out, preset, arguments.base, arguments.embedder, arguments.landmarks_weights
        )
        finished = train(options, _say)
    except HifiError as error:  # the latter of a face model's missing file
        _say(f"hifimodel.train: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    if not finished:
        return INTERRUPTED
    if os.environ.get("RANK", "0") == "0":
        print(arguments.out / "model")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hifimodel.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True, help="a dataset folder, a folder of tars, or a quoted pattern")
    parser.add_argument("--preset", required=True, help=f"{', '.join(preset_names())}, or a YAML file")
    parser.add_argument("--out", required=True, type=Path, help="the run's folder; one that exists is gone on with")
    parser.add_argument("--base", help="SDXL model: folder or Hub name; `random` for its shapes with random weights")
    parser.add_argument(
        "--embedder",
        type=Path,
        metavar="FILE|DIR",
        help="the identity loss' recogniser: its ONNX file, whose name says which it is, or the folder it lies in",
    )
    parser.add_argument(
        "--landmarks-weights",
        type=Path,
        metavar="DIR",
        help="files of the landmark generator; default: hifidata's weight folders (train.landmarks=deca needs it)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a preset's value, for example train.steps=1000"
    )
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
