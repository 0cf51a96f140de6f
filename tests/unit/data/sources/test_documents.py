"""Documents: one file is one document, in a directory or an archive; hostile archives are refused."""

from __future__ import annotations

import gzip
import io
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acclimate.data.reading.sources import documents
from acclimate.data.reading.sources._archives import pattern_regex
from acclimate.errors import DataError
from tests.unit.data.sources.batches import read

TEXTS = {"a.txt": "one\n\nmore", "b/c.txt": "", "b/d/e.txt": "Grüße", "b/f.md": "# no", "z.txt": "last"}
WANTED = [(1, "a.txt", "one\n\nmore"), (2, "b/c.txt", ""), (3, "b/d/e.txt", "Grüße"), (4, "z.txt", "last")]


def write_tree(root: Path) -> None:
    for name, text in TEXTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def write_zip(path: Path, texts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)


def write_tar(path: Path, texts: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, text in texts.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))


def write_tgz(path: Path, texts: dict[str, bytes]) -> None:
    write_tar(path, texts, "w:gz")


ENCODED = {name: text.encode() for name, text in TEXTS.items()}


def rows(root: Path, **options: object) -> list[tuple[int, str, str]]:
    batches = read(documents, documents.Config.model_validate({"data": "docs", **options}), root)
    return [row for batch in batches for row in zip(batch.numbers, batch.ids or [], batch.texts, strict=True)]


def fault(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        rows(root, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_directory_gives_a_document_for_each_file_that_matches(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    assert rows(tmp_path) == WANTED
    assert [row[1] for row in rows(tmp_path, pattern="b/*")] == ["b/c.txt", "b/f.md"]
    assert [row[1] for row in rows(tmp_path, pattern="**/[ce].*")] == ["b/c.txt", "b/d/e.txt"]


def test_files_that_macos_wrote_are_no_documents(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    (tmp_path / "docs" / "__MACOSX").mkdir()
    for name in ("b/._a.txt", "__MACOSX/._a.txt", "__MACOSX/a.txt"):
        (tmp_path / "docs" / name).write_bytes(b"\0\5\x16\7")
    assert rows(tmp_path) == WANTED


def test_parts_of_a_directory_keep_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "docs")
    monkeypatch.setattr(documents, "_PART_DOCUMENTS", 3)
    config = documents.Config(data="docs", group_by="directory")
    parts = documents.parts(config, tmp_path, where="w")
    assert [part.key for part in parts] == ["docs[0:3]", "docs[3:4]"]
    batches = [batch for part in parts for batch in documents.read_part(config, part, tmp_path, where="w")]
    assert [batch.numbers for batch in batches] == [[1, 2, 3], [4]]
    assert batches[0].groups == [".", "b", "b/d"]


@pytest.mark.parametrize(
    ("name", "write"), [("docs.zip", write_zip), ("docs.tar", write_tar), ("docs.tar.gz", write_tgz), ("docs.tgz", write_tgz)]
)
def test_an_archive_gives_what_its_directory_would(tmp_path: Path, name: str, write: Callable[[Path, dict[str, bytes]], None]) -> None:
    write(tmp_path / name, ENCODED)
    assert rows(tmp_path, data=name) == WANTED


@pytest.mark.parametrize("member", ["../out.txt", "a/../../out.txt", "/etc/out.txt", "C:\\out.txt", "a\\..\\..\\out.txt"])
@pytest.mark.parametrize(("name", "write"), [("docs.zip", write_zip), ("docs.tar", write_tar)])
def test_a_member_that_leads_outside_is_refused(
    tmp_path: Path, name: str, write: Callable[[Path, dict[str, bytes]], None], member: str
) -> None:
    write(tmp_path / name, {"a.txt": b"one", member: b"two"})
    assert "leaves the archive's directory; allowed are plain names below it" in fault(tmp_path, data=name)


def test_members_that_are_no_plain_files_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as zipped:
        link = zipfile.ZipInfo("a.txt")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "method.zip", "w", zipfile.ZIP_BZIP2) as zipped:
        # zipfile unpacks it without a bound: 1,246 bytes with a size that lies took more than 1.5 GB.
        zipped.writestr("a.txt", "one")
    for name in ("link.tar", "link.zip", "method.zip"):
        assert "the member 'a.txt' is a link, a device, encrypted, or packed by another method than deflate" in fault(tmp_path, data=name)


@pytest.mark.parametrize(("name", "write"), [("docs.zip", write_zip), ("docs.tgz", write_tgz)])
def test_a_decompression_bomb_is_refused(tmp_path: Path, name: str, write: Callable[[Path, dict[str, bytes]], None]) -> None:
    write(tmp_path / name, {f"{i}.txt": bytes(b" " * (9 << 20)) for i in range(9)})
    assert (tmp_path / name).stat().st_size < 200_000
    assert "unpacks to more than 67,108,864 bytes, 200 times its size: a decompression bomb" in fault(tmp_path, data=name)
    write(tmp_path / name, {"a.txt": bytes(b" " * (17 << 20))})
    assert "the member 'a.txt' is longer than 16,777,216 bytes, the limit of a record" in fault(tmp_path, data=name)


@pytest.mark.parametrize(
    ("name", "write", "cut_bytes"), [("docs.zip", write_zip, 30), ("docs.tar", write_tar, 20_000), ("docs.tgz", write_tgz, 30)]
)
def test_an_archive_cut_short_is_named(tmp_path: Path, name: str, write: Callable[[Path, dict[str, bytes]], None], cut_bytes: int) -> None:
    write(tmp_path / name, {f"{i}.txt": str(i * i).encode() * 500 for i in range(20)})
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-cut_bytes])
    assert re.search("not a whole|cut short", fault(tmp_path, data=name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "**/*.rst"}, r"docs: no file matches '\*\*/\*.rst' among 5 \(by ending: 4 .txt, 1 .md\); give another `pattern`"),
        ({"data": "none"}, "none: no such directory or archive"),
        ({"data": "docs/a.txt"}, "docs/a.txt: neither a directory nor a zip or tar archive"),
        ({"data": "../docs"}, "leaves the data directory"),
        ({"data": "docs", "max_record_bytes": 5}, "docs/a.txt: line 1: the document that begins here is longer than 5 bytes"),
        ({"data": "latin"}, "latin/a.txt: line 2: byte 0xfc is not UTF-8"),
        ({"data": "linked"}, "linked/a.txt: leaves the data directory"),
        ({"data": "linked_directory"}, "a link to a directory, which is not followed"),
        ({"data": "latin.zip"}, "latin.zip: member 'a.txt': line 2: byte 0xfc is not UTF-8"),
        ({"data": "latin.zip", "pattern": "*.md"}, "no member matches"),
    ],
)
def test_a_fault_is_one_line(tmp_path: Path, options: dict[str, object], message: str) -> None:
    data = tmp_path / "data"
    write_tree(data / "docs")
    for name in ("latin", "linked", "linked_directory"):
        (data / name).mkdir()
    (data / "latin" / "a.txt").write_bytes(b"a\n\xfc")
    write_zip(data / "latin.zip", {"a.txt": b"a\n\xfc"})
    (tmp_path / "a.txt").write_text("outside")
    (data / "linked" / "a.txt").symlink_to(tmp_path / "a.txt")
    (data / "linked_directory" / "b").symlink_to(data / "docs")
    assert re.search(message, fault(data, **options))


def test_patterns_match_as_pathlib_does(tmp_path: Path) -> None:
    write_tree(tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    for pattern in ("*", "**/*", "*.txt", "**/*.txt", "b/*", "b/**/*", "b/d/?.txt", "[ab]*", "**/[!c].*", "b/**/e.txt", "nothing"):
        expected = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern) if path.is_file()}
        assert {name for name in names if pattern_regex(pattern).fullmatch(name)} == expected, pattern


@settings(max_examples=150, derandomize=True, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["docs.zip", "docs.tar", "docs.tgz"]), data=st.data())
def test_changed_archives_give_documents_or_one_line(tmp_path: Path, name: str, data: st.DataObject) -> None:
    {"docs.zip": write_zip, "docs.tar": write_tar, "docs.tgz": write_tgz}[name](tmp_path / name, ENCODED)
    content = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        rows(tmp_path, data=name, pattern="**/*")
    except DataError as error:
        message = str(error)
    else:
        message = ""
    assert not message or message.isprintable()


MAIL = b"From a@b Fri Jul  8 12:08:34 2011\nSubject: one\n\nfirst\n\nFrom a@b Fri Jul  8 12:08:34 2011\nSubject: two\n\nsecond\n"
MIXED = {"a.mbox": MAIL, "b.eml": b"Subject: s\n\nmail", "c.html": b"<p>page", "d.pdf": b"%PDF-1.4 cut", "e.txt": b"text"}
READ = [
    (1, "a.mbox#1", "one\n\nfirst"),
    (1, "a.mbox#2", "two\n\nsecond"),
    (2, "b.eml", "s\n\nmail"),
    (3, "c.html", "page"),
    (4, "d.pdf", ""),
]


@pytest.mark.parametrize("place", ["docs", "docs.zip", "docs.tgz"])
def test_rich_formats_are_read_by_their_ending(tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "docs").mkdir()
    for name, content in MIXED.items():
        (tmp_path / "docs" / name).write_bytes(content)
    write_zip(tmp_path / "docs.zip", MIXED)
    write_tgz(tmp_path / "docs.tgz", MIXED)
    (batch,) = read(documents, documents.Config(data=place, pattern="**/*"), tmp_path)
    assert list(zip(batch.numbers, batch.ids or [], batch.texts, strict=True)) == [*READ, (5, "e.txt", "text")]
    assert batch.problems is not None
    assert [bool(problem) for problem in batch.problems] == [False, False, False, False, True, False]
    assert "1 documents are unreadable: d.pdf: not a whole PDF" in caplog.text


def test_one_file_is_read_and_a_format_holds_for_every_ending(tmp_path: Path) -> None:
    (tmp_path / "in.mbox").write_bytes(MAIL)
    assert [row[1] for row in rows(tmp_path, data="in.mbox")] == ["in.mbox#1", "in.mbox#2"]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "1.").write_bytes(b"Subject: s\n\nas Enron has it")
    assert rows(tmp_path, pattern="**/*", format="eml") == [(1, "1.", "s\n\nas Enron has it")]
    (tmp_path / "2011-July.txt.gz").write_bytes(gzip.compress(MAIL))
    assert [row[2] for row in rows(tmp_path, data="2011-July.txt.gz", format="mbox")] == ["one\n\nfirst", "two\n\nsecond"]


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    monkeypatch.setitem(sys.modules, "pypdf", None)
    assert re.search(r"a.pdf: a .pdf needs pypdf: pip install .*\[documents\]", fault(tmp_path, data="a.pdf"))
