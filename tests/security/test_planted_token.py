"""A secret planted in every place where one can be written, then searched for in every file, database and line of output.

By default the first stages run; with ACCLIMATE_WHOLE, as in `make test-security WHOLE=1`, the whole tiny pipeline does.
"""

from __future__ import annotations

import base64
import gzip
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from acclimate.config import load_config
from acclimate.errors import ConfigError
from acclimate.params_file import find_secrets, read_yaml
from acclimate.profiles import apply_profile

ROOT = Path(__file__).parents[2]
WHOLE = "ACCLIMATE_WHOLE" in os.environ
TARGETS = [] if WHOLE else ["backbone"]
TOKEN = "plAnted+7Xw2/Lm9Rt4Vb6Nk1Pc8Hd3"
"""Of no form that redaction knows: what hides it must be that nobody writes it. It changes when it is percent-encoded."""
IN_URL = quote(TOKEN, safe="")
CLOSED = "127.0.0.1:9"
"""The discard port: nothing answers there."""
ENVIRONMENT = {
    **dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN", "GIT_PASSWORD", "DVC_STUDIO_TOKEN"), TOKEN),
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_CONNECTION_STRING"), TOKEN),
    **dict.fromkeys(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD"), TOKEN),
    **dict.fromkeys(("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_KEY", "OPENAI_API_KEY"), TOKEN),
    "MLFLOW_S3_ENDPOINT_URL": f"http://u:{IN_URL}@{CLOSED}",
    "DATABASE_URL": f"postgresql://u:{IN_URL}@{CLOSED}/d",
    "DVC_STUDIO_OFFLINE": "true",
    "DVC_STUDIO_URL": f"http://{IN_URL}@{CLOSED}",
}
NEEDLES = {
    *(
        text.encode(encoding)
        for text in (TOKEN, IN_URL, quote_plus(TOKEN), TOKEN.replace("/", "\\/"))
        for encoding in ("utf-8", "utf-16-le")
    ),
    *(base64.b64encode(b"x" * shift + TOKEN.encode())[4 if shift else 0 :][:36] for shift in range(3)),
    TOKEN.encode().hex().encode(),
}


def holds(content: bytes) -> bool:
    return any(needle in content for needle in NEEDLES)


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what they are when unpacked or read as what they are."""
    raw = path.read_bytes()
    yield raw
    yield from unpacked(raw)
    if raw.startswith(b"PAR1"):
        table = pq.read_table(path)
        yield str(table.schema.metadata).encode()
        yield from (str(column.to_pylist()).encode() for column in table.columns)
    if raw.startswith(b"SQLite format 3"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            yield "\n".join(database.iterdump()).encode()


def unpacked(raw: bytes) -> Iterator[bytes]:
    if raw.startswith(b"\x1f\x8b"):
        yield from nested(gzip.decompress(raw))
    elif raw.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from nested(archive.read(name))
    elif raw[:2] in (b"x\x01", b"x\x9c", b"x\xda"):  # git's objects
        yield zlib.decompressobj().decompress(raw)


def nested(raw: bytes) -> Iterator[bytes]:
    yield raw
    yield from unpacked(raw)


def leaks(*directories: Path, planted: set[Path]) -> list[str]:
    """The files that hold the token, by name or content, other than those where it was planted."""
    return [
        str(path)
        for directory in directories
        for path in directory.rglob("*")
        if holds(str(path).encode()) or (path.is_file() and path not in planted and any(holds(content) for content in contents(path)))
    ]


class Planted:
    """A small project with the token wherever a user may put one."""

    def __init__(self, directory: Path) -> None:
        self.root, self.home, self.scratch = directory / "project", directory / "home", directory / "tmp"
        self.said = ""
        for made in (self.root, self.home, self.scratch):
            made.mkdir(parents=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "DVC_", "ACCLIMATE_"))},
            **ENVIRONMENT,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.home),
            "TMPDIR": str(self.scratch),
            "DVC_SITE_CACHE_DIR": str(directory / "tmp" / "dvc"),
            "DVC_NO_ANALYTICS": "true",
            "DO_NOT_TRACK": "1",
        }
        self.copy_project()
        self.planted = set(self.plant())

    def copy_project(self) -> None:
        names = subprocess.run(["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
        for name in names.stdout.decode().split("\0"):
            if name and not name.startswith(("tests/", "docs/", "benchmarks/")) and name != "dvc.lock" and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, self.root / name)
        for path in (self.root / "data").rglob("*.parquet"):
            table = pq.read_table(path)
            every = max(1, table.num_rows // 800)
            pq.write_table(table.take(list(range(0, table.num_rows, every))), path)

    def plant(self) -> Iterator[Path]:
        self.run("git", "init", "-q")
        self.run("git", "add", ".")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "start")
        apply_profile(self.root / "params.yaml", "tiny")
        self.run("git", "remote", "add", "origin", f"https://x-access-token:{IN_URL}@{CLOSED}/team/project.git", public=False)
        self.run("git", "config", "http.extraHeader", f"Authorization: Bearer {TOKEN}", public=False)
        yield self.root / ".git" / "config"
        url = f"u:{IN_URL}@{CLOSED}"
        for name, text in {
            "../project/.dvc/config.local": f"[core]\n    remote = store\n['remote \"store\"']\n    url = http://{url}/store\n"
            f"    password = {TOKEN}\n['db \"shop\"']\n    url = postgresql://{url}/d\n",
            ".netrc": f"machine 127.0.0.1 login u password {TOKEN}\n",
            ".git-credentials": f"https://u:{IN_URL}@{CLOSED}\n",
            ".pgpass": f"*:*:*:*:{TOKEN}\n",
            ".mlflow/credentials": f"[mlflow]\nmlflow_tracking_username = u\nmlflow_tracking_password = {TOKEN}\n",
            ".aws/credentials": f"[default]\naws_access_key_id = a\naws_secret_access_key = {TOKEN}\n",
            ".cache/huggingface/token": TOKEN,
        }.items():
            path = (self.home / name).resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
            yield path

    def run(self, *command: str, public: bool = True, fails: bool = False, **environment: str) -> str:
        """Run a command; what it says is searched too, unless it was told the token itself."""
        done = subprocess.run(
            command, cwd=self.root, env={**self.environment, **environment}, capture_output=True, text=True, timeout=1800, check=False
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{command}\n{said[-4000:]}"
        self.said += said if public else ""
        return said

    def leaks(self, *planted: Path) -> list[str]:
        found = leaks(self.root, self.home, self.scratch, planted={*self.planted, *planted})
        return found + [line for line in self.said.splitlines() if holds(line.encode())]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"))


def test_the_search_finds_the_token_in_whatever_it_is_packed(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text(f"a{IN_URL}b")
    (tmp_path / "base64").write_bytes(base64.b64encode(f"user:{TOKEN}".encode()))
    (tmp_path / "gzip").write_bytes(gzip.compress(TOKEN.encode()))
    (tmp_path / "git").write_bytes(zlib.compress(b"blob 9\0" + TOKEN.encode()))
    with zipfile.ZipFile(tmp_path / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.gz", gzip.compress(TOKEN.encode()))
    pq.write_table(pa.table({"a": ["x" * 100, TOKEN]}), tmp_path / "parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "sqlite") as database:
        database.execute("CREATE TABLE t (a TEXT)")
        database.execute("INSERT INTO t VALUES (?)", ("x" * 4000 + TOKEN + "x" * 5000,))
    (tmp_path / IN_URL).mkdir()
    (tmp_path / "innocent").write_text("planted")
    found = {Path(name).name for name in leaks(tmp_path, planted=set())}
    assert found == {"raw", "base64", "gzip", "git", "zip", "parquet", "sqlite", IN_URL}


def test_a_run_leaves_the_token_nowhere(project: Planted) -> None:
    project.run("dvc", "repro", *TARGETS)
    assert (project.root / ("artifacts/register/section/registration.json" if WHOLE else "artifacts/encoders/base/source.json")).is_file()
    assert (project.root / "mlflow.db").stat().st_size > 0
    assert project.leaks() == []


def test_a_logged_model_names_neither_the_user_of_the_server_nor_the_git_remote(project: Planted) -> None:
    """What `register` does with MLflow, without the stages before it; the whole run covers it too."""
    script = project.root / "log_model.py"
    script.write_text(
        "import mlflow\n"
        "from acclimate.adapters.tracking import connect\n"
        "client = connect('sqlite:///mlflow.db')\n"
        "with mlflow.start_run():\n"
        "    tags = mlflow.initialize_logged_model(name='m').tags\n"
        "print(sorted(tags))\n",
        encoding="utf-8",
    )
    said = project.run(sys.executable, str(script))
    assert "mlflow.user" in said
    assert "mlflow.source.git.repoURL" in said
    assert project.leaks() == []


def test_a_tracking_server_that_is_away_leaves_its_password_nowhere(project: Planted) -> None:
    uri = f"http://user:{IN_URL}@{CLOSED}/?token={IN_URL}"
    project.run("dvc", "repro", "--single-item", "--force", "backbone", MLFLOW_TRACKING_URI=uri)
    assert project.leaks() == []


def test_a_run_with_a_token_in_its_params_is_refused_and_leaves_it_nowhere(project: Planted) -> None:
    path = project.root / "params.yaml"
    before = path.read_text(encoding="utf-8")
    params = read_yaml(path)
    params["model"]["name"] = f"https://u:{IN_URL}@{CLOSED}/model"
    params["tracking"]["uri"] = f"http://{IN_URL}@{CLOSED}"
    params["ingest"]["corpus"][0]["data"] = f"https://{CLOSED}/x.csv?sig={IN_URL}"
    params["ingest"]["corpus"][0]["storage_options"] = {"client_kwargs": {"secret": TOKEN}}
    try:
        write(path, params)
        said = project.run("dvc", "repro", "backbone", fails=True)
        for place in ("model.name", "tracking.uri", "ingest.corpus.0.data", "ingest.corpus.0.storage_options.client_kwargs.secret"):
            assert f"{place}: " in said
        assert project.leaks(path) == []
    finally:
        path.write_text(before, encoding="utf-8")


def write(path: Path, params: dict[str, Any]) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 4096
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def string_places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from string_places(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from string_places(entry, (*path, index))
    else:
        yield path


@pytest.mark.parametrize("form", [f"https://{IN_URL}@h", f"s3://a:{IN_URL}@b/c", f"https://h/a?sig={IN_URL}", f"ghp_{'aB3' * 12}"])
def test_no_setting_takes_a_secret(form: str, tmp_path: Path) -> None:
    """Every value of params.yaml in turn, whatever its type; the message names the place and not the secret."""
    params = read_yaml(ROOT / "params.yaml")
    places = list(string_places(params))
    assert len(places) > 150
    for place in places:
        section: dict[object, object] = params
        for part in place[:-1]:
            section = section[part]  # type: ignore[assignment]
        before, section[place[-1]] = section[place[-1]], form
        (found,) = find_secrets(params)
        assert found.path == ".".join(map(str, place))
        section[place[-1]] = before
    path = tmp_path / "params.yaml"
    for place in places[::40]:
        params = read_yaml(ROOT / "params.yaml")
        section = params
        for part in place[:-1]:
            section = section[part]  # type: ignore[assignment]
        section[place[-1]] = form
        write(path, params)
        with pytest.raises(ConfigError) as error:
            load_config(path)
        assert ".".join(map(str, place)) + ": holds what looks like" in str(error.value)
        assert not holds(str(error.value).encode())
        assert form not in str(error.value)
