"""Stable splits by hash, and stable samples."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from acclimate.data.naming import name_of
from acclimate.errors import DataError

Split = Literal["train", "dev", "test"]
_SPELLED: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "validation", "valid", "val"),
    "test": ("test", "testing"),
}
SPLIT_NAMES = {name: split for split, names in _SPELLED.items() for name in names}


def split_name(value: Any) -> str:
    """The name of a split in a cell: white space and case are passed over."""
    return name_of(value).casefold()


def require_split_names(names: Iterable[str], *, where: str) -> None:
    """Refuse a split column that holds anything else than names of splits.

    Args:
        names: by `split_name`; an empty one where a cell holds nothing.
    Raises:
        DataError: names the first unknown one.
    """
    unknown = set(names) - SPLIT_NAMES.keys()
    if unknown:
        found = "a row has no split" if "" in unknown else f"unknown split {min(unknown)!r}"
        raise DataError(f"{where}: {found}; allowed: train, dev (or validation), test")


def unit_hash(key: str, *, seed: int, purpose: str = "") -> float:
    """A number in [0, 1) that depends on key, seed and purpose alone, not on the machine or the order of rows.

    Args:
        purpose: what the number decides. Two decisions about one key need two numbers: of the keys that one has taken below 0.1, another
            would find none above. The splits of tables have none.
    """
    salt = f"{purpose}:" if purpose else ""
    digest = hashlib.sha256(f"{seed}:{salt}{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(key: str, *, dev_share: float, test_share: float, seed: int) -> Split:
    """The split of a group."""
    position = unit_hash(key, seed=seed)
    if position < test_share:
        return "test"
    return "dev" if position < test_share + dev_share else "train"


def stratified_splits(
    groups: Sequence[str], labels: Sequence[Sequence[str]], *, dev_share: float, test_share: float, seed: int
) -> dict[str, Split]:
    """The split of each group, so that every class is parted in the same shares.

    A group belongs to the class of its rarest label. Inside a class groups stand in the order of their hash and the first shares go to
    test and dev, so a class of one or two groups stays in train.

    Args:
        groups: the group of each row.
        labels: the labels of each row.
    """
    counts = Counter(label for row in labels for label in set(row))
    rarest: dict[str, str] = {}
    for group, row in zip(groups, labels, strict=True):
        label = min(row, key=lambda name: (counts[name], name), default="")
        known = rarest.setdefault(group, label)
        rarest[group] = min(known, label, key=lambda name: (counts[name], name))
    classes: dict[str, list[str]] = defaultdict(list)
    for group in sorted(rarest, key=lambda group: (unit_hash(group, seed=seed), group)):
        classes[rarest[group]].append(group)
    found: dict[str, Split] = {}
    for members in classes.values():
        num_test, num_dev = round(test_share * len(members)), round(dev_share * len(members))
        for place, group in enumerate(members):
            found[group] = "test" if place < num_test else "dev" if place < num_test + num_dev else "train"
    return found


def splits_by_time(groups: Sequence[str], times: Sequence[float], *, dev_share: float, test_share: float) -> dict[str, Split]:
    """The split of each group: the newest to test, those before to dev, the oldest to train; a group is as new as its newest row.

    Groups of one time stay together, so that nothing of the test period is trained on.

    Args:
        times: the time of each row, as a number.
    """
    newest: dict[str, float] = {}
    sizes: Counter[str] = Counter(groups)
    for group, time in zip(groups, times, strict=True):
        newest[group] = max(time, newest.get(group, time))
    by_time: dict[float, list[str]] = defaultdict(list)
    for group, time in newest.items():
        by_time[time].append(group)
    found: dict[str, Split] = {}
    taken = 0
    for time in sorted(by_time, reverse=True):
        share = taken / len(groups)
        split: Split = "test" if share < test_share else "dev" if share < test_share + dev_share else "train"
        for group in by_time[time]:
            found[group] = split
            taken += sizes[group]
    return found


def sample_rows(keys: Sequence[str], labels: Sequence[Sequence[str]], limit: int, *, seed: int) -> list[int]:
    """Choose `limit` rows, classes in proportion, two rows at least of each label while the limit lasts.

    A row counts for the proportion as its rarest label, so that a rare label of a multi-label row is not lost among frequent ones.

    Args:
        keys: one a row, all different; the order of the rows has no say.
        labels: the labels of each row, none for a number.
    Returns:
        Row numbers in the order of their hash.
    """
    order = sorted(range(len(keys)), key=lambda row: (unit_hash(keys[row], seed=seed), keys[row]))
    if limit >= len(order):
        return order
    kept: set[int] = set()
    for row in (*_two_of_each(order, labels), *_in_proportion(order, labels, limit), *order):
        if len(kept) >= limit:
            break
        kept.add(row)
    return [row for row in order if row in kept]


def _two_of_each(order: Sequence[int], labels: Sequence[Sequence[str]]) -> list[int]:
    """The fewest rows, near enough, that hold every label twice: rare labels first, since their rows bring frequent ones along."""
    counts = Counter(label for row_labels in labels for label in set(row_labels))
    members: dict[str, list[int]] = defaultdict(list)
    for row in order:
        for label in set(labels[row]):
            members[label].append(row)
    chosen: dict[int, None] = {}
    held: Counter[str] = Counter()
    for label in sorted(counts, key=lambda label: (counts[label], label)):
        for row in members[label]:
            if held[label] >= 2:
                break
            if row not in chosen:
                chosen[row] = None
                held.update(set(labels[row]))
    return list(chosen)


def _in_proportion(order: Sequence[int], labels: Sequence[Sequence[str]], limit: int) -> list[int]:
    """The first rows of each stratum, a row's stratum being its rarest label."""
    counts = Counter(label for row_labels in labels for label in set(row_labels))
    strata: dict[str, list[int]] = defaultdict(list)
    for row in order:
        strata[min(labels[row], key=lambda label: (counts[label], label), default="")].append(row)
    return [row for rows in strata.values() for row in rows[: math.floor(limit * len(rows) / len(order))]]
