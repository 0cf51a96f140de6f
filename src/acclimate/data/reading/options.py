"""How a file is read: the keys that stand below a task and below a source of kind `files` alike."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from acclimate.data.reading.streams import DEFAULT_ENCODING, MAX_RECORD_BYTES, check_encoding
from acclimate.settings import Options

Encoding = Annotated[str, AfterValidator(check_encoding)]
RecordBytes = Annotated[int, Field(ge=1, le=1 << 30)]
ColumnNames = Annotated[list[str], Field(min_length=1)]


class ReadOptions(Options):
    """What a file does not say of itself. A task is one, and a source of files too."""

    encoding: Encoding = Field(default=DEFAULT_ENCODING, description="of CSV, TSV, JSON and text files")
    separator: str | None = Field(
        default=None, min_length=1, max_length=1, description="between the fields of a row; without it, a comma in .csv, a tab in .tsv"
    )
    decimal: Literal[".", ","] = Field(default=".", description="before the decimals of a number in CSV and TSV")
    quote: Literal['"', "'", "none"] | None = Field(
        default=None, description='around fields of CSV and TSV; without it, `"` in .csv, and none in .tsv, where a quote is a plain sign'
    )
    header: ColumnNames | None = Field(default=None, description="names of the columns of a file whose first line is a row")
    sheet: str | Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="of an .xlsx, by name or number; without it, the only one"
    )
    max_record_bytes: RecordBytes = Field(default=MAX_RECORD_BYTES, description="a longer row or text is refused")
