"""SQuAD's JSON: articles of paragraphs of questions (Rajpurkar et al. 2018, https://arxiv.org/abs/1806.03822)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, whole_records


class Squad(Layout):
    """Each question is a record of `id`, `title`, `context`, `question` and `answers`; its number is its place in the file."""

    endings: ClassVar[tuple[str, ...]] = (".json", ".jsonl", ".ndjson")

    def records(self, reading: Reading) -> Iterator[Record]:
        """The questions, in their order; the answers of an impossible one are none, whatever is said to be plausible."""
        number = 0
        for row, article in whole_records(reading):
            for context, question in _questions(article, reading, row):
                number += 1
                yield (
                    number,
                    {"title": article.get("title"), **question, "context": context, "answers": _answers(question, reading, number)},
                )


def _questions(article: Any, reading: Reading, row: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    if not isinstance(article, Mapping) or not isinstance(article.get("paragraphs"), list):
        raise reading.fault(
            f"row {row}: an article of SQuAD holds a list `paragraphs`; a table with a row for each question needs no layout"
        )
    for paragraph in article["paragraphs"]:
        if not isinstance(paragraph, Mapping) or "context" not in paragraph or not isinstance(paragraph.get("qas"), list):
            raise reading.fault(f"row {row}: a paragraph of SQuAD holds a `context` and a list `qas`")
        for question in paragraph["qas"]:
            if not isinstance(question, dict):
                raise reading.fault(f"row {row}: one of `qas` is no object")
            yield paragraph["context"], question


def _answers(question: Mapping[str, Any], reading: Reading, number: int) -> list[Any]:
    if question.get("is_impossible"):
        return []
    answers = question.get("answers", [])
    if not isinstance(answers, list):
        raise reading.fault(f"question {number}: `answers` is no list")
    return answers


COMPONENT: type[Layout] = Squad
