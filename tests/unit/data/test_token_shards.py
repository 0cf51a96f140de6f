"""The same bytes on one worker or three, after a kill, with either back-end, and in bounded pieces."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.data.tokens import token_shards
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.data.tokens.fast_tokenizer import BackendFailedError, DocumentEncoder, TokenBatch, make_encoder
from acclimate.data.tokens.packing import INDEX, read_packed
from acclimate.data.tokens.token_shards import plan_shards, read_shard, tokenize_splits, unknown_id
from acclimate.errors import DataError

SNAPSHOT = Path(__file__).parents[3] / "data" / "debian"
ROW_GROUPS = 14
EVERY_ROW_GROUP = 1
"""Bytes of a shard, so that each row group is one."""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    found: list[str] = pq.read_table(SNAPSHOT / "heldout.parquet")["text"].to_pylist()
    return found


@pytest.fixture
def parquet(tmp_path: Path, texts: list[str]) -> Path:
    """Row groups of some 25 kB each."""
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"id": [str(n) for n in range(len(texts))], "text": texts}), path, row_group_size=-(-len(texts) // ROW_GROUPS))
    return path


def digest(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.glob("*.npy"))}


def shard_files(scratch: Path) -> list[Path]:
    return sorted(scratch.rglob("*.npy"))


def test_the_files_hold_what_the_tokenizer_gives(tmp_path: Path, minilm_dir: Path, parquet: Path, texts: list[str]) -> None:
    out = tmp_path / "out"
    done = tokenize_splits({"corpus": parquet}, out, encoder=minilm_dir, scratch=tmp_path / "scratch")
    expected = make_encoder(load_tokenizer(minilm_dir), "reference").encode(texts)
    ids, offsets, bits = (np.load(out / f"corpus.{name}.npy", mmap_mode="r") for name in ("ids", "document_offsets", "word_starts"))
    assert ids.dtype == np.uint16
    assert np.array_equal(ids, expected.ids)
    assert np.array_equal(offsets, expected.offsets)
    assert np.array_equal(np.unpackbits(bits, count=len(ids)).astype(bool), expected.word_starts)
    split = done.splits["corpus"]
    assert (split.documents, split.tokens, split.words) == (len(texts), len(ids), int(expected.word_starts.sum()))
    assert np.array_equal(split.unigram, np.bincount(expected.ids, minlength=30522))
    (out / INDEX).write_text(json.dumps({"sequence_length": 64}), encoding="utf-8")
    packed = read_packed(out, "corpus")
    assert np.array_equal(packed.ids, expected.ids[: packed.ids.size].reshape(-1, 64))
    document = np.repeat(np.arange(len(texts)), np.diff(expected.offsets))[: packed.ids.size].reshape(-1, 64)
    assert np.array_equal(packed.segments[:], document - document[:, :1] + 1)


def test_bytes_are_the_same_for_any_number_of_workers_and_either_back_end(tmp_path: Path, minilm_dir: Path, parquet: Path) -> None:
    found = {}
    for backend, workers in (("reference", 1), ("auto", 1), ("auto", 3)):
        name = f"{backend}-{workers}"
        done = tokenize_splits(
            {"corpus": parquet},
            tmp_path / name,
            encoder=minilm_dir,
            backend=backend,
            scratch=tmp_path / f"{name}-scratch",
            workers=workers,
            shard_bytes=EVERY_ROW_GROUP,
        )
        assert done.shards == ROW_GROUPS
        found[name] = digest(tmp_path / name)
    assert len(found["auto-1"]) == 3
    assert found["reference-1"] == found["auto-1"] == found["auto-3"]
    tokenize_splits({"corpus": parquet}, tmp_path / "one", encoder=minilm_dir, scratch=tmp_path / "one-scratch")
    assert digest(tmp_path / "one") == found["auto-1"]


SLOW_RUN = """
import sys, time
from pathlib import Path
from acclimate.data.tokens import token_shards
written = token_shards.read_shard

def read_slowly(path):  # leaves the test time to kill
    found = written(path)
    time.sleep(0.15 if found else 0)
    return found

token_shards.read_shard = read_slowly
if __name__ == "__main__":
    parquet, out, encoder, scratch = map(Path, sys.argv[1:5])
    token_shards.tokenize_splits({"corpus": parquet}, out, encoder=encoder, scratch=scratch, workers=int(sys.argv[5]), shard_bytes=1)
"""


def start(arguments: list[str], tmp_path: Path) -> subprocess.Popen[bytes]:
    script = tmp_path / "slow_run.py"
    script.write_text(SLOW_RUN, encoding="utf-8")
    return subprocess.Popen([sys.executable, str(script), *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def wait_for_shards(scratch: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while len(shard_files(scratch)) < count:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_from_its_finished_shards(tmp_path: Path, minilm_dir: Path, parquet: Path, workers: int) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    process = start([str(parquet), str(out), str(minilm_dir), str(scratch), str(workers)], tmp_path)
    wait_for_shards(scratch, 3, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(children, timeout=10)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE], (
        "a worker outlived its parent"
    )
    finished = {path: path.stat().st_mtime_ns for path in shard_files(scratch)}
    assert len(finished) >= 3
    done = tokenize_splits({"corpus": parquet}, out, encoder=minilm_dir, scratch=scratch, shard_bytes=EVERY_ROW_GROUP)
    assert (done.shards, done.shards_kept) == (ROW_GROUPS, len(finished))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    tokenize_splits({"corpus": parquet}, tmp_path / "whole", encoder=minilm_dir, scratch=tmp_path / "other")
    assert digest(out) == digest(tmp_path / "whole")


def test_sigterm_keeps_the_finished_shards_and_says_so(tmp_path: Path, minilm_dir: Path, parquet: Path) -> None:
    scratch = tmp_path / "scratch"
    process = start([str(parquet), str(tmp_path / "out"), str(minilm_dir), str(scratch), "1"], tmp_path)
    wait_for_shards(scratch, 2, process)
    process.terminate()
    assert b"StoppedError" in process.communicate()[1]  # the stage's command says it in one line and leaves with 75
    assert 2 <= len(shard_files(scratch)) < ROW_GROUPS


KILLED_WORKER = """
import os, sys
from pathlib import Path
from acclimate.data.tokens import token_shards

if __name__ == "__main__":
    parquet, out, encoder, scratch = map(Path, sys.argv[1:5])
    token_shards.tokenize_splits({"corpus": parquet}, out, encoder=encoder, scratch=scratch, workers=3, shard_bytes=1)
else:
    encode = token_shards.tokenize_shard

    def die(shard, *arguments):  # as the kernel does to a process for want of memory
        os.kill(os.getpid(), 9) if shard.row_groups == (5,) else encode(shard, *arguments)

    token_shards.tokenize_shard = die
"""


def test_the_death_of_a_worker_is_said_in_one_line(tmp_path: Path, minilm_dir: Path, parquet: Path) -> None:
    script = tmp_path / "killed_worker.py"
    script.write_text(KILLED_WORKER, encoding="utf-8")
    command = [sys.executable, str(script), str(parquet), str(tmp_path / "out"), str(minilm_dir), str(tmp_path / "scratch")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stderr.splitlines()[-1].startswith("acclimate.errors.EnvironmentUnfitError: a tokenizing worker died")


def test_a_shard_cut_short_is_done_again(tmp_path: Path, minilm_dir: Path, parquet: Path) -> None:
    scratch = tmp_path / "scratch"
    tokenize_splits({"corpus": parquet}, tmp_path / "first", encoder=minilm_dir, scratch=scratch, shard_bytes=EVERY_ROW_GROUP)
    damaged = shard_files(scratch)[4]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert read_shard(damaged) is None
    tokenize_splits({"corpus": parquet}, tmp_path / "second", encoder=minilm_dir, scratch=scratch, shard_bytes=EVERY_ROW_GROUP)
    assert digest(tmp_path / "first") == digest(tmp_path / "second")


class FailsOnTheThirdBatch:
    """The fast encoder, until it meets a document that it gets wrong."""

    name = "fast 0"

    def __init__(self, inner: DocumentEncoder) -> None:
        self._inner = inner
        self._batches = 0

    def encode(self, texts: list[str]) -> TokenBatch:
        self._batches += 1
        if self._batches == 3:
            raise BackendFailedError("fast 0 gave other ids")
        return self._inner.encode(texts)


def test_one_difference_sends_the_whole_run_to_the_reference_and_is_remembered(
    tmp_path: Path, minilm_dir: Path, parquet: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[str] = []

    def make(tokenizer: object, backend: str, *, parallel: bool = False) -> DocumentEncoder:
        made.append(backend)
        reference = make_encoder(tokenizer, "reference")  # type: ignore[arg-type]
        return reference if backend == "reference" else FailsOnTheThirdBatch(reference)

    monkeypatch.setattr(token_shards, "make_encoder", make)
    scratch = tmp_path / "scratch"
    done = tokenize_splits(
        {"corpus": parquet}, tmp_path / "out", encoder=minilm_dir, backend="auto", scratch=scratch, shard_bytes=EVERY_ROW_GROUP
    )
    assert done.backend.startswith("tokenizers ")
    assert done.fell_back == "fast 0 gave other ids"
    assert done.shards_kept == 0, "what the fast back-end made is not used"
    assert [record.levelname for record in caplog.records if "reference tokenizer" in record.message] == ["WARNING"]
    made.clear()
    again = tokenize_splits(
        {"corpus": parquet}, tmp_path / "again", encoder=minilm_dir, backend="auto", scratch=scratch, shard_bytes=EVERY_ROW_GROUP
    )
    assert made == ["reference"]
    assert again.shards_kept == ROW_GROUPS
    assert digest(tmp_path / "out") == digest(tmp_path / "again")


def test_without_the_package_the_reference_does_the_work(
    tmp_path: Path, minilm_dir: Path, parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nanotoken", None)
    done = tokenize_splits({"corpus": parquet}, tmp_path / "out", encoder=minilm_dir, scratch=tmp_path / "scratch")
    assert done.backend.startswith("tokenizers ")
    assert done.fell_back is not None and "nanotoken cannot be imported" in done.fell_back


def test_documents_below_the_minimum_are_left_out_and_counted(tmp_path: Path, minilm_dir: Path) -> None:
    path = tmp_path / "short.parquet"
    pq.write_table(pa.table({"text": ["one", "one two three", ""]}), path)
    split = tokenize_splits(
        {"corpus": path}, tmp_path / "out", encoder=minilm_dir, min_document_tokens=4, scratch=tmp_path / "scratch"
    ).splits["corpus"]
    assert (split.documents, split.documents_too_short, split.tokens) == (1, 2, 5)
    assert np.load(tmp_path / "out" / "corpus.document_offsets.npy").tolist() == [0, 5]


def test_an_empty_split_gives_empty_arrays_that_can_be_mapped(tmp_path: Path, minilm_dir: Path) -> None:
    path = tmp_path / "general.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    out = tmp_path / "out"
    tokenize_splits({"general": path}, out, encoder=minilm_dir, scratch=tmp_path / "scratch")
    (out / INDEX).write_text('{"sequence_length": 64}', encoding="utf-8")
    packed = read_packed(out, "general")
    assert packed.ids.shape == (0, 64)
    assert packed.segments[:].shape == (0, 64)


def test_small_row_groups_are_gathered_and_large_ones_stand_alone(parquet: Path, tmp_path: Path) -> None:
    groups = [shard.row_groups for shard in plan_shards(parquet, tmp_path, shard_bytes=60_000)]
    assert [number for group in groups for number in group] == list(range(ROW_GROUPS))
    assert 1 < len(groups) < ROW_GROUPS
    assert [shard.row_groups for shard in plan_shards(parquet, tmp_path, shard_bytes=1)] == [(n,) for n in range(ROW_GROUPS)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not Parquet", r"bad.parquet: no Parquet file can be read"),
        (pa.table({"words": ["a"]}), r"bad.parquet: no column `text`; it holds words"),
        (pa.table({"text": ["a", None]}), r"bad.parquet: row groups .*: 1 rows without text"),
    ],
)
def test_what_cannot_be_tokenized_is_said_in_one_line(tmp_path: Path, minilm_dir: Path, content: bytes | pa.Table, message: str) -> None:
    path = tmp_path / "bad.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    with pytest.raises(DataError, match=message) as caught:
        tokenize_splits({"corpus": path}, tmp_path / "out", encoder=minilm_dir, scratch=tmp_path / "scratch")
    assert "\n" not in str(caught.value)


def test_the_unknown_token_is_found_by_the_models_own_name(minilm_dir: Path) -> None:
    assert unknown_id(load_tokenizer(minilm_dir)) == 100
