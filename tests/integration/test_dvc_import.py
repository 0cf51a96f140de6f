"""DVC's own ways to pin what lies elsewhere: import-url and import, pushed to a local remote, pulled elsewhere, read as a source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acclimate.data.sources import files

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
    return [text for batch in files.read(config, data, where="w") for text in batch.texts]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
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
