"""Every way to write a secret into params.yaml is refused by its path, without the value; what only looks like one passes."""

from __future__ import annotations

import copy
import importlib
import io
import logging
import os
import pkgutil
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

import acclimate
from acclimate.config import load_config
from acclimate.errors import ConfigError
from acclimate.launch import say_last
from acclimate.params_file import find_secrets, read_yaml
from acclimate.profiles import apply_profile
from acclimate.redaction import HIDDEN, find_secret, names_secret, redact
from acclimate.runtime import RedactingFormatter
from acclimate.settings import Options
from acclimate.sinks import MemorySink
from stages import ingest
from stages.command import StageContext, select_params

ROOT = Path(__file__).parents[2]
VALUE = "Zq7Xw2Lm9Rt4Vb6Nk1Pc8Hd3"
"""What is planted; nothing that is printed may hold it."""
GITHUB = f"ghp_{VALUE}abcdefghijkl"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{VALUE}"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{VALUE}\n-----END RSA PRIVATE KEY-----\n"
SOURCE = "ingest.corpus.0"
WAYS: dict[str, tuple[str, Any]] = {
    # The 18 of the attack.
    "a signed URL of Azure": (SOURCE, {"kind": "remote", "url": f"https://a.blob.core.windows.net/c/x.csv?sv=2022-11-02&sig={VALUE}"}),
    "a signed URL of S3": (SOURCE, {"kind": "remote", "url": f"https://b.s3.amazonaws.com/x.csv?X-Amz-Signature={VALUE}&X-Amz-Expires=60"}),
    "a signed URL of Google": (SOURCE, {"kind": "remote", "url": f"https://storage.googleapis.com/b/x.csv?Expires=1&Signature={VALUE}"}),
    "token= in a query": (SOURCE, {"kind": "remote", "url": f"https://example.org/x.csv?token={VALUE}"}),
    "access_token= in a query": (SOURCE, {"kind": "remote", "url": f"https://example.org/x.csv?a=1&access_token={VALUE}"}),
    "key= in a query": (SOURCE, {"kind": "remote", "url": f"https://example.org/x.csv?key={VALUE}"}),
    "user and password in a URL": (SOURCE, {"kind": "remote", "url": f"https://anna:{VALUE}@example.org/x.csv"}),
    "a token as user name": (SOURCE, {"kind": "remote", "url": f"https://{GITHUB}@example.org/x.csv"}),
    "a chained URL": (SOURCE, {"kind": "remote", "url": f"simplecache::https://anna:{VALUE}@example.org/x.csv"}),
    "a chained URL of S3": (SOURCE, {"kind": "remote", "url": f"filecache::s3://AKIAIOSFODNN7ABCDEFG:{VALUE}@bucket/x.csv"}),
    "an option": (SOURCE, {"kind": "remote", "url": "s3://b/x.csv", "options": {"secret": VALUE}}),
    "a nested option": (
        SOURCE,
        {"kind": "remote", "url": "s3://b/x.csv", "options": {"client_kwargs": {"aws_secret_access_key": VALUE}}},
    ),
    "a nested option in a list": (SOURCE, {"kind": "remote", "url": "s3://b/x.csv", "options": {"storage": [{"key": VALUE}]}}),
    "a password of PostgreSQL": (SOURCE, {"kind": "sql", "query": "select 1 order by 1", "url": f"postgresql://u:{VALUE}@h/d"}),
    "a libpq string": (SOURCE, {"kind": "sql", "query": "select 1 order by 1", "url": f"host=h dbname=d password={VALUE}"}),
    "tracking.uri with a password": ("tracking.uri", f"https://anna:{VALUE}@mlflow.example.org"),
    "tracking.uri with a token": ("tracking.uri", f"https://{VALUE}@mlflow.example.org"),
    "tracking.uri of PostgreSQL": ("tracking.uri", f"postgresql://mlflow:{VALUE}@db/mlflow"),
    # More of the kind.
    "a signed URL as a file": (f"{SOURCE}.data", f"https://example.org/x.csv?sig={VALUE}"),
    "a percent-encoded URL": (f"{SOURCE}.data", f"https%3A%2F%2Fanna%3A{VALUE}%40example.org%2Fx.csv"),
    "a name of a parameter percent-encoded": (f"{SOURCE}.data", f"https://example.org/x.csv?%73ig={VALUE}"),
    "a token in the fragment": (f"{SOURCE}.data", f"https://example.org/#access_token={VALUE}"),
    "a password with a slash": ("tracking.uri", f"https://anna:{VALUE}/x@mlflow.example.org"),
    "a password with an at": ("tracking.uri", f"https://anna:p@{VALUE}@mlflow.example.org"),
    "a URL without a scheme": ("tracking.uri", f"//anna:{VALUE}@mlflow.example.org"),
    "a login without slashes": ("tracking.uri", f"anna:{VALUE}@mlflow.example.org:5000"),
    "a token of GitHub": ("report.title", GITHUB),
    "a fine-grained token of GitHub": ("report.title", f"github_pat_{VALUE}{VALUE}{VALUE}"),
    "a token of Hugging Face": ("model.name", f"hf_{VALUE}abcdefghij"),
    "a cut token of Hugging Face": ("model.name", f"hf_{VALUE}"),
    "a token of GitLab": ("report.title", f"glpat-{VALUE}"),
    "a token of Slack": ("report.title", f"xoxb-1234567890-{VALUE}"),
    "a key of OpenAI": ("report.title", f"sk-proj-{VALUE}"),
    "a key of AWS": ("report.title", "AKIA" + VALUE.upper()[:16]),
    "a JWT": ("report.title", JWT),
    "a private key": ("report.title", PEM),
    "a header": ("report.title", f"Authorization: Bearer {VALUE}"),
    "a key that is a token": ("tasks." + GITHUB, {"kind": "classification", "data": "x.csv"}),
    "an unknown section": ("credentials", {"password": VALUE}),
    "a password that is a number": ("tracking", {"password": 8_403_927_515}),
    "a password where a section belongs": ("tasks.password", VALUE),
    "a list of passwords": ("tracking", {"passwords": [VALUE]}),
    "an option of an objective": ("pretrain.objectives", {"mlm": {"api_key": VALUE}}),
    "a secret among labels": ("tasks.section.label_map", {"games": GITHUB}),
    "a secret as a label": ("tasks.section.label_map", {GITHUB: "games"}),
    "JSON in a string": ("report.title", f'{{"password": "{VALUE}"}}'),
    "a connection string of Azure": ("report.title", f"AccountName=a;AccountKey={VALUE};EndpointSuffix=x"),
}
HARMLESS: dict[str, tuple[str, Any]] = {
    "columns with such names": (
        "tasks.section",
        {"kind": "classification", "data": "x.csv", "text": "token", "label": "secret", "id": "key"},
    ),
    "a column called password": ("tasks.section.group", "password"),
    "labels with such names": ("tasks.section.label_map", {"token": "key", "password": "secret", "api_key": "credential", "a": "token"}),
    "kept columns": (f"{SOURCE}.columns", {"token": "token", "password": "pwd", "secret": "api_key"}),
    "a name with sk": (f"{SOURCE}.data", "mine/sk-slovak-newspapers-2019-corpus.parquet"),
    "a name with at": (f"{SOURCE}.data", "mine/users@2024/part-*.parquet"),
    "an id with a version": (f"{SOURCE}.data", "mine/v2.1:final/hf_exports_2024.parquet"),
    "a glob": (f"{SOURCE}.data", "mine/[a-z]?/key=*/token=3/*.parquet"),
    "a sqlite store": ("tracking.uri", "sqlite:////srv/mlflow/my%20store/mlflow.db"),
    "a server": ("tracking.uri", "http://127.0.0.1:5000"),
    "a server below a path": ("tracking.uri", "https://mlflow.example.org:8443/a@b/?workspace=team"),
    "a user of PostgreSQL": ("tracking.uri", "postgresql://mlflow@db.example.org/mlflow?sslmode=require"),
    "databricks": ("tracking.uri", "databricks://profile"),
    "a title": ("report.title", "Tokens, keys and passwords: the basic secret of authentication (2024)"),
    "a title with an address": ("report.title", "Support of mail@example.org, mailto:me@example.org"),
    "an image": ("report.title", "python:3.11@sha256:6f0a"),
    "a commit": ("model", {"source": "hub", "name": "org/token-classifier", "revision": "0123456789abcdef0123456789abcdef01234567"}),
    "a task with such a name": ("tasks.token", {"kind": "classification", "data": "x.csv"}),
}


def params_with(dotted: str, value: Any) -> dict[str, Any]:
    params = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    *sections, name = dotted.split(".")
    section: Any = params
    for each in sections:
        section = section[int(each)] if isinstance(section, list) else section.setdefault(each, {})
    if isinstance(section, list):
        section[int(name)] = value
    else:
        section[name] = value
    return params


def written(path: Path, params: dict[str, Any]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    return path


def refusal(path: Path) -> str:
    """What load_config says; empty where it accepts."""
    try:
        load_config(path)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_refused_by_its_path_and_not_shown(way: str, tmp_path: Path) -> None:
    dotted, value = WAYS[way]
    said = refusal(written(tmp_path / "params.yaml", params_with(dotted, value)))
    assert "no secrets in params.yaml" in said, f"accepted, or refused for another reason: {said}"
    place = redact(dotted) if GITHUB in dotted else dotted
    assert any(line.strip().startswith(place) for line in said.splitlines()), said
    for shown in (VALUE, VALUE.upper()[:16], "8403927515", "AKIAIOSFODNN7ABCDEFG"):
        assert shown not in said


@pytest.mark.parametrize("case", HARMLESS)
def test_what_only_looks_like_a_secret_passes(case: str, tmp_path: Path) -> None:
    said = refusal(written(tmp_path / "params.yaml", params_with(*HARMLESS[case])))
    assert "no secrets" not in said, said


@pytest.mark.parametrize("name", ["params.yaml", "params.tiny.yaml", "params.gpu.yaml"])
def test_the_committed_params_hold_nothing_that_looks_like_a_secret(name: str) -> None:
    assert find_secrets(read_yaml(ROOT / name)) == []


def all_sections() -> list[type[Options]]:
    for module in pkgutil.walk_packages(acclimate.__path__, "acclimate."):
        if not module.name.endswith("__main__") and "adapters" not in module.name:
            importlib.import_module(module.name)
    waiting, found = [Options], []
    while waiting:
        waiting += (section := waiting.pop()).__subclasses__()
        found.append(section)
    return found


def test_no_setting_of_ours_is_called_as_a_secret_is() -> None:
    names = {name for section in all_sections() for name in section.model_fields}
    assert {"max_length", "sequence_length", "label_map"} <= names
    assert [name for name in names if names_secret(name)] == []


def test_every_secret_is_told_at_once_with_the_other_problems(tmp_path: Path) -> None:
    params = params_with("tracking", {"uri": f"https://{VALUE}@h", "password": VALUE, "experimnt": VALUE})
    params["tokenize"]["sequence_length"] = VALUE
    params["report"]["title"] = GITHUB
    said = refusal(written(tmp_path / "params.yaml", params))
    assert said.splitlines()[0].endswith("6 problems")
    for path in ("tracking.uri", "tracking.password", "tracking.experimnt", "tokenize.sequence_length", "report.title"):
        assert f"  {path}: " in said
    assert VALUE not in said


@pytest.mark.parametrize(
    "line",
    [
        "password: {0}\npassword: {0}",
        "password: *{0}",
        "password: !{0} x",
        'password: "{0}',
        "password: '{0}' {0}",
        "  password: {0}: {0}",
        "password: %{0}\n\t- {0}",
        "{0}",
        "password: [{0}",
        "&{0} &{0} x: 1",
        "password: {0}\x07",
        "password: !!int {0}",
        "password: !!bool {0}",
        "password: !!timestamp \"y'{0}'\"",
        "password: 2020-13-45 # {0}",
    ],
)
def test_a_parse_error_names_the_line_and_does_not_quote_it(line: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\n" + line.format(VALUE) + "\n", encoding="utf-8")
    said = refusal(path)
    assert said.startswith(str(path))
    assert VALUE not in said
    assert len(said.splitlines()) <= 2 or "problems" in said


def test_a_profile_with_a_secret_changes_nothing_and_is_not_shown(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "params.mine.yaml").write_text(f"tracking: {{uri: 'https://u:{VALUE}@h'}}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        apply_profile(params, "mine")
    assert "tracking.uri: holds what looks like" in str(error.value)
    assert VALUE not in str(error.value)
    assert params.read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert VALUE.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name != "params.mine.yaml")


def test_another_value_of_a_flow_run_with_a_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    from flows.overrides import write_params

    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    with pytest.raises(ConfigError, match=r"tracking\.uri: holds what looks like") as error:
        write_params(path, {"tracking.uri": f"https://{VALUE}@h"})
    assert VALUE not in str(error.value)


def test_params_that_refer_to_themselves_end(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"seed: &a [*a, {{password: &b {{x: [{VALUE}, *b]}}}}]\n", encoding="utf-8")
    assert VALUE not in refusal(path)


@pytest.mark.parametrize("command", ["check", "plan"])
def test_a_command_shows_no_secret(command: str, tmp_path: Path) -> None:
    written(tmp_path / "params.yaml", params_with("tracking.uri", f"https://anna:{VALUE}@h"))
    done = subprocess.run(
        [sys.executable, "-m", "acclimate", command], cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "tracking.uri" in done.stderr
    assert VALUE not in done.stdout + done.stderr


def test_what_is_refused_is_hidden_in_text() -> None:
    for way, (_, value) in WAYS.items():
        if isinstance(value, str) and find_secret(value):
            assert VALUE not in redact(f"cannot open {value} (404)"), way
            assert VALUE.upper()[:16] not in redact(value), way


def test_a_log_line_and_its_traceback_show_no_secret() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    logger = logging.Logger("library")  # noqa: LOG001  # of its own, so that no other handler hears it
    logger.addHandler(handler)
    try:
        raise OSError(f"GET https://cdn.example.org/x?X-Amz-Signature={VALUE}")
    except OSError:
        logger.exception("retrying %s", f"https://{VALUE}@example.org")
    assert "cdn.example.org" in stream.getvalue()
    assert VALUE not in stream.getvalue()


def test_how_a_stage_ends_is_said_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    say_last(f"backbone: model.name: cannot be had: 403 for https://cdn.example.org/w?X-Amz-Signature={VALUE} with hf_{VALUE}")
    said = capsys.readouterr().err
    assert "cdn.example.org" in said
    assert VALUE not in said


def test_a_file_named_after_a_signed_url_leaves_no_signature_in_ids_and_provenance(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "site").mkdir(parents=True)
    out.mkdir()
    for number in range(40):
        words = " ".join(f"w{number}x{word}" for word in range(12))
        (data / "site" / f"page?token={VALUE}{number}.txt").write_text(f"{words}.\n", encoding="utf-8")
    (data / f"rows?sig={VALUE}.jsonl").write_text('{"text": "one more row of text that is long enough"}\n{"text": ""}\n', encoding="utf-8")
    rows = "text,label\n" + "".join(f"row {n} of the labelled table number {n},{'ab'[n % 2]}\n" for n in range(60))
    (data / f"t?sig={VALUE}.csv").write_text(rows, encoding="utf-8")
    params = params_with("ingest.corpus", [{"kind": "documents", "data": "site"}, {"data": "rows*.jsonl"}])
    params["ingest"] |= {"heldout": [], "general": [], "other": [], "quality": {"preset": "off"}}
    params["tasks"]["section"] = {"kind": "classification", "data": "t*.csv"}
    params |= {"encoders": {}, "probe": {}}
    params["runs"]["encoders"] = ["base"]
    config = load_config(written(tmp_path / "params.yaml", params))
    config = config.model_copy(update={"tasks": {"section": config.tasks["section"]}})
    context = StageContext("ingest", MemorySink(), out / ".state", lambda: None)
    ingest.run(select_params(config, ingest.Params), data=data, out=out, context=context)  # type: ignore[arg-type]
    ids = pq.read_table(out / "corpus.parquet").column("id").to_pylist() + pq.read_table(out / "heldout.parquet").column("id").to_pylist()
    assert f"page?token={HIDDEN}#1" in ids
    assert f"rows?sig={HIDDEN}:1" in ids
    for path in out.rglob("*"):
        if path.suffix == ".parquet":
            assert VALUE not in str(pq.read_table(path).to_pydict()), path
        elif path.is_file():
            assert VALUE.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("function", [redact, find_secret], ids=["redact", "find_secret"])
@pytest.mark.parametrize(
    "piece",
    ["//a:", "a:b@", "://u", "&a=", "eyJaaaaaaaaaa-", "password", "sk-a-", "%41", "-----BEGIN PRIVATE KEY-----", "x.", "bearer ", "a"],
)
def test_time_grows_with_the_text_and_not_with_its_square(function: Any, piece: str) -> None:
    def seconds(count: int) -> float:
        text = piece * count
        taken = []
        for _ in range(3):
            started = time.process_time()
            function(text)
            taken.append(time.process_time() - started)
        return min(taken)

    small, large = seconds(1_000), seconds(8_000)
    assert large < 24 * small + 0.02  # 8 times is linear, 64 the square


def test_what_is_found_in_odd_text_is_hidden_and_hiding_twice_is_hiding_once() -> None:
    seed = int(os.environ.get("ACCLIMATE_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    pieces = [value for _, value in WAYS.values() if isinstance(value, str) and find_secret(value)]
    for _ in range(min(20_000, int(os.environ.get("ACCLIMATE_FUZZ_INPUTS", "1000")))):
        text = draw.choice(pieces)
        cut = "".join(draw.choice(["", " ", "/", "%2F", "\n", ":", "é", "'"]) + piece for piece in re.split(r"(?=[?&=])", text))
        shown = redact(f"{cut} {draw.choice(pieces)}")
        assert redact(shown) == shown
        if find_secret(cut) is not None and VALUE in cut:
            assert VALUE not in shown, (seed, cut)
