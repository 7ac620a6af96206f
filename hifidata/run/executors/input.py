"""Input of the workers: identities with readable candidates, and the reader of their bytes."""

from __future__ import annotations

from collections.abc import Container, Generator
from pathlib import Path

from hifidata.config.recipe import Recipe
from hifidata.core.schema import IdentityTask
from hifidata.run.plan import is_remote, list_tasks, open_source
from hifidata.sources.base import Reader
from hifidata.store.layout import DatasetFolder
from hifidata.store.originals import Originals


def identity_tasks(
    recipe: Recipe, pending: Container[str], out: Path, run_id: str
) -> Generator[IdentityTask, None, None]:
    """Yield the pending identities; for a remote source, with fetched candidates.

    A second call for the same run yields the same identities in the same order. Ray relies on it: it repeats a reader that
    died, and skips the number of identities that the first one yielded.
    """
    if not is_remote(recipe):
        yield from list_tasks(recipe, pending)
        return
    from hifidata.run.crawl import Crawl  # imports aiohttp, which runs on local files do not need

    yield from Crawl(recipe, out, run_id).identity_tasks(pending)


def open_reader(recipe: Recipe, out: Path) -> Reader:
    """Return the reader for candidates of ``identity_tasks``."""
    if is_remote(recipe):
        return Originals(DatasetFolder(out), recipe.fetch.keep_originals)
    return open_source(recipe)
