"""Decontamination: documents of the corpus that hold the text of a dev or test row.

Compared are runs of words (`hashing` says what a word is), 13 at a time as in Brown et al. 2020, appendix C
(https://arxiv.org/abs/2005.14165). They drop what shares one run; here a share of the runs decides, because manuals and descriptions
quote each other's standard sentences, and one of those makes no evaluation text known.

- A text of `ngram` words or more matches by the overlap: the different runs that it shares with a document, over those of whichever of
  the two has fewer. So a document that quotes the text among much else is found, and so is one that is a part of the text.
- A text of `min_words` to `ngram` - 1 words matches a document that holds all its words in a row. Where more than `max_documents`
  documents do, it is a stock sentence ("For more information on configuring this device, see ifconfig"): it drops none of them and is
  named in the verdict (NeMo Curator's `max_matches`, 10 too, but there for runs of any length). A longer text drops every document that
  holds it: a quiz copied to a thousand pages is known by heart.
- A shorter text ("a text editor") stands in many documents that have nothing to do with it. It matches only a document that consists of
  its words and nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from acclimate.data.leakage.hashing import BLOCK_CHARS, HashArray, Hashes, Offsets, blocks, hash_grams, hash_texts, hash_words, offsets_of
from acclimate.settings import Count, Options, Share

_FILTER_SLOTS_PER_GRAM = 16  # one in 16 of the runs that are not in the table needs the binary search


class DecontaminationConfig(Options):
    """When a document of the corpus counts as holding an evaluation text."""

    enabled: bool = Field(default=True, description="when off, the evaluation prints no score without saying so")
    ngram: Count = Field(default=13, description="words in a run")
    min_words: Count = Field(default=8, description="evaluation texts with fewer words match only documents that consist of them")
    max_documents: Count = Field(
        default=10, description="an evaluation text shorter than `ngram` that stands in more documents than this is a stock sentence"
    )
    threshold: Annotated[Share, Field(gt=0)] = Field(default=0.5, description="overlap from which a document is dropped")

    @model_validator(mode="after")
    def _in_order(self) -> DecontaminationConfig:
        if self.min_words > self.ngram:
            raise ValueError(f"min_words {self.min_words} is above ngram {self.ngram}; allowed: 1 to {self.ngram}")
        return self


@dataclass(frozen=True)
class EvaluationText:
    """A dev or test text: `place` such as "tables/section:test", and the id of its row."""

    place: str
    id: str
    text: str


@dataclass(frozen=True)
class Match:
    """A document, by its number, that overlaps an evaluation row.

    Attributes:
        key: of the row's text, which every row with an equal text shares: `hash_texts`, as 16 hexadecimal digits.
        is_short: that text has fewer than `ngram` words.
    """

    document: int
    place: str
    id: str
    key: str
    overlap: float
    is_short: bool


@dataclass(frozen=True)
class Contamination:
    """What to drop.

    Attributes:
        worst: one match for each document that goes.
        stock: place, id and key of each text that is a stock sentence.
    """

    worst: tuple[Match, ...]
    stock: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class _GramTable:
    """The different runs of one length of the evaluation texts, and the texts that each stands in."""

    grams: HashArray
    offsets: Offsets
    texts: npt.NDArray[np.int64]
    shift: np.uint64
    is_taken: npt.NDArray[np.bool_]

    @classmethod
    def build(cls, grams: HashArray, texts: npt.NDArray[np.int64]) -> _GramTable:
        order = np.lexsort((texts, grams))
        grams, texts = grams[order], texts[order]
        new_gram = np.append(True, grams[1:] != grams[:-1])
        new_pair = new_gram | np.append(True, texts[1:] != texts[:-1])
        starts = np.flatnonzero(new_gram[new_pair])
        bits = max(int(len(grams) * _FILTER_SLOTS_PER_GRAM).bit_length(), 10)
        shift = np.uint64(64 - bits)
        is_taken = np.zeros(1 << bits, dtype=bool)
        is_taken[grams >> shift] = True
        return cls(grams[new_gram], np.append(starts, int(new_pair.sum())), texts[new_pair], shift, is_taken)

    def find(self, grams: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Documents, texts, and how many different runs they share: one item a pair that shares any."""
        maybe = np.flatnonzero(self.is_taken[grams.values >> self.shift])
        wanted = grams.values[maybe]
        slots = np.minimum(np.searchsorted(self.grams, wanted), len(self.grams) - 1)
        hits = self.grams[slots] == wanted
        documents = np.searchsorted(grams.offsets, maybe[hits], side="right") - 1
        document_slots = np.unique(documents * len(self.grams) + slots[hits])
        documents, slots = np.divmod(document_slots, len(self.grams))
        repeats = self.offsets[slots + 1] - self.offsets[slots]
        within = np.arange(int(repeats.sum())) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        texts = self.texts[np.repeat(self.offsets[slots], repeats) + within]
        num_texts = int(self.texts.max()) + 1
        pairs, shared = np.unique(np.repeat(documents, repeats) * num_texts + texts, return_counts=True)
        return pairs // num_texts, pairs % num_texts, shared


@dataclass(frozen=True)
class EvaluationIndex:
    """The runs of words of every dev and test text; equal texts are held once, under the first row that has them."""

    config: DecontaminationConfig
    num_texts: int
    places: tuple[str, ...]
    ids: tuple[str, ...]
    keys: HashArray
    num_grams: npt.NDArray[np.int64]
    tables: dict[int, _GramTable] = field(repr=False)
    whole: _GramTable | None = field(repr=False)

    @classmethod
    def build(cls, rows: Iterable[EvaluationText], config: DecontaminationConfig) -> EvaluationIndex:
        """Index rows; a row with several texts (a pair) is given once for each.

        Takes about 35 bytes a run of words: 0.5 GB for the largest evaluation sets in use, a million rows of 25 words.
        """
        given = list(rows)
        keys = hash_texts([row.text for row in given])
        first = np.sort(np.unique(keys, return_index=True)[1])
        held = [given[index] for index in first.tolist()]
        words = hash_words([row.text for row in held])
        long = _distinct(hash_grams(words, config.ngram))
        num_grams = np.maximum(long.lengths, 1)
        tables = {config.ngram: _GramTable.build(long.values, long.documents())} if len(long.values) else {}
        for length in range(config.min_words, config.ngram):
            texts = np.flatnonzero(words.lengths == length)
            if len(texts):
                tables[length] = _GramTable.build(hash_grams(_select(words, texts), length).values, texts)
        texts = np.flatnonzero((words.lengths > 0) & (words.lengths < config.min_words))
        whole = _GramTable.build(_whole(_select(words, texts), config), texts) if len(texts) else None
        places, ids = tuple(row.place for row in held), tuple(row.id for row in held)
        return cls(config, len(given), places, ids, keys[first], num_grams, tables, whole)

    def save(self, path: Path) -> None:
        """Write the index for other processes, as arrays and JSON: reading it runs no code."""
        tables = {str(length): table for length, table in self.tables.items()} | ({} if self.whole is None else {"whole": self.whole})
        arrays = {f"{name}.{part.name}": getattr(table, part.name) for name, table in tables.items() for part in fields(table)}
        about = {"config": self.config.model_dump(), "num_texts": self.num_texts, "places": self.places, "ids": self.ids}
        arrays |= {"keys": self.keys, "num_grams": self.num_grams, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> EvaluationIndex:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: array[()] for name, array in stored.items()}
        about = json.loads(arrays["about"].tobytes())
        names = dict.fromkeys(name.partition(".")[0] for name in arrays if "." in name)
        tables = {name: _GramTable(*(arrays[f"{name}.{part.name}"] for part in fields(_GramTable))) for name in names}
        whole = tables.pop("whole", None)
        by_length = {int(length): table for length, table in tables.items()}
        config, places, ids = DecontaminationConfig(**about["config"]), tuple(about["places"]), tuple(about["ids"])
        return cls(config, about["num_texts"], places, ids, arrays["keys"], arrays["num_grams"], by_length, whole)

    def check(self, texts: Sequence[str]) -> list[Match]:
        """All matches of a batch at or above the threshold, by document and evaluation row.

        Documents are numbered from 0 in the batch; `decide` wants them numbered through.
        """
        found: list[Match] = []
        done = 0
        for block in blocks(texts, 4 * BLOCK_CHARS):
            found += self._check_block(block, done)
            done += len(block)
        return found

    def _check_block(self, texts: Sequence[str], done: int) -> list[Match]:
        words = hash_words(texts)
        pairs = [(*self._overlaps(words, length), length < self.config.ngram) for length in self.tables]
        if self.whole is not None:
            short = np.flatnonzero((words.lengths > 0) & (words.lengths < self.config.min_words))
            grams = _whole(_select(words, short), self.config)
            documents, rows, _ = self.whole.find(Hashes(grams, np.arange(len(grams) + 1)))
            pairs.append((short[documents], rows, np.ones(len(rows)), True))
        found = [
            (document, row, overlap, is_short)
            for documents, rows, overlaps, is_short in pairs
            for document, row, overlap in _at_least(self.config.threshold, documents, rows, overlaps)
        ]
        return [
            Match(done + document, self.places[row], self.ids[row], f"{self.keys[row]:016x}", overlap, is_short)
            for document, row, overlap, is_short in sorted(found)
        ]

    def _overlaps(self, words: Hashes, length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        grams = hash_grams(words, length)
        documents, rows, shared = self.tables[length].find(grams)
        if length < self.config.ngram:
            return documents, rows, np.ones(len(rows))
        # Repeats inside a document count here, which lets a document that repeats itself off lightly; texts are counted without.
        return documents, rows, shared / np.minimum(self.num_grams[rows], grams.lengths[documents])


def decide(matches: Iterable[Match], config: DecontaminationConfig, *, stock: Collection[str] | None = None) -> Contamination:
    """Which documents to drop, given the matches of all batches with documents numbered through.

    A document goes for the row that it overlaps most; of equals, for the first by place and id.

    Args:
        stock: keys of the stock sentences where they are known, as for a part of the corpus: counted there, the same text may stand in
            fewer documents than `max_documents`. Without them they are found by counting.
    """
    found = list(matches)
    known = _count_stock(found, config) if stock is None else set(stock)
    left = [match for match in found if match.key not in known]
    left.sort(key=lambda match: (match.document, -match.overlap, match.place, match.id))
    worst = {match.document: match for match in reversed(left)}
    rows = {(match.place, match.id, match.key) for match in found if match.key in known}
    return Contamination(tuple(worst[document] for document in sorted(worst)), tuple(sorted(rows)))


def _count_stock(matches: Iterable[Match], config: DecontaminationConfig) -> set[str]:
    """The keys of short texts that stand in too many documents."""
    documents_of: dict[str, set[int]] = {}
    for match in matches:
        if match.is_short:
            documents_of.setdefault(match.key, set()).add(match.document)
    return {key for key, documents in documents_of.items() if len(documents) > config.max_documents}


def verdict(index: EvaluationIndex | None, contamination: Contamination, *, documents: int) -> dict[str, Any]:
    """What validate, the stage that prints scores and the report want to know of the corpus, as JSON.

    Args:
        index: None where the check is off.
        documents: how many were checked.
    """
    if index is None:
        return {"checked": False}
    return {
        "checked": True,
        "rules": index.config.model_dump(),
        "evaluation_texts": index.num_texts,
        "documents": documents,
        "documents_dropped": len(contamination.worst),
        "dropped_by_place": dict(sorted(Counter(match.place for match in contamination.worst).items())),
        "stock_sentences": [list(row) for row in contamination.stock],
    }


def _at_least(
    threshold: float, documents: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], overlaps: npt.NDArray[np.float64]
) -> Iterator[tuple[int, int, float]]:
    enough = overlaps >= threshold
    return zip(documents[enough].tolist(), rows[enough].tolist(), overlaps[enough].tolist(), strict=True)


def _whole(words: Hashes, config: DecontaminationConfig) -> HashArray:
    """One hash of all words of each document, each of which has 1 to min_words - 1."""
    return hash_grams(words, config.min_words, whole_if_shorter=True).values


def _select(words: Hashes, documents: npt.NDArray[np.int64]) -> Hashes:
    lengths = words.lengths[documents]
    offsets = offsets_of(lengths)
    within = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], lengths)
    return Hashes(words.values[np.repeat(words.offsets[documents], lengths) + within], offsets)


def _distinct(grams: Hashes) -> Hashes:
    """Each document's runs without repeats, in no particular order."""
    documents = grams.documents()
    order = np.lexsort((grams.values, documents))
    values, documents = grams.values[order], documents[order]
    new = np.append(True, (values[1:] != values[:-1]) | (documents[1:] != documents[:-1]))[: len(values)]
    return Hashes(values[new], offsets_of(np.bincount(documents[new], minlength=len(grams.offsets) - 1)))
