"""General English: the glosses and examples of WordNet 3.0, as Debian packages them.

File format: https://wordnet.princeton.edu/documentation/wndb5wn
"""

from pathlib import Path

from tools.debian.packages import stable_order

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")


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
