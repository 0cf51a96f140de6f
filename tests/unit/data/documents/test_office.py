"""PDF and Word: every paragraph comes back; what holds no text says why."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.documents.docx import read_docx
from acclimate.data.reading.documents.pdf import read_pdf
from acclimate.data.reading.options import ReadOptions


def pdf(pages: list[list[str]], *, compress: bool = False) -> bytes:
    """A PDF as small programs write it; Helvetica, a line each."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()]
    font = "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    for number, lines in enumerate(pages):
        shown = "".join(f"1 0 0 1 72 {700 - 20 * i} Tm ({line}) Tj\n" for i, line in enumerate(lines))
        stream = f"BT /F1 12 Tf\n{shown}ET".encode("latin-1")
        stream = zlib.compress(stream) if compress else stream
        packed = "/Filter /FlateDecode " if compress else ""
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {4 + 2 * number} 0 R {font} >>".encode())
        objects.append(f"<< {packed}/Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    return (
        out + f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF".encode()
    )


def encrypted(content: bytes) -> bytes:
    writer, out = PdfWriter(clone_from=io.BytesIO(content)), io.BytesIO()
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(out)
    return out.getvalue()


def word(fill: Callable[[docx.document.Document], object]) -> bytes:
    document, out = docx.Document(), io.BytesIO()
    fill(document)
    document.save(out)
    return out.getvalue()


def text_of_pdf(content: bytes, **options: int) -> str:
    return read_pdf(content, ReadOptions.model_validate(options), Counter())


def text_of_docx(content: bytes) -> str:
    return read_docx(content, ReadOptions(), Counter())


@pytest.mark.parametrize("compress", [False, True])
def test_a_pdf_gives_its_pages_in_order(compress: bool) -> None:
    notes = Counter[str]()
    content = pdf([["One line.", "Another line."], [], ["Page three."]], compress=compress)
    assert read_pdf(content, ReadOptions(), notes) == "One line.\nAnother line.\nPage three."
    assert notes == {"pages without text": 1}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (pdf([[], []]), {}, "no text layer on any of 2 pages, such as in a scan; run OCR"),
        (encrypted(pdf([["x"]])), {}, "encrypted with a password"),
        (pdf([["x" * 80]]), {"max_record_bytes": 50}, "more than 50 characters.*raise `max_record_bytes`"),
        (pdf([["x"]])[:100], {}, "not a whole PDF"),
        (b"%PDF-1.4 nothing", {}, "not a whole PDF"),
        (pdf([["x" * 100_000_000]], compress=True), {}, "not a whole PDF"),
    ],
    ids=["scan", "encrypted", "long", "cut", "nothing", "bomb"],
)
def test_a_pdf_that_gives_no_text_says_why(content: bytes, options: dict[str, int], message: str) -> None:
    with pytest.raises(UnreadableError, match=message):
        text_of_pdf(content, **options)


def test_a_word_document_gives_what_a_reader_sees() -> None:
    def fill(document: docx.document.Document) -> None:
        document.add_heading("Title")
        paragraph = document.add_paragraph("A ")
        paragraph.add_run("bold\tword").bold = True
        table = document.add_table(1, 2)
        table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
        inserted = f"<w:ins {nsdecls('w')} w:id='1' w:author='a'><w:r><w:t> inserted</w:t></w:r></w:ins>"
        deleted = f"<w:del {nsdecls('w')} w:id='2' w:author='a'><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        control = f"<w:sdt {nsdecls('w')}><w:sdtContent><w:r><w:t> chosen</w:t></w:r></w:sdtContent></w:sdt>"
        for xml in (inserted, deleted, control):
            paragraph._p.append(parse_xml(xml))
        document.add_paragraph("line\nend")

    assert text_of_docx(word(fill)) == "Title\nA bold\tword inserted chosen\nleft\nright\nline\nend"


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"\0" * (300 << 20))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04", "not a whole Word document"),
        (b"\xd0\xcf\x11\xe0 old", "encrypted, or a .doc of Word 97: save it as .docx"),
        (word(id)[:5000], "not a whole Word document"),
        (bomb(), "a decompression bomb, or no text"),
    ],
    ids=["nothing", "doc", "cut", "bomb"],
)
def test_a_word_document_that_is_not_read_says_why(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableError, match=message):
        text_of_docx(content)


@settings(max_examples=30, derandomize=True, deadline=5000)
@given(paragraphs=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), max_size=5))
def test_what_python_docx_writes_comes_back(paragraphs: list[str]) -> None:
    def fill(document: docx.document.Document) -> None:
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)

    assert text_of_docx(word(fill)) == "\n".join(paragraphs)


WHOLE = {"pdf": pdf([["One.", "Two."], ["Three."]], compress=True), "docx": word(lambda document: document.add_paragraph("One.") and None)}


@settings(max_examples=150, derandomize=True, deadline=10_000)
@given(kind=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_changed_files_give_text_or_are_unreadable(kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        {"pdf": text_of_pdf, "docx": text_of_docx}[kind](bytes(content[: data.draw(st.integers(1, len(content)))]))
    except UnreadableError as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 400
