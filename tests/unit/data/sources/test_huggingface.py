"""Hugging Face data sets written to disk; those of the hub are pinned, and their absence is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from acclimate.data.reading.sources import huggingface
from acclimate.errors import DataError
from tests.unit.data.sources.batches import read

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from datasets import Dataset, DatasetDict

    root = tmp_path_factory.mktemp("data")
    rows = Dataset.from_dict(
        {"sentence": [f"sentence {i}" for i in range(2500)], "idx": list(range(2500)), "label": [i % 2 for i in range(2500)]}
    )
    DatasetDict({"train": rows, "test": rows.select([3, 1, 2])}).save_to_disk(str(root / "splits"), num_shards={"train": 3, "test": 1})
    rows.save_to_disk(str(root / "plain"))
    return root


def test_a_directory_is_read_in_parts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "_PART_ROWS", 900)
    config = huggingface.Config(source="directory", name="splits", text="sentence", id="idx")
    parts = huggingface.parts(config, data, where="w")
    assert [part.key for part in parts] == ["splits/train[0:900]", "splits/train[900:1800]", "splits/train[1800:2500]"]
    batches = read(huggingface, config, data)
    assert [text for batch in batches for text in batch.texts] == [f"sentence {i}" for i in range(2500)]
    assert [number for batch in batches for number in batch.numbers] == list(range(1, 2501))
    assert batches[-1].ids == list(range(1800, 2500))[-len(batches[-1]) :]


def test_rows_chosen_before_saving_are_read_in_that_order(data: Path) -> None:
    config = huggingface.Config(source="directory", name="splits", split="test", text="sentence")
    assert [text for batch in read(huggingface, config, data) for text in batch.texts] == [
        "sentence 3",
        "sentence 1",
        "sentence 2",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "splits", "split": "dev"}, "no split 'dev'; present: train, test"),
        ({"name": "plain", "split": "dev"}, "holds one data set without splits"),
        ({"name": "plain"}, "no column 'text'; present: sentence, idx, label"),
        ({"name": "nothing"}, "no data set that save_to_disk wrote"),
        ({"name": "../plain"}, "leaves the data directory"),
    ],
)
def test_a_fault_is_one_line(data: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(huggingface, huggingface.Config.model_validate({"source": "directory", **options}), data)
    assert str(caught.value).isprintable()


def test_a_shard_cut_short_is_one_line(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": [f"sentence {i}" for i in range(2500)]}).save_to_disk(str(tmp_path / "cut"))
    shard = next((tmp_path / "cut").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:20_000])
    with pytest.raises(DataError) as caught:
        read(huggingface, huggingface.Config(source="directory", name="cut"), tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "nyu-mll/glue"}, "needs `revision`: the full 40-digit commit"),
        ({"name": "nyu-mll/glue", "revision": "main"}, "should match pattern"),
        ({"name": "nyu-mll/glue", "revision": COMMIT, "split": None}, "needs `split`"),
        ({"name": "mine", "source": "directory", "revision": COMMIT}, "belong to source `hub`"),
        ({"name": "nyu-mll/glue", "revision": COMMIT, "trust_remote_code": True}, "Extra inputs are not permitted"),
    ],
)
def test_the_hub_is_read_at_a_full_commit_only(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        huggingface.Config.model_validate(options)


def test_a_hub_that_may_not_be_asked_is_one_line(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from acclimate.data.reading.sources import huggingface as h; from acclimate.errors import DataError\n"
        f"try: h.parts(h.Config(name='nyu-mll/glue', subset='rte', revision='{COMMIT}'), Path('.'), where='w')\n"
        "except DataError as error: print(error)"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert told == f"w: nyu-mll/glue at {COMMIT}: cannot be had while HF_HUB_OFFLINE is set; unset it, or give a directory\n"


def test_the_shards_of_a_stream_are_read_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub cannot be had in a test: the same kind of stream over local shards stands in for what it gives."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import load_dataset

    for shard in range(3):
        pq.write_table(pa.table({"text": [f"{shard} {i}" for i in range(1500)], "n": list(range(1500))}), tmp_path / f"{shard}.parquet")
    paths = [str(tmp_path / f"{shard}.parquet") for shard in range(3)]
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))

    def from_disk(config: huggingface.Config, where: str) -> object:
        return load_dataset("parquet", data_files=paths, split=config.split, streaming=True)

    monkeypatch.setattr(huggingface, "_from_hub", from_disk)
    config = huggingface.Config(name="some/corpus", revision=COMMIT)
    parts = huggingface.parts(config, tmp_path, where="w")
    assert [part.key for part in parts] == [f"some/corpus/train@{COMMIT}[{i}]" for i in range(3)]
    batches = read(huggingface, config, tmp_path)
    assert [text for batch in batches for text in batch.texts] == [f"{shard} {i}" for shard in range(3) for i in range(1500)]
    assert [batch.numbers[0] for batch in batches] == [1, 1001] * 3
    missing = huggingface.Config(name="some/corpus", revision=COMMIT, text="body")
    with pytest.raises(DataError, match="no column 'body'; present: text, n"):
        read(huggingface, missing, tmp_path)
