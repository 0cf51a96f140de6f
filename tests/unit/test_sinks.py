"""What a sink that keeps its rows writes of them."""

from __future__ import annotations

from pathlib import Path

from acclimate.sinks import MemorySink


def filled() -> MemorySink:
    sink = MemorySink()
    sink.log(1, {"loss": 0.5}, timing={"tokens_per_s": 9.0})
    sink.log(2, {"loss": 0.25, "heldout": 1.0})
    return sink


def test_rows_are_written_with_empty_cells_and_plain_line_ends(tmp_path: Path) -> None:
    filled().write_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_bytes() == b"step,loss,heldout\n1,0.5,\n2,0.25,1.0\n"
    MemorySink().write_csv(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_bytes() == b"step\n"


def test_a_series_holds_only_rows_that_have_it(tmp_path: Path) -> None:
    filled().write_series(tmp_path / "series.csv", {"heldout": "domain", "missing": "general"})
    assert (tmp_path / "series.csv").read_bytes() == b"step,domain\n2,1.0\n"
