"""A question, a context, and the answers that stand in the context."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from acclimate import kinds
from acclimate.data.naming import is_blank, is_missing
from acclimate.data.schema import refuse_rows
from acclimate.data.screening.texts import text_column
from acclimate.errors import DataError
from acclimate.settings import Count, Options

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from acclimate.data.screening.texts import Rewriting

_SHOWN_CHARS = 40


class Table(Options):
    """Columns of the table, and how answers are looked for."""

    question: str = Field(default="question", description="column of the questions")
    context: str = Field(default="context", description="column of the texts that hold the answers")
    answers: str = Field(
        default="answers", description="column of the answers: {text: [...], answer_start: [...]}, a list of such pairs, JSON, or one text"
    )
    answer_start: str | None = Field(
        default=None, description="column of the character at which the one text in `answers` starts; without it, where it first stands"
    )
    unanswerable: bool = Field(default=False, description="whether questions may have no answer (SQuAD 2.0); else those rows are left out")
    overlap: Annotated[float, Field(ge=0, lt=0.5)] = Field(default=1 / 3, description="share of a window that the next one reads again")
    max_answer_tokens: Count = Field(default=30, description="a longer span is no answer")

    default_metric: ClassVar[str] = "f1"
    # Answers count characters of the context.
    rewritten: ClassVar[Mapping[str, Rewriting]] = {"question": "text", "context": "in_place"}
    counted: ClassVar[str] = "Questions"

    @property
    def pair(self) -> bool:
        """Question and context."""
        return True

    @property
    def carried(self) -> dict[str, Any]:
        """How answers are looked for."""
        return {"unanswerable": self.unanswerable, "overlap": self.overlap, "max_answer_tokens": self.max_answer_tokens}

    def columns(self) -> list[str]:
        """Question, context and answers."""
        return [column for column in (self.question, self.context, self.answers, self.answer_start) if column]

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> kinds.Examples:
        """Questions and contexts as they are; answers that stand where they say.

        Raises:
            DataError: cells that cannot be read, or answers that do not stand in their context.
        """
        questions = text_column(cells[self.question], where=f"{where}: column {self.question!r}")
        contexts = _parse_contexts(cells[self.context], where=f"{where}: column {self.context!r}")
        starts = cells[self.answer_start] if self.answer_start else [None] * len(contexts)
        answers: list[list[dict[str, Any]]] = []
        wrong = []
        for row, (value, start, context) in enumerate(zip(cells[self.answers], starts, contexts, strict=True), start=1):
            try:
                answers.append([_placed(text, place, context) for text, place in _parse_answers(value, start)] if context else [])
            except ValueError as error:
                wrong.append(f"row {row}: {error}")
        refuse_rows(wrong, len(contexts), "hold no answer to their context", where=f"{where}: column {self.answers!r}")
        labels = [each if each or self.unanswerable else None for each in answers]
        inputs = [{"question": question, "context": context} for question, context in zip(questions, contexts, strict=True)]
        return kinds.Examples(inputs, labels, labels)

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """How many questions are left out."""
        missing = sum(label is None for label in spelled)
        advice = "unanswerable: true keeps them and lets the model give no answer"
        return [f"answers: {missing} of {len(spelled)} questions have none and are left out; {advice}"] if missing else []

    def collect_labels(self, by_split: Mapping[str, Sequence[Any]], *, where: str) -> None:
        """There are none; but some training question must have an answer.

        Raises:
            DataError: none has.
        """
        if not any(by_split["train"]):
            raise DataError(f"{where}: no training question has an answer; there is nothing to learn")

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Strings, and a list of answers."""
        import pyarrow as pa

        answer = pa.struct({"text": pa.string(), "start": pa.int64()})
        return {"question": pa.string(), "context": pa.string(), "label": pa.list_(answer)}

    @staticmethod
    def relabelled(row: kinds.Input, label: Any) -> Any:
        """Answers as the context now has them."""
        return label and [{**each, "text": row["context"][each["start"] : each["start"] + len(each["text"])]} for each in label]

    @staticmethod
    def texts(row: kinds.Input) -> list[str]:
        """The context, whose questions stay in one split, and the question."""
        return [row["context"], row["question"]]

    @staticmethod
    def label_names(label: Any) -> list[str]:
        """Whether there is an answer."""
        return ["answered" if len(label) else "unanswerable"]

    @staticmethod
    def counted_labels(label: Any) -> list[str]:
        """The same."""
        return Table.label_names(label)

    @staticmethod
    def checks(
        frame: pd.DataFrame, labels: list[str] | None, *, min_rows_per_label: int, max_class_share: float
    ) -> list[kinds.Expectation]:
        """Answers that stand in their contexts."""
        frame["answers_out_of_place"] = [
            sum(not context.startswith(answer["text"], answer["start"]) for answer in answers)
            for context, answers in zip(frame["context"], frame["label"], strict=True)
        ]
        frame["label"] = [" | ".join(answer["text"] for answer in answers) for answers in frame["label"]]
        return [("ExpectColumnValuesToBeInSet", {"column": "answers_out_of_place", "value_set": [0]})]


def _parse_contexts(values: Sequence[Any], *, where: str) -> list[str]:
    """Texts as they are; one of white space alone is empty."""
    wrong = [
        f"row {row}: {str(value)[:_SHOWN_CHARS]!r} is no text"
        for row, value in enumerate(values, start=1)
        if not isinstance(value, str) and not is_missing(value)
    ]
    refuse_rows(wrong, len(values), "hold no text", where=where)
    return [value if isinstance(value, str) and value.strip() else "" for value in values]


def _parse_answers(value: Any, start: Any) -> list[tuple[str, int | None]]:
    """Text and start of each answer; no start: it is to be found.

    Raises:
        ValueError: it cannot be read.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and is_missing(start):
        value = _from_json(value)
    if is_blank(value):
        return []
    if isinstance(value, str):
        return [(value, _whole_number(start))]
    if isinstance(value, Mapping):
        texts, starts = (_listed(value.get(name)) for name in ("text", "answer_start"))
        if starts and len(starts) != len(texts):
            raise ValueError(f"{len(texts)} texts, {len(starts)} starts")
        pairs = zip(texts, starts or [None] * len(texts), strict=True)
        return [pair for text, place in pairs for pair in _parse_answers(text, place)]
    if isinstance(value, list | tuple):
        return [pair for each in value for pair in _parse_answers(each, None)]
    raise ValueError(f"{str(value)[:_SHOWN_CHARS]!r} is no answer")


def _from_json(text: str) -> Any:
    """What JSON says, or the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _listed(value: Any) -> list[Any]:
    if is_missing(value):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _whole_number(value: Any) -> int | None:
    if is_blank(value):
        return None
    try:
        number = float(value)
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"start {str(value)[:_SHOWN_CHARS]!r} is no whole number")


def _placed(text: str, start: int | None, context: str) -> dict[str, Any]:
    """An answer without white space around it.

    Raises:
        ValueError: it does not stand there.
    """
    shown = text[:_SHOWN_CHARS]
    if start is None:
        start = context.find(text)
        if start < 0:
            raise ValueError(f"{shown!r} does not stand in the context")
    elif start < 0 or not context.startswith(text, start):
        there = context[max(0, start) : max(0, start) + len(shown)]
        raise ValueError(f"{shown!r} does not stand at character {start} of the context; there stands {there!r}")
    return {"text": text.strip(), "start": start + len(text) - len(text.lstrip())}


COMPONENT: type[kinds.Table] = Table
