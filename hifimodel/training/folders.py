"""Atomic folders, and the lock on the folder of a training run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from hifidata.core.files import TEMPORARY_PREFIX, locked, sync
from hifimodel.errors import ConfigError

PRESET_FILE = "preset.yaml"
"""The resolved preset in the folder of a run. With the lock, it tells a run from other folders."""
LOCK_FILE = "lock"
MODEL_FOLDER = "model"


def temporary_folder(path: Path) -> Path:
    """Return the folder beside ``path`` that is written first; every process of a run gets the same one."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}")


def begin_folder(path: Path) -> Path:
    """Make an empty ``temporary_folder`` and return it; ``finish_folder`` renames it to ``path``."""
    temporary = temporary_folder(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def finish_folder(path: Path) -> None:
    """Flush the temporary folder to the disk and rename it to ``path``; an older ``path`` is removed."""
    temporary = temporary_folder(path)
    for entry in sorted(temporary.rglob("*"), reverse=True):
        sync(entry)
    sync(temporary)
    remove_folder(path)
    temporary.rename(path)
    sync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder under a temporary name, so that a reader never finds it incomplete."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        doomed = temporary_folder(path.with_name(f"old-{path.name}"))
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)


def remove_leftovers(out: Path) -> None:
    """Remove temporary files and folders of killed runs. Only for the holder of the lock."""
    places = ("", "*/", "latents/*/*/")  # the run's folders and the subfolders of the latent cache
    for leftover in [path for place in places for path in out.glob(f"{place}{TEMPORARY_PREFIX}*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


@contextmanager
def locked_run(out: Path) -> Iterator[None]:
    """Hold the folder of a run during the block; makes the folder.

    Raises:
        FolderLockedError: another run holds it.
        ConfigError: the folder contains other files, or cannot be made or written to.
    """
    lock = out / LOCK_FILE
    try:
        _require_free(out)
        out.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written to ({error.strerror}); choose another folder") from error
    with locked(lock, f"{out}: another run trains here"):
        yield


def _require_free(out: Path) -> None:
    """Raise ConfigError unless ``out`` is missing, empty or the folder of a run: training replaces files in it."""
    entries = list(out.iterdir()) if out.is_dir() else []
    if links := [path.name for path in entries if path.is_symlink()]:
        raise ConfigError(
            f"--out {out}: contains the link {links[0]}, and training would change the files behind it; remove the link, or "
            "choose another folder"
        )
    if any(path.name != LOCK_FILE for path in entries) and not _is_run(out):
        raise ConfigError(f"--out {out}: is not empty and not a training run; choose a new folder")
    model = out / MODEL_FOLDER
    if model.exists() and not (model / "hifinet").is_dir():
        raise ConfigError(
            f"{model}: is no model of this run, and training would replace it; move it, or choose another folder"
        )


def _is_run(out: Path) -> bool:
    try:
        preset = yaml.safe_load((out / PRESET_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return (out / LOCK_FILE).is_file() and isinstance(preset, dict) and preset.keys() >= {"model", "train"}
