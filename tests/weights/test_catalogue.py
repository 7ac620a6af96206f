"""The table is sound, and agrees with the table of backends."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hifidata.models import registry
from hifidata.weights.catalogue import CATALOGUE, TRANSFORMERS_FILES, Archive, FileState, Hub, Made, Package, Weight


def states(weight: Weight) -> list[FileState]:
    found = [FileState(weight.n_bytes, weight.sha256)] if weight.sha256 else []
    if isinstance(weight.origin, Archive) and weight.origin.sha256:
        found.append(FileState(weight.origin.n_bytes, weight.origin.sha256))
    return found + (list(weight.origin.files.values()) if isinstance(weight.origin, Hub) else [])


@pytest.mark.parametrize("weight", CATALOGUE.values(), ids=CATALOGUE)
def test_every_entry_is_well_formed(weight: Weight) -> None:
    assert weight.licence
    assert weight.file == weight.file.strip("/")
    for state in states(weight):
        assert re.fullmatch(r"[0-9a-f]{64}", state.sha256)
        assert state.n_bytes is None or state.n_bytes > 0
    address = weight.origin.url if isinstance(weight.origin, Archive) else weight.origin
    if isinstance(address, str):
        assert urlsplit(address).scheme == "https"
        assert urlsplit(address).path.rpartition("/")[2]
    if isinstance(weight.origin, Hub):
        assert weight.origin.patterns or weight.origin.files
    if isinstance(weight.origin, Package):
        assert weight.n_bytes
        assert weight.sha256
        assert weight.member


def test_what_is_made_comes_after_what_it_is_made_from() -> None:
    names = list(CATALOGUE)
    pairs = [(name, w.origin.source.name) for name, w in CATALOGUE.items() if isinstance(w.origin, Made)]
    assert pairs
    assert [pair for pair in pairs if names.index(pair[0]) < names.index(pair[1])] == []


def test_a_function_makes_every_made_file() -> None:
    assert {name for name, weight in CATALOGUE.items() if isinstance(weight.origin, Made)} == set(registry.MADE_FILES)


def test_all_that_transformers_saves_of_a_model_with_a_chat_template_is_downloaded(tmp_path: Path) -> None:
    """Shown on a tiny LLaVA: Qwen3-VL's repository is of the same form."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.factories.models import tiny_llava

    folder = tiny_llava(tmp_path / "model", "{{ messages[0].content }}")
    saved = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "chat_template.jinja" in saved
    assert {name for name in saved if not any(fnmatch(name, pattern) for pattern in TRANSFORMERS_FILES)} == set()


def test_names_files_and_hashes_are_each_used_once() -> None:
    for values in (
        [weight.name for weight in CATALOGUE.values()],
        [weight.file for weight in CATALOGUE.values()],
        [weight.sha256 for weight in CATALOGUE.values() if weight.sha256],
    ):
        assert len(set(values)) == len(values)


def test_non_commercial_words_in_a_licence_are_never_marked_as_commercial() -> None:
    words = ("non-commercial", "research only", "academic use only")
    wrong = [w.name for w in CATALOGUE.values() if w.commercial and any(word in w.licence for word in words)]
    assert not wrong


def test_every_file_of_a_model_is_in_the_catalogue_and_lists_who_needs_it() -> None:
    for stage, table in registry.BY_STAGE.items():
        for model, spec in table.items():
            for weight in spec.weights:
                assert registry.catalogue()[weight.name] == weight
                assert f"{stage}:{model}" in registry.needed_by(weight.name)
