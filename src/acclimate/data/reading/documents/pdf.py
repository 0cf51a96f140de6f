"""The text layer of a PDF, page after page, by pypdf (https://pypdf.readthedocs.io)."""

from __future__ import annotations

import logging
from collections import Counter
from io import BytesIO

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.options import ReadOptions


def read_pdf(content: bytes, options: ReadOptions, notes: Counter[str]) -> str:
    """The text of a PDF, a line end between pages. pypdf bounds what a stream unpacks to and the steps of parsing a page.

    Args:
        notes: counts pages without text.
    Raises:
        UnreadableError: broken, encrypted, without a text layer, or of more text than a record may have.
        ModuleNotFoundError: pypdf is not installed.
    """
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    pages, num_chars = list[str](), 0
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError("the PDF is encrypted with a password; save it without one")
        for page in reader.pages:
            pages.append(page.extract_text().strip())
            num_chars += len(pages[-1])
            if num_chars > options.max_record_bytes:
                raise UnreadableError(f"more than {options.max_record_bytes:,} characters, the limit of a record; raise `max_record_bytes`")
    except UnreadableError:
        raise
    except Exception as error:  # noqa: BLE001 - of a broken file pypdf raises whatever its parser stumbles over
        raise UnreadableError(f"not a whole PDF ({type(error).__name__}: {str(error)[:200]}); fetch or write it again") from None
    if not any(pages):
        raise UnreadableError(f"no text layer on any of {len(pages)} pages, such as in a scan; run OCR on it first, such as `ocrmypdf`")
    notes["pages without text"] += sum(not page for page in pages)
    return "\n".join(page for page in pages if page)
