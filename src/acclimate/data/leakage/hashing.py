"""64-bit hashes of texts, of their words and of runs of words, many documents at once.

The same on every machine, in every process and in every version of the libraries: nothing here uses Python's `hash`.

A word is a run of letters, digits and underscores of the folded text (`comparison.fold`). White space and punctuation only part words, so
`printf(3)`, "printf (3)" and `Printf ( 3 ),` are the same two words (Brown et al. 2020, appendix C, compare words without punctuation too,
https://arxiv.org/abs/2005.14165). In scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) each character is a word.
A sign that says something belongs to a word or is one (`signs`). The signs of a text are also summed up, so that short texts can be kept
apart by them.

Speed, on one core shared with others, over 27 MB of Debian text in word hashes: this 90-160 MB/s; `pyarrow.compute` (lower, split,
dictionary, xxHash of each distinct word) 72; `str.split` and a dictionary of xxHash 38. For whole texts the digest costs next to nothing:
building the duplicate key runs at 123 MB/s, with SHA-256 105, BLAKE2b 96, xxHash 120. So neither needs a dependency.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from acclimate.data.leakage.comparison import drop_line_marks, duplicate_key, fold, is_ignored, join_lines
from acclimate.data.leakage.signs import CANDIDATES, EDGE, MARK, MOUTHS, candidate_signs, kept_signs, written_sign
from acclimate.data.screening.scripts import UNSPACED

HashArray = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

BLOCK_CHARS = 1 << 18  # a block's arrays fit a second-level cache: 158 MB/s at 350 kB a block, 86 at 2.8 MB
_MAX_WORD_BYTES = 256  # longer ones (base64, DNA) are told apart by their first 256 bytes and their length
_SPACE = ord(" ")
_EDGE = EDGE.encode()
_FOLD = bytes(
    code + 32
    if ord("A") <= code <= ord("Z")
    else code
    if code >= 128 or chr(code).isalnum() or code == ord("_")
    else CANDIDATES.find(chr(code)) + 1 or MOUTHS.find(chr(code)) + 1 + _SPACE
    for code in range(256)
)
"""Words in lower case; of other signs those that may say something as bytes below the space, and mouths right above it."""

# Odd constants of MurmurHash3's finaliser and of the golden ratio; ROLL is the base of the polynomials over word hashes.
_MIX_1, _MIX_2, _GOLDEN = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(0x9E3779B97F4A7C15)
_ROLL = 0xD1342543DE82EF95
_SHIFT = np.uint64(33)
_BYTE_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(9)], dtype=np.uint64)


@dataclass(frozen=True)
class Hashes:
    """Hashes of several documents, end to end.

    Attributes:
        values: uint64, those of document d at `offsets[d]:offsets[d + 1]`.
        offsets: int64, shape (documents + 1,).
        marks: of words: what the signs among them add up to, 0 where a document has none, shape (documents,).
    """

    values: HashArray
    offsets: Offsets
    marks: HashArray | None = None

    @property
    def lengths(self) -> Offsets:
        """How many each document has, shape (documents,)."""
        return np.diff(self.offsets)

    def documents(self) -> Offsets:
        """The document of each value."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)


def mix(values: HashArray) -> HashArray:
    """Spread every bit over all 64, in place (MurmurHash3's finaliser, a bijection)."""
    values ^= values >> _SHIFT
    values *= _MIX_1
    values ^= values >> _SHIFT
    values *= _MIX_2
    values ^= values >> _SHIFT
    return values


def offsets_of(lengths: Offsets) -> Offsets:
    """Where each of several runs starts when they are laid end to end, and where the last ends."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def blocks(texts: Sequence[str], max_chars: int = BLOCK_CHARS) -> Iterator[Sequence[str]]:
    """Part texts into runs of at most `max_chars` characters; a longer text is a run of its own."""
    start, chars = 0, 0
    for stop, text in enumerate(texts):
        if chars and chars + len(text) > max_chars:
            yield texts[start:stop]
            start, chars = stop, 0
        chars += len(text)
    if start < len(texts):
        yield texts[start:]


def hash_texts(texts: Sequence[str]) -> HashArray:
    """One hash a text, equal for texts with one `duplicate_key`: the first 64 bits of SHA-256, as in `key_digest`.

    Of n different texts two share a hash with probability n^2 / 2^65: 3 in a million for ten million texts.
    """
    digests = b"".join(hashlib.sha256(duplicate_key(text).encode("utf-8", "surrogatepass")).digest()[:8] for text in texts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def hash_words(texts: Sequence[str]) -> Hashes:
    """The hash of each word of each text. A text that has signs but no word (`***`) counts as one word of its own.

    Different words of one length share a hash with probability about 2^-64 a pair; nothing guards against words made to collide.
    """
    parts = [_hash_block(block) for block in blocks(texts)]
    lengths = np.concatenate([part.lengths for part in parts]) if parts else np.empty(0, np.int64)
    values = np.concatenate([part.values for part in parts]) if parts else np.empty(0, np.uint64)
    marks = np.concatenate([part.marks for part in parts if part.marks is not None]) if parts else np.empty(0, np.uint64)
    return _with_wordless(Hashes(values, offsets_of(lengths), marks), texts)


def hash_grams(words: Hashes, size: int, *, whole_if_shorter: bool = False) -> Hashes:
    """The hash of every run of `size` words of each document, in order, repeats included.

    Args:
        whole_if_shorter: a document of 1 to size - 1 words gives the one run of all its words; otherwise it gives none.
    """
    lengths, starts = words.lengths, words.offsets[:-1]
    counts = np.maximum(lengths - size + 1, 0)
    inside = np.ones(len(words.values), dtype=bool)
    for back in range(1, size):  # a run that starts in a document's last size - 1 words would end in the next document
        inside[np.maximum(words.offsets[1:] - back, starts)[lengths > 0]] = False
    rolled = _finish(_roll(words.values, size), size)
    values = rolled[inside[: len(rolled)]]
    if not whole_if_shorter or not ((lengths > 0) & (lengths < size)).any():
        return Hashes(values, offsets_of(counts))
    offsets = offsets_of(np.where(lengths > 0, np.maximum(counts, 1), 0))
    merged = np.empty(int(offsets[-1]), dtype=np.uint64)
    is_short_gram = np.zeros(len(merged), dtype=bool)
    for length in np.unique(lengths[(lengths > 0) & (lengths < size)]).tolist():
        of_length = np.flatnonzero(lengths == length)
        merged[offsets[of_length]] = _finish(_roll(words.values, length)[starts[of_length]], length)
        is_short_gram[offsets[of_length]] = True
    merged[~is_short_gram] = values
    return Hashes(merged, offsets)


class KeySet:
    """64-bit keys met so far, in sorted runs whose lengths at least halve from one to the next.

    8 bytes a key, and as much again while the two longest runs are joined: ten million keys stay below 250 MB.
    A batch is looked up in every run (at most log2(keys / batch) of them) by binary search.
    """

    def __init__(self) -> None:
        self._runs: list[HashArray] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def contains(self, keys: HashArray) -> npt.NDArray[np.bool_]:
        """Which keys have been met."""
        found = np.zeros(len(keys), dtype=bool)
        for run in self._runs:
            found |= run[np.minimum(np.searchsorted(run, keys), len(run) - 1)] == keys
        return found

    def add_batch(self, keys: HashArray) -> npt.NDArray[np.bool_]:
        """Add keys; say which are met for the first time, also within the batch."""
        unique, first = np.unique(np.asarray(keys, dtype=np.uint64), return_index=True)
        fresh = ~self.contains(unique)
        first_seen = np.zeros(len(keys), dtype=bool)
        first_seen[first[fresh]] = True
        if fresh.any():
            self._runs.append(unique[fresh])
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.concatenate([self._runs[-1], last])
            self._runs[-1].sort()
        return first_seen


def _hash_block(texts: Sequence[str]) -> Hashes:
    texts = [drop_line_marks(text) for text in texts]
    encoded = [text.encode() if text.isascii() else _part_words(text).encode("utf-8", "surrogatepass") for text in texts]
    raw, folded, candidates, parted = _lay_end_to_end(encoded)
    ends = _ends(encoded)
    if len(parted):
        for document in np.unique(np.searchsorted(ends, parted)).tolist():
            encoded[document] = join_lines(encoded[document].decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")
        raw, folded, candidates, _ = _lay_end_to_end(encoded)
        ends = _ends(encoded)
    codes = np.frombuffer(folded, dtype=np.uint8)
    is_word = codes > _SPACE + len(MOUTHS)
    kept = kept_signs(raw, codes, candidates)
    is_word[kept] = True
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    counts = np.diff(np.searchsorted(starts, ends, side="right"), prepend=0)
    values = _hash_slices(folded, starts, lengths)
    marks = np.zeros(len(texts), dtype=np.uint64)
    np.add.at(marks, np.searchsorted(ends, kept), _hash_signs(folded, kept))
    return Hashes(values, offsets_of(counts), marks)


def _ends(encoded: Sequence[bytes]) -> Offsets:
    return np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1)


def _lay_end_to_end(encoded: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], bytes, Offsets, Offsets]:
    """Texts with an edge between them, the same by the table `_FOLD`, where signs may say something, and hyphens at line ends."""
    raw = b"".join((_EDGE, _EDGE.join(encoded), _EDGE * 9))  # room to read 8 bytes at the last word
    folded = raw.translate(_FOLD)
    bytes_ = np.frombuffer(raw, dtype=np.uint8)
    return bytes_, folded, *candidate_signs(bytes_, np.frombuffer(folded, dtype=np.uint8), _SPACE)


def _hash_signs(data: bytes, places: Offsets) -> HashArray:
    """The hash of each sign with the letter or digit before it: C# and F# differ. Behind a mark four bytes are the sign."""
    window = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))[places - 1]
    is_marked = (window >> np.uint64(8)) & _BYTE_MASKS[1] == CANDIDATES.index(MARK) + 1
    is_alone = window & _BYTE_MASKS[1] <= _SPACE + len(MOUTHS)
    return mix(window & _BYTE_MASKS[np.where(is_marked, 6, 2)] & ~np.where(is_alone, _BYTE_MASKS[1], _BYTE_MASKS[0]))


def _hash_slices(data: bytes, starts: Offsets, lengths: Offsets) -> HashArray:
    """Hash slices of bytes, eight bytes at a time: one pass for most words, further ones for the longer only."""
    window = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    hashes = mix(lengths.astype(np.uint64) * _GOLDEN ^ window[starts] & _BYTE_MASKS[np.minimum(lengths, 8)])
    longer = np.flatnonzero(lengths > 8)
    for done in range(8, _MAX_WORD_BYTES, 8):
        if not len(longer):
            break
        eight = window[starts[longer] + done] & _BYTE_MASKS[np.minimum(lengths[longer] - done, 8)]
        hashes[longer] = mix(hashes[longer] ^ eight)
        longer = longer[lengths[longer] > done + 8]
    return hashes


def _part_words(text: str) -> str:
    """The folded text, and a space for every sign that is not ASCII and parts words; what ASCII has is left to the byte table.

    Runs of other signs are folded by themselves, each once, where that gives the same: 6 % of Debian's text are such texts, and few of
    their signs are not ASCII.
    """
    if unicodedata.is_normalized("NFKC", text):
        parted = _OTHERS.sub(lambda run: _parted_run(run[0]), text.replace(MARK, " "))
        if _HIDDEN not in parted:
            return parted
    return _OTHERS.sub(lambda run: _signs_of_run(run[0]), fold(text).replace(MARK, " "))


_OTHERS = re.compile(r"[^\x00-\x7f]+")
_HIDDEN = "\x02"


@lru_cache(maxsize=1 << 14)
def _parted_run(run: str) -> str:
    return _HIDDEN if is_ignored(run) or unicodedata.combining(run[0]) else _signs_of_run(fold(run))


@lru_cache(maxsize=1 << 14)
def _signs_of_run(run: str) -> str:
    return run.translate(_SIGNS)


class _Signs(dict[int, str]):
    """What a sign is written as before bytes are looked at, found out when it is first met.

    Marks stay in words: in Devanagari and its like they are the vowels, which `str.isalnum` denies.
    """

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        if code >= 128 and (sign.isspace() or unicodedata.category(sign)[0] in "PSZ"):
            self[code] = written_sign(sign) or " "
        elif any(first <= code <= last for first, last in UNSPACED):
            self[code] = f" {sign} "
        else:
            self[code] = sign
        return self[code]


_SIGNS = _Signs()


def _with_wordless(words: Hashes, texts: Sequence[str]) -> Hashes:
    wordless = [document for document in np.flatnonzero(words.lengths == 0).tolist() if duplicate_key(texts[document])]
    if not wordless:
        return words
    lengths = words.lengths
    lengths[wordless] = 1
    values = np.insert(words.values, words.offsets[wordless], hash_texts([texts[document] for document in wordless]))
    return Hashes(values, offsets_of(lengths), words.marks)


def _roll(values: HashArray, size: int) -> HashArray:
    """The polynomial of every `size` neighbours modulo 2^64, by doubling: log2(size) steps instead of size."""
    rolled, span = values, 1
    for bit in f"{size:b}"[1:]:
        rolled = rolled[:-span] * np.uint64(pow(_ROLL, span, 1 << 64)) + rolled[span:]
        span *= 2
        if bit == "1":
            rolled = rolled[:-1] * np.uint64(_ROLL) + values[span:]
            span += 1
    return rolled


def _finish(rolled: HashArray, size: int) -> HashArray:
    """Runs of different sizes never count as the same one."""
    return mix(rolled + np.uint64(size * int(_GOLDEN) % (1 << 64)))
