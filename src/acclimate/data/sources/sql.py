"""The rows of a query: DuckDB (https://duckdb.org) over files below data/, or PostgreSQL by URL through ADBC (https://arrow.apache.org/adbc).

A query only reads. DuckDB is given the named files and nothing else; PostgreSQL a session whose transactions are read-only.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import Field, model_validator

from acclimate.config import Name
from acclimate.data.formats import Reading
from acclimate.data.readers import resolve
from acclimate.data.sources import Part, SourceBatch, TableColumns
from acclimate.data.streams import fault, split_endings
from acclimate.errors import DataError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_BATCH_ROWS = 4096
_MEMORY = "512MB"
_READERS = {
    # Every cell of a CSV as it is written: a guessed type would turn the id 007 into 7. The query may cast.
    ".csv": "read_csv({files}, delim = ',', header = true, all_varchar = true, strict_mode = true)",
    ".tsv": "read_csv({files}, delim = '\t', header = true, all_varchar = true, strict_mode = true)",
    ".json": "read_json({files})",
    ".jsonl": "read_json({files}, format = 'newline_delimited')",
    ".ndjson": "read_json({files}, format = 'newline_delimited')",
    ".parquet": "read_parquet({files})",
}
_POSTGRES = ("postgresql", "postgres")


class Config(TableColumns):
    """A query over files or over a PostgreSQL database, and what the columns of its result are."""

    query: Annotated[str, Field(min_length=1)]
    tables: dict[Name, str] = Field(default={}, description="what the query's FROM names: a table, and its file name or glob below data/")
    url: str | None = Field(default=None, description="postgresql://user@host/database; the password in PGPASSWORD or ~/.pgpass")

    @model_validator(mode="after")
    def _one_database(self) -> Config:
        if bool(self.tables) == (self.url is not None):
            raise ValueError("give either `tables` (files below data/) or `url` (PostgreSQL)")
        if self.url is not None:
            self._check_url(self.url)
        return self

    def _check_url(self, url: str) -> None:
        split = urlsplit(url)
        if split.scheme not in _POSTGRES:
            raise ValueError(f"`url` has the scheme {split.scheme!r}; allowed: postgresql://user@host/database")
        if split.password is not None or any(name == "password" for name, _ in parse_qsl(split.query)):
            raise ValueError("`url` holds a password; secrets do not belong in params.yaml, but in PGPASSWORD or ~/.pgpass")
        if not self.id and not re.search(r"\border\s+by\b", self.query, re.IGNORECASE):
            raise ValueError("a server gives rows in any order: name a column of ids (`id`), or end the query with ORDER BY")


def parts(config: Config, data: Path, *, where: str) -> list[Part]:
    """One part: the result of the query.

    Raises:
        DataError: a table's files leave data/, are not there, or cannot be queried.
    """
    files = {table: _table_files(config, table, data, where) for table in config.tables}
    every_file = [path for paths in files.values() for path in paths]
    meaning = repr((config.query, config.url, sorted(config.tables.items())))
    key = f"query {hashlib.sha256(meaning.encode()).hexdigest()[:12]}"
    names = tuple(path.relative_to(data).as_posix() for path in every_file)
    return [Part(key, "query", names, size_bytes=sum(path.stat().st_size for path in every_file))]


def _table_files(config: Config, table: str, data: Path, where: str) -> list[Path]:
    paths = resolve(data, config.tables[table], where=f"{where}.tables.{table}")
    endings = sorted({split_endings(path)[0] for path in paths})
    if len(endings) > 1 or endings[0] not in _READERS:
        raise DataError(f"{where}.tables.{table}: files end in {', '.join(endings)}; allowed: one of {', '.join(_READERS)} for a table")
    for path in paths:
        if split_endings(path)[1] in (".bz2", ".xz"):
            raise fault(where, path, "DuckDB reads .gz and .zst; unpack the file, or read it by the source `files`")
    return paths


def read_part(config: Config, part: Part, data: Path, *, where: str) -> Iterator[SourceBatch]:
    """Batches of the result; numbers are its rows.

    Raises:
        DataError: not one reading statement, refused by the database, or the result lacks a column.
    """
    from acclimate.data.formats.columnar import rebatched

    reading = Reading(Path("query"), config.wanted(), where)
    source = _from_files(config, data, where, reading) if config.url is None else _from_postgres(config, reading)
    with source as reader:
        reading.require(reader.schema.names)
        wanted = (batch.select(reading.columns) for batch in _named_faults(reader, reading))
        for batch in rebatched(wanted, 1, reading):
            yield config.batch(part.name, batch)


def _named_faults(reader: pa.RecordBatchReader, reading: Reading) -> Iterator[pa.RecordBatch]:
    """A query may fail in the middle of its result: a broken file, a division by zero, a lost connection."""
    import pyarrow as pa

    try:
        yield from reader
    except (pa.ArrowException, OSError) as error:
        raise reading.fault(_told(error)) from None


@contextmanager
def _from_files(config: Config, data: Path, where: str, reading: Reading) -> Iterator[pa.RecordBatchReader]:
    try:
        import duckdb
    except ImportError:
        raise reading.fault("queries over files need the package duckdb: pip install duckdb") from None

    with duckdb.connect(":memory:") as connection:
        try:
            # One thread: several would give the rows of a join or a group in another order each time.
            connection.execute(f"SET threads = 1; SET memory_limit = '{_MEMORY}'; SET autoload_known_extensions = false")
            _make_views(connection, config, data, where)
            _refuse_writes(connection, config, reading)
            yield connection.sql(config.query).to_arrow_reader(_BATCH_ROWS)
        except duckdb.Error as error:
            raise reading.fault(_told(error)) from None


def _make_views(connection: duckdb.DuckDBPyConnection, config: Config, data: Path, where: str) -> None:
    """A view for each table; then nothing but their files can be reached, and no setting changed."""
    allowed = []
    for table in config.tables:
        files = [str(path.absolute()) for path in _table_files(config, table, data, where)]
        ending = split_endings(Path(files[0]))[0]
        connection.execute(f'CREATE VIEW "{table}" AS SELECT * FROM {_READERS[ending].format(files=_sql_list(files))}')
        allowed += files
    connection.execute(f"SET allowed_paths = {_sql_list(allowed)}; SET enable_external_access = false; SET lock_configuration = true")


def _sql_list(values: list[str]) -> str:
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"


def _refuse_writes(connection: duckdb.DuckDBPyConnection, config: Config, reading: Reading) -> None:
    import duckdb

    statements = connection.extract_statements(config.query)
    kinds = [statement.type.name for statement in statements]
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise reading.fault(f"{' and '.join(kinds) or 'nothing'} is asked; allowed is one SELECT, which reads")


@contextmanager
def _from_postgres(config: Config, reading: Reading) -> Iterator[pa.RecordBatchReader]:
    try:
        manager: Any = importlib.import_module("adbc_driver_manager")  # by name: an optional package without types
        postgres: Any = importlib.import_module("adbc_driver_postgresql.dbapi")
    except ImportError:
        raise reading.fault("PostgreSQL needs the package adbc-driver-postgresql: pip install adbc-driver-postgresql") from None

    if not re.match(r"\s*(select|with|values|table)\b", config.query, re.IGNORECASE):
        raise reading.fault("the query begins with none of SELECT, WITH, VALUES, TABLE; allowed is one that reads")
    try:
        with postgres.connect(_read_only(str(config.url))) as connection, connection.cursor() as cursor:
            cursor.execute(
                config.query.rstrip().rstrip(";") + "\n"
            )  # the driver wraps it in COPY (...): a comment must not reach the bracket
            yield cursor.fetch_record_batch()
    except manager.Error as error:
        told = _told(error)
        hint = "; the password is taken from PGPASSWORD or ~/.pgpass" if re.search("password|authentication", told) else ""
        raise reading.fault(told + hint) from None


def _read_only(url: str) -> str:
    """The URL with an option that makes every transaction of the session read-only."""
    base, _, query = url.partition("?")
    given = dict(parse_qsl(query))
    options = f"{given.get('options', '')} -c default_transaction_read_only=on".strip()
    # libpq decodes %20, not the plus sign that urlencode writes for a space by default.
    return f"{base}?{urlencode({**given, 'options': options}, quote_via=quote)}"


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def read(config: Config, data: Path, *, where: str) -> Iterator[SourceBatch]:
    """Every batch of the result.

    Raises:
        DataError: see `parts` and `read_part`.
    """
    for part in parts(config, data, where=where):
        yield from read_part(config, part, data, where=where)
