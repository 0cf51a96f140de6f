"""CoNLL's columns: a line for each word, a blank line between sentences.

CoNLL-2003 (https://aclanthology.org/W03-0419) and CoNLL-U Plus (https://universaldependencies.org/ext-format.html) are of this shape.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record

_DOCUMENT = "-DOCSTART-"
_BLANKS = re.compile(r"[ \t]+")
_TAG = re.compile(r"O|[BIESLUMW]-.+")
_NUMBER, _RANGE = re.compile(r"[01](-\d+)?"), re.compile(r"\d+[-.]\d+")
_SAID = (re.compile(r"#\s*(id)\s+([^\s=]\S*).*"), re.compile(r"#\s*([^=]+?)\s*=\s*(.*)"))
"""`# id 7f3 domain=en` as MultiCoNER has it, and `# key = value`."""
_COLUMNS = "global.columns"
_LONG_SENTENCE, _CONLLU_FIELDS = 250, 10
logger = logging.getLogger(__name__)


@dataclass
class _Sentence:
    """What was read of a sentence so far."""

    line: int = 0
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    """From comments such as `# sent_id = 7`."""


@dataclass
class _Found:
    """What was found out about the file."""

    file: str
    separator: str | None = None
    num_fields: int = 0
    first_line: int = 0
    names: list[str] = field(default_factory=list)
    is_numbered: bool = False
    num_comments: int = 0
    documents: int = 0
    document: str | None = None

    def begin_document(self) -> None:
        """Give the next document a name; with the file's, since a group holds the documents of all files."""
        self.documents += 1
        self.document = f"{self.file}-{self.documents}"


class Conll(Layout):
    """Columns `text` (words) and `label` (tags), `document` where the file divides into some, and each `# key = value` of a sentence."""

    word: int | str | None = Field(
        default=None, description="its column, from 1, -1 for the last, or its name; without it, 1, or 2 after numbers"
    )
    tag: int | str = Field(default=-1, description="its column, from 1, -1 for the last, or its name in `# global.columns`")
    comments: bool | None = Field(
        default=None, description="whether a # that begins a sentence begins a comment; without it, unless a tag ends the line"
    )

    endings: ClassVar[tuple[str, ...]] = (
        *(".conll", ".conllu", ".conllup", ".iob", ".iob2", ".bio"),
        *(".bioes", ".bilou", ".bmes", ".ner", ".txt", ".tsv"),
    )

    def records(self, reading: Reading) -> Iterator[Record]:
        """The sentences; lines of `-DOCSTART-`, comments, and CoNLL-U's ranges and empty nodes are none of their words."""
        found = _Found(reading.path.stem, reading.options.separator)
        sentence, num_sentences, longest, size = _Sentence(), 0, 0, 0
        for number, line in enumerate(reading.lines(), start=1):
            line = line.rstrip("\r\n")
            size += len(line)
            if size > reading.max_record_bytes:
                raise reading.too_long(f"line {sentence.line}", "sentence")
            if line.strip() and not self._take(line, number, sentence, found, reading):
                continue
            if sentence.words:
                num_sentences, longest = num_sentences + 1, max(longest, len(sentence.words))
                yield _record(sentence, found)
            sentence, size = _Sentence(said=sentence.said if not sentence.words and line.strip() else {}), 0
        if sentence.words:
            num_sentences, longest = num_sentences + 1, max(longest, len(sentence.words))
            yield _record(sentence, found)
        _log(reading, found, num_sentences, longest)

    def _take(self, line: str, number: int, sentence: _Sentence, found: _Found, reading: Reading) -> bool:
        """Take a line into the sentence; True where it ends the sentence instead."""
        fields = _fields(line, found, comments=self.comments is not False)
        if fields[0] == _DOCUMENT:
            found.begin_document()
            return True
        if line.startswith("#") and not sentence.words and self._is_comment(line, fields, found):
            _take_comment(line, sentence, found)
            return False
        if not found.num_fields:
            found.num_fields, found.first_line = len(fields), number
            found.is_numbered = len(fields) > 2 and _NUMBER.fullmatch(fields[0]) is not None and self.word is None
            if found.is_numbered and len(fields) == _CONLLU_FIELDS and "tag" not in self.model_fields_set:
                raise reading.fault(f"line {number}: CoNLL-U has no column of spans; name the one of the tags by {_hint('tag: 10')}")
        if _RANGE.fullmatch(fields[0]) and (found.is_numbered or self.word not in (None, 1)):
            return False
        if found.is_numbered and not fields[0].isdecimal():
            hint = f"name the column of the words by {_hint('word: 1')}"
            raise reading.fault(f"line {number}: {fields[0]!r} is no number of a word as in line {found.first_line}; {hint}")
        sentence.line = sentence.line or number
        sentence.words.append(self._field("word", self.word or 1 + found.is_numbered, fields, number, found, reading))
        sentence.tags.append(self._field("tag", self.tag, fields, number, found, reading))
        return False

    def _is_comment(self, line: str, fields: Sequence[str], found: _Found) -> bool:
        if self.comments is not None:
            return self.comments
        looks_tagged = len(fields) > 1 and _TAG.fullmatch(fields[-1]) is not None
        has_the_fields = len(fields) == found.num_fields > 1 and "=" not in line
        return not looks_tagged and not has_the_fields

    def _field(self, option: str, column: int | str, fields: Sequence[str], number: int, found: _Found, reading: Reading) -> str:
        """One field of a line.

        Raises:
            DataError: the line lacks it, or has another number of fields than the first where columns are counted from the end.
        """
        if isinstance(column, str):
            if column not in found.names:
                there = f"it names {', '.join(found.names)}" if found.names else "there is no such line"
                raise reading.fault(f"no column {column!r} in `# {_COLUMNS} = ...`: {there}; give its number: {_hint(f'{option}: 3')}")
            column = found.names.index(column) + 1
        if column <= 0 and len(fields) != found.num_fields:
            problem = f"line {number}: {len(fields)} fields, where line {found.first_line} has {found.num_fields}"
            raise reading.fault(f"{problem}; give the columns by number, {_hint('word: 1, tag: 2')}, if lines may differ")
        if not -len(fields) <= column <= len(fields) or column == 0:
            raise reading.fault(f"line {number}: no column {column} among {len(fields)} fields; {_hint(f'{option}: ...')} names it, from 1")
        return fields[column - 1 if column > 0 else column]


def _hint(options: str) -> str:
    return f"`layout: {{conll: {{{options}}}}}`"


def _fields(line: str, found: _Found, *, comments: bool) -> list[str]:
    """The fields of a line: between tabs if the file's first line of a word has one, else between blanks."""
    if found.separator is None and not line.startswith(("#", _DOCUMENT) if comments else _DOCUMENT):
        found.separator = "\t" if "\t" in line.strip() else " "
    if (found.separator or " ") == " ":
        return _BLANKS.split(line.strip(" \t"))
    return [part.strip(" ") for part in line.rstrip(" ").split(found.separator)]


def _take_comment(line: str, sentence: _Sentence, found: _Found) -> None:
    found.num_comments += 1
    if match := next((match for form in _SAID if (match := form.fullmatch(line.strip()))), None):
        key, value = match.groups()
        if key == _COLUMNS:
            found.names = value.split()
        elif key == "newdoc id":
            found.document = value
        else:
            sentence.said[key] = value
    elif line.strip("# \t") == "newdoc":
        found.begin_document()


def _record(sentence: _Sentence, found: _Found) -> Record:
    document = {} if found.document is None else {"document": found.document}
    return sentence.line, {**document, **sentence.said, "text": sentence.words, "label": sentence.tags}


def _log(reading: Reading, found: _Found, num_sentences: int, longest: int) -> None:
    separator = {"\t": "tabs", " ": "blanks"}.get(found.separator or " ", repr(found.separator))
    numbered = ", the first a number" if found.is_numbered else ""
    what = f"{num_sentences} sentences of {found.num_fields} columns between {separator}{numbered}; {found.num_comments} comments left out"
    logger.info("%s: %s: %s", reading.where, reading.path, what)
    if num_sentences == 1 and longest > _LONG_SENTENCE:
        logger.warning("%s: %s: no blank line parts the sentences: one of %d words was read", reading.where, reading.path, longest)


COMPONENT: type[Layout] = Conll
