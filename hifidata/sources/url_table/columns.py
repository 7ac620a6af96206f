"""The recipe's settings for the columns of a table of URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hifidata.core.base_config import BaseConfig

TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]


class FaceColumnsConfig(BaseConfig):
    """Columns and units of the face box in the table."""

    box: tuple[str, ...] = Field(
        description="columns of the face box: one column with four numbers, or four columns with one number each"
    )
    layout: Literal["xyxy", "xywh"] = Field(
        "xyxy", description="xyxy: upper left and lower right corner. xywh: upper left corner, width and height"
    )
    unit: Literal["relative", "pixels"] = Field(
        "relative", description="relative: shares of the image's width and height. pixels: needs size"
    )
    size: tuple[str, ...] = Field(
        (),
        description="columns of the image size for unit: pixels: one column with two numbers, or two columns with one "
        "number each",
    )
    size_order: Literal["width height", "height width"] = Field(
        "width height", description="order of the two numbers of size"
    )

    @field_validator("box", "size", mode="before")
    @classmethod
    def _one_column_is_a_list_too(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _columns_fit_the_unit(self) -> FaceColumnsConfig:
        if len(self.box) not in (1, 4):
            raise ValueError("box: expected one column or four")
        if self.unit == "pixels" and len(self.size) not in (1, 2):
            raise ValueError("size: boxes in pixels need the size of the image; expected one column or two")
        if self.unit == "relative" and self.size:
            raise ValueError("size: relative boxes need none; remove it, or set unit: pixels")
        return self


class TableColumnsConfig(BaseConfig):
    """The columns of the table by content. Other columns are not read."""

    identity: str = Field(description="column of the identity; the rows of one identity need not be adjacent")
    url: str = Field(description="column of the image's URL")
    name: str | None = Field(
        None,
        description="column of the identity's name, if identity is an id; the first row of an identity determines the name",
    )
    licence: str | None = Field(None, description="column of the licence")
    landing_page: str | None = Field(None, description="column of the web page that shows the image")
    author: str | None = Field(None, description="column of the author")
    sha256: str | None = Field(
        None, description="column of the sha256 (hex) of the image's bytes; a download must match it"
    )
    face: FaceColumnsConfig | None = Field(None, description="columns of the face box")

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield ``(key in the recipe, column)`` for every column that is read, in a fixed order."""
        for key in ("identity", "url", "name", "licence", "landing_page", "author", "sha256"):
            if (column := getattr(self, key)) is not None:
                yield key, column
        if self.face is not None:
            yield from (("face.box", column) for column in self.face.box)
            yield from (("face.size", column) for column in self.face.size)
