"""A thousand real rows with a dozen kinds of planted faults: ingest finds all of them, and nothing else."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from acclimate.artifacts import dvc_md5, read_json
from acclimate.data.options import IngestConfig, TaskConfig
from acclimate.sinks import MemorySink
from stages import ingest
from stages.command import StageContext

DEBIAN = Path(__file__).parents[2] / "data" / "debian"
TASKS = {
    "topic": TaskConfig(
        kind="classification", data="topic.csv", text="body", label="queue", id="key", split="split", label_map={"Net": "net"}
    )
}
CORPUS_ROWS, TABLE_ROWS = 600, 400


def run_ingest(root: Path, **settings: Any) -> Path:
    out = root / "ingest"
    out.mkdir(parents=True)
    config = IngestConfig.model_validate(
        {
            "corpus": [{"data": "corpus.jsonl", "text": "text", "id": "key"}],
            "heldout": [{"data": "heldout.jsonl", "text": "text", "id": "key", "group": "group"}],
            "language": {"languages": ["en"]},
            "personal_data": {"mode": "redact"},
            "max_quarantine_share": 0.2,
            "workers": 1,
            **settings,
        }
    )
    context = StageContext(stage="ingest", sink=MemorySink(), checkpoint_directory=root / "scratch", run_id=lambda: None)
    ingest.run(ingest.Params(seed=20, ingest=config, tasks=TASKS), data=root.parent / "data", out=out, context=context)
    return out


def reworded(text: str) -> str:
    """The same text but for its last word: a near-duplicate of Jaccard index 0.8 and more where it has 60 words."""
    return " ".join([*text.split()[:-1], "otherwise"])


def real_texts() -> list[str]:
    """Descriptions of 60 to 200 words, no two of which begin alike."""
    texts = pq.read_table(DEBIAN / "corpus.parquet", columns=["text"])["text"].to_pylist()
    first: dict[str, str] = {}
    for text in texts:
        if 60 <= len(text.split()) <= 200 and text.isascii() and "@" not in text:
            first.setdefault(" ".join(text.split()[:4]).lower(), text)
    return list(first.values())[:: max(1, len(first) // 1500)][:1200]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], set[str]]]:
    """The data directory, and for each (table, rule) the ids that must leave."""
    texts = real_texts()
    expected: dict[tuple[str, str], set[str]] = defaultdict(set)
    table = _table(texts[:TABLE_ROWS], expected)
    test_texts = [row["body"] for row in table if row["split"] == "test"]
    heldout = [{"key": f"h{row}", "text": text, "group": f"g{row}"} for row, text in enumerate(texts[450:480])]
    corpus = _corpus(texts[500 : 500 + CORPUS_ROWS], test_texts, [row["text"] for row in heldout], expected)
    data = tmp_path_factory.mktemp("planted") / "data"
    data.mkdir()
    with (data / "topic.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["key", "body", "queue", "split"])
        writer.writeheader()
        writer.writerows(table)
    for name, rows in (("corpus", corpus), ("heldout", heldout)):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return data, expected


def _table(texts: list[str], expected: dict[tuple[str, str], set[str]]) -> list[dict[str, str]]:
    split_of = ["train"] * 7 + ["dev", "test", "test"]
    rows = [
        {"key": f"t{row}", "body": text, "queue": ("Net", "mail", "games")[row % 3], "split": split_of[row % 10]}
        for row, text in enumerate(texts[:-16])
    ]
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]

    def plant(rule: str, key: str, row: dict[str, str], **changed: str) -> None:
        rows.append({**row, "key": key, **changed})
        expected["tables/topic", rule].add(key)

    for number in range(4):
        plant("empty_text", f"empty{number}", train[number], body=" " * number)
        plant("duplicate", f"twice{number}", train[10 + number], body=train[10 + number]["body"].upper())
        other = "mail" if train[20 + number]["queue"] != "mail" else "games"
        plant("label_conflict", f"conflict{number}", train[20 + number], queue=other)
        plant("also_in_test", f"leak{number}", test[number], split="train")
        plant("near_duplicate_of_test", f"near-leak{number}", test[10 + number], body=reworded(test[10 + number]["body"]), split="train")
    return rows


GERMAN = (
    "Dieses Paket enthält ein Werkzeug, mit dem sich Dateien über das Netz verteilen lassen. Es merkt sich, welche Rechner schon "
    "versorgt sind, und fährt nach einer Unterbrechung dort fort, wo es aufgehört hat. Teil {} der Reihe beschreibt die Einrichtung."
)


def _corpus(
    texts: list[str], test_texts: list[str], heldout_texts: list[str], expected: dict[tuple[str, str], set[str]]
) -> list[dict[str, str]]:
    rows = [{"key": f"c{row}", "text": text} for row, text in enumerate(texts)]

    def plant(rule: str, key: str, text: str) -> None:
        rows.append({"key": key, "text": text})
        expected["corpus", rule].add(key)

    for number in range(4):
        plant("too_short", f"short{number}", "a tool " * (number % 2))
        plant("duplicate", f"twice{number}", f"  {texts[number].swapcase()}\n")
        plant("near_duplicate", f"near{number}", reworded(texts[20 + number]))
        plant("in_evaluation_set", f"exact{number}", test_texts[20 + number])
        around = " ".join(texts[40 + number].split()[:30][::-1])
        plant("contaminated", f"quotes{number}", f"{around}. {test_texts[30 + number]} {around}")
        plant("near_duplicate_of_heldout", f"near-heldout{number}", reworded(heldout_texts[number]))
        plant("other_language", f"german{number}", GERMAN.format(["drei", "vier", "fünf", "sechs"][number]) + f" {number}" * number)
        plant("many_symbols", f"symbols{number}", f"{texts[60 + number]} " + "# " * 200)
    rows[100]["text"] += " Write to jane.doe@mailbox.org or call +49 30 901820."
    rows[101]["text"] += " The key is AKIAIOSFODNN7ZXCVBNM and the card 4111 1111 1111 1111."
    rows[102]["text"] += " CafÃ© and naÃ¯ve words."
    return rows


def test_every_planted_row_leaves_by_its_rule_and_no_other_row_does(
    planted: tuple[Path, dict[tuple[str, str], set[str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data, expected = planted
    out = run_ingest(data.parent / "one")
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in pq.read_table(out / "quarantine.parquet").to_pylist():
        found[row["table"], row["rule"]].add(row["id"])
        assert row["line"] > 1
        assert row["source"] in {"topic.csv", "corpus.jsonl"}
    assert dict(found) == dict(expected)
    metrics = read_json(out / "metrics.json")
    for name, counts in metrics.items():
        assert counts["read"] == counts["kept"] + counts["quarantined"], name
    text = read_json(out / "text.json")
    assert {kind: n for kind, n in text["personal_data"]["found"]["corpus"].items() if n} == {"email": 1, "phone": 1, "key": 1, "card": 1}
    assert text["changed"]["corpus"]["mojibake"] == 1
    kept = {row["id"]: row["text"] for row in pq.read_table(out / "corpus.parquet").to_pylist()}
    assert "Write to <EMAIL> or call <PHONE>" in kept["c100"]
    assert "Café and naïve" in kept["c102"]
    assert read_json(out / "tables" / "topic" / "schema.json")["labels"] == ["games", "mail", "net"]


def test_processes_and_ray_write_the_same_bytes(planted: tuple[Path, dict[tuple[str, str], set[str]]]) -> None:
    data, _ = planted
    one = run_ingest(data.parent / "here")
    for name, settings in (("processes", {"workers": 2}), ("ray", {"engine": "ray", "workers": 2})):
        assert dvc_md5(run_ingest(data.parent / name, **settings)) == dvc_md5(one), name
