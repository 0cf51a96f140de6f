"""Parsers of the Debian sources on small real pieces, and what the committed snapshot promises."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from acclimate.errors import DataError
from tools.debian.archive import find_list
from tools.debian.corpus import Unit, corpus_rows, line_keys
from tools.debian.html import html_paragraphs
from tools.debian.manuals import pack_paragraphs, split_long
from tools.debian.mdoc import mdoc_paragraphs, spans_to_bio, spans_to_text
from tools.debian.other import Essay, other_rows
from tools.debian.packages import (
    drop_boilerplate,
    drop_duplicates,
    parse_deb822,
    read_packages,
    split_of,
    unfold_paragraphs,
)
from tools.debian.pairs import jaccard, related_rows
from tools.debian.roff import man_paragraphs, unescape
from tools.debian.tasks import cut_text
from tools.debian.wordnet import entries_of, parse_gloss, supersense_rows

SNAPSHOT = Path(__file__).parents[2] / "data/debian"
TABLES = ("corpus", "general", "heldout", "other", "supersense", "section", "works_with", "related", "tag_overlap", "entities")
SPLIT_TABLES = {"section": "source", "works_with": "source", "entities": "page"}
PAIR_TABLES = ("related", "tag_overlap")
ENTITY_TYPES = {"FUNC", "ARG", "XREF", "CONST", "NAME", "VAR", "TYPE", "PATH", "CMD", "ERRNO"}

PACKAGES = """\
Package: 0ad
Version: 0.0.26-3
Depends: 0ad-data (>= 0.0.26), libsdl2-2.0-0 (>= 2.0.12) | libsdl2-compat, zlib1g
Description: Real-time strategy game of ancient warfare
Description-md5: d943033bedada21853d2ae54a2578a7b
Tag: game::strategy, interface::graphical,
 uitoolkit::sdl
Section: games

Package: 0ad-data-common
Source: 0ad-data (0.0.26-1)
Description: Real-time strategy game of ancient warfare (common data files)
Description-md5: 8d014b839c4c4e9b6f82c7512d7e3496
Section: games
"""
TRANSLATION = """\
Package: 0ad
Description-md5: d943033bedada21853d2ae54a2578a7b
Description-en: Real-time strategy game of ancient warfare
 0 A.D. is a free, open-source, cross-platform
 real-time strategy game:
  * single player;
  * many players,
    over the network.
 .
 It is in short a war game.
"""
MDOC = """\
.\\" A comment
.Dd July 1, 2010
.Dt SYSCTL 3
.Os
.Sh NAME
.Nm sysctl
.Nd get or set system information
.Sh SYNOPSIS
.Fn sysctl "const int *name"
.Sh DESCRIPTION
The
.Fn sysctl "int *name" "u_int namelen"
function fails with
.Er ENOMEM ,
see
.Xr errno 2 .
A
.Vt "struct rtentry *"
is kept in
.Pa /etc/sysctl.conf
.Pq see Fa oldlenp .
.Bd -literal
int mib[4];
.Ed
.Pp
.Nm
reads
.Dv CTL_HW Ns -like
names.
"""


def read_rows(name: str, *columns: str) -> list[dict]:
    return pq.read_table(SNAPSHOT / f"{name}.parquet", columns=list(columns) or None).to_pylist()


@pytest.fixture
def packages(tmp_path: Path):
    (tmp_path / "Packages").write_text(PACKAGES)
    (tmp_path / "Translation-en").write_text(TRANSLATION)
    return read_packages(tmp_path / "Packages", tmp_path / "Translation-en")


@pytest.fixture(scope="module")
def corpus_lines() -> set[str]:
    return set(line_keys(row["text"] for row in read_rows("corpus", "text")))


def test_deb822_continuation_lines_join_the_field_above():
    first, second = parse_deb822(PACKAGES)
    assert first["Tag"] == "game::strategy, interface::graphical,\nuitoolkit::sdl"
    assert second["Source"] == "0ad-data (0.0.26-1)"


def test_packages_join_their_long_description(packages):
    game, data = packages
    assert game.paragraphs == (
        "0 A.D. is a free, open-source, cross-platform real-time strategy game:\n* single player;\n* many players, over the network.",
        "It is in short a war game.",
    )
    assert game.tags == ("game::strategy", "interface::graphical", "uitoolkit::sdl")
    assert game.depends == ("0ad-data", "libsdl2-2.0-0", "libsdl2-compat", "zlib1g")
    assert (game.source, data.source) == ("0ad", "0ad-data")


def test_unfold_parts_paragraphs_at_lone_dots():
    assert unfold_paragraphs(["One", "two.", ".", "Three."]) == ["One two.", "Three."]


def test_boilerplate_goes_when_more_than_three_packages_have_it(packages):
    game = packages[0]
    assert drop_boilerplate([game] * 3)[0].paragraphs == game.paragraphs
    assert drop_boilerplate([game] * 4)[0].paragraphs == ()


def test_duplicates_are_found_across_version_numbers(packages):
    from dataclasses import replace

    old, new = (replace(packages[0], name=f"gcc-{v}", synopsis=f"GNU C compiler {v}") for v in (11, 12))
    assert [package.name for package in drop_duplicates([old, new])] == ["gcc-11"]


def test_split_of_a_source_never_changes():
    assert [split_of(name) for name in ("0ad", "ansible-core", "perl")] == ["train", "dev", "test"]


def test_a_missing_list_is_one_clear_line(tmp_path):
    with pytest.raises(DataError, match="0 lists match bookworm_InRelease; expected 1"):
        find_list(tmp_path, "InRelease")


def test_mdoc_text_shows_brackets_and_skips_code():
    texts = [spans_to_text(spans) for spans in mdoc_paragraphs(MDOC)]
    assert texts == [
        "The sysctl() function fails with ENOMEM, see errno(2). A struct rtentry * is kept in /etc/sysctl.conf (see oldlenp).",
        "sysctl reads CTL_HW-like names.",
    ]


def test_mdoc_entities_have_no_brackets():
    words, tags = spans_to_bio(mdoc_paragraphs(MDOC)[0])
    entities = [(word, tag) for word, tag in zip(words, tags, strict=True) if tag != "O"]
    assert entities == [
        ("sysctl", "B-FUNC"),
        ("ENOMEM", "B-ERRNO"),
        ("errno", "B-XREF"),
        ("struct", "B-TYPE"),
        ("rtentry", "I-TYPE"),
        ("*", "I-TYPE"),
        ("/etc/sysctl.conf", "B-PATH"),
        ("oldlenp", "B-ARG"),
    ]


def test_man_page_to_prose():
    page = (
        ".TH fork 2\n.SH NAME\nfork \\- create a child\n.SH DESCRIPTION\n.BR fork ()\nmakes a\n.IR child ;\n"
        'see\n.B "set \\-e"\n.nf\nint x;\n.fi\n.TP\n.B EAGAIN\nNo \\(lqmemory\\(rq\\&.\n'
    )
    assert man_paragraphs(page) == ["fork() makes a child; see set -e", 'EAGAIN No "memory".']


def test_roff_escapes():
    assert unescape(r"\fBa\fP\-b \(em \e0 \s-1C\s0") == "a-b — \\0 C"


def test_html_keeps_prose_and_leaves_navigation_and_code():
    page = (
        "<html><head><title>T</title></head><body><div class='related'>Up<div>Next</div></div>"
        "<h1>Files<a class='headerlink'>¶</a></h1><p>Use <code>ls</code> &amp; see<br>more.</p>"
        "<pre>$ ls</pre><ul><li>One</li><li>Two</li></ul></body></html>"
    )
    assert html_paragraphs(page) == ["Files", "Use ls & see more.", "One", "Two"]


def test_wordnet_line():
    line = '00003356 00 a 01 nascent 0 005 + 07320302 n 0103 |  being born or beginning; "the nascent chicks"  '
    assert parse_gloss(line) == 'nascent: being born or beginning; "the nascent chicks"'


def test_entries_of_general_text_are_no_rows_of_supersense():
    nouns = [f"lemma{i}: gloss number {'i' * i}" for i in range(40)] + ["again: gloss number iii"]
    general = [{"id": "wordnet/noun/5", "text": "", "source": "wordnet"}]
    entries = entries_of(general, [nouns, [], [], []])
    assert entries == nouns[5:10]
    rows = supersense_rows(nouns, ["act"] * 30 + ["food"] * 11, entries, quota={"train": 90, "dev": 9, "test": 9}, min_entries=30)
    assert sorted(row["text"] for row in rows) == sorted(set(nouns[:30]) - set(entries))
    assert {row["label"] for row in rows} == {"act"}
    assert len(supersense_rows(nouns, ["act"] * 41, [], quota={"train": 4, "dev": 0, "test": 0}, min_entries=1)) == 4


def test_other_text_keeps_a_paragraph_once():
    shared, own = "Both pages say this, at some length, so it is kept.", "Only the second page says this, at some length."
    rows = other_rows([Essay("a", (shared,)), Essay("b", (shared.upper(), own))], num_bytes=None)
    assert sorted(line for row in rows for line in row["text"].split("\n")).count(own) == 1
    assert sum(shared.lower() in row["text"].lower() for row in rows) == 1
    assert len({row["group"] for row in other_rows([Essay("a", (shared,)), Essay("b", (own,))], num_bytes=1)}) == 1


def test_documents_are_packed_and_cut_at_sentences():
    assert pack_paragraphs(["a" * 900, "b" * 500, "c" * 900]) == ["a" * 900 + "\n" + "b" * 500, "c" * 900]
    assert split_long("One two. Three four five.", 12) == ["One two.", "Three four", "five."]
    assert cut_text("one two three", 9) == "one two"


def test_corpus_has_no_line_of_dev_or_test():
    shared = "A line that dev has too, whatever its version: 12."
    train = Unit("descriptions", "a", "train", ("Only train says this, at some length, so it is kept.", shared))
    dev = Unit("descriptions", "b", "dev", (shared.replace("12", "13"),))
    assert [row["text"] for row in corpus_rows([train, dev], num_bytes=None)] == [train.paragraphs[0]]


def test_jaccard():
    assert jaccard("abc", "bcd") == 0.5


def test_related_pairs_need_two_sources_of_one_split(packages):
    assert related_rows(packages, quota={"train": 10, "dev": 10, "test": 10}, max_chars=None) == []


# The committed snapshot


def test_snapshot_is_small():
    assert sum(path.stat().st_size for path in SNAPSHOT.iterdir()) < 13e6


def test_provenance_tells_the_bytes_and_rows_of_every_table():
    files = json.loads((SNAPSHOT / "provenance.json").read_text())["files"]
    assert set(files) == {f"{name}.parquet" for name in TABLES}
    for name, facts in files.items():
        assert hashlib.sha256((SNAPSHOT / name).read_bytes()).hexdigest() == facts["sha256"], name
        assert pq.read_metadata(SNAPSHOT / name).num_rows == facts["rows"], name


def test_data_card_has_the_row_counts_of_provenance():
    card = (SNAPSHOT / "README.md").read_text()
    files = json.loads((SNAPSHOT / "provenance.json").read_text())["files"]
    assert [name for name, facts in files.items() if f"{facts['rows']:,}" not in card] == []


@pytest.mark.parametrize("name", TABLES)
def test_ids_are_unique(name):
    ids = [row["id"] for row in read_rows(name, "id")]
    assert len(set(ids)) == len(ids)


def test_corpus_has_25_megabytes_from_many_parts():
    rows = read_rows("corpus", "text", "source")
    assert sum(len(row["text"].encode()) for row in rows) >= 25_000_000
    assert len({row["source"] for row in rows}) >= 10


def test_descriptions_in_the_corpus_are_of_train_sources():
    rows = read_rows("corpus", "source", "group")
    assert {split_of(row["group"]) for row in rows if row["source"] == "descriptions"} == {"train"}
    assert {split_of(row["group"]) for row in rows if "manpages" in row["source"]} == {"train"}


def test_heldout_is_of_dev(corpus_lines):
    rows = read_rows("heldout")
    assert {split_of(row["group"]) for row in rows} == {"dev"}
    assert corpus_lines.isdisjoint(line_keys(row["text"] for row in rows))


@pytest.mark.parametrize(("name", "group"), SPLIT_TABLES.items())
def test_split_follows_the_source_package_or_page(name, group):
    rows = read_rows(name, group, "split")
    assert all(row["split"] == split_of(row[group]) for row in rows)
    assert {row["split"] for row in rows} == {"train", "dev", "test"}


@pytest.mark.parametrize("name", PAIR_TABLES)
def test_both_sides_of_a_pair_are_in_one_split(name):
    rows = read_rows(name, "group", "split")
    assert all({split_of(source) for source in row["group"].split("|")} == {row["split"]} for row in rows)


@pytest.mark.parametrize("name", ["section", "works_with", "related", "tag_overlap"])
def test_no_dev_or_test_text_is_in_the_corpus(name, corpus_lines):
    for row in read_rows(name):
        if row["split"] != "train":
            for text in (row["text"], row.get("text_pair") or ""):
                whole_lines = text.split("\n")[:-1]  # the last line may be cut
                assert corpus_lines.isdisjoint(line_keys(whole_lines)), row["id"]


def test_no_dev_or_test_page_is_in_the_corpus():
    held_back = {row["page"] for row in read_rows("entities", "page", "split") if row["split"] != "train"}
    pages = {row["group"] for row in read_rows("corpus", "source", "group") if "manpages" in row["source"]}
    assert pages.isdisjoint(held_back)


def test_supersense_has_19_classes_in_every_split_and_nothing_of_general_text():
    rows, general = read_rows("supersense"), " ".join(row["text"] for row in read_rows("general", "text"))
    for split, count in (("train", 6000), ("dev", 600), ("test", 1500)):
        assert len(labels := [row["label"] for row in rows if row["split"] == split]) == count
        assert len(set(labels)) == 19
    assert all(split_of(row["id"]) == row["split"] for row in rows)
    assert [row["id"] for row in rows if row["text"] in general] == []
    assert len({row["text"].partition(": ")[2] for row in rows}) == len(rows)


def test_other_text_is_as_long_as_the_corpus_and_shares_no_line_with_it(corpus_lines):
    other, corpus = ([row["text"] for row in read_rows(name, "text")] for name in ("other", "corpus"))
    assert 2_500_000 < sum(len(text.encode()) for text in other) < 4_000_000
    mean = sum(map(len, corpus)) / len(corpus)
    assert 0.9 * mean < sum(map(len, other)) / len(other) < 1.1 * mean
    assert corpus_lines.isdisjoint(line_keys(other))


def test_section_has_26_classes_in_every_split():
    rows = read_rows("section", "section", "split")
    for split in ("train", "dev", "test"):
        assert len({row["section"] for row in rows if row["split"] == split}) == 26


def test_works_with_rows_have_known_tags():
    rows = read_rows("works_with", "tags", "split")
    known = {tag for row in rows if row["split"] == "train" for tag in row["tags"]}
    assert all(row["tags"] and known.issuperset(row["tags"]) for row in rows)


def test_related_labels_are_balanced_on_either_side():
    rows = read_rows("related")
    firsts = {label: {r["text"] for r in rows if r["label"] == label} for label in ("related", "unrelated")}
    seconds = {label: {r["text_pair"] for r in rows if r["label"] == label} for label in ("related", "unrelated")}
    assert firsts["related"] == firsts["unrelated"]
    assert seconds["unrelated"] <= seconds["related"]


def test_tag_overlap_scores_are_spread():
    scores = [row["score"] for row in read_rows("tag_overlap", "score")]
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        share = sum(low <= score < low + 0.2 + (low == 0.8) for score in scores) / len(scores)
        assert share > 0.15


def test_entity_tags_are_wellformed():
    for row in read_rows("entities"):
        assert len(row["words"]) == len(row["tags"]) > 0
        for before, tag in pairwise(["O", *row["tags"]]):
            assert tag == "O" or tag[2:] in ENTITY_TYPES
            assert not tag.startswith("I-") or before[2:] == tag[2:], row["id"]
        assert not any(word.endswith(")") for word, tag in zip(row["words"], row["tags"], strict=True) if tag == "B-FUNC")
