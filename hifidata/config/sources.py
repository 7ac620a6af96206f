"""Recipe sections ``source`` and ``fetch``: where candidates come from, and how they are downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Union

from pydantic import Field

from hifidata.core.base_config import BaseConfig
from hifidata.fetch.config import FetcherConfig
from hifidata.sources.search.config import SearchConfig
from hifidata.sources.url_table.columns import TableColumnsConfig, TableFormat


class FolderSourceConfig(BaseConfig):
    """A folder with one sub-folder of photos per identity. VGGFace2-HQ has the same layout."""

    is_remote: ClassVar[bool] = False
    byte_paths: ClassVar[frozenset[str]] = frozenset({"path"})
    kind: Literal["folder"] = Field(description="kind of source")
    path: str = Field("", description="the folder; a relative path starts at the working directory")
    depth: int = Field(
        1,
        ge=1,
        le=16,
        description="level of the people's folders below path. 2: path/*/PERSON, such as train/n000001. Folders of the same name "
        "are one person",
    )
    licence: str | None = Field(
        None, description="licence to record for every image; shards hold only a licence's name or URL"
    )
    already_restored: bool = Field(
        False, description="true: a restorer has already processed the faces, so the recipe must not set restore.model"
    )


class ShardsSourceConfig(BaseConfig):
    """WebDataset shards with images and a json per sample. The json must contain the identity. It has the image's name, up to the
    last dot or an earlier one."""

    is_remote: ClassVar[bool] = False
    byte_paths: ClassVar[frozenset[str]] = frozenset({"path"})
    kind: Literal["shards"] = Field(description="kind of source")
    path: str = Field("", description="a tar file, a folder of tar files, or a glob pattern")
    identity_field: str = Field("identity_id", description="key of the sample's json that contains the identity")
    licence: str | None = Field(None, description="licence to record for images whose json has none")
    already_restored: bool = Field(
        False, description="true: a restorer has already processed the faces, so the recipe must not set restore.model"
    )


class UrlTableSourceConfig(BaseConfig):
    """A table with one URL per row."""

    is_remote: ClassVar[bool] = True
    byte_paths: ClassVar[frozenset[str]] = frozenset({"path"})
    kind: Literal["url_table"] = Field(description="kind of source")
    path: str = Field("", description="the table; a relative path starts at the working directory")
    format: TableFormat | None = Field(
        None,
        description="format of the table; null: from the file name. csv, tsv and jsonl may be gzipped. The header of a csv or "
        "tsv shows its delimiter: comma, tab, semicolon or pipe",
    )
    columns: TableColumnsConfig = Field(description="names of the table's columns")
    licence: str | None = Field(None, description="licence to record for rows without one")


class ImdbFaceSourceConfig(BaseConfig):
    """The published URL list of the IMDb-Face dataset."""

    is_remote: ClassVar[bool] = True
    byte_paths: ClassVar[frozenset[str]] = frozenset({"path"})
    kind: Literal["imdb_face"] = Field(description="kind of source")
    path: str = Field("", description="the file IMDb-Face.csv; may be gzipped")
    licence: str | None = Field(None, description="licence to record for every image; the list contains no licences")


class NamesSourceConfig(SearchConfig):
    """A list of names. Search providers find images of each name on the web."""

    is_remote: ClassVar[bool] = True
    byte_paths: ClassVar[frozenset[str]] = frozenset({"names"})
    kind: Literal["names"] = Field(description="kind of source")


SOURCE_KINDS: Mapping[str, type[BaseConfig]] = {
    "folder": FolderSourceConfig, "shards": ShardsSourceConfig, "url_table": UrlTableSourceConfig, "imdb_face": ImdbFaceSourceConfig,
    "names": NamesSourceConfig,
}  # fmt: skip
SourceConfig = Annotated[
    Union[FolderSourceConfig, ShardsSourceConfig, UrlTableSourceConfig, ImdbFaceSourceConfig, NamesSourceConfig],  # noqa: UP007
    Field(discriminator="kind"),
]


class FetchConfig(FetcherConfig):
    """Settings of the crawl, for sources that list URLs or names."""

    keep_originals: bool = Field(
        False,
        description="keep the downloaded files in OUT/originals/. Otherwise a later run with another recipe has to "
        "download them again",
    )
    max_waiting: int = Field(
        5000,
        ge=1,
        description="most candidates that the crawl downloads in advance of the workers; it pauses at this number",
    )
