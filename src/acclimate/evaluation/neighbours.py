"""The nearest labelled row by cosine: what can be read off frozen features without any fit.

Shapes: N labelled rows, R judged rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MAX_SIMILARITIES = 8_000_000
"""Held at once, 32 MB."""


def nearest_rows(
    pool_ND: NDArray[np.float32], judged_RD: NDArray[np.float32], draws: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """For each draw the nearest of its rows to each judged row, (R,) row numbers of the pool; of equally near ones the first."""
    pool_DN, judged_RD = _unit(pool_ND).T, _unit(judged_RD)
    kept = [np.unique(rows) for rows in draws]
    found: list[list[NDArray[np.int64]]] = [[] for _ in draws]
    step = max(1, _MAX_SIMILARITIES // pool_DN.shape[1])
    for start in range(0, len(judged_RD), step):
        similarity_RN = judged_RD[start : start + step] @ pool_DN
        for of_draw, rows in zip(found, kept, strict=True):
            of_draw.append(rows[similarity_RN[:, rows].argmax(axis=1)])
    return [np.concatenate(parts) for parts in found]


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; one of zeros stays, and is as near to every row."""
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12), dtype=np.float32)
