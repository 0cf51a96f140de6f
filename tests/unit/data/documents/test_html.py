"""Pages: their text without markup, in the encoding that they declare."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.documents.html import page_text, read_page
from acclimate.data.reading.options import ReadOptions


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<title>t</title><h1>One</h1><p>a <b>b</b>&eacute;&nbsp;&amp;amp; c<br>d", "One\na bé\N{NO-BREAK SPACE}&amp; c\nd"),
        ("<p>a\n   b</p>\n\n<p>c", "a b\nc"),
        ("x<div>y<div>z</div>w</div>v", "x\ny\nz\nw\nv"),
        ("<pre>if x:\n    y</pre>", "if x:\n    y".replace("    ", "", 1)),
        ("<table><tr><td>1<td>2<tr><td>3<td>4</table>", "1\t2\n3\t4"),
        ("<ul><li>a<li>b</ul><script>s()</script><style>p{}</style><!-- c --><noscript>n</noscript>", "a\nb"),
        ("no markup, 1 < 2 & 3", "no markup, 1 < 2 & 3"),
        ("", ""),
        ("<p>a</p", "a"),
    ],
)
def test_a_page_is_what_it_shows(page: str, text: str) -> None:
    assert page_text(page) == text


@pytest.mark.parametrize(
    ("content", "options", "text", "noted"),
    [
        ("<p>Grüße".encode(), {}, "Grüße", []),
        ('<meta charset="iso-8859-1"><p>Gr\xfc\xdfe \x80'.encode("latin-1"), {}, "Grüße €", ["pages that declare cp1252"]),
        (
            '<meta http-equiv=Content-Type content="text/html; charset=shift_jis"><p>日本'.encode("cp932"),
            {},
            "日本",
            ["pages that declare cp932"],
        ),
        ("<?xml version='1.0' encoding='koi8-r'?><html><p>да</html>".encode("koi8-r"), {}, "да", ["pages that declare koi8-r"]),
        ("<p>Grüße".encode("cp1252"), {"encoding": "cp1252"}, "Grüße", []),
        ("<p>Grüße".encode("utf-16"), {}, "Grüße", ["pages that declare utf-16-le"]),
        ("\ufeff<p>Grüße".encode(), {}, "Grüße", []),
        ('<meta charset="no-such"><p>Grüße'.encode(), {}, "Grüße", []),
    ],
)
def test_a_page_is_read_in_its_own_encoding(content: bytes, options: dict[str, str], text: str, noted: list[str]) -> None:
    notes = Counter[str]()
    assert read_page(content, ReadOptions.model_validate(options), notes) == text
    assert [name for name, count in notes.items() if count] == noted


def test_pages_that_are_not_read_say_why() -> None:
    with pytest.raises(UnreadableError, match=r"line 2: byte 0xfc is not utf-8-sig; give the pages' own `encoding`"):
        read_page(b"<p>\n\xfc", ReadOptions(), Counter())
    with pytest.raises(UnreadableError, match="nested more than 4,096 deep"):
        page_text("<div>" * 50_000 + "x")
    with pytest.raises(UnreadableError, match="more than 20,000 options"):
        page_text("<select>" + "<option>a" * 100_000)
    with pytest.raises(UnreadableError, match="more than 2,000 attributes"):
        page_text("<p " + "".join(f"a{number} " for number in range(200_000)) + ">")
    assert page_text('<img src="data:image/png;base64,' + "ab/c" * 100_000 + '">text') == "text"
    assert page_text("<p>a" * 50_000).count("a") == 50_000
    assert page_text("<div>a</div>" * 50_000).count("a") == 50_000


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<&"), min_size=1)


@settings(max_examples=100, derandomize=True, deadline=5000)
@given(paragraphs=st.lists(st.lists(TEXT, min_size=1, max_size=4), max_size=5), tag=st.sampled_from(["p", "div", "li", "h2"]))
def test_every_word_of_a_page_comes_back(paragraphs: list[list[str]], tag: str) -> None:
    page = "".join(f"<{tag}>{' <b>'.join(words)}{'</b>' * (len(words) - 1)}</{tag}>\n" for words in paragraphs)
    assert page_text(page) == "\n".join(" ".join(words) for words in paragraphs)


@settings(max_examples=200, derandomize=True, deadline=5000)
@given(
    pieces=st.lists(
        st.sampled_from(["<p", ">", "<", "</", "table>", "<!--", "-->", "&#x110000;", "&", "<svg>", "\0", "<br/>", "a"]), max_size=20
    )
)
def test_any_page_gives_text(pieces: list[str]) -> None:
    assert isinstance(page_text("".join(pieces)), str)
