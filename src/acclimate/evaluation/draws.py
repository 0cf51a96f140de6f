"""Draws of labelled rows: the same for every encoder, so that a comparison is paired over draws as it is over judged rows.

Each draw is seeded by the run's seed, the task, the size and its own number. Draws of one size are not part of those of a larger one:
each point of a curve then has an error of its own, and another size in params.yaml changes no draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from acclimate.evaluation.options import ALL, Size

Rows = NDArray[np.int64]


def sampled_rows(num_rows: int, limit: int | None, *, seed: int, task: str) -> Rows:
    """At most `limit` of so many rows, in their order."""
    rows = _generator(seed, task, 0, 0).permutation(num_rows)[:limit]
    return np.sort(rows)


def drawn_rows(pool_rows: int, size: Size, draw: int, *, seed: int, task: str) -> Rows:
    """Rows of the pool: `size` of them without replacement; for `all` as many as there are, with it."""
    if size == ALL:
        return np.sort(_generator(seed, task, pool_rows, draw + 1).integers(0, pool_rows, pool_rows))
    return np.sort(_generator(seed, task, int(size), draw + 1).choice(pool_rows, int(size), replace=False))


def draws_of(
    pool_rows: int, sizes: Sequence[Size], draws: int, *, seed: int, task: str
) -> tuple[Mapping[Size, list[Rows]], Mapping[Size, str]]:
    """Every draw of each size, and why there is none of the others."""
    missing: dict[Size, str] = {size: _too_many(size, pool_rows) for size in sizes if size != ALL and int(size) >= pool_rows}
    found = {
        size: [drawn_rows(pool_rows, size, draw, seed=seed, task=task) for draw in range(draws)] for size in sizes if size not in missing
    }
    return found, missing


def pool_variance(size: Size, pool_rows: int) -> float:
    """The variance of the pool's choice, as a multiple of that between draws.

    The draws are taken from one pool, and the pool is a sample too. Two draws of n of its N rows share n / N of their rows, so the
    variance between draws misses that share of the variance over pools: it is n / (N - n) times what is seen between draws.
    For `all` each draw is a bootstrap resample of the pool, and their variance is that of the pool's choice itself.
    """
    return 1.0 if size == ALL else int(size) / (pool_rows - int(size))


def _too_many(size: Size, pool_rows: int) -> str:
    return f"{size} of {pool_rows} labelled rows cannot be drawn several times; fewer can, and `all` draws them with replacement"


def _generator(seed: int, task: str, size: int, draw: int) -> np.random.Generator:
    return np.random.default_rng([seed % 2**32, zlib.crc32(task.encode()), size, draw])
