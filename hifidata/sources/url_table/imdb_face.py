"""The IMDb-Face table of 1.7 million URLs, as its authors publish it."""

from __future__ import annotations

from pathlib import Path

from hifidata.sources.url_table.columns import FaceColumnsConfig, TableColumnsConfig
from hifidata.sources.url_table.source import UrlTableSource

COLUMNS = TableColumnsConfig(
    identity="index",
    url="url",
    name="name",
    face=FaceColumnsConfig(box=("rect",), unit="pixels", size=("height width",), size_order="height width"),
)
"""Columns of ``IMDb-Face.csv``: ``name,index,image,rect,height width,url``.

``index`` is the IMDb id of a person. An id with two names is one identity with the name of its first row. ``image`` is
not unique even within an identity, so the URL identifies an image. ``rect`` is x1 y1 x2 y2 in the authors' copy of the
image; ``height width`` is its size. The image at the URL may have another size now, so the box is stored relative to
this size.
"""


def imdb_face_source(path: Path, licence: str | None = None, cache: Path | None = None) -> UrlTableSource:
    """Open the table as a source.

    Args:
        path: ``IMDb-Face.csv``, gzipped or not.
        licence: recorded for every image; the table has none.
        cache: as for ``UrlTableSource``.

    Source: F. Wang et al., The Devil of Face Recognition is in the Noise, ECCV 2018. The paper (section 3.4) starts from
    this table. Its repeated rows, boxes outside their image and dead URLs each become one row of the manifest.
    """
    return UrlTableSource(path, COLUMNS, "csv", licence, cache, "imdb_face")
