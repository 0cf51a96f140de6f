"""Files below data/ as a source: parts that can be read apart, columns by parameter, labels renamed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from acclimate.data.reading import sources
from acclimate.data.reading.sources import Part, files
from acclimate.errors import DataError
from tests.unit.data.sources.batches import read


def test_parts_read_apart_are_the_whole_in_a_stable_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PART_BYTES", 2000)
    pq.write_table(
        pa.table({"body": [f"p{i} " + "x" * i for i in range(90)], "site": ["s"] * 90}), tmp_path / "b.parquet", row_group_size=20
    )
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": f"j{i}", "site": "t"}) + "\n" for i in range(5)))
    config = files.Config(data="*", text="body", group="site")
    parts = files.parts(config, tmp_path, where="w")
    assert parts[0].key == "a.jsonl" and [part.name for part in parts[1:]] == ["b.parquet"] * (len(parts) - 1)
    assert len(parts) > 2 and parts[1].start == 0 and parts[-1].stop == 5
    assert len({part.key for part in parts}) == len(parts)
    apart = [batch for part in reversed(parts) for batch in files.read_part(config, part, tmp_path, where="w")]
    together = read(files, config, tmp_path)
    assert sorted((b.name, n, t) for b in apart for n, t in zip(b.numbers, b.texts, strict=True)) == [
        (b.name, n, t) for b in together for n, t in zip(b.numbers, b.texts, strict=True)
    ]
    assert together[0].groups == ["t"] * 5 and together[0].ids is None
    assert [n for batch in together[1:] for n in batch.numbers] == list(range(1, 91))


def test_a_part_survives_json(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    config = files.Config(data="a.txt")
    (part,) = files.parts(config, tmp_path, where="w")
    sent = json.loads(json.dumps(asdict(part)))
    again = Part(**{**sent, "files": tuple(sent["files"])})
    assert again == part
    assert [batch.texts for batch in files.read_part(config, again, tmp_path, where="w")] == [["one", "two"]]


def test_encoding_and_what_a_document_is_are_parameters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Grüße\nÄrger".encode("latin-1"))
    (batch,) = read(files, files.Config(data="a.txt", encoding="latin-1", text_by="line"), tmp_path)
    assert batch.texts == ["Grüße", "Ärger"]
    with pytest.raises(ValidationError, match="'latin-99' is no text encoding that Python knows"):
        files.Config(data="a.txt", encoding="latin-99")


def test_a_broken_parquet_file_is_named_when_its_part_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 cut")
    config = files.Config(data="a.parquet")
    (part,) = files.parts(config, tmp_path, where="w")
    with pytest.raises(DataError, match="not a whole Parquet file"):
        list(files.read_part(config, part, tmp_path, where="w"))


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    config = files.Config(data="a.txt")
    (part,) = files.parts(config, tmp_path, where="w")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match="was there when the parts were listed, and is gone"):
        list(files.read_part(config, part, tmp_path, where="w"))
