"""Stable splits by hash, and stable samples."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
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


def sample_rows(keys: Sequence[str], strata: Sequence[str], limit: int, *, seed: int) -> list[int]:
    """Choose `limit` rows, each stratum in proportion and with two rows at least where it has them.

    Returns:
        Row numbers in the order of their hash.
    """
    order = sorted(range(len(keys)), key=lambda row: (unit_hash(keys[row], seed=seed), keys[row]))
    if limit >= len(order):
        return order
    members: dict[str, list[int]] = defaultdict(list)
    for row in order:
        members[strata[row]].append(row)
    share = limit / len(order)
    kept = {row for rows in members.values() for row in rows[: max(min(2, len(rows)), math.floor(share * len(rows)))]}
    for row in order:
        if len(kept) >= limit:
            break
        kept.add(row)
    return [row for row in order if row in kept]
