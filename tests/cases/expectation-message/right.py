"""Validate, which follows, says how many rows the split has, how many are wanted, and by which key."""

import contextlib
import tempfile
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from acclimate.data.options import ValidateConfig
from acclimate.errors import DataError
from acclimate.sinks import MemorySink
from stages import validate
from stages.command import StageContext


def check(out: Path, said: str) -> None:
    """Run validate on what ingest wrote, by a tokenizer of words."""
    place = Path(tempfile.mkdtemp())
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(place / "tokenizer.json"))
    for name in ("out", "docs"):
        (place / name).mkdir()
    with warnings.catch_warnings():  # of Great Expectations, at its first import
        warnings.simplefilter("ignore")
        import great_expectations  # noqa: F401
    context = StageContext(stage="validate", sink=MemorySink(), checkpoint_directory=place, run_id=lambda: None)
    params = validate.Params(seed=0, validate_=ValidateConfig(min_rows_per_split=8))
    with contextlib.chdir(place), pytest.raises(DataError) as caught:
        validate.run(params, ingest=out, tokenizer=place / "tokenizer.json", out=place / "out", docs=place / "docs", context=context)
    rows = {split: pq.read_metadata(out / f"tables/triage/{split}.parquet").num_rows for split in ("train", "dev", "test")}
    assert min(rows.values()) < 8
    for split, count in rows.items():
        wanted = f"tables.triage.rows_{split}: found {count}; allowed: at least 8, set by validate.min_rows_per_split"
        assert (wanted in str(caught.value)) == (count < 8)
