"""Labelled pairs of Debian packages: related by dependency, and overlap of human-made tags."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from tools.debian.packages import Package, Split, split_of, stable_order
from tools.debian.tasks import cut_text

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Quota = dict[Split, int]
NUM_OVERLAP_BINS = 5


def related_rows(packages: list[Package], *, quota: Quota, max_chars: int | None) -> list[dict[str, Any]]:
    """Pairs joined by Depends across sources, and as many that are not.

    Each first package stands in one pair of each label, and each second package of an unrelated pair
    is the second of some related pair, in the same section: neither side alone tells the label.
    """
    by_name = {package.name: package for package in packages}
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        positives = _dependency_pairs(by_name, split, num_pairs=quota[split] // 2)
        seconds: dict[str, list[Package]] = defaultdict(list)
        for _, second in positives:
            seconds[second.section].append(second)
        for first, second in positives:
            other = _unrelated_second(first, second, seconds[second.section])
            if other is not None:
                rows.append(_pair_row(first, second, max_chars) | {"label": "related", "split": split})
                rows.append(_pair_row(first, other, max_chars) | {"label": "unrelated", "split": split})
    return _numbered("related", rows)


def _dependency_pairs(
    by_name: dict[str, Package], split: Split, *, num_pairs: int, max_uses: int = 3, max_dependants: int = 50
) -> list[tuple[Package, Package]]:
    """One pair for each dependant: with its rarest dependency, which says most about it."""
    dependants = Counter(name for package in by_name.values() for name in set(package.depends))
    uses: Counter[str] = Counter()
    pairs: list[tuple[Package, Package]] = []
    for package in _in_split(by_name.values(), split):
        names = sorted(
            (name for name in set(package.depends) if _is_usable(package, by_name.get(name), split)),
            key=lambda name: (dependants[name], name),
        )
        names = [name for name in names if uses[name] < max_uses and dependants[name] <= max_dependants]
        if names and len(pairs) < num_pairs:
            uses[names[0]] += 1
            pairs.append((package, by_name[names[0]]))
    return pairs


def _is_usable(package: Package, other: Package | None, split: Split) -> bool:
    return other is not None and other.source != package.source and split_of(other.source) == split


def _unrelated_second(first: Package, second: Package, candidates: list[Package]) -> Package | None:
    """The first fit candidate at or after a place that the two names choose."""
    start = int.from_bytes(stable_order(f"{first.name}|{second.name}")[:8], "big") % len(candidates)
    for other in candidates[start:] + candidates[:start]:
        if other.source not in (first.source, second.source) and other.name not in first.depends and first.name not in other.depends:
            return other
    return None


def tag_overlap_rows(packages: list[Package], *, quota: Quota, max_chars: int | None, min_tags: int = 4) -> list[dict[str, Any]]:
    """Pairs across sources scored by the Jaccard index of their debtags, spread evenly over five bins of score."""
    tagged = [package for package in packages if len(package.tags) >= min_tags]
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        bins = _pairs_by_overlap(_in_split(tagged, split))
        for pairs in bins.values():
            for first, second in _use_each_rarely(pairs, num_pairs=quota[split] // NUM_OVERLAP_BINS):
                score = round(jaccard(first.tags, second.tags), 4)
                rows.append(_pair_row(first, second, max_chars) | {"score": score, "split": split})
    return _numbered("tag_overlap", rows)


def jaccard(first: Iterable[str], second: Iterable[str]) -> float:
    """Size of the intersection over size of the union."""
    one, other = set(first), set(second)
    return len(one & other) / len(one | other)


def _pairs_by_overlap(packages: list[Package], *, num_neighbours: int = 40) -> dict[int, list[tuple[Package, Package]]]:
    """Candidate pairs in bins of score: neighbours in a shuffle are mostly unlike, neighbours by tags are alike."""
    found: dict[tuple[str, str], tuple[Package, Package]] = {}
    by_first_tags = sorted(packages, key=lambda package: (package.tags, package.name))
    by_last_tags = sorted(packages, key=lambda package: (package.tags[::-1], package.name))
    for order in (packages, by_first_tags, by_last_tags):
        for index, first in enumerate(order):
            for second in order[index + 1 : index + 1 + num_neighbours]:
                if first.source != second.source:
                    pair = (first, second) if first.name < second.name else (second, first)
                    found[pair[0].name, pair[1].name] = pair
    bins: dict[int, list[tuple[Package, Package]]] = defaultdict(list)
    for pair in found.values():
        score = jaccard(pair[0].tags, pair[1].tags)
        bins[min(int(score * NUM_OVERLAP_BINS), NUM_OVERLAP_BINS - 1)].append(pair)
    return dict(sorted(bins.items()))


def _use_each_rarely(pairs: list[tuple[Package, Package]], *, num_pairs: int, max_uses: int = 3) -> list[tuple[Package, Package]]:
    uses: Counter[str] = Counter()
    chosen: list[tuple[Package, Package]] = []
    for first, second in sorted(pairs, key=lambda pair: stable_order(f"{pair[0].name}|{pair[1].name}")):
        if len(chosen) < num_pairs and max(uses[first.name], uses[second.name]) < max_uses:
            uses.update((first.name, second.name))
            chosen.append((first, second))
    return chosen


def _in_split(packages: Iterable[Package], split: Split) -> list[Package]:
    of_split = [package for package in packages if split_of(package.source) == split]
    return sorted(of_split, key=lambda package: stable_order(package.name))


def _pair_row(first: Package, second: Package, max_chars: int | None) -> dict[str, str]:
    return {
        "text": cut_text(first.text, max_chars),
        "text_pair": cut_text(second.text, max_chars),
        "group": f"{first.source}|{second.source}",
    }


def _numbered(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ordered = sorted(rows, key=lambda row: (row["group"], row["text"], row["text_pair"]))
    return [{"id": f"{name}-{index:06d}", **row} for index, row in enumerate(ordered)]
