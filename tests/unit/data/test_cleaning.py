"""Cleaning: each rule mends its own fault, counts what it changed, and leaves technical prose alone."""

# ruff: noqa: RUF001 - the dashes and quotes of other languages are what is tested
from __future__ import annotations

import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acclimate.data.screening.cleaning import RULES, clean, clean_text, repair_mojibake, strip_html
from acclimate.data.screening.options import CleaningConfig

TEXT = st.text(
    st.one_of(
        st.sampled_from(list(" \t\r\n\x00\x0b\x1f\x80\x85\xad\u200b\u200d\u00a0\u2028eE\u0301\u0308ßÃ¼â<>/b&;")),
        st.characters(codec="utf-8"),
    ),
    max_size=60,
)


def test_every_rule_is_a_setting_and_every_setting_a_rule() -> None:
    assert list(CleaningConfig.model_fields) == list(RULES)


@given(TEXT)
@example("Ã\x00¼")
@example("Ã\u200b¼")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    """But for `html`: an entity is decoded once, for a text may be about entities."""
    assert clean_text(clean_text(text)) == clean_text(text)
    rules = [rule for rule in RULES if rule != "html"]
    assert clean(clean([text], rules), rules) == clean([text], rules)


@given(st.lists(TEXT, max_size=5))
def test_each_text_is_cleaned_as_if_it_were_alone(texts: list[str]) -> None:
    assert clean(texts) == [clean([text])[0] for text in texts]
    assert clean(texts, CleaningConfig(mojibake=False, html=False).rules) == [clean_text(text) for text in texts]


@given(TEXT)
def test_no_rule_makes_text_that_cannot_be_written(text: str) -> None:
    clean([text])[0].encode("utf-8")


SEPARATORS = ["\x0b", "\x0c", "\r", "\r\n", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028", "\u2029", "\xa0", "\u3000", "\u2003"]


@given(st.lists(st.text("abcäß中", min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_what_parts_words_never_joins_them(words: list[str], data: st.DataObject) -> None:
    text = words[0] + "".join(data.draw(st.sampled_from(SEPARATORS)) + word for word in words[1:])
    assert clean([text])[0].split() == words


def test_c1_controls_of_windows_are_its_signs_and_nel_alone_is_a_line_end() -> None:
    assert clean(["wait\x85 it\x92s", "wait\x85it is", "größer\x85ja, Ã\x85ngstrÃ¶m"]) == [
        "wait… it’s",
        "wait\nit is",
        "größer\nja, Ångström",
    ]


@pytest.mark.parametrize("sign", [*"\u200b\u2060\ufeff\xad\u200e\u202a\u2066\u061c\u2062\ufe0f\U000e0041\U000e0100\x00\x07"])
def test_what_cannot_be_seen_parts_no_word(sign: str) -> None:
    assert clean([f"exam{sign}ple größer{sign}e"]) == ["example größere"]


@pytest.mark.parametrize("text", ["می\u200cخواهم", "API\u200cها", "क्\u200dष", "👨\u200d👩\u200d👧", "ශ්\u200dරී"])
def test_joiners_that_shape_signs_stay(text: str) -> None:
    assert clean([text]) == [text]


def test_every_format_character_is_dropped_or_known_to_be_seen() -> None:
    """Kept: joiners, Arabic and Kaithi number signs that are drawn, Mongolian's vowel separator, controls of shorthand and hieroglyphs."""
    kept = {code for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf" and clean([f"ä{chr(code)}ä"]) != ["ää"]}
    drawn = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    assert kept - {0x200C, 0x200D, 0x180E} - drawn <= {*range(0x1BCA0, 0x1BCA4), *range(0x13430, 0x13440)}


def test_joiners_between_plain_letters_go() -> None:
    assert clean(["a\u200db \u200cc\u200c"]) == ["ab c"]


def test_a_control_character_between_letter_and_accent_hides_no_composition() -> None:
    assert clean_text("cafe\x00\u0301") == "café"


def test_each_rule_counts_the_documents_that_it_changed() -> None:
    texts = ["plain", "cafÃ© au lait", "&lt;tag&gt;", "a\x00b", "cafe\u0301", "two  spaces", "\x00&amp;  both"]
    changed: Counter[str] = Counter()
    assert clean(texts, changed=changed) == ["plain", "café au lait", "<tag>", "ab", "café", "two spaces", "& both"]
    assert changed == {"mojibake": 1, "html": 2, "control_characters": 2, "nfc": 1, "whitespace": 2}


def test_a_rule_that_is_off_changes_and_counts_nothing() -> None:
    changed: Counter[str] = Counter()
    assert clean(["cafÃ©  &amp;"], CleaningConfig(mojibake=False, html=False, whitespace=False).rules, changed) == ["cafÃ©  &amp;"]
    assert set(changed) == {"control_characters", "nfc"}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("line", ["L’été à Noël – déjà", "naïve coöperation", "Ürümqi über Zürich", "price: 5 € … “quoted"])
def test_utf8_read_as_something_else_is_mended_in_its_line_only(line: str, encoding: str) -> None:
    garbled = line.encode("utf-8").decode(encoding)
    assert repair_mojibake(f"plain\n{garbled}\nPragmatische Lösung für “alles”") == f"plain\n{line}\nPragmatische Lösung für “alles”"


@pytest.mark.parametrize(
    "text",
    [
        "L’été à Noël – déjà vu ; ça coûte 5 €",
        "Быстрая коричневая лиса",
        "ÇA ÉTAIT L’ÉTÉ",
        "Größe ≥ 5 µm, Ångström",
        "快速的棕色狐狸",
        "São João – não é só isso",
    ],
)
def test_sound_text_of_other_languages_is_not_taken_for_mojibake(text: str) -> None:
    assert repair_mojibake(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "#include <stdio.h>\n#include <sys/socket.h>\nint main() { return a < b && c > d; }",
        "usage: tool <name> <package> <section> [--port <port>]",
        "stored in <mandir>/<locale>/man<section>/<arch>; the <section> is a number, <section> again, man<section>",
        "balanced string pairs, like { and } or <b> and </b> in Node.js",
        "template <typename T> std::vector<T> f(std::map<int, T> m)",
        "put it into <b>",
        "The <br> and <hr> tags have no end. <br/> is XHTML, <p> is a paragraph",
        "a `<br />`, (<br>) or '<br>'",
        "vector<p>(x) and list<p>",
        "#include <map>\n#include <time.h>",
        "x < 3 and y > 2",
        "in HTML &ndash; and &copy; are signs",
        "reg *p = &reg; f(x, &copy); return &deg;",
        "named (&yacute; and so on) entities",
        "AT&T, R&D; Q&A; if (a && b) x &= y; &c; HTML has &yacute; and so on",
        "a <- b; c -> d; 1 << 3 >> 2; x<y>z",
        "Homin Lee <homin.lee@example.org>",
    ],
)
def test_code_placeholders_and_talk_about_tags_stay(text: str) -> None:
    assert strip_html(text) == text


def test_the_remains_of_a_page_become_its_text() -> None:
    page = (
        '<!DOCTYPE html><div class="x"><h1>Title</h1><p>One &amp; two<br/>three <a href="http://a.org/?a=1">link</a></p>'
        "<script>var a = 1 < 2;</script><!-- hidden --><ul><li>#include &lt;stdio.h&gt;</li></ul></div>"
    )
    assert clean([page])[0].split() == ["Title", "One", "&", "two", "three", "link", "#include", "<stdio.h>"]


def test_an_entity_that_names_no_character_becomes_the_replacement_character() -> None:
    assert strip_html("&#xD800; &#8212; &#0;") == "\ufffd \u2014 \ufffd"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("One.<br /><br />Two.", "One.|Two."),
        ("before lunch.<br>Our", "before lunch.|Our"),
        ("One. <BR/> Two", "One.|Two"),
        ("one<br clear='all'>two", "one|two"),
        ("One.<hr>Two.", "One.|Two."),
        ("<p>One.<p>Two.", "One.|Two."),
        (
            "a first line here <br> a second line here <br> a third line here <br> and more",
            "a first line here|a second line here|a third line here|and more",
        ),
        ("<p>All <b>of</b> it</p>", "All of it"),
        ("Guten Tag,<o:p></o:p> Herr M.", "Guten Tag, Herr M."),
        ('<p class="MsoNormal">f&uuml;r<o:p></o:p></p><v:shape id="1"/><w:x>25&euro; &hellip;</w:x>', "für|25€ …"),
        ('<p>a</p><p><a title="a > b">x</a> <my-tag>y</my-tag> <noscript>z</noscript></p>', "a|x y z"),
        ("<div><p>#include <stdio.h> and a < b</p></div>", "#include <stdio.h> and a < b"),
        ("<div><p>a</p></div> <!-- no end", "a|<!-- no end"),
        ("<div><p>a</p></div> <script> no end", "a|no end"),
        ("<div><p>a</p></div> <a href='no end", "a|<a href='no end"),
        ("<ul><li>a<li>b</ul><table><tr><td>c<td>d</table>", "a|b|c|d"),
        ("Gr&uuml;&szlig;e, 25&euro; &hellip; vu&rsquo;s", "Grüße, 25€ … vu’s"),
        ("&laquo;&nbsp;Bonjour&nbsp;&raquo;", "«\u00a0Bonjour\u00a0»"),
        ("Preis: 5 &euro;", "Preis: 5 €"),
        ("&bull; Montag &ndash; Freitag, &copy; 2024", "• Montag – Freitag, © 2024"),
        ("great.&lt;br /&gt;&lt;br /&gt;Next", "great.|Next"),
        ('He said "no"<br>Then he left', 'He said "no"|Then he left'),
        ("很好！<br>再见", "很好！|再见"),
        ("AT&amp;T &amp;uuml; &#8212;", "AT&T &uuml; —"),
    ],
)
def test_remains_of_pages_become_text(text: str, right: str) -> None:
    assert [line.strip() for line in strip_html(text).split("\n") if line.strip()] == right.split("|")


@given(
    st.lists(
        st.sampled_from(
            ["<p>", "</p>", "<b", ">", "<!--", "-->", "<script>", "</script>", '"', "<a href='", "word ", "&uuml;", "<x>", "<br>"]
        )
    )
)
def test_no_word_of_a_page_is_lost_but_in_scripts_and_comments(pieces: list[str]) -> None:
    text = "".join(pieces)
    if "script" not in text and "<!--" not in text and "<a href='" not in text and "<b" not in pieces:
        assert strip_html(text).count("word") == text.count("word")


@pytest.mark.parametrize(
    "piece", ["<p>", '<p a="', "<!--", "<script>", "<br>", "&uuml;", "<o:p>", "</p>", "<div>", "a<br ", "<a b='c'", "Ã¼", "<"]
)
def test_no_repetition_makes_cleaning_slow(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    clean([text])
    assert time.process_time() - started < 5
