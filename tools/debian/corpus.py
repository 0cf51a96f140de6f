"""Assemble unlabelled text: the training corpus and the held-out text, with nothing of dev or test in the corpus."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tools.debian.manuals import Manual, pack_paragraphs
from tools.debian.packages import Package, Split, normalise, split_of, stable_order

DESCRIPTIONS = "descriptions"
Row = dict[str, str]


@dataclass(frozen=True)
class Unit:
    """What is taken or left as a whole: the descriptions of one source package, or one manual page."""

    part: str
    group: str
    split: Split
    paragraphs: tuple[str, ...]


def description_units(packages: list[Package]) -> list[Unit]:
    """One unit for each source package, its binary packages in order of name."""
    by_source: dict[str, list[str]] = defaultdict(list)
    for package in packages:
        by_source[package.source] += ["\n".join((package.synopsis, *package.paragraphs))]
    return [Unit(DESCRIPTIONS, source, split_of(source), tuple(texts)) for source, texts in sorted(by_source.items())]


def manual_units(manuals: list[Manual]) -> list[Unit]:
    """One unit for each page."""
    return [Unit(manual.part, manual.name, manual.split, manual.paragraphs) for manual in manuals]


def line_keys(texts: Iterable[str]) -> Iterator[str]:
    """Normalised lines: the unit of comparison for leakage and duplicates."""
    return (normalise(line) for text in texts for line in text.split("\n"))


def protected_lines(units: list[Unit]) -> frozenset[str]:
    """Lines of dev and test units: none may stand in the corpus."""
    return frozenset(line_keys(text for unit in units if unit.split != "train" for text in unit.paragraphs))


def corpus_rows(units: list[Unit], *, num_bytes: dict[str, int] | None) -> list[Row]:
    """The training corpus.

    Lines of dev or test units, lines seen more than three times and repeated lines are dropped.

    Args:
        units: every unit, of all splits.
        num_bytes: at most about so many bytes of a part, units chosen by a fixed shuffle; parts
            not named, and every part where None, are taken whole.
    """
    forbidden = protected_lines(units)
    training = [unit for unit in units if unit.split == "train"]
    counts = Counter(key for unit in training for key in set(line_keys(unit.paragraphs)))
    refused = forbidden | {key for key, count in counts.items() if count > 3}
    rows: list[Row] = []
    for part in sorted({unit.part for unit in training}):
        of_part = [unit for unit in training if unit.part == part]
        limit = (num_bytes or {}).get(part)
        rows += _rows_within(of_part, refused, limit)
    return _drop_repeated_lines(rows)


def heldout_rows(units: list[Unit], *, num_bytes: dict[str, int]) -> list[Row]:
    """Text of dev units of the named parts, within the given sizes."""
    rows: list[Row] = []
    for part, limit in sorted(num_bytes.items()):
        rows += _rows_within([u for u in units if u.part == part and u.split == "dev"], frozenset(), limit)
    return _drop_repeated_lines(rows)


def _rows_within(units: list[Unit], refused: frozenset[str], limit: int | None) -> list[Row]:
    chosen: list[tuple[Unit, list[str]]] = []
    total = 0
    for unit in sorted(units, key=lambda unit: stable_order(f"{unit.part}/{unit.group}")):
        if limit is not None and total >= limit:
            break
        paragraphs = [text for text in (_without_lines(text, refused) for text in unit.paragraphs) if text]
        total += sum(len(text.encode()) + 1 for text in paragraphs)
        chosen.append((unit, paragraphs))
    return [row for unit, paragraphs in sorted(chosen, key=lambda pair: pair[0].group) for row in _rows(unit, paragraphs)]


def _rows(unit: Unit, paragraphs: list[str]) -> list[Row]:
    documents = pack_paragraphs(paragraphs)
    return [
        {"id": f"{unit.part}/{unit.group}#{index}", "text": text, "source": unit.part, "group": unit.group}
        for index, text in enumerate(documents)
    ]


def _without_lines(text: str, refused: frozenset[str]) -> str:
    return "\n".join(line for line in text.split("\n") if normalise(line) not in refused)


def _drop_repeated_lines(rows: list[Row]) -> list[Row]:
    seen: set[str] = set()
    kept = []
    for row in rows:
        lines = []
        for line in row["text"].split("\n"):
            key = normalise(line)
            if key not in seen:
                seen.add(key)
                lines.append(line)
        if len("\n".join(lines)) >= 40:
            kept.append({**row, "text": "\n".join(lines)})
    return kept
