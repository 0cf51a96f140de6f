"""The text of a Word document (ECMA-376, https://ecma-international.org/publications-and-standards/standards/ecma-376) by python-docx."""

from __future__ import annotations

import zipfile
from collections import Counter
from io import BytesIO
from typing import Any

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.options import ReadOptions

_MAX_UNPACKED_BYTES = 256 << 20
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}


def read_docx(content: bytes, options: ReadOptions, notes: Counter[str]) -> str:
    """The text of the body, a line for each paragraph, cells of tables in their order.

    The body is walked as it stands: python-docx's own `paragraph.text` leaves out tracked insertions, content controls and text boxes.
    Tracked deletions, comments, footnotes, headers and footers are left out.

    Args:
        notes: counts footnotes.
    Raises:
        UnreadableError: no Word document, broken, encrypted, or a bomb.
        ModuleNotFoundError: python-docx is not installed.
    """
    import docx

    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            num_bytes = sum(info.file_size for info in archive.infolist())
        if num_bytes > _MAX_UNPACKED_BYTES:
            raise UnreadableError(f"unpacks to {num_bytes:,} bytes, more than {_MAX_UNPACKED_BYTES:,}: a decompression bomb, or no text")
        body = docx.Document(BytesIO(content)).element.body
    except UnreadableError:
        raise
    except Exception as error:  # noqa: BLE001 - of a broken file python-docx raises what zipfile, lxml or a missing part cause
        hint = "; encrypted, or a .doc of Word 97: save it as .docx" if content.startswith(b"\xd0\xcf\x11\xe0") else ""
        raise UnreadableError(f"not a whole Word document ({type(error).__name__}: {str(error)[:200]}){hint}") from None
    notes["footnotes left out"] += sum(1 for _ in body.iter(f"{_WORD}footnoteReference"))
    pieces: list[str] = []
    _gather(body, pieces)
    return "\n".join(line for line in "".join(pieces).split("\n") if line.strip())


def _gather(body: Any, pieces: list[str]) -> None:
    """Append text in the document's order; a text box stands there twice, once for older programs."""
    from lxml.etree import iterwalk

    skipped: Any = None
    for event, element in iterwalk(body, events=("start", "end")):
        if skipped is not None:
            skipped = None if event == "end" and element is skipped else skipped
        elif element.tag == _FALLBACK:
            skipped = element
        elif event == "end":
            pieces.append("\n" if element.tag == f"{_WORD}p" else "")
        elif element.tag == f"{_WORD}t":
            pieces.append(element.text or "")
        elif isinstance(element.tag, str) and element.tag.startswith(_WORD):
            pieces.append(_SIGNS.get(element.tag.removeprefix(_WORD), "") if element.getparent().tag == f"{_WORD}r" else "")
