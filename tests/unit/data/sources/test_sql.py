"""Queries: DuckDB over files that are named and no others; a PostgreSQL server of this test's own; neither is ever written to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from acclimate.data.sources import sql
from acclimate.errors import DataError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    pq.write_table(pa.table({"id": [f"p{i}" for i in range(10)], "body": [f"text {i}" for i in range(10)]}), root / "pages.parquet")
    (root / "sites.csv").write_text("id,site\n" + "".join(f"p{i},00{i % 3}\n" for i in range(10)))
    (root / "more.jsonl").write_text("".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(3)))
    (tmp_path / "outside.csv").write_text("text\nsecret\n")
    return root


def rows(data: Path, **options: Any) -> list[Any]:
    batches = sql.read(sql.Config.model_validate(options), data, where="w")
    return [
        row
        for batch in batches
        for row in zip(batch.numbers, batch.texts, batch.ids or batch.numbers, batch.groups or batch.numbers, strict=True)
    ]


def fault(data: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        rows(data, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


TABLES = {"pages": "pages.parquet", "sites": "sites.csv", "more": "*.jsonl"}


def test_a_query_joins_files(data: Path) -> None:
    pytest.importorskip("duckdb")
    query = "SELECT body, pages.id, site FROM pages JOIN sites USING (id) WHERE site <> '001' ORDER BY pages.id DESC"
    found = rows(data, query=query, tables=TABLES, text="body", id="id", group="site")
    assert found[:2] == [(1, "text 9", "p9", "000"), (2, "text 8", "p8", "002")]
    assert len(found) == 7
    assert [row[1] for row in rows(data, query="FROM more", tables=TABLES)] == ["line 0", "line 1", "line 2"]


def test_a_large_result_comes_in_batches(data: Path) -> None:
    pytest.importorskip("duckdb")
    config = sql.Config(query="SELECT 'row ' || n AS text FROM range(20000) t(n)", tables=TABLES)
    batches = list(sql.read(config, data, where="w"))
    assert len(batches) > 3 and [number for batch in batches for number in batch.numbers] == list(range(1, 20001))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "COPY (SELECT 1) TO 'data/x.csv'"}, "COPY is asked; allowed is one SELECT, which reads"),
        ({"query": "SELECT 1 AS text; DROP TABLE pages"}, "SELECT and DROP is asked; allowed is one SELECT"),
        ({"query": "INSERT INTO more VALUES (1)"}, "INSERT is asked"),
        ({"query": "SELECT * FROM read_csv('OUTSIDE')"}, "Permission Error"),
        ({"query": "SELECT * FROM '/etc/passwd.csv'"}, "Permission Error"),
        ({"query": "SELECT content AS text FROM read_text('/etc/hostname')"}, "Permission Error"),
        ({"query": "SELECT * FROM 'https://example.org/a.csv'"}, "Permission Error"),
        ({"query": "SELEC 1"}, "syntax error"),
        ({"query": "SELECT body FROM pages"}, "no column 'text'; present: body"),
        ({"query": "SELECT CAST(id AS INT) AS text FROM pages"}, "Could not convert string 'p0' to INT32"),
        ({"query": "SELECT 1", "tables": {"a": "../outside.csv"}}, "leaves the data directory"),
        ({"query": "SELECT 1", "tables": {"a": "*"}}, r"files end in .csv, .jsonl, .parquet; allowed: one of"),
        ({"query": "SELECT 1", "tables": {"a": "none.csv"}}, "no such file"),
    ],
)
def test_a_fault_is_one_line(data: Path, options: dict[str, Any], message: str) -> None:
    pytest.importorskip("duckdb")
    query = options.pop("query").replace("OUTSIDE", str(data.parent / "outside.csv"))
    assert message in fault(data, **{"tables": TABLES, **options}, query=query)
    assert sorted(path.name for path in data.iterdir()) == ["more.jsonl", "pages.parquet", "sites.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either `tables`"),
        ({"tables": {"a": "a.csv"}, "url": "postgresql://host/db"}, "give either `tables`"),
        ({"url": "mysql://host/db"}, "scheme 'mysql'; allowed: postgresql://"),
        ({"url": "postgresql://me:secret@host/db"}, "holds a password"),
        ({"url": "postgresql://me@host/db?password=secret"}, "holds a password"),
        ({"url": "postgresql://me@host/db"}, "a server gives rows in any order: name a column of ids"),
        ({"tables": {"a;b": "a.csv"}}, "should match pattern"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sql.Config.model_validate({"query": "SELECT 1 AS text", **options})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server on a socket of its own; the URL of its database."""
    pytest.importorskip("adbc_driver_postgresql")
    programs = shutil.which("initdb"), shutil.which("pg_ctl"), shutil.which("psql")
    if not all(programs):
        pytest.skip("PostgreSQL's initdb, pg_ctl and psql are not installed")
    initdb, pg_ctl, psql = map(str, programs)
    home = tmp_path_factory.mktemp("pg")
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        as_user = {"user": "nobody"}
        for path in (home, *home.parents):
            if path != Path(tempfile.gettempdir()) and path.is_relative_to(tempfile.gettempdir()):
                path.chmod(0o755)
        shutil.chown(home, "nobody")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": home, **as_user}
    subprocess.run([initdb, "-D", home / "db", "-U", "me", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C"], **quiet)
    options = f"-c listen_addresses='' -c unix_socket_directories={home} -c fsync=off"
    subprocess.run([pg_ctl, "-D", home / "db", "-w", "-o", options, "-l", home / "log", "start"], **quiet)
    url = f"postgresql:///postgres?host={home}&user=me"
    create = "CREATE TABLE pages AS SELECT n AS id, 'text ' || n AS body, now() AS at FROM generate_series(1, 10000) n"
    subprocess.run([psql, "-q", "-d", url, "-c", create], **quiet)
    yield url
    subprocess.run([pg_ctl, "-D", home / "db", "-m", "immediate", "stop"], **quiet)


def test_postgresql_is_read_in_batches(server: str, tmp_path: Path) -> None:
    config = sql.Config(query="SELECT body, id FROM pages ORDER BY id DESC;", url=server, text="body", id="id")
    batches = list(sql.read(config, tmp_path, where="w"))
    assert [text for batch in batches for text in batch.texts] == [f"text {n}" for n in range(10000, 0, -1)]
    assert len(batches) > 1 and batches[0].ids is not None and batches[0].ids[0] == 10000


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM pages", "begins with none of SELECT, WITH"),
        ("WITH gone AS (DELETE FROM pages RETURNING body) SELECT body AS text FROM gone", "DELETE"),
        ("SELECT body AS text FROM pages; DROP TABLE pages", ""),
        ("SELECT set_config('transaction_read_only', 'off', false) AS text; DELETE FROM pages", ""),
        ("SELECT body FROM pages", "no column 'text'; present: body"),
        ("SELECT 1 / (id - 5000) AS text FROM pages", "division by zero"),
        ("SELECT nothing AS text FROM pages", "nothing"),
    ],
)
def test_a_postgresql_fault_is_one_line_and_nothing_is_written(server: str, tmp_path: Path, query: str, message: str) -> None:
    assert message in fault(tmp_path, query=query + "  -- a comment", url=server, id="text")
    assert len(rows(tmp_path, query="SELECT body AS text FROM pages ORDER BY id", url=server)) == 10000


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("adbc_driver_postgresql")
    assert "w: query: " in fault(tmp_path, query="SELECT 1 AS text ORDER BY 1", url="postgresql://me@127.0.0.1:1/db")
