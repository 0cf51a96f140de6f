"""Write the tables of the Debian snapshot: schemas, compression, and the byte-identical Parquet file."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEXT = pa.string()
SCHEMAS: dict[str, dict[str, pa.DataType]] = {
    "corpus": {"id": TEXT, "text": TEXT, "source": TEXT, "group": TEXT},
    "general": {"id": TEXT, "text": TEXT, "source": TEXT},
    "other": {"id": TEXT, "text": TEXT, "source": TEXT, "group": TEXT},
    "supersense": dict.fromkeys(("id", "text", "label", "split"), TEXT),
    "heldout": {"id": TEXT, "text": TEXT, "source": TEXT, "group": TEXT},
    "section": dict.fromkeys(("id", "package", "source", "text", "section", "split"), TEXT),
    "works_with": {
        **dict.fromkeys(("id", "package", "source", "text"), TEXT),
        "tags": pa.list_(TEXT),
        "split": TEXT,
    },
    "related": dict.fromkeys(("id", "text", "text_pair", "label", "group", "split"), TEXT),
    "tag_overlap": {
        **dict.fromkeys(("id", "text", "text_pair"), TEXT),
        "score": pa.float32(),
        "group": TEXT,
        "split": TEXT,
    },
    "entities": {"id": TEXT, "page": TEXT, "words": pa.list_(TEXT), "tags": pa.list_(TEXT), "split": TEXT},
}
# Few distinct values: a dictionary helps. In running text it only stands in the way of the compressor.
DICTIONARY_COLUMNS = ("source", "section", "split", "label", "tags.list.element")


def write_table(rows: list[dict[str, Any]], name: str, path: Path) -> None:
    """Write rows as one row group of one page a column: the compressor then sees the whole column."""
    schema = pa.schema(list(SCHEMAS[name].items()))
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=22,
        use_dictionary=[column for column in DICTIONARY_COLUMNS if column.split(".")[0] in schema.names],
        write_statistics=False,
        row_group_size=max(1, len(rows)),
        data_page_size=2**30,
        max_rows_per_page=2**30,
    )
