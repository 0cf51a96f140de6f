"""DVC brings files and rows from elsewhere into data/: import-url, import and import-db, as docs/data.md shows them."""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from acclimate.data.reading.sources import files
from tests.unit.data.sources.batches import read

DVC = Path(sys.executable).with_name("dvc")
ENVIRONMENT = {
    **os.environ,
    "DVC_NO_ANALYTICS": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def run(directory: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repository(path: Path) -> Path:
    path.mkdir()
    run(path, "git", "init", "-q")
    run(path, DVC, "init", "-q")
    return path


def texts(data: Path, name: str) -> list[str]:
    config = files.Config(data=name)
    return [text for batch in read(files, config, data) for text in batch.texts]


pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
PASSWORD = "pw-7f3a9c51"


def test_imported_files_are_pinned_pushed_pulled_and_updated(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text('{"text": "first"}\n{"text": "second"}\n', encoding="utf-8")
    registry = repository(tmp_path / "registry")
    (registry / "notes.txt").write_text("one note\n\nanother\n", encoding="utf-8")
    run(registry, DVC, "add", "-q", "notes.txt")
    run(registry, DVC, "remote", "add", "-q", "-d", "own", str(tmp_path / "registry-store"))
    run(registry, DVC, "push", "-q")
    run(registry, "git", "add", "-A")
    run(registry, "git", "commit", "-q", "-m", "notes")

    ours = repository(tmp_path / "ours")
    (ours / "data" / "mine").mkdir(parents=True)
    run(ours, DVC, "import-url", "-q", str(elsewhere), "data/mine/rows.jsonl")
    run(ours, DVC, "import", "-q", str(registry), "notes.txt", "-o", "data/mine/notes.txt")
    run(ours, DVC, "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    run(ours, DVC, "push", "-q")
    run(ours, "git", "add", "-A")
    run(ours, "git", "commit", "-q", "-m", "data")
    assert texts(ours / "data", "mine/rows.jsonl") == ["first", "second"]

    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(ours), str(clone))
    run(clone, DVC, "pull", "-q")
    assert texts(clone / "data", "mine/rows.jsonl") == ["first", "second"]
    assert texts(clone / "data", "mine/notes.txt") == ["one note", "another"]

    elsewhere.write_text('{"text": "third"}\n', encoding="utf-8")
    run(ours, DVC, "update", "-q", "data/mine/rows.jsonl.dvc")
    assert texts(ours / "data", "mine/rows.jsonl") == ["third"]
    assert texts(clone / "data", "mine/rows.jsonl") == ["first", "second"]


class Shop(BaseHTTPRequestHandler):
    """One file, for those who know the password."""

    def do_GET(self) -> None:
        login = "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
        self.send_response(200 if self.headers.get("Authorization") == login else 401)
        body = b"id,text\n1,behind a password\n"
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def shop() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/export"
        server.shutdown()


def holders(directory: Path, secret: str) -> list[str]:
    """The files that hold a secret."""
    return sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
    )


def test_a_password_in_config_local_reaches_no_other_file(tmp_path: Path, shop: str) -> None:
    ours = repository(tmp_path / "ours")
    (ours / "data" / "mine").mkdir(parents=True)
    run(ours, DVC, "remote", "add", "-q", "shop", shop)
    for name, value in (("auth", "basic"), ("user", "anna"), ("password", PASSWORD)):
        run(ours, DVC, "remote", "modify", "-q", "--local", "shop", name, value)
    run(ours, DVC, "import-url", "-q", "remote://shop/tickets.csv", "data/mine/tickets.csv")
    run(ours, "git", "add", "-A")
    run(ours, "git", "commit", "-q", "-m", "data")
    assert texts(ours / "data", "mine/tickets.csv") == ["behind a password"]
    assert holders(ours, PASSWORD) == [".dvc/config.local"]
    assert ".dvc/config.local" not in run(ours, "git", "ls-files")


def test_a_url_with_a_password_is_kept_by_dvc_in_a_file_for_git(tmp_path: Path, shop: str) -> None:
    """Why docs/data.md warns of it: should DVC stop doing so, the warning may go."""
    ours = repository(tmp_path / "ours")
    (ours / "data").mkdir()
    url = shop.replace("//", f"//anna:{PASSWORD}@") + "/tickets.csv?sig=4d2a"
    run(ours, DVC, "import-url", "-q", url, "data/tickets.csv")
    assert holders(ours, PASSWORD) == holders(ours, "sig=4d2a") == ["data/tickets.csv.dvc"]


def test_rows_of_a_query_are_imported_and_updated_without_the_database_url(tmp_path: Path) -> None:
    ours = repository(tmp_path / "ours")
    (ours / "data" / "mine").mkdir(parents=True)
    database = tmp_path / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT)")
        connection.executemany("INSERT INTO pages (body) VALUES (?)", [("first",), ("second, with a comma",)])
    run(ours, DVC, "config", "--local", "db.shop.url", f"sqlite:///{database}")
    query = "SELECT id, body AS text FROM pages ORDER BY id"
    run(ours, DVC, "import-db", "--conn", "shop", "--sql", query, "-o", "data/mine/pages.csv")
    assert texts(ours / "data", "mine/pages.csv") == ["first", "second, with a comma"]
    assert holders(ours, str(database)) == [".dvc/config.local"]

    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO pages (body) VALUES ('third')")
    run(ours, DVC, "update", "data/mine/pages.csv.dvc")
    assert texts(ours / "data", "mine/pages.csv") == ["first", "second, with a comma", "third"]
