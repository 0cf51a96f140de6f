"""Domain words for a WordPiece vocabulary, each starting from the mean of the pieces that it was broken into.

The words go into the vocabulary itself: as added tokens they would be searched for in the raw text before everything else, which slows the
tokenizer (huggingface/tokenizers#615). The start from the mean follows Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html.

Shape suffixes: V vocabulary, N new words, D width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from acclimate import artifacts
from acclimate.backbones.loading import CONFIG, TOKENIZER, WEIGHTS, save_weights
from acclimate.backbones.options import VocabularyConfig
from acclimate.backbones.saving import copy_tokenizer
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.data.tokens.fertility import BrokenWord, Fertility, FertilityConfig, measure_fertility
from acclimate.errors import ModelError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Extension:
    """A vocabulary extension that was found worth having."""

    words: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]
    """Ids, in the old vocabulary, of the pieces of each word."""
    tokenizer: Tokenizer
    """The new one."""
    before: Fertility
    """On the held-out text, by the old tokenizer."""
    after: Fertility

    @property
    def fertility_drop(self) -> float:
        """Share of tokens a word that the extension saves on held-out text."""
        return 1 - self.after.tokens_per_word / self.before.tokens_per_word


def plan_extension(
    tokenizer: Tokenizer, train: Iterable[Sequence[str]], heldout: Sequence[Sequence[str]], config: VocabularyConfig
) -> Extension:
    """Choose words on training text, extend the tokenizer, and prove the gain on held-out text.

    Args:
        train: batches of domain texts.
        heldout: batches of domain texts that are not among them; read twice.
    Raises:
        ModelError: the tokenizer is no WordPiece; no word qualifies; or fertility on the held-out text falls by less than
            `config.min_fertility_drop`, or unknown tokens become more.
    """
    # More than are wanted, since not every broken word qualifies; the listing is what bounds memory.
    measured = measure_fertility(train, tokenizer, FertilityConfig(listed_words=max(1000, 4 * config.new_words)))
    words = choose_words(measured.broken, tokenizer, config)
    if not words:
        raise ModelError(
            f"vocabulary.new_words: none of {len(measured.broken)} broken words qualifies in {measured.documents} texts: letters and"
            f" digits, {config.min_count} times or more; lower vocabulary.min_count or set new_words to 0"
        )
    extended = extend_tokenizer(tokenizer, words)
    pieces = tuple(tuple(tokenizer.encode(word, add_special_tokens=False).ids) for word in words)
    plan = Extension(tuple(words), pieces, extended, measure_fertility(heldout, tokenizer), measure_fertility(heldout, extended))
    _refuse_small_gain(plan, config)
    return plan


def _refuse_small_gain(plan: Extension, config: VocabularyConfig) -> None:
    before, after = plan.before, plan.after
    if after.unknown > before.unknown:
        raise ModelError(
            f"vocabulary.new_words: {len(plan.words)} new words raise the unknown tokens of held-out text from {before.unknown} to"
            f" {after.unknown}; allowed: no more than before; set new_words to 0"
        )
    if plan.fertility_drop < config.min_fertility_drop:
        raise ModelError(
            f"vocabulary.new_words: {len(plan.words)} new words change held-out text from {before.tokens_per_word:.3f} to"
            f" {after.tokens_per_word:.3f} tokens a word, {plan.fertility_drop:.1%} fewer; vocabulary.min_fertility_drop asks for"
            f" {config.min_fertility_drop:.1%}; allow more words, lower it, or set new_words to 0"
        )


def choose_words(broken: Sequence[BrokenWord], tokenizer: Tokenizer, config: VocabularyConfig) -> list[str]:
    """The words that save the most tokens: frequent, letters and digits with a letter first, known piece by piece."""
    unknown = _unknown_token(tokenizer)
    chosen = [
        found.word
        for found in broken
        if found.count >= config.min_count
        and len(found.word) <= config.max_word_chars
        and found.word.isalnum()
        and found.word[0].isalpha()
        and unknown not in found.pieces
        and tokenizer.token_to_id(found.word) is None
        and tuple(tokenizer.encode(found.word, add_special_tokens=False).tokens) == found.pieces
    ]
    return chosen[: config.new_words]


def _unknown_token(tokenizer: Tokenizer) -> str:
    return str(_settings(tokenizer)["model"].get("unk_token", "[UNK]"))


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer as its tokenizer.json.

    Raises:
        ModelError: it is no WordPiece tokenizer.
    """
    settings: dict[str, Any] = json.loads(tokenizer.to_str())
    kind = settings["model"].get("type")
    if kind != "WordPiece":
        raise ModelError(
            f"vocabulary.new_words: the tokenizer is of type {kind}; only WordPiece vocabularies can take whole words; set new_words to 0"
        )
    return settings


def extend_tokenizer(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """A tokenizer whose WordPiece vocabulary ends with `words`; the old one stays as it is.

    Only words that begin with one of `words` are cut otherwise than before: WordPiece takes the longest piece that fits.

    Raises:
        ModelError: it is no WordPiece tokenizer, or it knows one of the words already.
    """
    settings = _settings(tokenizer)
    vocabulary: dict[str, int] = settings["model"]["vocab"]
    known = [word for word in words if word in vocabulary]
    if known or len(set(words)) < len(words):
        raise ModelError(f"vocabulary: {', '.join(known[:3]) or 'a word'} would stand there twice; new words must be new and differ")
    first = max([*vocabulary.values(), *tokenizer.get_added_tokens_decoder()]) + 1
    vocabulary.update({word: first + place for place, word in enumerate(words)})
    extended = Tokenizer.from_str(json.dumps(settings, ensure_ascii=False))
    extended.encode_special_tokens = tokenizer.encode_special_tokens  # JSON does not hold it
    return extended


def extend_rows(weight: torch.Tensor, pieces: Sequence[Sequence[int]]) -> torch.Tensor:
    """Append to (V, D), or (V,), for each new word the mean of the rows of its pieces; (V + N, D), or (V + N,)."""
    import torch

    rows = [weight[list(ids)].float().mean(dim=0).to(weight.dtype) for ids in pieces]
    return torch.cat([weight, torch.stack(rows)]) if rows else weight


def extend_backbone(source: Path, plan: Extension, out: Path) -> None:
    """Write the encoder of `source` with the new words: tokenizer.json, config.json and weights.

    Every tensor with one row for each token grows: the embeddings, and a head's decoder and bias where the file holds them.

    Raises:
        ModelError: no tensor has a row for each token.
    """
    from safetensors.torch import load_file

    settings = artifacts.read_json(source / CONFIG)
    size = int(settings["vocab_size"])
    if size != load_tokenizer(source).get_vocab_size():
        raise ModelError(
            f"{source / CONFIG}: vocab_size is {size}, {TOKENIZER} holds {load_tokenizer(source).get_vocab_size()} tokens; they must agree"
        )
    weights = load_file(source / WEIGHTS)
    grown = [name for name, weight in weights.items() if weight.shape[0:1] == (size,) and _has_row_per_token(name)]
    if not any("word_embeddings" in name for name in grown):
        raise ModelError(f"{source / WEIGHTS}: no word_embeddings of {size} rows; vocabulary.new_words needs them; set it to 0")
    for name in grown:
        weights[name] = extend_rows(weights[name], plan.pieces)
    save_weights(weights, out / WEIGHTS)
    artifacts.write_json(out / CONFIG, {**settings, "vocab_size": size + len(plan.words)})
    copy_tokenizer(source, out)
    plan.tokenizer.save(str(out / TOKENIZER))


def _has_row_per_token(name: str) -> bool:
    return any(part in name for part in ("word_embeddings", "decoder", "predictions.bias", "lm_head.bias"))
