"""IMDb-Face's list of 1.7 million URLs, as its authors publish it."""

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
"""TableColumnsConfig of ``IMDb-Face.csv``: ``name,index,image,rect,height width,url``.

``index`` is the person's IMDb id; where it has two names it is still one person, called as in its first row. ``image``
is not unique even within a person, so pictures go by their URL. ``rect`` is x1 y1 x2 y2 in the picture as the authors had
it, ``height width`` says how large that was; the picture behind the URL may have another size by now, so the box is kept
relative to both.
"""


def imdb_face_source(path: Path, licence: str | None = None, cache: Path | None = None) -> UrlTableSource:
    """The list as a source.

    Args:
        path: ``IMDb-Face.csv``, gzipped or not.
        licence: recorded for every picture; the list itself names none.
        cache: as for ``UrlTableSource``.

    Source: F. Wang et al., The Devil of Face Recognition is in the Noise, ECCV 2018, whose list the paper (section 3.4)
    starts from. The list has repeated rows, boxes outside their picture and dead URLs; each is one row of the manifest.
    """
    return UrlTableSource(path, COLUMNS, "csv", licence, cache, "imdb_face")
