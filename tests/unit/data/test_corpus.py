"""Parts prepared one by one and joined: nothing twice, nothing that is evaluated on, and no part done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.data.corpus import DocumentWriter, Joining, TextRules, join_parts, part_jobs, prepare_part
from acclimate.data.leakage.hashing import hash_texts
from acclimate.data.leakage.near_duplicates import DuplicatesConfig
from acclimate.data.options import CorpusSource
from acclimate.data.quarantine import Quarantine
from acclimate.data.screening.language import LanguageConfig
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.data.screening.quality import QualityConfig
from acclimate.data.screening.texts import TextCounts
from acclimate.errors import DataError

RULES = TextRules(10, CleaningConfig(), QualityConfig(preset="off"), LanguageConfig(), PersonalDataConfig(mode="off"), DuplicatesConfig())
TEXTS = ["a long enough document", "A long  enough document", "short", "the text of a test row", "another document that stays"]


def source(**options: Any) -> CorpusSource:
    return CorpusSource(**{"data": "*.parquet", **options})


def write(data: Path, name: str, texts: list[Any], **columns: list[str]) -> None:
    data.mkdir(exist_ok=True)
    pq.write_table(pa.table({"text": texts, **columns}), data / name)


def join(
    root: Path, *sources: CorpusSource, joining: Joining | None = None, heldout_share: float = 0.0
) -> tuple[dict[str, Any], Quarantine]:
    jobs = part_jobs("corpus", sources, root / "data", RULES, root / "scratch", None)
    parts = [prepare_part(job) for job in jobs]
    writers = {name: DocumentWriter(root / f"{name}.parquet") for name in ("corpus", "heldout")}
    quarantine = Quarantine(root / "quarantine.parquet")
    join_parts(parts, joining or Joining(), {}, quarantine, TextCounts(), writers, heldout_share=heldout_share, seed=1)
    quarantine.close()
    for writer in writers.values():
        writer.close()
    return {name: pq.read_table(root / f"{name}.parquet").to_pydict() for name in writers}, quarantine


def test_duplicates_short_text_and_every_evaluation_text_leave(tmp_path: Path) -> None:
    write(tmp_path / "data", "c.parquet", TEXTS)
    joining = Joining()
    joining.hold_back(hash_texts(["The text of a TEST row"]))
    found, quarantine = join(tmp_path, source(), joining=joining)
    assert found["corpus"]["text"] == [TEXTS[0], TEXTS[4]]
    assert found["corpus"]["id"] == ["c.parquet:1", "c.parquet:5"]
    assert quarantine.count("corpus") == {"duplicate": 1, "too_short": 1, "in_evaluation_set": 1}
    with pytest.raises(DataError, match=r"corpus: 2 of 5 rows are quarantined .* allowed by ingest.max_quarantine_share: 20.0%"):
        quarantine.check(0.2)
    quarantine.check(0.4)  # the evaluation text held back is no fault of the corpus
    rows = pq.read_table(tmp_path / "quarantine.parquet").to_pylist()
    assert {(row["line"], row["rule"]) for row in rows} == {(2, "duplicate"), (3, "too_short"), (4, "in_evaluation_set")}


def test_a_part_that_is_ready_is_not_done_again_and_half_a_part_is(tmp_path: Path) -> None:
    write(tmp_path / "data", "a.parquet", TEXTS[:1])
    write(tmp_path / "data", "b.parquet", TEXTS[4:])
    first, second = part_jobs("corpus", [source()], tmp_path / "data", RULES, tmp_path / "scratch", None)
    prepare_part(first)
    stamp = (first.directory / "documents.parquet").stat().st_mtime_ns
    second.directory.mkdir(parents=True)
    (second.directory / "documents.parquet").write_bytes(b"PAR1 cut short")
    found, _ = join(tmp_path, source())
    assert found["corpus"]["text"] == [TEXTS[0], TEXTS[4]]
    assert (first.directory / "documents.parquet").stat().st_mtime_ns == stamp


def test_a_weight_repeats_or_thins_out_a_source(tmp_path: Path) -> None:
    write(tmp_path / "data", "a.parquet", [f"document number {row} of the first" for row in range(400)])
    write(tmp_path / "data", "b.parquet", [f"document number {row} of the second" for row in range(400)])
    found, quarantine = join(tmp_path, source(data="a.parquet", weight=2.5), source(data="b.parquet", weight=0.25))
    sources = found["corpus"]["source"]
    assert sources.count("a.parquet") == pytest.approx(1000, abs=40)
    assert sources.count("b.parquet") == pytest.approx(100, abs=30)
    assert len(set(found["corpus"]["id"])) == len(sources)
    assert quarantine.count("corpus")["weight"] == 400 - sources.count("b.parquet")
    quarantine.check(0.0)  # what a weight leaves out is no fault


def test_groups_do_not_part_between_corpus_and_heldout(tmp_path: Path) -> None:
    rows = range(600)
    write(tmp_path / "data", "a.parquet", [f"document number {row} of all" for row in rows], g=[f"g{row // 3}" for row in rows])
    found, quarantine = join(tmp_path, source(group="g"), heldout_share=0.2)
    assert not set(found["corpus"]["group"]) & set(found["heldout"]["group"])
    assert len(found["heldout"]["id"]) == pytest.approx(120, abs=45)
    quarantine.check(0.0)


def test_an_id_that_stands_there_twice_and_a_cell_without_text_are_named(tmp_path: Path) -> None:
    write(tmp_path / "data", "a.parquet", [TEXTS[0], TEXTS[4]], key=["x", "x"])
    with pytest.raises(DataError, match=r"ingest.corpus: ids stand in more than one row, such as 'x'"):
        join(tmp_path, source(id="key"))
    write(tmp_path / "lists", "a.parquet", [["a", "list"]])
    (job,) = part_jobs("corpus", [source()], tmp_path / "lists", RULES, tmp_path / "scratch2", None)
    with pytest.raises(DataError, match=r"ingest.corpus.0: a.parquet: line 1: .* is a list; text is expected"):
        prepare_part(job)
