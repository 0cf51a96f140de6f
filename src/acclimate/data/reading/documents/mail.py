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
from email.header import decode_header
from email.message import Message
from functools import partial
from itertools import chain, pairwise
from typing import IO

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.documents.html import page_text
from acclimate.data.reading.formats import Reading
from acclimate.data.reading.options import ReadOptions

_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:|>?From ")
_DATED = re.compile(rb"From .*\d\d?:\d\d.*\d{4}\b")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_MAX_HEADER_CHARS = 16_384
_MAX_SUBJECT_CHARS = 4096


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
        UnreadableError: it is no message, or one that no program writes.
    """
    if not _HEADER.match(content.lstrip()):
        raise UnreadableError("no message: it does not begin with a header, such as `From: ...`")
    try:
        message = message_from_bytes(content, policy=policy.compat32)
    except RecursionError:
        raise UnreadableError("parts of the message are nested too deeply") from None
    kinds: dict[str, list[Message]] = {"text/plain": [], "text/html": []}
    for part in _leaves(message):
        kind = part.get_content_type()
        if kind in kinds and part.get_content_disposition() != "attachment" and not part.is_multipart():
            kinds[kind].append(part)
        else:
            notes["attachments left out"] += 1
    text = _text(kinds["text/plain"], notes)
    if not text and kinds["text/html"]:
        notes["bodies taken from HTML"] += 1
        text = page_text(_text(kinds["text/html"], notes))
    return "\n\n".join(part for part in (_subject(message), text) if part)


def _leaves(message: Message) -> Iterator[Message]:
    """The parts that hold no others, in their order; a message that is attached is one.

    Raises:
        UnreadableError: a header that is long enough to keep the standard library busy.
    """
    waiting = [message]
    while waiting:
        part = waiting.pop()
        for name, value in part.raw_items():
            if len(str(value)) > _MAX_HEADER_CHARS and name.lower().startswith("content-"):
                raise UnreadableError(f"a header {name} of more than {_MAX_HEADER_CHARS:,} characters")
        inside = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inside, list):
            waiting += [each for each in reversed(inside) if isinstance(each, Message)]
        else:
            yield part


def _text(parts: list[Message], notes: Counter[str]) -> str:
    """Several parts of one kind, as some programs write the text around a picture, a blank line between them."""
    texts = (_decoded(part, notes).replace("\r\n", "\n").strip() for part in parts)
    return "\n\n".join(text for text in texts if text)


def _subject(message: Message) -> str:
    """The subject on one line, its encoded words (RFC 2047) decoded; as it stands where it is broken."""
    raw = next((str(value) for name, value in message.raw_items() if name.lower() == "subject"), "")[:_MAX_SUBJECT_CHARS]
    octets = raw.encode("utf-8", "surrogateescape")
    try:
        subject = octets.decode("utf-8")
    except UnicodeDecodeError:
        subject = octets.decode("cp1252", "replace")
    subject = " ".join(subject.split())  # unfolded: decode_header loses the space at a fold
    try:
        pieces = [
            piece if isinstance(piece, str) else piece.decode(charset or "raw-unicode-escape", "replace")
            for piece, charset in decode_header(subject)
        ]
        subject = "".join(pieces)
    except (LookupError, ValueError, MessageError):
        pass
    return " ".join(subject.split())


def _decoded(part: Message, notes: Counter[str]) -> str:
    """A part's text by its charset; where it names none, an unknown or a wrong one: UTF-8, else Windows-1252."""
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    try:
        return content.decode(codecs.lookup(str(part.get_content_charset() or "ascii")).name)
    except (LookupError, ValueError, TypeError):
        notes["bodies in another charset than they say"] += 1
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
