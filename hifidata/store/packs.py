"""The packed layout: the tars of identities stay in ``state/`` until the run ends; a later run extracts them from the packs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hifidata.core.errors import DatasetError
from hifidata.core.files import file_sha256
from hifidata.store.fragments import CommitRecord
from hifidata.store.layout import DatasetFolder
from hifidata.store.shards import pack, unpack

PACK_PATTERN = f"pack-{'[0-9]' * 6}.tar"


def packs_of(folder: DatasetFolder) -> list[Path]:
    """Return the packs of a dataset, sorted; tars with other names were made by other programs."""
    return sorted(folder.shards.glob(PACK_PATTERN))


def packed_identities(folder: DatasetFolder) -> frozenset[str]:
    """Return the identities whose pack exists with its recorded size."""
    table = folder.manifests / "identities.parquet"
    if not table.exists():
        return frozenset()
    rows = pq.read_table(table, columns=["identity_id", "shard", "shard_bytes"]).to_pylist()
    sizes = {path.relative_to(folder.root).as_posix(): path.stat().st_size for path in packs_of(folder)}
    return frozenset(
        row["identity_id"] for row in rows if row["shard"] and sizes.get(row["shard"]) == row["shard_bytes"]
    )


def pack_identities(
    folder: DatasetFolder, records: Sequence[CommitRecord], max_bytes: int
) -> dict[str, dict[str, Any]]:
    """Pack all identities again.

    Returns:
        By identity id, the new columns shard, shard_sha256 and shard_bytes.

    Raises:
        DatasetError: a tar that was extracted from an old pack has another sha256 than its commit record.
    """
    own = {
        record.identity["identity_id"]: folder.shard_path(record.identity["identity_id"], packed=True)
        for record in records
        if record.identity.get("shard")
    }
    packs = packs_of(folder)
    wanted = {identity_id: path for identity_id, path in own.items() if not path.exists()}
    unpack(packs, wanted)
    rows = (record.identity for record in records)
    _check_unpacked(folder, {wanted[r["identity_id"]]: r["shard_sha256"] for r in rows if r["identity_id"] in wanted})
    placed = pack(list(own.values()), folder.shards, max_bytes)
    for old in set(packs) - {target for target, _ in placed.values()}:
        old.unlink()
    return {
        identity_id: {
            "shard": placed[path][0].relative_to(folder.root).as_posix(),
            "shard_sha256": placed[path][1].sha256,
            "shard_bytes": placed[path][1].n_bytes,
        }
        for identity_id, path in own.items()
    }


def _check_unpacked(folder: DatasetFolder, expected: Mapping[Path, str]) -> None:
    """Check extracted tars before they are packed again. Raises DatasetError."""
    wrong = [path for path, sha256 in expected.items() if not path.exists() or file_sha256(path) != sha256]
    for path in wrong:
        path.unlink(missing_ok=True)
    if wrong:
        raise DatasetError(
            f"{folder.shards}: the packs are damaged for {len(wrong)} identities; delete {folder.shards}/pack-*.tar and run "
            "the same command again, which processes these identities again"
        )
