"""The packed layout: people's own tars wait in ``state/`` until a run ends, and come out of the packs when people are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hifidata.core.errors import DatasetError
from hifidata.store.fragments import CommitRecord
from hifidata.store.layout import DatasetFolder
from hifidata.store.shards import file_sha256, pack, unpack


def packed_identities(folder: DatasetFolder) -> frozenset[str]:
    """Identities that lie in a pack that is still there at its recorded size."""
    table = folder.manifests / "identities.parquet"
    if not table.exists():
        return frozenset()
    rows = pq.read_table(table, columns=["identity_id", "shard", "shard_bytes"]).to_pylist()
    sizes = {path.relative_to(folder.root).as_posix(): path.stat().st_size for path in folder.shards.glob("pack-*.tar")}
    return frozenset(
        row["identity_id"] for row in rows if row["shard"] and sizes.get(row["shard"]) == row["shard_bytes"]
    )


def pack_people(folder: DatasetFolder, records: Sequence[CommitRecord], max_bytes: int) -> dict[str, dict[str, Any]]:
    """Packs all identities anew; returns their new shard columns by identity id.

    Raises:
        DatasetError: old packs hold people otherwise than they were written.
    """
    own = {
        record.identity["identity_id"]: folder.shard_path(record.identity["identity_id"], packed=True)
        for record in records
        if record.identity.get("shard")
    }
    packs = sorted(folder.shards.glob("pack-*.tar"))
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
    """Nothing damaged gets into a new pack, and a new hash. Raises DatasetError."""
    wrong = [path for path, sha256 in expected.items() if not path.exists() or file_sha256(path) != sha256]
    for path in wrong:
        path.unlink(missing_ok=True)
    if wrong:
        raise DatasetError(
            f"{folder.shards}: {len(wrong)} people do not come out of the packs as they were written; delete "
            f"{folder.shards}/pack-*.tar and run the same command again, which does these people anew"
        )
