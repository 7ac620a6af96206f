"""A source for a folder with one folder of photos per identity."""

from __future__ import annotations

import stat
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from hifidata.core.errors import IntakeError, SourceError
from hifidata.core.filenames import printable_name
from hifidata.core.schema import Candidate, IdentityTask, identity_id_of
from hifidata.image.reasons import TOO_MANY_BYTES, UNREADABLE_FILE
from hifidata.sources.base import judged, placeholder_identity
from hifidata.sources.companions import (
    CAPTION_SUFFIXES,
    COMPANION_SUFFIXES,
    MAX_CAPTION_BYTES,
    N_HEAD_BYTES,
    PICTURE_SUFFIXES,
    counted,
    decoded_caption,
    is_hidden,
    is_image,
    kind_of,
    suffix_of,
)
from hifidata.sources.reasons import NO_PERSON_FOLDER
from hifidata.sources.walk import Entry, FolderKey, list_folder, walk_files


class FolderSource:
    """List ``root/<identity>/**/<file>``, or with a larger depth ``root/*/<identity>/**/<file>``.

    Every file is a candidate, with any extension: its content decides. Links are followed. Not candidates, but counted: hidden
    files, and files with ``COMPANION_SUFFIXES`` whose content is no image. Images above the folders of the identities are
    failed candidates.

    Args:
        root: the folder.
        licence: recorded for every candidate.
        max_bytes: a larger file is refused before it is read.
        depth: level of the identities' folders; 1: directly in ``root``. Folders with the same name are one identity.
        with_captions: list the ``.txt`` or ``.caption`` file beside each image.
    """

    def __init__(
        self,
        root: Path,
        licence: str | None = None,
        max_bytes: int = 32 * 2**20,
        depth: int = 1,
        with_captions: bool = False,
    ) -> None:
        self._root = root
        self._facts = {"licence": licence} if licence else {}
        self._max_bytes = max_bytes
        self._depth = depth
        self._with_captions = with_captions
        self._reset()

    def _reset(self) -> None:
        self._left_out = Counter[str]()
        self._n_loose = self._n_merged = self._n_people = 0
        self._n_deep = self._n_inner = 0
        """Identities without an image directly in their folder, and their sub-folders with images."""

    def identities(self) -> Iterator[IdentityTask]:
        """Yield one task per identity, sorted by name. Raises SourceError for a missing, unreadable or empty folder."""
        if not self._root.is_dir():
            problem = "is not a folder" if self._root.exists() else "no such folder"
            raise SourceError(f"source.path: {self._root}: {problem}; pass --set source.path=PHOTOS")
        self._reset()
        root = self._root.resolve()
        listed = {Entry(folder).key for folder in (root, *root.parents)}
        people, loose = self._people(root, listed)
        if not people:
            raise SourceError(self._without_people(root, len(loose)))
        n_candidates = 0
        for folder_name in sorted(people):
            candidates = tuple(
                candidate
                for folder in people[folder_name]
                for candidate in self._candidates(root, folder, listed | {Entry(folder).key})
            )
            n_candidates += len(candidates)
            name = printable_name(folder_name)
            yield IdentityTask(identity_id_of(name), name, "folder", candidates)
        if not n_candidates:
            raise SourceError(f"source.path: {root}: the folders of people contain no files; expected photos in them")
        yield from self._loose_tasks(root, loose)

    def _people(self, root: Path, listed: set[FolderKey]) -> tuple[dict[str, list[Path]], list[Entry]]:
        """Return the folders of each identity by name, and the files above them."""
        level, loose = [root], []
        for _ in range(self._depth):
            entries = [entry for folder in level for entry in list_folder(folder)]
            level = [entry.path for entry in entries if _may_enter(entry, listed)]
            loose += [entry for entry in entries if not _may_enter(entry, listed)]
        people = defaultdict(list)
        for folder in level:
            people[folder.name].append(folder)
        self._n_people, self._n_merged = len(people), sum(len(folders) > 1 for folders in people.values())
        return people, [entry for entry in loose if self._is_candidate(entry, must_be_image=True)]

    def _without_people(self, root: Path, n_loose: int) -> str:
        where = "no sub-folder" if self._depth == 1 else f"no folder at source.depth: {self._depth}"
        photos = f", but {n_loose} photos: move them into one folder per person" if n_loose else ""
        return (
            f"source.path: {root}: has {where}{photos}; expected one sub-folder of photos per person. To remove the last "
            "person of a dataset, delete the dataset."
        )

    def _candidates(self, root: Path, folder: Path, listed: set[FolderKey]) -> Iterator[Candidate]:
        inner = set()
        has_own = False
        for entry in walk_files(folder, listed):
            if not self._is_candidate(entry):
                continue
            within = entry.path.relative_to(folder).parts
            has_own |= len(within) == 1
            inner.add(within[0])
            above = folder.relative_to(root).parts[:-1]
            yield self._candidate(entry, "/".join((*above, *within)))
        if inner and not has_own:
            self._n_deep += 1
            self._n_inner += len(inner)

    def _candidate(self, entry: Entry, relative: str) -> Candidate:
        version, path, caption = _version(entry), entry.path.as_posix(), None
        if self._with_captions and (caption := _caption_beside(entry.path)):
            version += f"+{_version(caption)}"
        return Candidate(
            source_uri=printable_name(path),
            relative_path=printable_name(relative),
            version=version,
            locator=path,
            facts=self._facts,
            caption_locator=caption.path.as_posix() if caption else "",
        )

    def _loose_tasks(self, root: Path, loose: Sequence[Entry]) -> Iterator[IdentityTask]:
        """Yield the placeholder identities of images above the folders of people."""
        self._n_loose = len(loose)
        where = "/".join([*["*"] * (self._depth - 1), "PERSON"])
        facts = judged("intake", NO_PERSON_FOLDER, f"expected {where}/{{file}}; move the file into a person's folder")
        tasks: dict[str, list[Candidate]] = {}
        for n_before, entry in enumerate(loose):
            relative = entry.path.relative_to(root).as_posix()
            path = printable_name(entry.path.as_posix())
            candidate = Candidate(path, printable_name(relative), _version(entry), entry.path.as_posix(), facts)
            tasks.setdefault(placeholder_identity(n_before), []).append(candidate)
        for name, candidates in tasks.items():
            yield IdentityTask(identity_id_of(name), name, "folder", tuple(candidates))

    def _is_candidate(self, entry: Entry, must_be_image: bool = False) -> bool:
        """Return whether an entry is a candidate; count it if not."""
        name = entry.path.name
        if is_hidden(name):
            kind = "hidden"
        elif entry.is_folder:
            kind = "links to folders that were listed"
        elif not entry.is_file:
            kind = "special files"
        else:
            suffix = suffix_of(name)
            if suffix in PICTURE_SUFFIXES or not (must_be_image or suffix in COMPANION_SUFFIXES) or _has_image(entry):
                return True
            kind = kind_of(name)
        self._left_out[kind] += 1
        return False

    @property
    def notes(self) -> Sequence[str]:
        """Return counts of the files that are no candidates, of misplaced images, and of folders one level too deep."""
        found = []
        if self._n_deep:
            found.append(
                f"warning: source.path: {self._n_deep} of {self._n_people} folders hold no images themselves, but {self._n_inner} folders of images; "
                f"each of the {self._n_deep} is taken as one person. If people are one level deeper, pass "
                f"--set source.depth={self._depth + 1}"
            )
        if self._n_loose:
            found.append(
                f"warning: source.path: images in no folder of a person: {self._n_loose}; they fail. Move them into one folder per "
                "person"
            )
        if self._n_merged:
            found.append(
                f"source.depth: people with several folders of the same name: {self._n_merged}; each is one person"
            )
        if left_out := +self._left_out:
            found.append(
                f"source.path: files left out because they are no images: {left_out.total()} ({counted(left_out)})"
            )
        return found

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes of the file. Raises IntakeError if the file is missing, unreadable or too large."""
        return _read(Path(candidate.locator), self._max_bytes)

    def caption(self, candidate: Candidate) -> str | None:
        """Return the text of the caption file beside the image."""
        if not candidate.caption_locator:
            return None
        try:
            return decoded_caption(_read(Path(candidate.caption_locator), MAX_CAPTION_BYTES))
        except IntakeError:
            return None


def _may_enter(entry: Entry, listed: Container[FolderKey]) -> bool:
    return entry.is_folder and not is_hidden(entry.path.name) and entry.key not in listed


def _version(entry: Entry) -> str:
    return f"{entry.status.st_size}:{entry.status.st_mtime_ns}" if entry.status else "missing"


def _has_image(entry: Entry) -> bool:
    try:
        with open(entry.path, "rb") as file:
            return is_image(file.read(N_HEAD_BYTES))
    except OSError:
        return False


def _caption_beside(path: Path) -> Entry | None:
    """Return the caption file of an image: ``a.txt`` or ``a.caption``, otherwise ``a.jpg.txt`` or ``a.jpg.caption``."""
    for stem in (path.stem, path.name):
        for suffix in CAPTION_SUFFIXES:
            entry = Entry(path.with_name(f"{stem}.{suffix}"))
            if entry.status is not None and stat.S_ISREG(entry.status.st_mode):
                return entry
    return None


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
            if len(data) > max_bytes:
                raise IntakeError(TOO_MANY_BYTES, f"{path.stat().st_size} bytes, the recipe allows {max_bytes}")
            return data
    except OSError as error:
        raise IntakeError(UNREADABLE_FILE, f"cannot be read: {error.strerror}") from error
