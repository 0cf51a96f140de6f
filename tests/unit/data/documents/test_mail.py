"""Mail: what a message says is its text; a mailbox gives each of its messages once."""

from __future__ import annotations

import mailbox
from collections import Counter
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.documents.mail import read_message, split_mailbox
from acclimate.data.reading.formats import Reading
from acclimate.data.reading.options import ReadOptions
from acclimate.errors import DataError

PLAIN = "Content-Type: text/plain; charset="
FROM = b"From anna@example.org Fri Jul  8 12:08:34 2011\n"


def text_of(content: bytes) -> tuple[str, dict[str, int]]:
    notes = Counter[str]()
    return read_message(content, ReadOptions(), notes), {name: count for name, count in notes.items() if count}


def split(content: bytes, **options: int) -> list[bytes]:
    return list(split_mailbox(BytesIO(content), Reading(Path("a.mbox"), [], "w", ReadOptions.model_validate(options))))


@pytest.mark.parametrize(
    ("content", "text", "notes"),
    [
        (b"Subject: Hi\n\nbody\n", "Hi\n\nbody", {}),
        (b"From: a\nSubject: =?utf-8?b?R3LDvMOfZQ==?= =?iso-8859-1?q?_f=FCr?=\n x\n\nb\n> quoted\n", "Grüße für x\n\nb\n> quoted", {}),
        (f"{PLAIN}iso-8859-1\n\nGr\xfc\xdfe".encode("latin-1"), "Grüße", {}),
        (f"{PLAIN}utf-8\n\nGr\xfc\xdfe".encode("latin-1"), "Grüße", {"bodies in another charset than they say": 1}),
        (f"{PLAIN}no-such\n\nGrüße".encode(), "Grüße", {"bodies in another charset than they say": 1}),
        ("To: a\n\nGrüße".encode(), "Grüße", {"bodies in another charset than they say": 1}),
        (b"Content-Type: text/html\n\n<p>one</p><p>two &amp; three", "one\ntwo & three", {"bodies taken from HTML": 1}),
        (b"Subject: only\n\n", "only", {}),
        (b"Subject: Gr\xfc\xdfe\n\nx", "Grüße\n\nx", {}),
        ("Subject: Grüße =?utf-8?q?=E2=82=AC?=\n\nx".encode(), "Grüße €\n\nx", {}),
        (b"Subject: =?utf-8?b?R3LDvMOfZ?= =?nope?q?a?=\n\nx", "=?utf-8?b?R3LDvMOfZ?= =?nope?q?a?=\n\nx", {}),
        (b"Content-Transfer-Encoding: base64\n\naGVsbG8", "hello", {}),
        (b"Content-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=utf-8\n\na=C3=A4 so=\nft", "aä soft", {}),
    ],
)
def test_a_message_is_its_subject_and_its_body(content: bytes, text: str, notes: dict[str, int]) -> None:
    assert text_of(content) == (text, notes)


def test_the_plain_body_is_taken_and_attachments_are_counted() -> None:
    message = EmailMessage()
    message["Subject"] = "report"
    message["From"] = "Anna Meier <anna@example.org>"
    message.set_content("plain body")
    message.add_alternative("<p>html body</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a.pdf")
    message.add_attachment("a text that is attached", filename="a.txt")
    assert text_of(message.as_bytes()) == ("report\n\nplain body", {"attachments left out": 2})


def test_text_around_a_picture_is_one_body_and_a_forwarded_message_an_attachment() -> None:
    message, inner = EmailMessage(), EmailMessage()
    inner.set_content("the inner text")
    message.set_content("before")
    message.add_attachment(b"GIF", maintype="image", subtype="gif")
    message.add_attachment("after", disposition="inline")
    message.add_attachment(inner)
    assert text_of(message.as_bytes()) == ("before\n\nafter", {"attachments left out": 2})


NESTED = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NESTED, "nested too deeply"),
        (b"Content-Type: message/rfc822\n\n" * 3000, "nested too deeply"),
        (b"Content-Type: text/plain; " + b"a=b; " * 100_000 + b"\n\nbody", "a header Content-Type of more than 16,384 characters"),
    ],
    ids=["parts", "messages", "header"],
)
def test_a_message_that_no_program_writes_is_unreadable(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableError, match=message):
        text_of(content)


@pytest.mark.parametrize("subject", [b"=?utf-8?q?a?= " * 100_000, b"(" * 1_000_000, b"=?a?q?" * 100_000], ids=["words", "comments", "cut"])
def test_a_long_subject_is_cut(subject: bytes) -> None:
    assert text_of(b"Subject: " + subject + b"\n\nbody")[0].endswith("\n\nbody")


def test_what_is_no_message_is_unreadable() -> None:
    with pytest.raises(UnreadableError, match="does not begin with a header"):
        text_of(b"just some words\n\nmore")


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        (FROM + b"Subject: a\n\none\n\n" + FROM + b"Subject: b\n\ntwo\n", [b"Subject: a\n\none\n\n", b"Subject: b\n\ntwo\n"]),
        (FROM + b"Subject: a\n\nFrom here on\nall is said.\n\n>From me\n", [b"Subject: a\n\nFrom here on\nall is said.\n\nFrom me\n"]),
        (FROM.replace(b"\n", b"\r\n") + b"S: a\r\n\r\nx\r\n\r\nFrom - \r\nS: b\r\n\r\ny", [b"S: a\r\n\r\nx\r\n\r\n", b"S: b\r\n\r\ny"]),
        (FROM + FROM, [FROM]),
    ],
    ids=["two", "sentence", "CRLF", "without a blank line"],
)
def test_a_message_begins_where_a_mailbox_says_so(content: bytes, messages: list[bytes]) -> None:
    assert split(content) == messages


def test_a_mailbox_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"w: a.mbox: line 2: no mailbox, which begins with `From `"):
        split(b"\nSubject: a\n")
    with pytest.raises(DataError, match=r"line 1: the message that begins here is longer than 50 bytes.*attachments counted"):
        split(FROM + b"S: a\n\n" + b"x" * 60, max_record_bytes=50)


LINES = st.lists(
    st.sampled_from(["", "From here", "From: me", "> From x", "word", "Ünïcode"])
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]))
)


@settings(max_examples=100, derandomize=True, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(LINES, min_size=1, max_size=5))
@example(bodies=[["", "From here", "Note: this"]])
def test_what_the_standard_library_writes_comes_back(tmp_path: Path, bodies: list[list[str]]) -> None:
    path = tmp_path / "a.mbox"
    path.unlink(missing_ok=True)
    box = mailbox.mbox(path)
    for number, body in enumerate(bodies):
        message = EmailMessage()
        message["Subject"] = f"number {number}"
        message.set_content("\n".join(body))
        box.add(message)
    box.close()
    found = [text_of(message)[0] for message in split(path.read_bytes())]
    assert found == ["\n\n".join(filter(None, [f"number {n}", "\n".join(body).strip()])) for n, body in enumerate(bodies)]


@settings(max_examples=200, derandomize=True, deadline=5000)
@given(
    content=st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                b"Subject: =?x?b?",
                b"Content-Type: multipart/mixed; boundary=b\n",
                b"--b\n",
                b"\n",
                b"\n\n",
                b"Content-Type: text/html; charset=\xff\n",
                b"--b--\n",
                b"Content-Transfer-Encoding: base64\n",
                b"=",
                b"<p>",
                b'From: "\n',
                b"Content-Disposition: ;;\n",
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_any_bytes_give_text_or_are_unreadable(content: bytes) -> None:
    try:
        text_of(content)
    except UnreadableError as error:
        message = str(error)
    else:
        message = ""
    assert message == "" or "does not begin with a header" in message or "nested" in message
