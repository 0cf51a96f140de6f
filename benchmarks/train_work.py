"""What the benchmark of training measures on: text, tokens, models of random weights, and how work is counted.

Nothing here belongs to one side. A vocabulary of 30,522 WordPieces is trained on data/debian/corpus.parquet, once, and kept with the token
ids under benchmarks/results/train_work/; no time of that counts.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "debian"
CACHE = ROOT / "benchmarks" / "results" / "train_work"
VOCABULARY_SIZE = 30_522
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL))
MASK_RATE = 0.15
HELDOUT_DOCUMENTS = 128
TASK_TOKENS = 128
DEV_ROWS = 1000
TASK_ROWS = {"train": 2000, "dev": DEV_ROWS}
_LAYOUT = 1
"""Raised when what is cached changes."""


# Sizes and the count of floating-point operations.


@dataclass(frozen=True)
class Size:
    """A BERT encoder; its feed-forward layers are four times as wide as it is."""

    layers: int
    width: int
    heads: int


SIZES = {
    "tiny": Size(2, 128, 2),
    "mini": Size(4, 256, 4),
    "minilm": Size(6, 384, 12),
    "base": Size(12, 768, 12),
    "micro": Size(1, 64, 1),  # for a check of the code path alone
}


def flops_per_token(size: Size, lengths: np.ndarray, *, masked_share: float, vocabulary: int = VOCABULARY_SIZE) -> float:
    """Operations that training must spend on one real token: forward and backward, multiply and add counted each.

    6 * 12 L h^2 for the layers, 12 L h * (sum s^2 / sum s) for attention inside each text, 6 (V h + h^2) for the head on masked positions.
    Padding, unmasked positions in the head and recomputation earn nothing.

    Args:
        lengths: tokens of each text that attention runs over.
        masked_share: masked positions per real token.
    """
    mean_context = float(np.square(lengths, dtype=np.float64).sum() / lengths.sum())
    layers = 6 * 12 * size.layers * size.width**2
    attention = 12 * size.layers * size.width * mean_context
    head = 6 * (vocabulary * size.width + size.width**2) * masked_share
    return layers + attention + head


def flops_utilisation(tokens_per_s: float, flops_of_token: float, peak_flops_per_s: float) -> float:
    """MFU: the share of the best matrix rate of the same run that the model's own operations reach."""
    return tokens_per_s * flops_of_token / peak_flops_per_s


def best_gemm_rate(device: str, *, seconds: float = 0.5) -> dict[str, float]:
    """The best bf16 matrix rate by shape, operations a second; each shape is the best of several repetitions."""
    import torch

    shapes = [(512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 768, 3072), (4096, 1024, 1024)]
    if device == "cuda":
        shapes = [(4096, 4096, 4096), (8192, 8192, 8192), (16384, 8192, 8192), (32768, 768, 3072), (16384, 16384, 16384)]
    rates = {}
    with torch.inference_mode():
        for rows, inner, columns in shapes:
            left = torch.randn(rows, inner, device=device).bfloat16()
            right = torch.randn(columns, inner, device=device).bfloat16()
            best, until = float("inf"), time.perf_counter() + seconds
            repeats = 10 if device == "cuda" else 1
            while time.perf_counter() < until or best == float("inf"):
                synchronize(device)
                started = time.perf_counter()
                for _ in range(repeats):
                    torch.nn.functional.linear(left, right)
                synchronize(device)
                best = min(best, (time.perf_counter() - started) / repeats)
            rates[f"{rows}x{inner}x{columns}"] = 2 * rows * inner * columns / best
    return rates


def synchronize(device: str) -> None:
    """Wait for the device, where there is something to wait for."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


# One measurement.


@dataclass(frozen=True)
class Run:
    """One side of one comparison: what a process of its own is told to train."""

    kind: Literal["mlm", "task", "log", "gemm"]
    side: Literal["peer", "ours"] = "ours"
    variant: str = ""
    """Name of the peer's flags, see train_peers.VARIANTS; for ours `full` or `lora` (task only)."""
    size: str = "tiny"
    rows: int = 32
    sequence_length: int = 128
    task_rows: int = TASK_ROWS["train"]
    """Task: how many of the labelled rows make an epoch."""
    learning_rate: float = 1e-3
    warmup_steps: int = 2
    steps_per_round: int = 3
    rounds: int = 5
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    loader_workers: int = 0
    attention: str = "auto"
    """Of ours, as `train.attention` in params.yaml."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments of the peer that replace the variant's own."""

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.warmup_steps + self.rounds * self.steps_per_round


@dataclass
class Timing:
    """What one side gives back."""

    tokens: list[int]
    """Real tokens of each optimizer step, warm-up included."""
    sequences: list[int]
    seconds_per_step: list[float]
    """As long as `tokens`. On a GPU a step is done when it is launched; only sums over rounds are exact."""
    losses: list[float]
    quality: dict[str, float]
    """On held-out data after the last step: `loss`, or `accuracy` and `loss`."""
    weights_at_start: str
    """Digest of the encoder's initial weights; equal on both sides."""


@dataclass(frozen=True)
class Round:
    """A few steps between two stops of the clock; the first one is the warm-up."""

    seconds: float
    processor_s: float
    """Time of this process on its processors; steadier than the wall where others use the machine."""
    tokens: int
    sequences: int


class Turns:
    """Counts optimizer steps; after the warm-up and after each round it stops the clock and hands the turn to another process."""

    def __init__(self, run: Run, hand_over: Callable[[Round], None] | None = None) -> None:
        self._run = run
        self._hand_over = hand_over
        self._tokens: list[Any] = []
        self._sequences: list[int] = []
        self._losses: list[Any] = []
        self._seconds: list[float] = []
        self._started, self._processor = time.perf_counter(), time.process_time()

    @property
    def steps(self) -> int:
        """Steps to train for."""
        return self._run.steps

    def step(self, tokens: Any, sequences: int, loss: Any) -> None:
        """To be called when an optimizer step is done.

        Args:
            tokens: real tokens of the step, a number or a tensor that nobody has waited for.
            sequences: texts of the step.
            loss: mean loss of the step, a number or a tensor.
        """
        self._tokens.append(tokens)
        self._sequences.append(sequences)
        self._losses.append(loss)
        behind = len(self._losses) - self._run.warmup_steps
        ends_round = behind >= 0 and behind % self._run.steps_per_round == 0
        if ends_round:
            synchronize(self._run.device)
        now = time.perf_counter()
        self._seconds.append(now - self._started)
        self._started = now
        if ends_round and self._hand_over:
            steps = slice(-(self._run.steps_per_round if behind else self._run.warmup_steps), None)
            tokens, processor_s = sum(map(int, self._tokens[steps])), time.process_time() - self._processor
            self._hand_over(Round(sum(self._seconds[steps]), processor_s, tokens, sum(self._sequences[steps])))
            self._started, self._processor = time.perf_counter(), time.process_time()

    def timing(self, *, quality: dict[str, float], weights_at_start: str) -> Timing:
        """Everything that was counted."""
        if len(self._losses) != self.steps:
            raise RuntimeError(f"{len(self._losses)} steps were taken; {self.steps} were asked for")
        tokens, losses = [int(count) for count in self._tokens], [float(loss) for loss in self._losses]
        return Timing(tokens, self._sequences, self._seconds, losses, quality, weights_at_start)


# Rounds of two sides, and their ratio.


@dataclass(frozen=True)
class Ratio:
    """Ours over the peer's, round by round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio_of_rounds(ours: Sequence[float], peer: Sequence[float]) -> Ratio:
    """Median, least and greatest of the ratios of equal rounds; the more so where the load of the machine changes between rounds.

    Raises:
        ValueError: no round, or unequally many.
    """
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    if not ratios:
        raise ValueError("no round to compare")
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


# Text as tokens.


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (rows,)."""
        return np.diff(self.offsets)

    @property
    def type_ids(self) -> np.ndarray:
        """Zeros: no pairs."""
        return np.zeros_like(self.ids)

    def row(self, index: int) -> np.ndarray:
        """Ids of one row."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def head(self, rows: int) -> Ragged:
        """The first rows."""
        rows = min(rows, len(self))
        return Ragged(self.ids[: self.offsets[rows]], self.offsets[: rows + 1], None if self.labels is None else self.labels[:rows])

    def cut(self, tokens: int) -> Ragged:
        """The same rows, at most so long; the last token stays, as truncation keeps [SEP]."""
        rows = [row if len(row) <= tokens else np.append(row[: tokens - 1], row[-1]) for row in map(self.row, range(len(self)))]
        return _ragged(rows, self.labels)


@dataclass(frozen=True)
class Work:
    """What both sides train and are judged on."""

    documents: Ragged
    """Training text, [CLS] ... [SEP] each, uint16."""
    heldout: Ragged
    train: Ragged
    """Labelled rows of the task `section`."""
    dev: Ragged
    labels: list[str]
    tokenizer_file: Path

    def packed(self, sequence_length: int) -> np.ndarray:
        """Rows of the documents laid end to end, as group_texts makes them: (rows, tokens); what fills no row is left out."""
        count = len(self.documents.ids) // sequence_length
        return self.documents.ids[: count * sequence_length].reshape(count, sequence_length)

    def packed_lengths(self, sequence_length: int) -> np.ndarray:
        """Tokens of each piece of a document in those rows."""
        total = self.packed(sequence_length).size
        starts = np.union1d(self.documents.offsets[self.documents.offsets < total], np.arange(0, total, sequence_length))
        return np.diff(np.append(starts, total))

    def masked_share(self) -> float:
        """Masked positions per real token: special tokens are never masked."""
        return MASK_RATE * (1.0 - 2.0 * len(self.documents) / len(self.documents.ids))


def _ragged(rows: Sequence[np.ndarray], labels: np.ndarray | None = None) -> Ragged:
    return Ragged(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]), labels)


def prepare_work() -> Path:
    """Train the vocabulary and encode the texts, unless that was done before; gives the directory."""
    import tokenizers

    key = hashlib.sha256(f"{_LAYOUT} {tokenizers.__version__} {VOCABULARY_SIZE}".encode())
    for name in ("corpus.parquet", "section.parquet"):
        key.update((DATA / name).read_bytes())
    directory = CACHE / key.hexdigest()[:16]
    if not (directory / "labels.json").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        _make_work(directory)
    return directory


def _make_work(directory: Path) -> None:
    import pyarrow.parquet as pq

    texts = pq.read_table(DATA / "corpus.parquet", columns=["text"])["text"].to_pylist()
    tokenizer = train_vocabulary(texts)
    tokenizer.save(str(directory / "tokenizer.json"))
    is_heldout = np.zeros(len(texts), dtype=np.bool_)
    is_heldout[:: max(1, len(texts) // HELDOUT_DOCUMENTS)] = True
    encoded = [np.array(encoding.ids, dtype=np.uint16) for encoding in tokenizer.encode_batch(texts)]
    _save(directory, "documents", [row for row, held in zip(encoded, is_heldout, strict=True) if not held])
    _save(directory, "heldout", [row for row, held in zip(encoded, is_heldout, strict=True) if held])
    table = pq.read_table(DATA / "section.parquet", columns=["text", "section", "split"])
    labels = sorted(set(table["section"].to_pylist()))
    number = {label: index for index, label in enumerate(labels)}
    for split, count in TASK_ROWS.items():
        rows = [row for row in table.to_pylist() if row["split"] == split]
        rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))[:count]]
        ids = [np.array(encoding.ids, dtype=np.uint16) for encoding in tokenizer.encode_batch([row["text"] for row in rows])]
        _save(directory, split, ids, np.array([number[row["section"]] for row in rows]))
    (directory / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


def train_vocabulary(texts: Sequence[str], size: int = VOCABULARY_SIZE) -> Any:
    """BERT's tokenizer, lower case, with a WordPiece vocabulary of these texts.

    Raises:
        ValueError: the texts do not give so many pieces.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False))
    if tokenizer.get_vocab_size() != size:
        raise ValueError(f"the texts give {tokenizer.get_vocab_size()} pieces; {size} are wanted")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    return tokenizer


def _save(directory: Path, name: str, rows: Sequence[np.ndarray], labels: np.ndarray | None = None) -> None:
    ragged = _ragged(rows)
    arrays = {"ids": ragged.ids, "offsets": ragged.offsets} | ({"labels": labels} if labels is not None else {})
    np.savez(directory / f"{name}.npz", **arrays)


def load_work(directory: Path) -> Work:
    """Read what `prepare_work` made; the task's rows are cut to 128 tokens, as run_glue does by default."""
    parts = {}
    for name in ("documents", "heldout", "train", "dev"):
        with np.load(directory / f"{name}.npz") as arrays:
            parts[name] = Ragged(arrays["ids"], arrays["offsets"], arrays.get("labels"))
    labels = json.loads((directory / "labels.json").read_text(encoding="utf-8"))
    train, dev = (parts[split].cut(TASK_TOKENS) for split in ("train", "dev"))
    return Work(parts["documents"], parts["heldout"], train, dev, labels, directory / "tokenizer.json")


# Models of random weights, the same on both sides.


def bert_config(size: str, *, dropout: float, attention_dropout: float, attention: str) -> Any:
    """BERT's configuration of this size and vocabulary."""
    from transformers.models.bert.configuration_bert import BertConfig

    shape = SIZES[size]
    config = BertConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=512,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=attention_dropout,
        pad_token_id=PAD,
    )
    config._attn_implementation = attention
    return config


def new_masked_lm(size: str, *, dropout: float, attention_dropout: float, attention: str) -> Any:
    """transformers' BertForMaskedLM; equal sizes get equal weights."""
    import torch
    from transformers.models.bert.modeling_bert import BertForMaskedLM

    torch.manual_seed(1234)
    return BertForMaskedLM(bert_config(size, dropout=dropout, attention_dropout=attention_dropout, attention=attention))


def weights_digest(model: Any) -> str:
    """Digest of an encoder's weights, whatever head it has."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if "embeddings." in name or "encoder." in name:
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# Judging: outside the clock, in fp32, by the same code for both sides.


def heldout_loss(masked_lm: Any, work: Work, *, tokens: int = 128) -> float:
    """Mean loss over the masked positions of the held-out documents, one by one, the same masks whoever asks.

    Documents by themselves are what both ways of packing have in common: attention across documents finds nothing to cross. BERT-base, for
    the sake of time, reads a quarter of them.
    """
    import torch

    documents = work.heldout.head(HELDOUT_DOCUMENTS if masked_lm.config.hidden_size < 768 else HELDOUT_DOCUMENTS // 4).cut(tokens)
    random = np.random.default_rng(7)
    device = next(masked_lm.parameters()).device
    masked_lm.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for index in np.argsort(documents.lengths, kind="stable"):
            ids = documents.row(int(index)).astype(np.int64)
            chosen = np.flatnonzero((random.random(len(ids)) < MASK_RATE) & (ids >= len(SPECIAL)))
            if not len(chosen):
                continue
            corrupted = ids.copy()
            corrupted[chosen] = MASK
            hidden_BTD = masked_lm.bert(input_ids=torch.from_numpy(corrupted)[None].to(device)).last_hidden_state
            logits = masked_lm.cls(hidden_BTD[0, torch.from_numpy(chosen).to(device)])
            total += float(torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(ids[chosen]).to(device), reduction="sum"))
            count += len(chosen)
    return total / count


def accuracy(predict: Callable[[Any, Any], Any], rows: Ragged, device: str) -> dict[str, float]:
    """Share of rows classified as they are labelled, and the mean loss.

    Args:
        predict: (ids_BT, mask_BT) to logits.
    """
    import torch

    assert rows.labels is not None
    right, loss = 0, 0.0
    order = np.argsort(rows.lengths, kind="stable")
    with torch.no_grad():
        for start in range(0, len(order), 50):
            chosen = order[start : start + 50]
            width = int(rows.lengths[chosen].max())
            ids = np.full((len(chosen), width), PAD, dtype=np.int64)
            for line, index in enumerate(chosen):
                ids[line, : rows.lengths[index]] = rows.row(index)
            ids_BT = torch.from_numpy(ids).to(device)
            logits = predict(ids_BT, (ids_BT != PAD).long()).float().cpu()
            gold = torch.from_numpy(rows.labels[chosen])
            right += int((logits.argmax(-1) == gold).sum())
            loss += float(torch.nn.functional.cross_entropy(logits, gold, reduction="sum"))
    return {"accuracy": right / len(order), "loss": loss / len(order)}


def peak_memory_mb(device: str) -> float:
    """Of the GPU where there is one, else the resident memory of this process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def settle(run: Run) -> None:
    """Threads of this process; on a CPU it stays on the first cores that it may use."""
    if run.device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: run.threads])
    import torch

    torch.set_num_threads(run.threads)


def as_json(value: Any) -> str:
    """A dataclass on one line."""
    return json.dumps(asdict(value))
