"""A directory of documents, or a zip or tar archive of them: one file is one document."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from acclimate.data.reading.formats import MAX_BATCH_BYTES, Reading
from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import below, refuse_link_outside
from acclimate.data.reading.sources import Encoding, Part, RecordBytes, SourceBatch, consecutive_runs
from acclimate.data.reading.sources._archives import ENDINGS, members, pattern_regex
from acclimate.data.reading.sources.files import resolve_part
from acclimate.data.reading.streams import DEFAULT_ENCODING, MAX_RECORD_BYTES, fault
from acclimate.redaction import HIDDEN, redact
from acclimate.settings import Options

_PART_DOCUMENTS = 1000


class Config(Options):
    """A directory or an archive below data/, and which of its files are documents."""

    data: str
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
    if not place.is_dir():
        problem = "neither a directory nor a zip or tar archive" if place.exists() else "no such directory or archive"
        raise fault(where, place, problem)
    files = _matching(place, config.pattern, data, where)
    runs = consecutive_runs(((data / file).stat().st_size for file in files), max_items=_PART_DOCUMENTS)
    return [Part(f"{name}[{start}:{stop}]", name, tuple(files[start:stop]), start, stop, num_bytes) for start, stop, num_bytes in runs]


def _matching(directory: Path, pattern: str, data: Path, where: str) -> list[str]:
    regex = pattern_regex(pattern)
    found, num_files = [], 0
    for root, directories, names in os.walk(directory):
        for name in directories:
            if (Path(root) / name).is_symlink():
                raise fault(where, Path(root) / name, "a link to a directory, which is not followed; put the directory itself there")
        for name in names:
            path = os.path.join(root, name)  # noqa: PTH118  # strings: a Path for each of a million files is a gigabyte
            num_files += 1
            if regex.fullmatch(os.path.relpath(path, directory).replace(os.sep, "/")):
                if os.path.islink(path):  # noqa: PTH114
                    refuse_link_outside(data, Path(path), where=where)
                found.append(os.path.relpath(path, data).replace(os.sep, "/"))
    if not found:
        raise fault(where, directory, f"no file matches {pattern!r} among {num_files}; give another `pattern`, such as '**/*'")
    return sorted(found)


def read_part(config: Config, part: Part, data: Path, *, where: str) -> Iterator[SourceBatch]:
    """Batches of one part. A document's id is its path below the directory, its number its place there, from 1.

    An empty file is a document with an empty text: it is for the rules to drop and to count it.

    Raises:
        DataError: see `Reading.whole` and `_archives.members`; or a document over the limit.
    """
    paths = resolve_part(part, data, where=where)
    found = _archived(config, paths[0], where) if part.stop is None else _plain(config, part, paths, where)
    ids, numbers, texts, num_chars = list[str](), list[int](), list[str](), 0
    for name, number, text in found:
        shown = redact(_as_unicode(name))
        ids.append(shown if HIDDEN not in shown else f"{shown}#{number}")  # two names may differ in what is hidden alone
        numbers.append(number)
        texts.append(text)
        num_chars += len(text)
        if num_chars >= MAX_BATCH_BYTES or len(texts) == _PART_DOCUMENTS:
            yield _batch(config, part.name, numbers, ids, texts)
            ids, numbers, texts, num_chars = [], [], [], 0
    if texts:
        yield _batch(config, part.name, numbers, ids, texts)


def _batch(config: Config, name: str, numbers: list[int], ids: list[str], texts: list[str]) -> SourceBatch:
    groups = [str(PurePosixPath(document).parent) for document in ids] if config.group_by == "directory" else None
    return SourceBatch(_as_unicode(name), numbers, texts, list(ids), list(groups) if groups else None)


def _as_unicode(name: str) -> str:
    """File names are bytes; one that is no UTF-8 comes as half pairs, which no Parquet file can hold."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _reading(config: Config, path: Path, where: str) -> Reading:
    return Reading(path, [], where, ReadOptions(encoding=config.encoding, max_record_bytes=config.max_record_bytes))


def _plain(config: Config, part: Part, paths: list[Path], where: str) -> Iterator[tuple[str, int, str]]:
    for number, (name, path) in enumerate(zip(part.files, paths, strict=True), start=part.start + 1):
        yield PurePosixPath(name).relative_to(part.name).as_posix(), number, _reading(config, path, where).whole()


def _archived(config: Config, path: Path, where: str) -> Iterator[tuple[str, int, str]]:
    number = 0
    for name, content in members(path, config.pattern, where=where, max_member_bytes=config.max_record_bytes):
        number += 1
        yield name, number, _reading(config, Path(f"{path}: member {name!r}"), where).whole(io.BytesIO(content))
    if not number:
        raise fault(where, path, f"no member matches {config.pattern!r}; give another `pattern`, such as '**/*'")
