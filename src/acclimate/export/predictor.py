"""Answers from raw text, by an exported ONNX graph; what differs by kind of task is in decode.py beside the graph.

Needs numpy, onnxruntime and tokenizers alone (cleaning.py also ftfy) and imports nothing of acclimate: this file travels
inside the registered model.

Shapes: B rows of one batch, T tokens, C outputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnxruntime
    from tokenizers import Encoding, Tokenizer

logger = logging.getLogger(__name__)

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
Inputs = dict[str, NDArray[np.int64]]
"""The graph's inputs, each (B, T)."""
DECODER = "decode.py"
CLEANING, PERSONAL_DATA = PREPARATION = ("cleaning.py", "personal_data.py")
"""What ingest did to each text; these files lie beside decode.py."""
_CHARS_PER_TOKEN, _CHARS_PER_TOKEN_OF_PAIR = 1000, 50
"""What stands beyond so many characters for each token that the model reads is not even tokenized: the tokenizer keeps what it cuts
off, of a pair every part of one text with every part of the other. Two texts of 16,000 characters, read by 16 tokens, took 16 GB."""
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class PredictorError(ValueError):
    """What was given to a predictor, or the directory it is loaded from, is not fit."""


class Preparation:
    """Does to a raw text what ingest did to those of the table, by ingest's own files.

    Raises:
        PredictorError: a file or a package that they need is missing.
    """

    def __init__(self, directory: Path, switches: Mapping[str, Sequence[str]]) -> None:
        self._rules, self._kinds = switches.get("cleaning", ()), switches.get("redact", ())
        if self._rules:
            self._cleaning: Any = load_module(directory / CLEANING)
            missing = [(rule, name) for rule, name in self._cleaning.NEEDS.items() if rule in self._rules and find_spec(name) is None]
            for rule, name in missing:
                raise PredictorError(f"{directory / 'task.json'}: texts were cleaned by the rule {rule!r}, which needs the package {name}")
        if self._kinds:
            self._personal_data: Any = load_module(directory / PERSONAL_DATA)

    def texts(self, texts: Sequence[str]) -> list[str]:
        """Clean, and replace personal data."""
        return self.in_place(self._clean(texts), keep_length=False)

    def words(self, words: Sequence[str]) -> list[str]:
        """The same for the words of one text, as many as were given."""
        cleaned = self._clean(words)
        return list(self._personal_data.redact_words(cleaned, self._kinds)) if self._kinds else cleaned

    def in_place(self, texts: Sequence[str], *, keep_length: bool = True) -> list[str]:
        """Replace personal data alone, so that every character keeps its place."""
        if not self._kinds:
            return list(texts)
        return [self._personal_data.redact(text, self._kinds, keep_length=keep_length) for text in texts]

    def _clean(self, texts: Sequence[str]) -> list[str]:
        return list(self._cleaning.clean(texts, self._rules)) if self._rules else list(texts)


class Reader:
    """Prepares and tokenizes for a decoder, exactly as ingest and training do.

    Args:
        prepared: None leaves raw texts as they are: of models that were made before ingest's files travelled with them.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int, prepared: Preparation | None = None) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.prepared = prepared or Preparation(Path(), {})
        tokenizer.enable_truncation(max_length)
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # "[MASK]" in a text is text
        # A letter that no WordPiece vocabulary holds, Linear A; the same as in acclimate.data.tokens.encoding.
        is_one_token = len(tokenizer.encode("\U00010600", add_special_tokens=False).ids) == 1
        self._unreadable = "\U00010600" if is_one_token else "?"

    def texts(self, columns: Sequence[Sequence[str]]) -> list[Encoding]:
        """Texts (one column) or pairs of texts (two), cut at `max_length`, with a warning."""
        chars = self.max_length * (_CHARS_PER_TOKEN if len(columns) == 1 else _CHARS_PER_TOKEN_OF_PAIR)
        clipped = [[text[:chars] for text in column] for column in columns]
        inputs = clipped[0] if len(columns) == 1 else list(zip(*clipped, strict=True))
        encodings: list[Encoding] = self.tokenizer.encode_batch(inputs)
        num_cut = sum(bool(encoding.overflowing) for encoding in encodings)
        if num_cut:
            logger.warning("%d of %d texts are longer than %d tokens; the rest of each is not read", num_cut, len(inputs), self.max_length)
        return encodings

    def words(self, rows: Sequence[Sequence[str]]) -> list[Encoding]:
        """Rows that are lists of words, cut at `max_length`."""
        visible = [[self.visible(word) for word in row] for row in rows]
        encodings: list[Encoding] = self.tokenizer.encode_batch(visible, is_pretokenized=True)
        return encodings

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special ones not counted."""
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def room(self, *, pair: bool = False) -> int:
        """Tokens that are left beside the special ones."""
        return int(self.max_length - self.tokenizer.num_special_tokens_to_add(pair))

    def visible(self, word: str) -> str:
        """The word, or the unknown token for one that would give no token: each word must have a place for its tag.

        The same rule as in training (acclimate.data.tokens.encoding.encode_words); a test holds the two together.
        """
        if word.isascii() and word.isprintable() and word.strip():
            return word
        normalizer = self.tokenizer.normalizer
        if word.strip() and (normalizer.normalize_str(word) if normalizer else word).strip():
            return word
        return self._unreadable


class Rows(Protocol):
    """Rows of the graph and the examples they are of; a decoder may keep more in it."""

    encodings: list[Encoding]


class Decoder(Protocol):
    """What `decode.py` holds as `COMPONENT`: all that a kind of task does between raw text, rows of the graph and answers.

    An example may be several rows. decode.py needs NumPy alone and imports nothing of acclimate, for it travels beside this file.
    """

    outputs: ClassVar[Mapping[str, Any]]
    """Type of each key of an answer, as plain data: a name such as "string", "double", "long", "integer"; a list of one type;
    {"*": type} for a mapping with any keys; a mapping from names to types."""
    max_chars: ClassVar[int | None]
    """A longer text is refused."""
    per_token: ClassVar[bool]
    """Whether the graph gives logits for each token."""

    def __init__(self, task: Mapping[str, Any], reader: Reader) -> None:
        """A decoder of one task.

        Args:
            task: what task.json says.
        """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the raw texts of an example, in the order that `read` takes them."""

    def read(self, columns: Sequence[Sequence[str]]) -> Rows:
        """Rows of raw texts, a column for each input: prepared as ingest prepared those of the table, by `reader.prepared`."""

    def read_table(self, examples: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of an ingested table, encoded as fine-tuning encoded them."""

    def raw(self, example: Mapping[str, Any]) -> list[str]:
        """An example of an ingested table as the raw texts that somebody would ask with."""

    def predictions(self, rows: Any, logits: Sequence[NDArray[np.float32]]) -> list[Any]:
        """One an example, as fine-tuning keeps it in predictions.parquet.

        Args:
            logits: of each row, (C,) or (T, C).
        """

    def numbers(self, prediction: Any) -> NDArray[np.float32]:
        """The numbers of a prediction that another runtime must compute alike."""

    def decisions(self, prediction: Any) -> NDArray[np.int64]:
        """What a prediction decides; empty where it decides nothing."""

    def answers(self, rows: Any, logits: Sequence[NDArray[np.float32]]) -> list[dict[str, Any]]:
        """One an example, for whoever asked."""


class Predictor:
    """A fine-tuned model as an ONNX graph with its tokenizer and its kind's decoder.

    Not safe to pickle (it holds a native session); load it where it is used. Safe to call from several threads.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        tokenizer: Tokenizer,
        task: dict[str, Any],
        decoder: type[Decoder],
        prepared: Preparation | None = None,
    ) -> None:
        self.session = session
        self.task = task
        self.pad_id = _pad_id(tokenizer)
        self.reader = Reader(tokenizer, task["max_length"], prepared)
        self.decoder = decoder(task, self.reader)
        self._input_names = [value.name for value in session.get_inputs()]

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        variant: str = "model.onnx",
        providers: list[str] | None = None,
        threads: int | None = None,
    ) -> Predictor:
        """Load an export directory: `task.json`, `tokenizer.json`, `decode.py` and a graph.

        Args:
            directory: what the stage `export` wrote. Its decode.py is run.
            variant: file name of the graph, `model.onnx` or `model.int8.onnx`.
            providers: onnxruntime's execution providers, most wanted first; None is the CPU.
            threads: threads of one operator; None lets onnxruntime take every core.

        Raises:
            PredictorError: a file is missing, or the first provider asked for is not the one that runs.
        """
        from tokenizers import Tokenizer

        for name in ("task.json", "tokenizer.json", DECODER, variant):
            _require_file(directory / name)
        session = open_session(directory / variant, providers=providers, threads=threads)
        task = json.loads((directory / "task.json").read_text(encoding="utf-8"))
        prepared = Preparation(directory, task.get("texts", {}))
        return cls(session, Tokenizer.from_file(str(directory / "tokenizer.json")), task, load_decoder(directory / DECODER), prepared)

    def predict(self, *columns: list[str] | None, batch_size: int = 32) -> list[dict[str, Any]]:
        """Predict from raw text.

        A text longer than the task's `max_length` is cut there, with a warning, unless the kind of task reads it in windows.

        Args:
            columns: a list of texts for each input of the task, such as texts, or texts and the second texts of pairs; None is left out.
            batch_size: rows to a batch. Rows are sorted by length, so padding is rare.

        Returns:
            One dictionary an example; its keys are those of the decoder's `outputs`. For classification
            `{"label", "probability", "probabilities": {label: p}}`; docs/operate.md lists the others.

        Raises:
            PredictorError: not lists of texts, an empty text, a missing or needless column, half of a surrogate pair, a text that is
                longer than the decoder's `max_chars`, or a batch size below 1.
        """
        given = self._checked(columns)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise PredictorError(f"batch_size is {str(batch_size)[:40]!r}; it must be a whole number from 1 on")
        rows = self.decoder.read(given)
        return self.decoder.answers(rows, self.logits(rows.encodings, batch_size=batch_size))

    def logits(self, encodings: Sequence[Encoding], *, batch_size: int = 32) -> list[NDArray[np.float32]]:
        """Run the graph over rows of any length.

        Returns:
            For each row its logits: (C,), or (T, C) without padding; in the order given.
        """
        return batched_logits(self.run, encodings, pad_id=self.pad_id, per_token=self.decoder.per_token, batch_size=batch_size)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """The logits of one padded batch, (B, C) or (B, T, C)."""
        output: NDArray[np.float32] = self.session.run(None, {name: inputs[name] for name in self._input_names})[0]
        return output

    def _checked(self, columns: Sequence[list[str] | None]) -> list[list[str]]:
        """The columns that the task reads, of equal length."""
        names, task = self.decoder.inputs, self.task["name"]
        given = list(columns)
        while len(given) > 1 and given[-1] is None:
            given.pop()
        for name, column in zip(names, given, strict=False):
            _check_texts(column, name)
        if len(given) != len(names):
            lists = "1 list" if len(names) == 1 else f"{len(names)} lists"
            raise PredictorError(f"task {task!r} reads {', '.join(names)}: {lists} of texts; {len(given)} were given")
        found = [column for column in given if column is not None]
        for name, column in zip(names, found, strict=True):
            if len(column) != len(found[0]):
                raise PredictorError(f"{len(found[0])} of {names[0]} but {len(column)} of {name}; give one for each")
            if self.decoder.max_chars is not None and (longest := max(map(len, column))) > self.decoder.max_chars:
                limit = f"at most {self.decoder.max_chars:,} are read at once; split it"
                raise PredictorError(f"a text has {longest:,} characters; {limit}")
        return found


def load_decoder(path: Path) -> type[Decoder]:
    """The decoder that a file holds."""
    found: type[Decoder] = load_module(path).COMPONENT
    return found


def load_module(path: Path) -> ModuleType:
    """A file that travels with a model, run as it is.

    It is known by its content: two models of different kinds may be loaded in one process, and nothing is written beside it, since the
    directory is an out of a stage.

    Raises:
        PredictorError: there is no such file.
    """
    _require_file(path)
    source = path.read_bytes()
    name = f"{path.stem}_{hashlib.sha256(source).hexdigest()[:16]}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module  # dataclasses look their module up
        exec(compile(source, str(path), "exec"), module.__dict__)
    return sys.modules[name]


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise PredictorError(f"{path}: no such file; expected the directory that the stage `export` writes")


def open_session(path: Path, *, providers: list[str] | None = None, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open a graph, on the provider asked for or not at all.

    onnxruntime falls back to the CPU without a word (https://github.com/microsoft/onnxruntime/issues/23372).

    Raises:
        PredictorError: the first provider of `providers` is not the one that would run.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    wanted = providers or [CPU]
    missing = [provider for provider in wanted if provider not in onnxruntime.get_available_providers()]
    if missing:
        available = ", ".join(onnxruntime.get_available_providers())
        raise PredictorError(f"{path.name}: this onnxruntime has no {', '.join(missing)}; it has: {available}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that sleep rather than spin: 5.2 s against 8.6 s for 400 rows of MiniLM on two busy cores, no loss on idle ones.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    active = session.get_providers()
    if active[0] != wanted[0]:
        raise PredictorError(f"{path.name}: asked to run on {wanted[0]}, would run on {active[0]}; are its driver and libraries installed?")
    return session


def batched_logits(
    run: Callable[[Inputs], NDArray[np.float32]], encodings: Sequence[Encoding], *, pad_id: int, per_token: bool, batch_size: int
) -> list[NDArray[np.float32]]:
    """Run a model over rows sorted by length, in batches padded to their longest row.

    Args:
        run: gives the logits of one batch, (B, C) or (B, T, C).
        per_token: whether `run` gives (B, T, C).

    Returns:
        For each row its logits without padding, (C,) or (T, C); in the order given.
    """
    order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
    logits: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(encodings)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        output = run(pad([encodings[row] for row in rows], pad_id))
        for row, values in zip(rows, output, strict=True):
            logits[row] = values[: len(encodings[row].ids)] if per_token else values
    return logits


def pad(encodings: Sequence[Encoding], pad_id: int) -> Inputs:
    """Encodings as the graph's inputs, padded to the longest of them."""
    shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
    inputs = {name: np.zeros(shape, dtype=np.int64) for name in INPUT_NAMES}
    inputs["input_ids"][:] = pad_id
    for row, encoding in enumerate(encodings):
        length = len(encoding.ids)
        inputs["input_ids"][row, :length] = encoding.ids
        inputs["attention_mask"][row, :length] = 1
        inputs["token_type_ids"][row, :length] = encoding.type_ids
    return inputs


def _pad_id(tokenizer: Tokenizer) -> int:
    """The padding token's id. RoBERTa-like models count positions by it, so it must be the right one."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    found = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
    return next((token_id for token_id in found if token_id is not None), 0)


def _check_texts(texts: object, name: str) -> None:
    if not isinstance(texts, list):
        raise PredictorError(f"`{name}` must be a list of texts, found {type(texts).__name__}")
    if not texts:
        raise PredictorError(f"`{name}` is empty; give one text or more")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise PredictorError(f"{name}[{index}] is {type(text).__name__}; each must be a string")
        if not text.strip():
            raise PredictorError(f"{name}[{index}] is empty; each must hold text")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise PredictorError(f"{name}[{index}] holds half of a surrogate pair, which is no character") from None
