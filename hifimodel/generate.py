"""Generate portraits of a person with the expression and head pose of another photo.

    python -m hifimodel.generate --model runs/demo --reference a.jpg b.jpg c.jpg --target t.jpg \\
        --prompt "a portrait, in a garden" --out out.png

Photos are checked before the large models load, so that a photo without a face fails within seconds. Paths of portraits go to
stdout, messages to stderr. Exit codes: 0 done, 1 failed, 2 usage or input error, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from hifimodel import console
from hifimodel.errors import ConfigError
from hifimodel.inference.portraits import (
    MakerOptions,
    add_options,
    at_least,
    find_device,
    load_pipeline,
    load_reader,
    make_portraits,
    quiet_libraries,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    console.show_log()
    return console.exit_code_of(lambda: _generate(args))


def _generate(args: argparse.Namespace) -> int:
    for path in generate(args):
        console.write(path)
    return 0


def generate(args: argparse.Namespace) -> list[Path]:
    """Write the portraits that the command line requests; see ``_parser`` for its options.

    Returns:
        ``--out`` for one portrait; ``out-1.png``, ``out-2.png``, ... beside it for more.

    Raises:
        HifiError: one line that names the problem.
    """
    _require_inputs(args)
    quiet_libraries()
    options, condition = MakerOptions.of(args), None
    find_device(options.device)
    if args.reference or args.target is not None:
        condition = load_reader(options).read(args.reference, args.target, options.size_px)
    seeds = range(args.seed, args.seed + args.num)
    output = make_portraits(load_pipeline(options), options, args.prompt, condition, seeds)
    if condition is not None and condition.landmarks_u8 is not None and args.landmarks_out is not None:
        _save(Image.fromarray(condition.landmarks_u8.permute(1, 2, 0).numpy()), args.landmarks_out)
    paths = [args.out] if args.num == 1 else [_numbered(args.out, number + 1) for number in range(args.num)]
    flagged = output.nsfw_content_detected or [False] * len(paths)
    for portrait, path, is_flagged in zip(output.images, paths, flagged, strict=True):
        _save(portrait, path)
        if is_flagged:
            console.say(f"{path}: black, because the safety check flagged it; try another prompt or seed")
    return paths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hifimodel.generate", description="Generate portraits of a person from 1 to 6 photos."
    )
    add = parser.add_argument
    add("--reference", type=Path, nargs="+", default=[], metavar="PHOTO", help="1 to 6 photos of the person")
    add("--no-references", action="store_true", help="no photos of a person: landmarks only")
    add("--target", type=Path, metavar="PHOTO", help="photo that gives the expression and head pose")
    add("--no-landmarks", action="store_true", help="expression and pose follow the prompt")
    add("--prompt", required=True, help='"" for none')
    add("--out", type=Path, required=True, metavar="FILE", help=".png, .jpg or another image format")
    add("--num", type=at_least(1), default=1, metavar="N", help="number of portraits; seeds count up from --seed")
    add("--seed", type=int, default=0)
    add("--landmarks-out", type=Path, metavar="FILE", help="also save the landmark image")
    add_options(parser)
    return parser


def _require_inputs(args: argparse.Namespace) -> None:
    from hifimodel.inference.conditions import MAX_REFERENCES

    if bool(args.reference) == args.no_references:
        given = "both given" if args.reference else "no reference"
        raise ConfigError(f"--reference: {given}; name 1 to {MAX_REFERENCES} photos, or pass --no-references")
    if (args.target is not None) == args.no_landmarks:
        given = "both given" if args.no_landmarks else "no target"
        raise ConfigError(f"--target: {given}; name a photo, or pass --no-landmarks")
    for path in (args.out, args.landmarks_out):
        if path is not None:
            _require_writable_format(path)
    if not -(2**63) <= args.seed <= 2**63 - args.num:
        raise ConfigError(f"--seed {args.seed}: out of range, torch takes 64 bits; choose a smaller seed")


def _require_writable_format(path: Path) -> None:
    """Write a test image: Pillow cannot write some formats, or not in colour."""
    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), Image.registered_extensions()[path.suffix.lower()])
    except (KeyError, OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: unknown image format {path.suffix!r}, or one without colour; use a name that ends in .png or .jpg"
        ) from error


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _save(image: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); choose another path") from error


if __name__ == "__main__":
    sys.exit(main())
