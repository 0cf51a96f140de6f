"""Tables in one JSON value: an array of objects, and what `DataFrame.to_json` and `Dataset.to_dict` write.

https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.to_json.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SPLIT_KEYS = {"columns", "data"}


Rows = tuple[str, Iterator[Any]]
"""How a table is written, and its rows."""


def rows_of(value: Any, wanted: list[str], header: list[str] | None) -> Rows | None:
    """The rows of a table; None where the value is no table.

    Args:
        wanted: the columns that are read, which distinguish a table written by columns from one written by rows.
        header: names of the columns, where each row is an array.
    Raises:
        ValueError: a table that says two things, or whose columns differ in length.
    """
    if type(value) is list:
        return "rows", iter(value)
    if type(value) is not dict:
        return None
    if value.keys() >= _SPLIT_KEYS and type(value["columns"]) is type(value["data"]) is list:
        return "orient='split'", _split_rows(value["columns"], value["data"])
    if wanted and all(type(value.get(column)) is list for column in wanted):
        return "an array for each column", _by_columns({column: dict(enumerate(value[column])) for column in wanted})
    return _nested_rows(value, wanted) or _only_array(value, (list if header else dict,))


def _split_rows(names: list[Any], rows: list[Any]) -> Iterator[Any]:
    """`orient="split"`."""
    if len(set(map(str, names))) < len(names):
        raise ValueError(f"a name stands twice among the columns: {', '.join(map(str, names[:20]))}; rename one")
    for number, row in enumerate(rows, start=1):
        if type(row) is not list or len(row) != len(names):
            raise ValueError(f"row {number}: expected an array of {len(names)} values, as `columns` names them")
    return (dict(zip(map(str, names), row, strict=True)) for row in rows)


def _nested_rows(value: Mapping[str, Any], wanted: list[str]) -> Rows | None:
    """`orient="columns"`, which is pandas' default, or `orient="index"`."""
    by_columns = bool(wanted) and all(type(value.get(column)) is dict for column in wanted)
    by_index = bool(value) and all(type(inner) is dict and all(column in inner for column in wanted) for inner in value.values())
    if by_columns and by_index:
        raise ValueError("both the outer and the inner keys are the columns that are read; save it with orient='records'")
    if by_columns:
        return "orient='columns'", _by_columns({column: value[column] for column in wanted})
    return ("orient='index'", iter(value.values())) if by_index else None


def _by_columns(columns: Mapping[str, Mapping[Any, Any]]) -> Iterator[Any]:
    keys = next(iter(columns.values())).keys()
    for column, cells in columns.items():
        if cells.keys() != keys:
            raise ValueError(f"column {column!r} does not have the {len(keys)} rows of {next(iter(columns))!r}; save it again")
    return ({column: cells[key] for column, cells in columns.items()} for key in keys)


def records_of(value: Any) -> Rows | None:
    """The records of any shape, objects or arrays, of an annotation tool's file; None where there are none.

    Raises:
        ValueError: two arrays of records.
    """
    if type(value) is list:
        return "rows", iter(value)
    return _only_array(value, (dict, list)) if type(value) is dict else None


def _only_array(value: Mapping[str, Any], row_types: tuple[type, ...]) -> Rows | None:
    """An object one of whose values is an array of rows, such as `orient="table"`."""
    arrays = [name for name, inner in value.items() if type(inner) is list and inner and type(inner[0]) in row_types]
    if len(arrays) > 1:
        raise ValueError(f"a second array of objects, {arrays[1]!r} after {arrays[0]!r}; allowed is one")
    return ("rows", iter(value[arrays[0]])) if arrays else None
