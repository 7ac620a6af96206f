"""A source for WebDataset shards: our own datasets, or any tar of images and json with an identity field."""

from __future__ import annotations

import glob
import json
import os
import posixpath
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from hifidata.core.errors import IntakeError, SourceError
from hifidata.core.filenames import escaped, printable_name
from hifidata.core.schema import Candidate, IdentityTask, identity_id_of
from hifidata.image.reasons import TOO_MANY_BYTES, UNREADABLE_FILE
from hifidata.sources.base import MAX_NAME_CHARS, MAX_URL_CHARS, judged, placeholder_identity
from hifidata.sources.companions import (
    CAPTION_SUFFIXES,
    MAX_CAPTION_BYTES,
    N_HEAD_BYTES,
    PICTURE_SUFFIXES,
    counted,
    decoded_caption,
    is_hidden,
    is_image,
    kind_of,
    stems,
    suffix_of,
)
from hifidata.sources.reasons import BAD_ROW
from hifidata.sources.tar import DamagedTar, walk
from hifidata.sources.walk import Entry, walk_files

CARRIED_FACTS: Mapping[str, type[Any]] = {
    "licence": str,
    "landing_page_uri": str,
    "fetched_at": str,
    "http_status": int,
}
"""Columns copied from a sample's json if they have the manifest's type and a usual length."""
MAX_JSON_BYTES = 2**20
MAX_MEMBER_NAME_CHARS = 4096
OWN_ID = re.compile("[0-9a-f]{16}")
_OWN_MATTE = re.compile(r"[0-9a-f]{16}_[0-9]{4,}\.alpha\.png")

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Span:
    """Position of a member's bytes in its tar."""

    offset: int
    size: int


@dataclass(frozen=True)
class _Image:
    """An image member; ``number`` is its position among the members, ``key`` its normalised name. A link has no span."""

    number: int
    name: str
    key: str
    span: _Span | None
    link: str = ""
    problem: str = ""


@dataclass(frozen=True)
class _Facts:
    """The used content of a sample's json, or why it cannot be used."""

    identity: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


class _Beside(Generic[Found]):
    """Members that belong to images, by name without the last suffix. A repeated name has several."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[list[int], list[Found]]] = {}

    def add(self, number: int, name: str, found: Found) -> None:
        """Add the member with this position and name."""
        numbers, all_found = self._found.setdefault(name.rpartition(".")[0], ([], []))
        numbers.append(number)
        all_found.append(found)

    def of(self, image: _Image) -> Found | None:
        """Return the nearest member for an image; of two equally near ones, the later one."""
        for stem in stems(image.key):
            if stem in self._found:
                numbers, all_found = self._found[stem]
                after = bisect_left(numbers, image.number)
                if after == len(numbers) or (
                    after and image.number - numbers[after - 1] < numbers[after] - image.number
                ):
                    after -= 1
                return all_found[after]
        return None


@dataclass
class _Shard:
    """The members of one tar."""

    path: Path
    images: list[_Image] = field(default_factory=list)
    facts: _Beside[_Facts] = field(default_factory=_Beside)
    captions: _Beside[_Span] = field(default_factory=_Beside)
    kinds: Counter[str] = field(default_factory=Counter)
    problem: str = ""


class ShardsSource:
    """List the images of tars and group them by a field of their json.

    Listing reads tar headers, json members and the first bytes of members that may be images; an image is read later by its
    offset. An image belongs to the json with its name, up to the last dot or up to an earlier one. Samples of one identity may
    be in several shards. An image without a usable json, and a damaged tar, become failed candidates.

    Args:
        path: a tar, a folder that is searched for ``*.tar``, or a glob pattern.
        identity_field: key of the sample's json.
        licence: recorded if the json has none.
        max_bytes: a larger image is refused before it is read.
        with_captions: list the ``.txt`` or ``.caption`` member of each image.
    """

    def __init__(
        self,
        path: str,
        identity_field: str,
        licence: str | None = None,
        max_bytes: int = 32 * 2**20,
        with_captions: bool = False,
    ) -> None:
        self._path = path
        self._field = identity_field
        self._licence = licence
        self._max_bytes = max_bytes
        self._with_captions = with_captions
        self._kinds = Counter[str]()
        self._n_packed = 0

    def identities(self) -> Iterator[IdentityTask]:
        """Yield one task per identity, sorted by id. Raises SourceError if there is no tar, or no image can be used."""
        self._kinds.clear()
        candidates_of: dict[str, list[Candidate]] = {}
        unusable: list[Candidate] = []
        n_usable = 0
        shards = self._shards()
        base = Path(os.path.commonpath([shard.parent for shard in shards]))
        for path in shards:
            for name, candidate in self._candidates(path, base):
                if name:
                    n_usable += 1
                    candidates_of.setdefault(name, []).append(candidate)
                else:
                    unusable.append(candidate)
        if not n_usable:
            raise SourceError(self._nothing_usable(unusable))
        for n_before, candidate in enumerate(unusable):
            candidates_of.setdefault(placeholder_identity(n_before), []).append(candidate)
        tasks = [
            # Our own datasets already use identity ids; they stay the same.
            IdentityTask(name if OWN_ID.fullmatch(name) else identity_id_of(name), name, "shards", tuple(found))
            for name, found in candidates_of.items()
        ]
        yield from sorted(tasks, key=lambda task: task.identity_id)

    @property
    def notes(self) -> Sequence[str]:
        """Return counts of the members that are no images, and of compressed tars."""
        packed = f"warning: source.path: compressed tars that were not read: {self._n_packed}; unpack them to .tar"
        members = f"source.path: members of the tars that are no images: {self._kinds.total()} ({counted(self._kinds)})"
        return [packed] * bool(self._n_packed) + [members] * bool(self._kinds)

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes of the image member. Raises IntakeError for a missing or truncated shard or a large image."""
        return _read(candidate.locator, self._max_bytes)

    def caption(self, candidate: Candidate) -> str | None:
        """Return the text of the sample's caption member."""
        if not candidate.caption_locator:
            return None
        try:
            return decoded_caption(_read(candidate.caption_locator, MAX_CAPTION_BYTES))
        except IntakeError:
            return None

    def _shards(self) -> list[Path]:
        path = Path(self._path)
        if path.is_dir():
            files = [entry.path for entry in walk_files(path, {Entry(path).key}) if not is_hidden(entry.path.name)]
            self._n_packed = sum(_is_packed(file.name.lower()) for file in files)
            found = sorted(file for file in files if file.suffix.lower() == ".tar")
        else:
            found = [path] if path.exists() else sorted(map(Path, _matches(self._path)))
        found = [path for path in found if path.is_file()]
        if not found:
            packed = f"; the folder has {self._n_packed} compressed tars, unpack them to .tar" if self._n_packed else ""
            raise SourceError(
                f"source.path: {self._path}: no tar found; expected a tar, a folder of tars or a glob pattern{packed}"
            )
        return [shard.absolute() for shard in found]

    def _nothing_usable(self, unusable: Sequence[Candidate]) -> str:
        if not unusable:
            kinds = f"; they contain {counted(self._kinds)}" if self._kinds else ""
            return f"source.path: {self._path}: the shards contain no image{kinds}"
        first = unusable[0]
        return (
            f"source.path: {self._path}: no image can be used; the first of {len(unusable)} problems: {first.source_uri}: "
            f"{first.facts['message']}"
        )

    def _candidates(self, path: Path, base: Path) -> Iterator[tuple[str, Candidate]]:
        """Yield the identity, or an empty text, and the candidate of each image of a shard, and of a damaged shard."""
        shard = self._listed(path)
        self._kinds += shard.kinds
        spans = {image.key: image.span for image in shard.images if image.span}
        mtime_ns = path.stat().st_mtime_ns
        for image, unique_name in zip(shard.images, _unique_names(shard.images), strict=True):
            facts = shard.facts.of(image) or _Facts(
                problem=f"no json has its name; expected one with the key {self._field!r}"
            )
            span, problem = image.span, image.problem or facts.problem
            if span is None and not problem:
                span = spans.get(image.link)
                problem = "" if span else "a link to a file that is not in the tar"
            size, offset = (span.size, span.offset) if span else (0, 0)
            columns = {**({"licence": self._licence} if self._licence else {}), **facts.columns}
            caption = shard.captions.of(image) if self._with_captions else None
            yield (
                "" if problem else facts.identity,
                Candidate(
                    source_uri=printable_name(f"{path.as_posix()}::{image.name}"),
                    relative_path=printable_name(f"{path.relative_to(base).as_posix()}::{unique_name}"),
                    version=f"{size}:{mtime_ns}" + (f"+{caption.size}" if caption else ""),
                    locator=f"{path.as_posix()}::{offset}+{size}",
                    facts=judged("intake", BAD_ROW, problem) if problem else columns,
                    caption_locator=f"{path.as_posix()}::{caption.offset}+{caption.size}" if caption else "",
                ),
            )
        if shard.problem:
            shown, relative = printable_name(path.as_posix()), printable_name(path.relative_to(base).as_posix())
            facts_ = judged("intake", BAD_ROW, shard.problem)
            yield "", Candidate(shown, relative, f"{path.stat().st_size}:{mtime_ns}", "", facts_)

    def _listed(self, path: Path) -> _Shard:
        shard = _Shard(path)
        try:
            with open(path, "rb") as file:
                for number, member in enumerate(walk(path)):
                    if not member.isdir():
                        self._add(shard, file, number, member)
        except DamagedTar as damage:
            shard.problem = str(damage)
        except OSError as error:
            shard.problem = f"not a readable tar: {error.strerror}"
        return shard

    def _add(self, shard: _Shard, file: BinaryIO, number: int, member: Any) -> None:
        name, problem = member.name, ""
        if len(name) > MAX_MEMBER_NAME_CHARS:
            problem = f"its name has {len(name)} characters; at most {MAX_MEMBER_NAME_CHARS} are read"
            name = f"member {number + 1}.{suffix_of(name)[:12]}"
        key = posixpath.normpath(name)
        span, suffix = _Span(member.offset_data, member.size), suffix_of(key)
        if any(is_hidden(part) for part in key.split("/") if part != ".."):
            shard.kinds["hidden"] += 1
        elif member.islnk() or member.issym():
            if suffix in PICTURE_SUFFIXES:
                folder = posixpath.dirname(key) if member.issym() else ""
                link = posixpath.normpath(posixpath.join(folder, member.linkname))
                shard.images.append(_Image(number, name, key, None, link, problem))
            else:
                shard.kinds["links"] += 1
        elif not member.isreg():
            shard.kinds["special files"] += 1
        elif _OWN_MATTE.fullmatch(posixpath.basename(key)):
            shard.kinds[".alpha.png"] += 1
        elif suffix in PICTURE_SUFFIXES or is_image(_bytes_at(file, span, N_HEAD_BYTES)):
            if member.issparse():
                problem = "stored as a sparse file; make the tar without --sparse"
            shard.images.append(_Image(number, name, key, span, "", problem))
        else:
            shard.kinds[kind_of(key)] += 1
            if suffix == "json":
                shard.facts.add(number, key, self._facts(file, span))
            elif suffix in CAPTION_SUFFIXES and self._with_captions and span.size <= MAX_CAPTION_BYTES:
                shard.captions.add(number, key, span)

    def _facts(self, file: BinaryIO, span: _Span) -> _Facts:
        if span.size > MAX_JSON_BYTES:
            return _Facts(problem=f"its json has {span.size} bytes; at most {MAX_JSON_BYTES} are read")
        try:
            sample = json.loads(_bytes_at(file, span, span.size))
        except (ValueError, RecursionError):
            return _Facts(problem="its json cannot be read as JSON")
        value = sample.get(self._field) if isinstance(sample, dict) else None
        if type(value) not in (str, int, float) or value == "":
            keys = ", ".join(sorted(escaped(key)[:40] for key in sample)[:20]) if isinstance(sample, dict) else ""
            return _Facts(problem=f"no usable {self._field!r} in its json; it has: {keys or 'nothing'}")
        name = str(value)
        if len(name) > MAX_NAME_CHARS:
            return _Facts(problem=f"{self._field}: a text of {len(name)} characters; at most {MAX_NAME_CHARS} are read")
        if not _is_text(name):
            return _Facts(problem=f"{self._field}: contains a lone surrogate, so it is not text")
        return _Facts(name, {key: sample[key] for key in CARRIED_FACTS if _is_carried(key, sample.get(key))})


def _is_carried(key: str, value: Any) -> bool:
    if type(value) is not CARRIED_FACTS[key]:
        return False
    if type(value) is int:
        return 0 <= value < 1000
    return len(value) <= (MAX_URL_CHARS if key == "landing_page_uri" else MAX_NAME_CHARS) and _is_text(value)


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _is_packed(name: str) -> bool:
    return name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4"))


def _matches(pattern: str) -> list[str]:
    """Return the paths that match a glob pattern; its folders that exist are taken as they are, with any characters."""
    path = Path(pattern)
    known = next((parent for parent in path.parents if parent.exists()), Path())
    rest = path.relative_to(known).as_posix()
    return glob.glob(f"{glob.escape(str(known))}/{rest}", recursive=True)


def _unique_names(images: Sequence[_Image]) -> Iterator[str]:
    """Yield the name of each image; a tar may contain a name several times, and the second one becomes ``name#2``."""
    n_found = Counter[str]()
    names = {image.name for image in images}
    for image in images:
        n_found[image.name] += 1
        name = image.name if n_found[image.name] == 1 else f"{image.name}#{n_found[image.name]}"
        while name != image.name and name in names:
            name += "'"
        names.add(name)
        yield name


def _bytes_at(file: BinaryIO, span: _Span, n: int) -> bytes:
    file.seek(span.offset)
    return file.read(min(n, span.size))


def _read(locator: str, max_bytes: int) -> bytes:
    """Return the bytes at ``path::offset+size``. Raises IntakeError."""
    path, _, where = locator.rpartition("::")
    offset, size = (int(number) for number in where.split("+"))
    try:
        with open(path, "rb") as file:
            n_left = max(os.fstat(file.fileno()).st_size - offset, 0)
            if n_left < size:
                raise IntakeError(UNREADABLE_FILE, f"the shard ends after {n_left} of {size} bytes")
            if size > max_bytes:
                raise IntakeError(TOO_MANY_BYTES, f"{size} bytes, the recipe allows {max_bytes}")
            return _bytes_at(file, _Span(offset, size), size)
    except OSError as error:
        raise IntakeError(UNREADABLE_FILE, f"cannot be read: {error.strerror}") from error
