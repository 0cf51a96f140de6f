"""General English: the glosses and examples of WordNet 3.0, as Debian packages them; and a task of general English, what a noun means.

File formats: https://wordnet.princeton.edu/documentation/wndb5wn, and lexnames5wn for the numbers of the lexicographers' files.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.debian.packages import Split, normalise, split_of, stable_order

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
SUPERSENSES = (
    "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling", "food", "group",
    "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process", "quantity", "relation", "shape",
    "state", "substance", "time",
)  # fmt: skip
"""Names of the lexicographers' files of nouns, from number 3 on."""
_FIRST_NOUN_FILE = 3


def read_glosses(root: Path) -> list[list[str]]:
    """Entries `word: gloss` of each part of speech, in file order: neighbours are often related."""
    return [[parse_gloss(line) for line in _data_lines(root / f"usr/share/wordnet/data.{part}")] for part in PARTS_OF_SPEECH]


def _data_lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


def parse_gloss(line: str) -> str:
    """First lemma, gloss and examples of one synset line."""
    data, _, gloss = line.partition(" | ")
    lemma = data.split(" ")[4].replace("_", " ").split("(")[0]
    return f"{lemma}: {' '.join(gloss.split())}"


def read_noun_files(root: Path) -> list[str]:
    """The lexicographers' file of each noun, in the order of `read_glosses`."""
    lines = _data_lines(root / "usr/share/wordnet/data.noun")
    return [SUPERSENSES[int(line.split(" ", 2)[1]) - _FIRST_NOUN_FILE] for line in lines]


def supersense_rows(
    nouns: list[str], files: list[str], general: Iterable[str], *, quota: dict[Split, int], min_entries: int = 1000
) -> list[dict[str, Any]]:
    """What a noun with its gloss means: one of the lexicographers' files that hold `min_entries` nouns or more.

    Of entries with the same gloss the first is a row, and none with a gloss of `general`, the entries that stand in general text. Rows
    are chosen, and split, by hash of the entry, so that classes keep their shares.
    """
    frequent = {file for file, count in Counter(files).items() if count >= min_entries}
    seen, rows = {_gloss_key(entry) for entry in general}, list[dict[str, Any]]()
    for place, (entry, file) in enumerate(zip(nouns, files, strict=True)):
        if file in frequent and (key := _gloss_key(entry)) not in seen:
            seen.add(key)
            row_id = f"wordnet/noun/{place}"
            rows.append({"id": row_id, "text": entry, "label": file, "split": split_of(row_id)})
    left = dict(quota)
    chosen = []
    for row in sorted(rows, key=lambda row: stable_order(row["id"])):
        if left[row["split"]]:
            left[row["split"]] -= 1
            chosen.append(row)
    return sorted(chosen, key=lambda row: row["id"])


def _gloss_key(entry: str) -> str:
    return normalise(entry.partition(": ")[2])


def entries_of(rows: Iterable[dict[str, str]], glosses: list[list[str]], *, num_entries: int = 5) -> list[str]:
    """The entries that rows of general text hold."""
    places = [row["id"].split("/")[1:] for row in rows]
    return [entry for part, start in places for entry in glosses[PARTS_OF_SPEECH.index(part)][int(start) : int(start) + num_entries]]


def choose_general_rows(glosses: list[list[str]], *, num_bytes: int, num_entries: int = 5) -> list[dict[str, str]]:
    """Rows of `num_entries` neighbouring entries, chosen by a fixed shuffle until `num_bytes` are reached."""
    rows = [
        {"id": f"wordnet/{part}/{start}", "text": ". ".join(entries[start : start + num_entries]), "source": "wordnet"}
        for part, entries in zip(PARTS_OF_SPEECH, glosses, strict=True)
        for start in range(0, len(entries), num_entries)
    ]
    chosen, total = [], 0
    for row in sorted(rows, key=lambda row: stable_order(row["id"])):
        if total >= num_bytes:
            break
        chosen.append(row)
        total += len(row["text"].encode())
    return sorted(chosen, key=lambda row: row["id"])
