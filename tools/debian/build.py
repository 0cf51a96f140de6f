"""Build the default input: a snapshot of the Debian domain, unlabelled text and labelled tables.

    python -m tools.debian.build --out data/debian [--full] [--cache DIR]

Same downloaded packages, same bytes out: every choice is by hash of a name, never by chance or by clock.
"""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.debian import archive, corpus, manuals, other, packages, pairs, tasks, wordnet
from tools.debian.archive import DebFile, Release, sha256_of
from tools.debian.corpus import DESCRIPTIONS, Unit, line_keys, protected_lines
from tools.debian.manuals import MarkedPage
from tools.debian.other import Essay
from tools.debian.packages import Package, Split

Tables = dict[str, list[dict[str, Any]]]

logger = logging.getLogger(__name__)

GENERAL_PACKAGE = "wordnet-base"
DEFAULT_CACHE = Path(".acclimate/debian")


@dataclass(frozen=True)
class Sizes:
    """How much of each part goes in; None means all of it. Sizes in bytes of UTF-8, lengths in characters."""

    corpus_bytes: dict[str, int] | None
    heldout_bytes: dict[str, int]
    general_bytes: int
    other_bytes: int | None
    supersense: dict[Split, int]
    max_text_chars: int | None
    max_pair_chars: int | None
    num_related: int
    num_tag_overlap: int
    max_entity_rows: int | None


SNAPSHOT = Sizes(
    corpus_bytes={
        "linux-doc-6.1": 3_600_000,
        "python3.11-doc": 1_500_000,
        "postgresql-doc-15": 1_500_000,
        "freebsd-manpages": 2_300_000,
        "manpages": 800_000,
        "manpages-dev": 1_500_000,
        "debian-handbook": 700_000,
    },
    heldout_bytes={DESCRIPTIONS: 200_000, "freebsd-manpages": 100_000, "manpages": 40_000, "manpages-dev": 60_000},
    general_bytes=350_000,
    other_bytes=3_500_000,
    supersense={"train": 6_000, "dev": 600, "test": 1_500},
    max_text_chars=600,
    max_pair_chars=200,
    num_related=6_000,
    num_tag_overlap=5_000,
    max_entity_rows=None,
)
FULL = Sizes(
    corpus_bytes=None,
    heldout_bytes={DESCRIPTIONS: 600_000, "freebsd-manpages": 300_000, "manpages": 120_000, "manpages-dev": 180_000},
    general_bytes=4_000_000,
    other_bytes=None,
    supersense={"train": 40_000, "dev": 4_000, "test": 4_000},
    max_text_chars=None,
    max_pair_chars=None,
    num_related=60_000,
    num_tag_overlap=50_000,
    max_entity_rows=None,
)


@dataclass(frozen=True)
class Archive:
    """Everything read from the archive, before any choice."""

    release: Release
    debs: dict[str, DebFile]
    packages: list[Package]
    units: list[Unit]
    pages: list[MarkedPage]
    glosses: list[list[str]]
    noun_files: list[str]
    essays: list[Essay]


def read_archive(cache: Path) -> Archive:
    """Download what the cache lacks, then read it."""
    archive.update_lists(cache)
    debs = archive.fetch_packages([*manuals.PACKAGES, GENERAL_PACKAGE, other.PACKAGE], cache)
    known = packages.read_packages(
        archive.find_list(cache, "main_binary-*_Packages"),
        archive.find_list(cache, "main_i18n_Translation-en"),
    )
    known = packages.drop_duplicates(packages.drop_boilerplate(known))
    logger.info("%d packages with distinct texts", len(known))
    pages = manuals.read_marked_pages(debs[manuals.MDOC_PAGES])
    texts = manuals.read_manuals(debs) + [manuals.manual_of(page) for page in pages]
    logger.info("%d manual pages", len(texts))
    return Archive(
        release=archive.read_release(cache),
        debs=debs,
        packages=known,
        units=corpus.description_units(known) + corpus.manual_units(texts),
        pages=pages,
        glosses=wordnet.read_glosses(debs[GENERAL_PACKAGE].root),
        noun_files=wordnet.read_noun_files(debs[GENERAL_PACKAGE].root),
        essays=list(other.read_essays(debs[other.PACKAGE].root)),
    )


def make_tables(archive: Archive, sizes: Sizes) -> Tables:
    """All tables as rows, checked for leakage."""
    general = wordnet.choose_general_rows(archive.glosses, num_bytes=sizes.general_bytes)
    in_general = wordnet.entries_of(general, archive.glosses)
    tables: Tables = {
        "corpus": corpus.corpus_rows(archive.units, num_bytes=sizes.corpus_bytes),
        "heldout": corpus.heldout_rows(archive.units, num_bytes=sizes.heldout_bytes),
        "general": general,
        "other": other.other_rows(archive.essays, num_bytes=sizes.other_bytes),
        "supersense": wordnet.supersense_rows(archive.glosses[0], archive.noun_files, in_general, quota=sizes.supersense),
        "section": tasks.section_rows(archive.packages, max_chars=sizes.max_text_chars),
        "works_with": tasks.works_with_rows(archive.packages, max_chars=sizes.max_text_chars),
        "related": pairs.related_rows(archive.packages, quota=_quota(sizes.num_related), max_chars=sizes.max_pair_chars),
        "tag_overlap": pairs.tag_overlap_rows(archive.packages, quota=_quota(sizes.num_tag_overlap), max_chars=sizes.max_pair_chars),
        "entities": tasks.entity_rows(archive.pages, max_rows=sizes.max_entity_rows),
    }
    assert_no_leakage(tables["corpus"], protected_lines(archive.units))
    return tables


def _quota(total: int) -> dict[Split, int]:
    return {"train": total * 8 // 10, "dev": total // 10, "test": total // 10}


def assert_no_leakage(corpus: Iterable[dict[str, Any]], forbidden: frozenset[str]) -> None:
    """No line of a dev or test text is in the corpus, compared without case, digits and spacing."""
    leaked = forbidden.intersection(line_keys(row["text"] for row in corpus))
    assert not leaked, f"{len(leaked)} lines of dev or test texts in the corpus, e.g. {min(leaked)!r}"


def write_snapshot(archive: Archive, tables: Tables, out: Path) -> dict[str, Any]:
    """Write one Parquet file a table and provenance.json; returns what provenance.json says."""
    from tools.debian.tables import write_table  # pyarrow: only when writing

    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, rows in sorted(tables.items()):
        path = out / f"{name}.parquet"
        write_table(rows, name, path)
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size, **_counts(rows)}
        logger.info("%-20s %s", path.name, files[path.name])
    provenance = {
        "archive": "Debian 12 bookworm main",
        "release": asdict(archive.release),
        "packages": {deb.name: {"version": deb.version, "sha256": deb.sha256} for deb in archive.debs.values()},
        "files": files,
    }
    (out / "COPYRIGHT.txt").write_text(_copyright_notices(archive), encoding="utf-8")
    (out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    return provenance


def _copyright_notices(archive: Archive) -> str:
    """The copyright files of the packages: their licences ask that the notices go with the text."""
    notices = []
    for deb in archive.debs.values():
        for path in sorted(deb.root.glob(f"usr/share/doc/{deb.name}/copyright")):
            if path.is_file():
                notice = path.read_text(encoding="utf-8", errors="replace")
                notices.append(f"{'=' * 20} {deb.name} {deb.version} {'=' * 20}\n\n{notice.strip()}\n")
    return "\n".join(notices)


def _counts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, Any] = {"rows": len(rows)}
    if rows and "split" in rows[0]:
        counts["splits"] = dict(sorted(Counter(row["split"] for row in rows).items()))
    if rows and "words" not in rows[0]:
        counts["text_bytes"] = sum(len((row["text"] + row.get("text_pair", "")).encode()) for row in rows)
    if rows and "group" in rows[0] and "split" not in rows[0]:
        sizes: Counter[str] = Counter()
        for row in rows:
            sizes[row["source"]] += len(row["text"].encode())
        counts["text_bytes_by_source"] = dict(sorted(sizes.items()))
    return counts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the snapshot of the Debian domain.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the Parquet files and provenance.json")
    parser.add_argument("--full", action="store_true", help="all text and all pairs instead of the small snapshot")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder for downloads (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    archive = read_archive(arguments.cache)
    write_snapshot(archive, make_tables(archive, FULL if arguments.full else SNAPSHOT), arguments.out)


if __name__ == "__main__":
    main()
