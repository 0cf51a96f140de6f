"""Remote files through fsspec: an HTTP server of this test's own, fsspec's memory and local files, botocore's credentials."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pydantic import ValidationError

from acclimate.data.sources import remote
from acclimate.errors import DataError

LINES = b'{"text": "one"}\n{"text": "two"}\n'


class Server(SimpleHTTPRequestHandler):
    """Serves a directory, counts the bodies that it sends, and can hang up in the middle of one."""

    gets: list[str] = []
    hang_up = False

    def do_GET(self) -> None:
        self.gets.append(self.path)
        if self.path.startswith("/private"):
            self.send_error(403)
        elif self.hang_up:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"text": "cut')
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        if self.path.startswith("/private"):
            self.send_error(403)
        else:
            super().do_HEAD()

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    directory = tmp_path / "served"
    directory.mkdir()
    Server.gets, Server.hang_up = [], False
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield directory, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def texts(url: str, tmp_path: Path, **options: Any) -> list[str]:
    config = remote.Config.model_validate({"url": url, **options})
    batches = remote.read(config, tmp_path, where="w", cache=tmp_path / "cache")
    return [text for batch in batches for text in batch.texts]


def fault(url: str, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        texts(url, tmp_path, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_file_is_fetched_once_and_again_when_it_changes(served: tuple[Path, str], tmp_path: Path) -> None:
    directory, url = served
    (directory / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    assert texts(f"{url}/a.jsonl.gz", tmp_path) == ["one", "two"]
    assert texts(f"{url}/a.jsonl.gz", tmp_path) == ["one", "two"]
    assert Server.gets == ["/a.jsonl.gz"]
    (directory / "a.jsonl.gz").write_bytes(gzip.compress(LINES.replace(b"two", b"three")))
    assert texts(f"{url}/a.jsonl.gz", tmp_path) == ["one", "three"]
    assert len(Server.gets) == 2
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_transfer_cut_short_leaves_nothing_in_the_cache(served: tuple[Path, str], tmp_path: Path) -> None:
    directory, url = served
    (directory / "a.jsonl").write_bytes(LINES)
    Server.hang_up = True
    assert f"{url}/a.jsonl" in fault(f"{url}/a.jsonl", tmp_path)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    Server.hang_up = False
    assert texts(f"{url}/a.jsonl", tmp_path) == ["one", "two"]


def test_http_faults_are_one_line(served: tuple[Path, str], tmp_path: Path) -> None:
    directory, url = served
    (directory / "a.docx").write_bytes(b"x")
    (directory / "broken.jsonl").write_bytes(b'{"text": "a"}\n{"text": \n')
    assert f"w: {url}/none.jsonl: no such file" in fault(f"{url}/none.jsonl", tmp_path)
    assert "ending '.docx' is not known" in fault(f"{url}/a.docx", tmp_path)
    assert f"w: {url}/broken.jsonl: " in fault(f"{url}/broken.jsonl", tmp_path)
    assert "line 2: not valid JSON" in fault(f"{url}/broken.jsonl", tmp_path)
    assert "no access (403" in fault(f"{url}/private/a.jsonl", tmp_path)
    assert "is the URL right, and the network there?" in fault("http://127.0.0.1:1/a.jsonl", tmp_path)


def test_a_glob_in_memory_gives_parts_by_path(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("b", "a"):
        memory.pipe(f"/corpus_glob/{name}.jsonl", b'{"text": "%s"}\n' % name.encode())
    config = remote.Config(url="memory://corpus_glob/*.jsonl")
    parts = remote.parts(config, tmp_path, where="w")
    assert [part.name for part in parts] == ["memory:///corpus_glob/a.jsonl", "memory:///corpus_glob/b.jsonl"]
    assert texts(config.url, tmp_path) == ["a", "b"]
    assert "no file matches" in fault("memory://corpus_glob/*.csv", tmp_path)


def test_a_file_that_changes_between_listing_and_reading_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    config = remote.Config(url=f"file://{path}")
    (part,) = remote.parts(config, tmp_path, where="w")
    path.write_bytes(LINES + LINES)
    with pytest.raises(DataError, match="changed since its parts were listed; start the run again"):
        list(remote.read_part(config, part, tmp_path, where="w", cache=tmp_path / "cache"))


def test_missing_s3_credentials_name_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    message = fault("s3://bucket/corpus/*.jsonl", tmp_path)
    assert message.startswith(
        "w: s3://bucket/corpus/*.jsonl: no credentials for S3; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )
    assert "nobody" in fault("s3://bucket/a.jsonl", tmp_path, options={"profile": "nobody"})


def test_a_scheme_without_its_package_says_which(tmp_path: Path) -> None:
    if "gcsfs" in fsspec.registry or _installed("gcsfs"):
        pytest.skip("gcsfs is installed")
    assert "gs:// needs a package that is not installed: gcsfs" in fault("gs://bucket/a.jsonl", tmp_path)
    assert "cannot be had (ValueError: Protocol not known: nothing" in fault("nothing://bucket/a.jsonl", tmp_path)


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "corpus/a.jsonl"}, "needs a scheme"),
        ({"url": "ssh://user:secret@host/a.jsonl"}, "holds a password"),
        ({"url": "s3://b/a.jsonl", "options": {"secret": "x"}}, "`options.secret` looks like a secret"),
        ({"url": "gs://b/a.jsonl", "options": {"token": "x"}}, "`options.token` looks like a secret"),
    ],
)
def test_secrets_are_refused_in_params(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        remote.Config.model_validate(options)
    remote.Config.model_validate({"url": "gs://b/a.jsonl", "options": {"token": "anon"}})
