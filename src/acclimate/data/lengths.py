"""How many texts are longer than a task's model reads: `max_length` tokens, special ones counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from acclimate import kinds

_MANY = 0.05
_IN_WINDOWS = "overlap"
"""The option of a kind that reads a long text in windows, and cuts none."""
logger = logging.getLogger(__name__)


def is_cut(carried: Iterable[str]) -> bool:
    """Whether a kind with these options cuts long texts."""
    return _IN_WINDOWS not in carried


def log_many_words(kind: kinds.Table, texts: Iterable[Sequence[str]], max_length: int, *, where: str) -> None:
    """Say which share of the rows is cut for certain, where no tokenizer is at hand: each word is a token at least.

    Args:
        texts: of each row.
    """
    is_long = [sum(len(text.split()) for text in row) > max_length for row in texts]
    if any(is_long) and is_cut(kind.carried):
        log_cut(sum(is_long) / len(is_long), len(is_long), max_length, where=where, least=" or more")


def log_cut(share: float, num_rows: int, max_length: int, *, where: str, least: str = "") -> None:
    """Say which share of the rows is cut, as a warning where it is one in twenty or more."""
    level = logging.WARNING if share >= _MANY else logging.INFO
    text = "%s: %.1f %%%s of %d rows are longer than max_length: %d tokens, and are cut there"
    logger.log(level, text, where, 100 * share, least, num_rows, max_length)
