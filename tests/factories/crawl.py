"""Crawls of the photos of ``twelve_people`` from a server on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from hifidata.config.recipe import Recipe, load_recipe
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.servers.hostile import HostileServer

LOOPBACK = (
    "fetch.allow_private=[127.0.0.0/8]", "fetch.delay_s=0", "fetch.slowdown=0", "fetch.connections_per_host=4",
    "fetch.backoff_s=0.01", "verify.model=null", "fetch.read_timeout_s=1", "fetch.total_timeout_s=3", "fetch.max_host_errors=1000", "quality.model=null",
)  # fmt: skip


def write_list(path: Path, server: HostileServer, people: Path, extra: tuple[tuple[str, str], ...] = ()) -> Path:
    """Write a JSON lines list with the photos of six identities and further (identity, URL path) rows."""
    photos = sorted(photo.relative_to(people).as_posix() for photo in people.glob("person_0[0-5]/*.jpg"))
    rows = [{"person": name.split("/")[0], "url": server.url(f"/files/{quote(name)}")} for name in photos]
    rows += [{"person": person, "url": server.url(target)} for person, target in extra]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe_for(table: Path, *overrides: str) -> Recipe:
    source = f"source={{kind: url_table, path: {table}, columns: {{identity: person, url: url}}}}"
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [source, *QUICK_RECIPE, *LOOPBACK, *overrides])
