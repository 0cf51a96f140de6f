"""The public data of the anchors, read from a checkout of the repository that holds each; nothing of it is kept here.

| flag | repository on GitHub | folder |
|---|---|---|
| --sick | brmson/dataset-sts | data/sts/sick2014 |
| --mrpc | brmson/dataset-sts | data/para/msr |
| --banking77 | PolyAI-LDN/task-specific-datasets | banking_data |
| --scibert | allenai/scibert | data/text_classification |
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPLITS = ("train", "dev", "test")
Row = dict[str, Any]


class DataMissingError(Exception):
    """A file of the data is not there, or is not the published one."""


@dataclass(frozen=True)
class Source:
    """Where a set of files is public, and how many rows each split has there."""

    repository: str
    folder: str
    files: tuple[str, ...]
    rows: tuple[int, ...]

    def paths(self, root: Path) -> list[Path]:
        """The files, below a checkout of the repository or in the folder itself.

        Raises:
            DataMissingError: one is not there.
        """
        folder = root / self.folder if (root / self.folder).is_dir() else root
        for name in self.files:
            if not (folder / name).is_file():
                raise DataMissingError(
                    f"{folder / name}: no such file; give a checkout of https://github.com/{self.repository} or its folder {self.folder}"
                )
        return [folder / name for name in self.files]


SICK = Source(
    "brmson/dataset-sts",
    "data/sts/sick2014",
    ("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"),
    (4500, 500, 4927),
)
MRPC = Source("brmson/dataset-sts", "data/para/msr", ("msr-para-train.tsv", "msr-para-val.tsv", "msr-para-test.tsv"), (3576, 500, 1725))
BANKING77 = Source("PolyAI-LDN/task-specific-datasets", "banking_data", ("train.csv", "test.csv"), (10003, 3080))
ACL_ARC = Source("allenai/scibert", "data/text_classification", tuple(f"citation_intent/{name}.txt" for name in SPLITS), (1688, 114, 139))
CHEMPROT = Source("allenai/scibert", "data/text_classification", tuple(f"chemprot/{name}.txt" for name in SPLITS), (4169, 2427, 3469))


def read_sick(root: Path) -> list[Row]:
    """All pairs, with their relatedness from 1 to 5, as MTEB's SICK-R takes them."""
    rows = [row for path in SICK.paths(root) for row in _unquoted(path)]
    _require_rows("SICK", [len(rows)], [sum(SICK.rows)])
    return [{"text": row["sentence_A"], "text_pair": row["sentence_B"], "score": float(row["relatedness_score"])} for row in rows]


def read_mrpc(root: Path) -> dict[str, list[Row]]:
    """Pairs of sentences, labelled as paraphrases (1) or not (0); dev is the last 500 pairs of the published training rows."""
    found = {
        split: [{"text": row["#1 String"], "text_pair": row["#2 String"], "label": row["Quality"]} for row in _unquoted(path)]
        for split, path in zip(SPLITS, MRPC.paths(root), strict=True)
    }
    _require_rows("MRPC", [len(rows) for rows in found.values()], MRPC.rows)
    return found


def read_banking77(root: Path) -> dict[str, list[Row]]:
    """Questions to a bank, with one of 77 intents."""
    found = {}
    for split, path in zip(("train", "test"), BANKING77.paths(root), strict=True):
        with path.open(encoding="utf-8", newline="") as file:
            found[split] = [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]
    _require_rows("Banking77", [len(rows) for rows in found.values()], BANKING77.rows)
    return found


def read_scientific(source: Source, root: Path) -> dict[str, list[Row]]:
    """Sentences of papers with one label each, a JSON object a line; the splits are those of Gururangan et al. 2020."""
    found = {}
    for split, path in zip(SPLITS, source.paths(root), strict=True):
        lines = path.read_text(encoding="utf-8").split("\n")
        found[split] = [{name: json.loads(line)[name] for name in ("text", "label")} for line in lines if line.strip()]
    _require_rows(source.files[0].split("/")[0], [len(rows) for rows in found.values()], source.rows)
    return found


def _unquoted(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated file in which a quotation mark is a character like any other."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    names, *rows = [line.rstrip("\r").split("\t") for line in lines if line.strip()]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise DataMissingError(f"{path}: line {number} has {len(row)} fields, the header has {len(names)}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _require_rows(name: str, found: list[int], published: Any) -> None:
    if found != list(published):
        raise DataMissingError(f"{name}: {found} rows; the published figures are for {list(published)}")
