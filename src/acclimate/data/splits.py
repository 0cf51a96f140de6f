"""Stable splits by hash, and stable samples."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

Split = Literal["train", "dev", "test"]
SPLIT_NAMES: dict[str, Split] = {"train": "train", "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev", "test": "test"}


def unit_hash(key: str, *, seed: int) -> float:
    """A number in [0, 1) that depends on key and seed alone, not on the machine or the order of rows."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(key: str, *, dev_share: float, test_share: float, seed: int) -> Split:
    """The split of a group."""
    position = unit_hash(key, seed=seed)
    if position < test_share:
        return "test"
    return "dev" if position < test_share + dev_share else "train"


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
