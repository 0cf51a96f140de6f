"""Pairs of texts: (a, b) and (b, a) are one pair wherever copies and splits are concerned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from acclimate.data.leakage.comparison import duplicate_key, key_digest

Pair = Sequence[str]


def pair_key(texts: Pair) -> str:
    """What two pairs share that are copies, whichever text stands first."""
    return "\t".join(sorted(map(duplicate_key, texts)))


def pair_groups(pairs: Sequence[Pair]) -> list[str]:
    """A group for each pair: of all with the same first text, and with them those in which the two stand the other way round.

    Pairs that share any other text are not joined: in most tables of pairs such chains lead from each row to nearly every other, and would
    leave nothing to test on. `shared_texts` counts them.
    """
    digests = [[key_digest(text) for text in pair] for pair in pairs]
    known = {tuple(pair) for pair in digests}
    roots: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := roots.get(name, name)) != name:
            roots[name] = roots.get(above, above)
            name = above
        return name

    for first, *rest in digests:
        for second in rest:
            if (second, first) in known:
                low, high = sorted((root(first), root(second)))
                roots[high] = low
    return [root(pair[0]) for pair in digests]


def shared_texts(trained: Iterable[Pair], evaluated: Iterable[Pair]) -> int:
    """How many evaluated pairs hold a text that stands in a pair that is trained on."""
    known = {duplicate_key(text) for pair in trained for text in pair}
    return sum(any(duplicate_key(text) in known for text in pair) for pair in evaluated)
