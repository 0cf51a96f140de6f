"""Topics of texts by latent semantic analysis of the corpus (Deerwester et al. 1990, Indexing by latent semantic analysis).

Shape suffixes: N documents of the corpus, B given ones, V vocabulary, K topics.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from acclimate.errors import DataError
from acclimate.protocols import Documents, Draw, Facts, Source

_MIN_DOCUMENTS = 3
"""A token that stands in fewer documents tells nothing of what documents have in common."""
_SAME_TEXT = 0.95
"""Above this cosine two texts are copies of each other, or one."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TopicSpace:
    """Topic vectors of the corpus's documents, each of length 1, and what makes those of other texts."""

    documents: Source[Documents]
    numbers_N: np.ndarray
    """The documents that have a vector."""
    vectors_NK: np.ndarray
    idf_V: np.ndarray
    topics_VK: np.ndarray

    def vectors(self, texts: Sequence[Tensor]) -> np.ndarray:
        """Topic vectors of token ids, (B, K) float32; zeros where no token counts."""
        return _of_length_1(_weighted(_counts(texts, len(self.idf_V)), self.idf_V) @ self.topics_VK)

    def neighbours(self, vectors_BK: np.ndarray, count: int) -> list[np.ndarray]:
        """For each vector the places of the nearest documents that are no copy of its text, at most `count`."""
        nearness_BN = vectors_BK @ self.vectors_NK.T
        nearness_BN[nearness_BN > _SAME_TEXT] = -1.0
        nearest_BC = np.argpartition(-nearness_BN, min(count, len(self.numbers_N)) - 1, axis=1)[:, :count]
        return [np.sort(places_C[row_N[places_C] > 0]) for places_C, row_N in zip(nearest_BC, nearness_BN, strict=True)]

    def document(self, place: int) -> Tensor:
        """A document's token ids."""
        return self.documents.view(self.numbers_N[[place]], _NO_DRAW).ids[0]


_NO_DRAW = Draw(0, "topics", 0)
"""Nothing is drawn where whole documents are read."""


@lru_cache(maxsize=2)
def topic_space(facts: Facts, *, num_topics: int, max_documents: int) -> TopicSpace:
    """Decompose the TF-IDF of the text that is trained on; the same text gives the same bits.

    A topic is divided by the root of its singular value: the first ones tell kinds of text apart, and would drown the others.

    Args:
        max_documents: of more, as many are taken, evenly spaced.

    Raises:
        DataError: hardly a token stands in several documents.
    """
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    documents = facts.documents()
    numbers_N = np.arange(0, len(documents), max(1, -(-len(documents) // max_documents)))
    counts_NV = _counts(documents.view(numbers_N, _NO_DRAW).ids, len(facts.unigram_V))
    frequency_V = np.bincount(counts_NV.indices, minlength=len(facts.unigram_V))
    frequency_V[list(facts.vocabulary.special_ids)] = 0
    columns = np.flatnonzero(frequency_V >= _MIN_DOCUMENTS)
    if len(columns) < 3:
        raise DataError(f"topics: {len(columns)} tokens stand in {_MIN_DOCUMENTS} or more of the {len(numbers_N)} documents; 3 are needed")
    idf_V = np.zeros(len(facts.unigram_V), dtype=np.float32)
    idf_V[columns] = np.log((1 + len(numbers_N)) / frequency_V[columns])
    weighted_NV = _weighted(counts_NV, idf_V)[:, columns]
    with threadpool_limits(1):  # the order of sums, and so the bits, would follow the number of threads
        _, strength_K, topics_KC = randomized_svd(weighted_NV, min(num_topics, len(columns) - 1), n_iter=3, random_state=0)
    topics_VK = np.zeros((len(idf_V), len(strength_K)), dtype=np.float32)
    topics_VK[columns] = (topics_KC / np.sqrt(np.maximum(strength_K, 1e-6))[:, None]).T
    vectors_NK = _of_length_1(weighted_NV @ topics_VK[columns])
    logger.info("topics: %d, of %d documents and %d tokens", topics_VK.shape[1], len(numbers_N), len(columns))
    return TopicSpace(documents, numbers_N, vectors_NK, idf_V, topics_VK)


def _counts(texts: Sequence[Tensor], size: int) -> Any:
    """How often each text holds each token, sparse (B, V) float32."""
    from scipy.sparse import csr_matrix

    lengths = [len(ids_T) for ids_T in texts]
    ids = np.concatenate([ids_T.numpy() for ids_T in texts])
    rows = np.repeat(np.arange(len(texts)), lengths)
    counts_BV = csr_matrix((np.ones(len(ids), dtype=np.float32), (rows, ids)), shape=(len(texts), size))
    counts_BV.sum_duplicates()
    return counts_BV


def _weighted(counts_BV: Any, idf_V: np.ndarray) -> Any:
    """TF-IDF with sublinear counts, rows of length 1, sparse (B, V)."""
    from sklearn.preprocessing import normalize

    counts_BV.data = (1 + np.log(counts_BV.data)) * idf_V[counts_BV.indices]
    return normalize(counts_BV)


def _of_length_1(vectors_BK: np.ndarray) -> np.ndarray:
    lengths_B1 = np.linalg.norm(vectors_BK, axis=1, keepdims=True)
    found_BK: np.ndarray = (vectors_BK / np.maximum(lengths_B1, 1e-9)).astype(np.float32)
    return found_BK
