"""How a file is read: the keys that stand below a task and below a source of kind `files` alike."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from acclimate.data.reading.streams import DEFAULT_ENCODING, MAX_GROWTH, MAX_RECORD_BYTES, check_encoding
from acclimate.settings import Options

Encoding = Annotated[str, AfterValidator(check_encoding)]
RecordBytes = Annotated[int, Field(ge=1, le=1 << 30)]
NO_SEPARATORS = "\"'\r\n\0"


def _check_separator(value: Any) -> Any:
    given = "\t" if value in ("tab", "\\t") else value
    if isinstance(given, str) and (len(given) != 1 or given in NO_SEPARATORS):
        raise ValueError('one character, and no quote: such as ";", "|" or "tab"')
    return given


Separator = Annotated[str, BeforeValidator(_check_separator)]
ColumnNames = Annotated[list[str], Field(min_length=1)]


class ReadOptions(Options):
    """What a file does not say of itself. A task is one, and a source of files too."""

    encoding: Encoding = Field(default=DEFAULT_ENCODING, description="of CSV, TSV, JSON and text files")
    separator: Separator | None = Field(
        default=None, description="between the fields of a row; without it, a comma in .csv and a tab in .tsv, or what the header shows"
    )
    decimal: Literal[".", ","] = Field(default=".", description="before the decimals of a number in CSV and TSV")
    quote: Literal['"', "'", "none"] | None = Field(
        default=None, description='around fields of CSV and TSV; without it, `"` in .csv, and none in .tsv, where a quote is a plain sign'
    )
    header: ColumnNames | None = Field(default=None, description="names of the columns of a file whose first line is a row")
    sheet: str | Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="of an .xlsx, by name or number; without it, the only one"
    )
    member: str | None = Field(default=None, description="of a .zip or .tar, the file in it that is read; without it, its only table")
    max_growth: Annotated[int, Field(ge=1)] = Field(
        default=MAX_GROWTH, description="times its size that a compressed file of more than 64 MB may unpack to; also blank lines a record"
    )
    max_record_bytes: RecordBytes = Field(default=MAX_RECORD_BYTES, description="a longer row or text is refused")
