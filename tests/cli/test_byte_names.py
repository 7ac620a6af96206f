"""File names are bytes: names that are not UTF-8 work in every argument, or are refused in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.factories.cli import hifidata

NAME = "Jos\udce9"
"""The bytes ``Jos\\xe9`` as Python passes them in ``sys.argv``."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bytes") / "in\udcff" / NAME
    folder.mkdir(parents=True)
    (folder / "caf\udce9.jpg").write_bytes(b"x")
    (folder / "b.jpg").write_bytes(b"y")
    return folder.parent


@pytest.fixture(scope="module")
def dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "out"
    without_models = [f"--set={key}=null" for key in ("watermark.model", "quality.model", "verify.model")]
    for _ in range(2):  # the second run compares the recipes
        done = hifidata(
            "run", "folder", "--executor", "local", f"--set=source.path={photos}", *without_models, "--out", out
        )
        assert done.returncode == 3, done.stderr
    assert "Nothing to do" in done.stdout
    return out


def test_a_folder_with_other_bytes_is_planned(photos: Path) -> None:
    done = hifidata("plan", "folder", "--json", "--set", f"source.path={photos}")
    assert done.returncode == 0
    assert json.loads(done.stdout)["recipe"]["source"]["path"] == str(photos)


@pytest.mark.parametrize(
    "query", [NAME, "caf\udce9.jpg", f"{NAME}/caf\udce9.jpg", "Jos\\xe9/caf\\xe9.jpg", "b.jpg"], ids=ascii
)
@pytest.mark.parametrize("without_state", [False, True])
def test_inspect_finds_names_as_the_shell_completes_them(
    dataset: Path, query: str, without_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_state:
        monkeypatch.setattr("hifidata.store.query.has_fragments", lambda folder: False)
    done = hifidata("inspect", dataset, query, "--json")
    assert done.returncode == 0, done.stderr
    images = json.loads(done.stdout)["images"]
    assert len(images) == (2 if query == NAME else 1)
    assert all("Jos\\xe9" in image["source_uri"] for image in images)


@pytest.mark.parametrize("arguments", [
    ("inspect", "{dataset}", "Nob\udce9"), ("run", "folder", "--out", "{dataset}\udce9"), ("run", "rec\udce9.yaml", "--out", "x"),
    ("plan", "folder", "--set", "source.path=\udce9"), ("plan", "folder", "--set", "caption.prompt=\udce9"),
    ("plan", "folder", "--set", "na\udcffme=x"), ("plan", "folder", "--weights", "\udce9"), ("status", "\udce9"),
    ("failures", "{dataset}", "--reason", "\udce9"), ("replay", "{dataset}", "--set", "quality.min_score=\udce9"),
    ("recipes", "show", "\udce9"),
], ids=lambda arguments: ascii(" ".join(arguments)))  # fmt: skip
def test_other_bytes_are_refused_in_one_line(dataset: Path, arguments: tuple[str, ...]) -> None:
    done = hifidata(*(word.format(dataset=dataset) for word in arguments))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    done.stderr.encode()  # would raise on a surrogate
    assert os.fsencode("\udce9") not in os.fsencode(done.stderr)


def test_ray_is_not_started_from_other_bytes(photos: Path, tmp_path: Path) -> None:
    models = [f"--set={key}=null" for key in ("watermark.model", "quality.model", "verify.model")]
    done = hifidata("run", "folder", f"--set=source.path={photos}", *models, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "make a link with another name to the folder, or pass --executor local" in done.stderr


def test_a_table_and_tars_with_other_bytes_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hifidata.sources.url_table.columns import TableColumnsConfig
    from hifidata.sources.url_table.source import UrlTableSource

    columns = TableColumnsConfig(identity="who", url="link")
    table = tmp_path / "li\udcffst.csv"
    table.write_text("who,link\nann,https://a.test/1.jpg\n,x\n")
    parquet = tmp_path / "li\udcffst.parquet"
    with open(parquet, "wb") as file:
        pq.write_table(pa.table({"who": ["ann", ""], "link": ["https://a.test/1.jpg", ""]}), file)
    for path in (table, parquet):
        tasks = list(UrlTableSource(path, columns).identities())
        assert sorted(task.identity_name for task in tasks) == ["(no identity)", "ann"]
        json.dumps([c.source_uri for task in tasks for c in task.candidates], ensure_ascii=False).encode()
