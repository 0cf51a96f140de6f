"""Names of classes that `datasets` keeps beside their numbers, in the schema of a Parquet or Arrow file (`datasets.ClassLabel`)."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from typing import Any

import pyarrow as pa

from acclimate.data.reading.formats import Reading

_KEY = b"huggingface"
_NONE = -1
"""The number of a row whose class is not known, as in the test splits of GLUE."""
logger = logging.getLogger(__name__)


def log_class_names(reading: Reading, schema: pa.Schema) -> None:
    """Say which of the columns that are read are given by name."""
    for column in reading.columns:
        if names := _names(_metadata(schema)).get(column):
            shown = ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")
            logger.info("%s: %s: column %r: read as the names of its classes: %s", reading.where, reading.path, column, shown)


def name_classes(cells: list[Any], column: str, schema: pa.Schema) -> list[Any]:
    """Cells of a column of classes, numbers or lists of numbers, by their names; those of another column as they are.

    Raises:
        LookupError: a number that has no name.
    """
    names = _names(_metadata(schema)).get(column)
    return cells if names is None else [_named(cell, names, column) for cell in cells]


def _named(cell: Any, names: list[str], column: str) -> Any:
    if isinstance(cell, list):
        return [_named(one, names, column) for one in cell]
    if cell is None or cell == _NONE:
        return None
    if not isinstance(cell, int) or not 0 <= cell < len(names):
        raise LookupError(f"{cell!r} is none of the {len(names)} classes that the file names for it")
    return names[cell]


def _metadata(schema: pa.Schema) -> bytes:
    return bytes((schema.metadata or {}).get(_KEY, b""))


@lru_cache(maxsize=64)
def _names(metadata: bytes) -> dict[str, list[str]]:
    """Names by column; nothing where the metadata is not what `datasets` writes."""
    try:
        features = json.loads(metadata)["info"]["features"]
        found = {column: _class_names(feature) for column, feature in features.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {column: names for column, names in found.items() if names}


def _class_names(feature: Any) -> list[str] | None:
    """Of a ClassLabel, or of a list of them, as each version of the library writes it."""
    while isinstance(feature, list) or (isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList")):
        feature = feature[0] if isinstance(feature, list) else feature.get("feature")
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
