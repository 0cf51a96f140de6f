"""A folder for each class, and a file for each example, as IMDB's reviews and 20 Newsgroups come."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from acclimate.data.leakage.splits import SPLIT_NAMES
from acclimate.data.reading.documents import DocumentFormat
from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, require_split_column
from acclimate.data.reading.readers import below, refuse_link_outside
from acclimate.data.reading.sources import documents
from acclimate.data.reading.streams import fault

logger = logging.getLogger(__name__)


class Folders(Layout):
    """`id` is a file's path, `text` what it says, `label` its folder's name, and `split` that of the folder above where it is a split's."""

    endings: ClassVar[tuple[str, ...]] = ()
    pattern: str = "**/*.txt"
    format: DocumentFormat | None = None

    def files(self, root: Path, name: str, *, where: str) -> list[Path]:
        """The directory itself.

        Raises:
            DataError: there is none, or it leaves `root`, also by a link.
        """
        directory = below(root, name, where=where)
        refuse_link_outside(root, directory, where=where)
        if not directory.is_dir():
            wrong = "no directory, which this layout reads; unpack an archive" if directory.exists() else "no such directory"
            raise fault(where, directory, wrong)
        return [directory]

    def records(self, reading: Reading) -> Iterator[Record]:
        """Files in the order of their paths; those that lie in no class's folder are left out and counted."""
        root, where = reading.path.parent, reading.where
        config = documents.Config(
            data=reading.path.name,
            pattern=self.pattern,
            format=self.format,
            encoding=reading.options.encoding,
            max_record_bytes=reading.options.max_record_bytes,
        )
        parts = documents.parts(config, root, where=where)
        folders = [PurePosixPath(file).parts[1:-1] for part in parts for file in part.files]
        splits = _splits(folders)
        if splits:
            require_split_column(reading, splits)
        depth = bool(splits)  # of the folder of a class
        _log_classes(reading, Counter(folder[depth] for folder in folders if len(folder) > depth), len(folders))
        for part in parts:
            for batch in documents.read_part(config, part, root, where=where):
                for number, name, text in zip(batch.numbers, batch.ids or [], batch.texts, strict=True):
                    folder = name.split("/")[:-1]
                    if len(folder) > depth:
                        yield number, {"id": name, "text": text, "label": folder[depth], **({"split": folder[0]} if splits else {})}


def _splits(folders: list[tuple[str, ...]]) -> list[str]:
    """The outermost folders, where each is called as a split is and there are two at least; a class may be called `train`."""
    outer = {folder[0] for folder in folders if folder}
    return sorted(outer) if len(outer) > 1 and all(name.lower() in SPLIT_NAMES for name in outer) else []


def _log_classes(reading: Reading, classes: Counter[str], num_files: int) -> None:
    if not classes:
        raise reading.fault(f"none of {num_files} files lies in a folder of its class")
    counted = ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))
    logger.info("%s: %s: files by class: %s; in no class's folder: %d", reading.where, reading.path, counted, num_files - classes.total())


COMPONENT: type[Layout] = Folders
