"""Cleaning: each rule mends its own fault, counts what it changed, and leaves technical prose alone."""

# ruff: noqa: RUF001 - the dashes and quotes of other languages are what is tested
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.data.screening.cleaning import RULES, CleaningConfig, clean_batch, clean_text, repair_mojibake, strip_html

TEXT = st.text(
    st.one_of(st.sampled_from(list(" \t\r\n\x00\x85\u200b\u00a0\u2028eE\u0301\u0308ß<>/b&;")), st.characters(codec="utf-8")), max_size=60
)


def test_every_rule_is_a_setting_and_every_setting_a_rule() -> None:
    assert list(CleaningConfig.model_fields) == list(RULES)


@given(TEXT)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(st.lists(TEXT, max_size=5))
def test_without_mojibake_and_html_the_batch_is_clean_text(texts: list[str]) -> None:
    batch = clean_batch(texts, CleaningConfig(mojibake=False, html=False))
    assert batch.texts == [clean_text(text) for text in texts]


@given(TEXT)
def test_no_rule_makes_text_that_cannot_be_written(text: str) -> None:
    clean_batch([text], CleaningConfig()).texts[0].encode("utf-8")


def test_a_control_character_between_letter_and_accent_hides_no_composition() -> None:
    assert clean_text("cafe\x00\u0301") == "café"


def test_each_rule_counts_the_documents_that_it_changed() -> None:
    texts = ["plain", "cafÃ© au lait", "&lt;tag&gt;", "a\x00b", "cafe\u0301", "two  spaces", "\x00&amp;  both"]
    batch = clean_batch(texts, CleaningConfig())
    assert batch.texts == ["plain", "café au lait", "<tag>", "ab", "café", "two spaces", "& both"]
    assert batch.changed == {"mojibake": 1, "html": 2, "control_characters": 2, "nfc": 1, "whitespace": 2}


def test_a_rule_that_is_off_changes_and_counts_nothing() -> None:
    batch = clean_batch(["cafÃ©  &amp;"], CleaningConfig(mojibake=False, html=False, whitespace=False))
    assert batch.texts == ["cafÃ©  &amp;"]
    assert set(batch.changed) == {"control_characters", "nfc"}


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
        "AT&T, R&D; Q&A; if (a && b) x &= y; &c; &yacute; and so on",
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
    assert clean_batch([page], CleaningConfig()).texts[0].split() == ["Title", "One", "&", "two", "three", "link", "#include", "<stdio.h>"]


def test_an_entity_that_names_no_character_becomes_the_replacement_character() -> None:
    assert strip_html("&#xD800; &#8212; &#0;") == "\ufffd \u2014 \ufffd"
