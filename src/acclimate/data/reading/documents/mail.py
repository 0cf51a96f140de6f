"""Mail: one message (RFC 5322, https://www.rfc-editor.org/rfc/rfc5322) or a mailbox of them (RFC 4155, https://www.rfc-editor.org/rfc/rfc4155).

A message's text is its subject, a blank line, and its body: the plain one, or the HTML one where there is no plain one. Names, addresses
and dates of the header are left out, and so are attachments. Quoted replies stay.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from functools import partial
from itertools import chain, pairwise
from typing import IO, Any

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.documents.html import page_text
from acclimate.data.reading.formats import Reading
from acclimate.data.reading.options import ReadOptions

_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:|>?From ")
_DATED = re.compile(rb"From .*\d\d?:\d\d.*\d{4}\b")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_BROKEN = (LookupError, ValueError, TypeError, AttributeError, AssertionError, RecursionError, MessageError)
"""What the standard library raises for headers and structures that are none."""


def split_mailbox(file: IO[bytes], reading: Reading) -> Iterator[bytes]:
    """The messages of a mailbox, without their `From ` lines.

    A message begins with `From ` after a blank line, where a date or a header follows: a sentence that begins with "From" does not.
    The standard library's `mailbox` begins one at each such line, and so cuts messages in two.

    Raises:
        DataError: it does not begin as a mailbox does, or a message is over the limit of a record.
    """
    message: list[bytes] | None = None
    first, size, is_blank_before = 1, 0, True
    for number, (line, following) in enumerate(pairwise(chain(_lines(file, reading), [b""])), start=1):
        if is_blank_before and line.startswith(b"From ") and (_DATED.match(line) or _HEADER.match(following)):
            if message is not None:
                yield _unquoted(message)
            message, first, size = [], number, 0
        elif message is None:
            if line.strip():
                raise reading.fault(f"line {number}: no mailbox, which begins with `From `; a single message is read by `format: eml`")
        else:
            message.append(line)
            size += len(line)
            if size > reading.options.max_record_bytes:
                raise reading.too_long(f"line {first}", "message", ", attachments counted")
        is_blank_before = not line.strip()
    if message is not None:
        yield _unquoted(message)


def _lines(file: IO[bytes], reading: Reading) -> Iterator[bytes]:
    return iter(partial(file.readline, reading.options.max_record_bytes + 1), b"")


def _unquoted(message: list[bytes]) -> bytes:
    """A message as it was sent: mailboxes write a line `From ...` as `>From ...`."""
    return _QUOTED.sub(rb"\1", b"".join(message))


def read_message(content: bytes, options: ReadOptions, notes: Counter[str]) -> str:
    """The text of one message.

    Args:
        notes: counts what was left out or guessed.
    Raises:
        UnreadableError: it is no message.
    """
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    if not _HEADER.match(content.lstrip()):
        raise UnreadableError("no message: it does not begin with a header, such as `From: ...`")
    body = _body(message)
    notes["attachments left out"] += sum(1 for part in message.walk() if part is not body and _is_attachment(part))
    text = "" if body is None else _decoded(body, notes)
    if body is not None and body.get_content_type() == "text/html":
        notes["bodies taken from HTML"] += 1
        text = page_text(text)
    return "\n\n".join(part for part in (_subject(message), text.replace("\r\n", "\n").strip()) if part)


def _subject(message: EmailMessage) -> str:
    """The subject on one line, its encoded words (RFC 2047) decoded; as it stands where it is broken."""
    try:
        return " ".join(str(message["subject"] or "").split())
    except _BROKEN:
        raw = next((value for name, value in message.raw_items() if name.lower() == "subject"), "")
        return " ".join(str(raw).split())


def _body(message: EmailMessage) -> Any:
    """The part that holds the text: plain where there is one with anything in it, else HTML."""
    try:
        candidates: list[Any] = [message.get_body((kind,)) for kind in ("plain", "html")]
    except _BROKEN:
        candidates = [part for part in message.walk() if part.get_content_maintype() == "text"]
    filled = [part for part in candidates if part is not None and bytes(part.get_payload(decode=True) or b"").strip()]
    return filled[0] if filled else None


def _is_attachment(part: Any) -> bool:
    is_leaf = not part.is_multipart()
    return is_leaf and (part.get_content_disposition() == "attachment" or part.get_content_maintype() not in ("text", "multipart"))


def _decoded(part: Any, notes: Counter[str]) -> str:
    """A part's text by its charset; where it names none, an unknown or a wrong one: UTF-8, else Windows-1252."""
    payload = part.get_payload(decode=True) or b""
    try:
        charset = codecs.lookup(part.get_content_charset() or "ascii").name
        return str(payload.decode(charset))
    except (LookupError, ValueError):
        notes["bodies in another charset than they say"] += 1
    try:
        return str(payload.decode("utf-8"))
    except UnicodeDecodeError:
        return str(payload.decode("cp1252", "replace"))
