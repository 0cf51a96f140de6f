"""A directory of documents, a zip or tar archive of them, or one file: a file is one document, and a mailbox one for each message."""

from __future__ import annotations

import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pydantic import Field

from acclimate.data.reading.documents import DocumentFormat, UnreadableError, format_of
from acclimate.data.reading.documents.docx import read_docx
from acclimate.data.reading.documents.html import read_page
from acclimate.data.reading.documents.mail import read_message, split_mailbox
from acclimate.data.reading.documents.pdf import read_pdf
from acclimate.data.reading.formats import MAX_BATCH_BYTES, Reading
from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import below, refuse_link_outside
from acclimate.data.reading.sources import Encoding, Part, RecordBytes, SourceBatch, consecutive_runs
from acclimate.data.reading.sources._archives import ENDINGS, is_system_file, members, pattern_regex
from acclimate.data.reading.sources.files import resolve_part
from acclimate.data.reading.streams import DEFAULT_ENCODING, MAX_RECORD_BYTES, fault, one_line, opened
from acclimate.redaction import HIDDEN, redact
from acclimate.settings import Options

_PART_DOCUMENTS = 1000
_SHOWN = 5
logger = logging.getLogger(__name__)


class Config(Options):
    """A directory, an archive or one file below data/, and which of its files are documents."""

    data: str
    format: DocumentFormat | None = Field(default=None, description="of every document; without it, by the ending, and else text")
    pattern: str = Field(default="**/*.txt", description="`*` stays inside one directory, `**/` is any number of directories")
    encoding: Encoding = DEFAULT_ENCODING
    group_by: Literal["document", "directory"] = Field(default="document", description="`directory`: documents of one never part")
    max_record_bytes: RecordBytes = MAX_RECORD_BYTES


def parts(config: Config, data: Path, *, where: str) -> list[Part]:
    """Up to 1,000 documents or 128 MiB each, in the order of their paths; an archive is one part.

    Raises:
        DataError: the path leaves data/, also by a link, there is no such directory, or no file matches.
    """
    place = below(data, config.data, where=where)
    refuse_link_outside(data, place, where=where)
    name = PurePosixPath(config.data).as_posix()
    if place.is_file() and place.name.lower().endswith(ENDINGS):
        return [Part(name, name, (name,), size_bytes=place.stat().st_size)]
    if place.is_file() and (config.format or format_of(place.name)) != "text":
        return [Part(name, name, (name,), 0, 1, size_bytes=place.stat().st_size)]
    if not place.is_dir():
        wrong = "neither a directory nor a zip or tar archive, and no page, mail, .pdf or .docx; give its `format`, or take `kind: files`"
        raise fault(where, place, wrong if place.exists() else "no such directory or archive")
    files = _matching(place, config.pattern, data, where)
    runs = consecutive_runs(((data / file).stat().st_size for file in files), max_items=_PART_DOCUMENTS)
    return [Part(f"{name}[{start}:{stop}]", name, tuple(files[start:stop]), start, stop, num_bytes) for start, stop, num_bytes in runs]


def _matching(directory: Path, pattern: str, data: Path, where: str) -> list[str]:
    regex = pattern_regex(pattern)
    found, endings = [], Counter[str]()
    for root, directories, names in os.walk(directory):
        for name in directories:
            if (Path(root) / name).is_symlink():
                raise fault(where, Path(root) / name, "a link to a directory, which is not followed; put the directory itself there")
        for name in names:
            path = os.path.join(root, name)  # noqa: PTH118  # strings: a Path for each of a million files is a gigabyte
            if is_system_file(path):
                continue
            endings[Path(name).suffix or "none"] += 1
            if regex.fullmatch(os.path.relpath(path, directory).replace(os.sep, "/")):
                if os.path.islink(path):  # noqa: PTH114
                    refuse_link_outside(data, Path(path), where=where)
                found.append(os.path.relpath(path, data).replace(os.sep, "/"))
    if not found:
        raise fault(where, directory, _no_match(pattern, endings))
    return sorted(found)


def _no_match(pattern: str, endings: Counter[str]) -> str:
    (ending, _), *_ = endings.most_common(1) or [("none", 0)]
    present = ", ".join(f"{count} {name}" for name, count in endings.most_common(_SHOWN))
    hint = "**/*" if ending == "none" else f"**/*{ending}"
    return f"no file matches {pattern!r} among {endings.total()} (by ending: {present}); give another `pattern`, such as {hint!r}"


@dataclass
class _Pile:
    """How documents are read, and what was noted on the way."""

    config: Config
    where: str
    notes: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def reading(self, path: Path) -> Reading:
        options = ReadOptions(encoding=self.config.encoding, max_record_bytes=self.config.max_record_bytes)
        return Reading(path, [], self.where, options)

    def report(self, name: str) -> None:
        """Log what was left out, guessed, or gave no text."""
        noted = ", ".join(f"{what} {count}" for what, count in sorted(self.notes.items()) if count)
        if noted:
            logger.info("%s: %s: %s", self.where, name, noted)
        if self.unreadable:
            shown = "; ".join(self.unreadable[:_SHOWN])
            more = f"; and {len(self.unreadable) - _SHOWN} more" if len(self.unreadable) > _SHOWN else ""
            logger.warning("%s: %s: %d documents are unreadable: %s%s", self.where, name, len(self.unreadable), one_line(shown), more)


Found = tuple[str, int, str, str]
"""Of a document: its name, its place among the files, its text, and why there is none."""


def read_part(config: Config, part: Part, data: Path, *, where: str) -> Iterator[SourceBatch]:
    """Batches of one part. A document's id is its path below the directory, its number its place there, from 1.

    An empty file is a document with an empty text, and one of a rich format that gives none has a `problem`: it is for the rules to
    drop and to count them.

    Raises:
        DataError: see `Reading.whole` and `_archives.members`; a document over the limit; or a library is missing.
    """
    paths = resolve_part(part, data, where=where)
    pile = _Pile(config, where)
    batch: list[Found] = []
    num_chars = 0
    for found in _archived(pile, paths[0]) if part.stop is None else _plain(pile, part, paths):
        batch.append(found)
        num_chars += len(found[2])
        if num_chars >= MAX_BATCH_BYTES or len(batch) == _PART_DOCUMENTS:
            yield _batch(config, part.name, batch)
            batch, num_chars = [], 0
    if batch:
        yield _batch(config, part.name, batch)
    pile.report(part.name)


def _batch(config: Config, name: str, batch: list[Found]) -> SourceBatch:
    names, numbers, texts, problems = map(list, zip(*batch, strict=True))
    ids = [_id(document, number) for document, number in zip(names, numbers, strict=True)]
    groups = [str(PurePosixPath(document).parent) for document in ids] if config.group_by == "directory" else None
    return SourceBatch(_as_unicode(name), numbers, texts, ids, groups, problems)


def _id(name: str, number: int) -> str:
    shown = redact(_as_unicode(name))
    return shown if HIDDEN not in shown else f"{shown}#{number}"  # two names may differ in what is hidden alone


def _as_unicode(name: str) -> str:
    """File names are bytes; one that is no UTF-8 comes as half pairs, which no Parquet file can hold."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(pile: _Pile, part: Part, paths: list[Path]) -> Iterator[Found]:
    for number, (name, path) in enumerate(zip(part.files, paths, strict=True), start=part.start + 1):
        inside = PurePosixPath(name).relative_to(part.name).as_posix() if name != part.name else path.name
        for suffix, text, problem in _documents(pile, inside, pile.reading(path), None):
            yield inside + suffix, number, text, problem


def _archived(pile: _Pile, path: Path) -> Iterator[Found]:
    config, number = pile.config, 0
    for name, content in members(path, config.pattern, where=pile.where, max_member_bytes=config.max_record_bytes):
        number += 1
        for suffix, text, problem in _documents(pile, name, pile.reading(Path(f"{path}: member {name!r}")), io.BytesIO(content)):
            yield name + suffix, number, text, problem
    if not number:
        raise fault(pile.where, path, f"no member matches {config.pattern!r}; give another `pattern`, such as '**/*'")


def _documents(pile: _Pile, name: str, reading: Reading, source: IO[bytes] | None) -> Iterator[tuple[str, str, str]]:
    """What to add to the file's name, the text, and the problem of each document in it."""
    kind = pile.config.format or format_of(name)
    if kind == "text":
        yield "", reading.whole(source), ""
        return
    with source or opened(reading.path, where=reading.where) as file:
        if kind != "mbox":
            yield ("", *_tried(pile, kind, name, _bounded(file, reading), reading))
            return
        for number, message in enumerate(split_mailbox(file, reading), start=1):
            yield (f"#{number}", *_tried(pile, "eml", f"{name}#{number}", message, reading))


def _bounded(file: IO[bytes], reading: Reading) -> bytes:
    limit = reading.options.max_record_bytes
    content = file.read(limit + 1)
    if len(content) > limit:
        raise reading.fault(f"longer than {limit:,} bytes, the limit of a record; raise `max_record_bytes`")
    return content


def _tried(pile: _Pile, kind: DocumentFormat, name: str, content: bytes, reading: Reading) -> tuple[str, str]:
    """Text and problem of one document."""
    try:
        return (_READ[kind](content, reading.options, pile.notes) if content else ""), ""
    except UnreadableError as error:
        pile.unreadable.append(f"{name}: {error}")
        return "", str(error)
    except ModuleNotFoundError as error:
        problem = f"a .{kind} needs {error.name}: pip install --constraint constraints.txt '.[documents]'"
        raise reading.fault(problem) from None


_READ: dict[DocumentFormat, Callable[[bytes, ReadOptions, Counter[str]], str]] = {
    "html": read_page,
    "eml": read_message,
    "pdf": read_pdf,
    "docx": read_docx,
}
