"""What workers are given: people whose candidates can be read, and what reads them."""

from __future__ import annotations

from collections.abc import Container, Generator
from pathlib import Path

from hifidata.config.recipe import Recipe
from hifidata.core.schema import IdentityTask
from hifidata.run.plan import is_remote, list_tasks, open_source
from hifidata.sources.base import Reader
from hifidata.store.layout import DatasetFolder
from hifidata.store.originals import Originals


def feed(recipe: Recipe, wanted: Container[str], out: Path) -> Generator[IdentityTask, None, None]:
    """Wanted people, one at a time; where the source is remote, their candidates are fetched first."""
    if not is_remote(recipe):
        yield from list_tasks(recipe, wanted)
        return
    from hifidata.run.crawl import Crawl  # aiohttp, which runs on files do not need

    yield from Crawl(recipe, out).people(wanted)


def open_reader(recipe: Recipe, out: Path) -> Reader:
    """What reads the bytes of the candidates that ``feed`` yields."""
    if is_remote(recipe):
        return Originals(DatasetFolder(out), recipe.fetch.keep_originals)
    return open_source(recipe)
