"""``hifidata weights pull``: brings entries of the catalogue into the cache, and pins what nobody published a hash for."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from hifidata.core.errors import WeightsError
from hifidata.core.files import write_bytes
from hifidata.weights.catalogue import HUB, Archive, FileState, Hub, Made, Weight
from hifidata.weights.find import check, expected_files, look, sha256_of, unreadable
from hifidata.weights.http import DownloadLimits, fetch
from hifidata.weights.messages import Found, can_pull, wrong_kind, wrong_message
from hifidata.weights.pins import PINS_FILE, Pin, read_pins, write_pin
from hifidata.weights.search_path import cache_folder

OnProgress = Callable[[str, int, "int | None"], None]
"""Called with the name of the file under way, the bytes that have arrived and the total (None: not known)."""

Make = Callable[[str, Path], bytes]
"""Makes the file of an entry, named first, from the file of another: ``hifidata.models.registry.make``."""


def make_nothing(name: str, source: Path) -> bytes:
    """For callers that pull nothing that is made."""
    raise WeightsError(f"weights {name}: nobody here makes it from {source}; `hifidata weights pull` does")


@dataclass(frozen=True)
class Pulled:
    """What became of one entry.

    Attributes:
        was_there: nothing had to be done.
        is_new_pin: nobody published its hash; it was noted now.
    """

    weight: Weight
    path: Path
    was_there: bool
    is_new_pin: bool = False


def pull(
    weights: Sequence[Weight],
    on_progress: OnProgress,
    limits: DownloadLimits = DownloadLimits(),  # noqa: B008
    replace: bool = False,
    make: Make = make_nothing,
) -> list[Pulled]:
    """``pull_each``, for those who need all of it.

    Raises:
        WeightsError: before anything is asked for, where an entry has to be brought by hand; after all others were tried,
            where one cannot be had or is not what it must be.
    """
    looked = ((weight, look(weight)) for weight in weights if not can_pull(weight))
    if by_hand := [wrong_message(weight, found) for weight, found in looked if found.is_wrong]:
        raise WeightsError("; ".join(by_hand))
    pulled, failed = pull_each(weights, on_progress, limits, replace, make)
    if failed:
        raise WeightsError("; ".join(dict.fromkeys(failed.values())))
    return pulled


def pull_each(
    weights: Sequence[Weight],
    on_progress: OnProgress,
    limits: DownloadLimits = DownloadLimits(),  # noqa: B008
    replace: bool = False,
    make: Make = make_nothing,
) -> tuple[list[Pulled], Mapping[str, str]]:
    """Downloads what is not there yet, one entry after the other; what lies in ``HIFI_WEIGHTS`` counts as there.

    Args:
        weights: entries; those from one archive share its download, and what one is made from comes before it.
        on_progress: progress.
        limits: timeouts and tries.
        replace: download also what is there, and pin it anew; a file keeps its place until the new one is right.
        make: makes what its authors publish in another form.

    Returns:
        What is there now, and by name what went wrong with the others.

    Raises:
        WeightsError: the cache cannot be written, or another pull is at work there.
    """
    pulled: list[Pulled] = []
    failed: dict[str, str] = {}
    with _cache_lock() as cache:
        puller = _Puller(cache, on_progress, limits, make)
        try:
            for weight in _with_sources(weights, replace):
                try:
                    pulled.append(puller.pull(weight, replace))
                except WeightsError as error:  # one dead host is no reason to leave the others
                    failed[weight.name] = str(error)
        finally:
            puller.remove_archives()
    return pulled, failed


def _with_sources(weights: Sequence[Weight], replace: bool) -> list[Weight]:
    """The entries, each once, and before those that will be made what they are made from."""
    found: dict[str, Weight] = {}
    for weight in weights:
        if isinstance(weight.origin, Made) and (replace or look(weight).is_wrong):
            found.setdefault(weight.origin.source.name, weight.origin.source)
        found.setdefault(weight.name, weight)
    return list(found.values())


@contextmanager
def _cache_lock() -> Iterator[Path]:
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        file = open(cache / ".lock", "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise WeightsError(
            f"{cache}: cannot be written ({error.strerror}); set HIFI_WEIGHTS_CACHE to a folder that can"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WeightsError(f"{cache}: another `hifidata weights pull` is at work here; wait for it") from None
        yield cache


class _Puller:
    """One ``pull``: holds the archives that are open for the entries to come."""

    def __init__(self, cache: Path, on_progress: OnProgress, limits: DownloadLimits, make: Make) -> None:
        self._cache = cache
        self._on_progress = on_progress
        self._limits = limits
        self._make = make
        self._archives: dict[str, Path | WeightsError] = {}

    def pull(self, weight: Weight, replace: bool = False) -> Pulled:
        """One entry."""
        target = self._cache / weight.file
        if problem := wrong_kind(weight, target):  # whoever put it there may still want it
            raise WeightsError(f"{target}: {problem}; remove it, then run the same command")
        anew = replace and weight.origin is not None
        found = Found("missing") if anew else look(weight)
        pin = None if anew else self._sound_pin(weight, target)
        if found.path is not None and found.state in ("present", "unpinned"):
            is_ours = found.path == target and found.state == "unpinned"
            return Pulled(weight, found.path, True, is_ours and self._pin(weight, target, "found in the cache"))
        if isinstance(weight.origin, Hub):
            return self._pull_hub(weight, weight.origin, pin, target)
        if isinstance(weight.origin, Archive):
            archive = self._archive(weight.origin)
            _remove(target)
            _unpack(archive, weight, target)
            problem = check(weight, target, pin).problem
            if problem:
                _remove(target)
                raise WeightsError(
                    f"{weight.origin.url}: {weight.member or weight.file} in it {problem}; nothing was kept"
                )
            origin = weight.origin.url
        elif isinstance(weight.origin, Made):
            write_bytes(target, self._make(weight.name, self._source(weight, weight.origin)))
            origin = f"made from {weight.origin.source.file}"
        else:
            origin = str(weight.origin)
            self._fetch(weight, origin, target, expected_files(weight, pin).get(""))
        return Pulled(weight, target, False, self._pin(weight, target, origin))

    def remove_archives(self) -> None:
        """What was unpacked is not needed twice."""
        for path in self._archives.values():
            if isinstance(path, Path):
                path.unlink(missing_ok=True)

    def _sound_pin(self, weight: Weight, target: Path) -> Pin | None:
        """The entry's pin without parts that were pinned although they are no model: those may come as others."""
        pin = read_pins(self._cache).get(weight.name)
        if pin is None:
            return pin
        wrong = {
            name
            for name, state in pin.files.items()
            if (target / name).is_file()
            and unreadable(target / name)
            and sha256_of(target / name) == state.sha256  # not one that broke later
        }
        return Pin(pin.origin, {name: state for name, state in pin.files.items() if name not in wrong})

    def _source(self, weight: Weight, made: Made) -> Path:
        """What an entry is made from."""
        found = look(made.source)
        if found.path is None or found.is_wrong:
            raise WeightsError(f"weights {weight.name}: is made from {made.source.file}, which did not come")
        return found.path

    def _archive(self, archive: Archive) -> Path:
        name = archive.url.rpartition("/")[2]
        if archive.url not in self._archives:
            target = self._cache / f".archive-{name}"
            expected = FileState(archive.n_bytes, archive.sha256) if archive.sha256 else None
            try:
                fetch(archive.url, target, expected, self._limits, self._progress_of(name))
                self._archives[archive.url] = target
            except WeightsError as error:  # asked for once, also where several entries lie in it
                self._archives[archive.url] = error
        got = self._archives[archive.url]
        if isinstance(got, WeightsError):
            raise got
        return got

    def _pull_hub(self, weight: Weight, hub: Hub, pin: Pin | None, target: Path) -> Pulled:
        """File by file into ``<folder>.part``, which becomes the folder when the last one is there."""
        commit, listed = (hub.revision, hub.files) if hub.files else self._list(hub, pin)
        expected = dict(listed) | dict(pin.files if pin else {})
        unfinished = target.with_name(f".{target.name}.part")
        if target.is_dir() and not unfinished.exists():
            os.replace(target, unfinished)  # something in it is wrong; what is right need not come again
        for name, state in expected.items():
            path = unfinished / name
            if state and path.is_file() and sha256_of(path) == state.sha256:
                continue
            self._fetch(weight, f"{HUB}/{hub.repo}/resolve/{commit}/{quote(name)}", path, state)
        _remove(target)
        os.replace(unfinished, target)
        return Pulled(weight, target, False, self._pin(weight, target, f"{HUB}/{hub.repo}/tree/{commit}"))

    def _fetch(self, weight: Weight, url: str, target: Path, expected: FileState | None) -> None:
        name = weight.file if target.name == weight.file else f"{weight.file}/{target.name}"
        try:
            fetch(url, target, expected, self._limits, self._progress_of(name))
        except WeightsError as error:
            if weight.name in read_pins(self._cache) and "expected" in str(error):
                raise WeightsError(
                    f"{error}; that was pinned at the first download ({self._cache / PINS_FILE}): `hifidata weights pull "
                    f"--replace {weight.name}` accepts another file"
                ) from None
            raise

    def _list(self, hub: Hub, pin: Pin | None) -> tuple[str, dict[str, FileState | None]]:
        """The commit of a repository and its files, with the hashes that it publishes (those of large files)."""
        revision = pin.origin.rpartition("/")[2] if pin else hub.revision
        url = f"{HUB}/api/models/{hub.repo}/revision/{revision}"
        answer = self._json(f"{url}?blobs=true")
        try:
            commit, files = str(answer["sha"]), {str(item["rfilename"]): item.get("lfs") for item in answer["siblings"]}
            wanted = {
                name: FileState(int(lfs["size"]), str(lfs["sha256"])) if lfs else None
                for name, lfs in files.items()
                if any(fnmatch(name, pattern) for pattern in hub.patterns) and _is_inside(name)
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(
                f"{url}: not a list of a repository's files ({type(error).__name__}: {error})"
            ) from error
        if not wanted:
            raise WeightsError(f"{url}: lists no file that fits {', '.join(hub.patterns)}; got {len(files)} files")
        return commit, wanted

    def _json(self, url: str) -> Any:
        listing = self._cache / ".listing.json"
        fetch(url, listing, None, self._limits, lambda done, total: None)
        try:
            return json.loads(listing.read_bytes())
        except ValueError as error:
            raise WeightsError(
                f"{url}: expected JSON, got something else; is the mirror one of Hugging Face?"
            ) from error
        finally:
            listing.unlink(missing_ok=True)

    def _pin(self, weight: Weight, path: Path, origin: str) -> bool:
        """Notes what a file is, where the catalogue does not say it; returns whether it was noted otherwise, or not at all."""
        is_made = isinstance(weight.origin, Made)
        if expected_files(weight, None) and not is_made:
            return False
        parts = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
        files = {
            part.relative_to(path).as_posix() if part != path else "": FileState(part.stat().st_size, sha256_of(part))
            for part in parts
        }
        pin = read_pins(self._cache).get(weight.name)
        known = pin.files if pin else expected_files(weight, None)
        if {name: state.sha256 for name, state in files.items()} == {name: s.sha256 for name, s in known.items()}:
            return False
        write_pin(self._cache, weight.name, Pin(origin, files))
        return True

    def _progress_of(self, name: str) -> Callable[[int, int | None], None]:
        return lambda done, total: self._on_progress(name, done, total)


def _unpack(archive: Path, weight: Weight, target: Path) -> None:
    """One member of a zip as a file, or all of it as a folder without the zip's own top folder."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            names = [name for name in bundle.namelist() if not name.endswith("/")]
            if weight.member is None:
                unfinished = target.with_name(f".{target.name}.part")
                _remove(unfinished)
                bundle.extractall(unfinished)  # keeps every member inside: zipfile drops drive letters and ".."
                inner = list(unfinished.iterdir())
                os.replace(inner[0] if len(inner) == 1 and inner[0].is_dir() else unfinished, target)
                _remove(unfinished)
                return
            matches = [name for name in names if PurePosixPath(name).name == weight.member]
            if not matches:
                raise WeightsError(f"{archive.name}: holds no {weight.member}; it holds {', '.join(sorted(names)[:8])}")
            write_bytes(target, bundle.read(matches[0]))
    except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise WeightsError(f"{archive.name}: not a complete zip ({error}); nothing was kept, pull again") from error


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
