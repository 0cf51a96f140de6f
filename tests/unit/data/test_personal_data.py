"""Personal data: what is planted is found, what only looks like it is not, and redacting is stable."""

from __future__ import annotations

import base64
import ipaddress
import itertools
import re
import string
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from acclimate import redaction
from acclimate.data.screening import personal_data
from acclimate.data.screening.options import PersonalDataConfig
from acclimate.data.screening.personal_data import KINDS, count_in_words, find_personal_data, iban_ok, luhn_ok, redact, redact_words
from acclimate.data.screening.texts import TextCounts, screen

DIGITS = st.sampled_from(string.digits)
ALNUM = string.ascii_letters + string.digits
AROUND = st.sampled_from(["plain words", "see it:", "(a list)", "contact", "größer als ü", "1st of 2", "C++ and 3.14", "line\nbreak,"])
# Text of the very pieces that the rules look for, so that they meet in odd ways.
PIECES = st.sampled_from(
    [
        "a@b.com",
        "@",
        ".",
        "4111111111111111",
        "4111 1111 1111 1111",
        "+49 30 1234567",
        "8.8.8.8",
        "81.82.83.84",
        "-",
        " ",
        "1",
        "00",
        "tel. ",
        "<EMAIL>",
    ]
    + [
        "DE89370400440532013000",
        "api_key=",
        "x8Jq2LmZ0pQw9RtY4vBn",
        "://u:p4ssw0rd@h",
        "555-123-4567",
        "2a00:1450::1",
        ":",
        "/24",
        "version ",
        "\n",
    ]
    + ["AKIAQ2W3E4R5T6Y7U8I9", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "A" * 45, "é", "x", "ghp_" + "a1B2" * 9]
)


def kinds_in(text: str) -> list[str]:
    return [finding.kind for finding in find_personal_data(text)]


@given(st.lists(PIECES, max_size=12).map("".join))
def test_redacting_twice_is_redacting_once_and_leaves_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
    assert find_personal_data(once) == []


@given(st.lists(PIECES, max_size=12).map("".join))
def test_findings_lie_in_the_text_in_order_without_overlap(text: str) -> None:
    spans = [(finding.start, finding.end) for finding in find_personal_data(text)]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Nd"], exclude_characters="@:="), max_size=80))
def test_text_without_findings_is_returned_as_it_is(text: str) -> None:
    assert redact(text) is text


def with_check_digit(payload: str) -> str:
    return next(payload + digit for digit in string.digits if luhn_ok(payload + digit))


@st.composite
def cards(draw: st.DrawFn) -> str:
    prefix, length = draw(
        st.sampled_from([("4", 16), ("4", 13), ("51", 16), ("2720", 16), ("37", 15), ("6011", 16), ("3540", 16), ("36", 14)])
    )
    return with_check_digit(prefix + "".join(draw(st.lists(DIGITS, min_size=length - len(prefix) - 1, max_size=length - len(prefix) - 1))))


@given(cards(), st.sampled_from(["", " ", "-"]), AROUND, AROUND)
def test_a_planted_card_is_found_and_no_card_with_a_wrong_check_digit(card: str, sign: str, before: str, after: str) -> None:
    sizes = {15: (4, 10, 15), 14: (4, 10, 14)}.get(len(card), tuple(range(4, len(card) + 4, 4)))
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    for number, expected in ((card, ["card"]), (wrong, [])):
        printed = sign.join(number[start:end] for start, end in zip((0, *sizes), sizes, strict=False))
        found = [finding for finding in find_personal_data(f"{before} {printed} {after}") if finding.kind == "card"]
        assert [finding.kind for finding in found] == expected
        assert all(finding.end - finding.start == len(printed) for finding in found)


def with_check_digits(country: str, account: str) -> str:
    number = int("".join(str(int(sign, 36)) for sign in f"{account}{country}00"))
    return f"{country}{98 - number % 97:02}{account}"


@given(
    st.sampled_from([("DE", 18), ("GB", 18), ("FR", 23), ("NO", 11), ("MT", 27), ("NL", 14)]),
    st.data(),
    st.booleans(),
    AROUND,
    st.integers(1, 96),
)
def test_a_planted_iban_is_found_and_none_with_wrong_check_digits(
    country: tuple[str, int], data: st.DataObject, spaced: bool, before: str, shift: int
) -> None:
    signs = st.sampled_from(string.digits + string.ascii_uppercase)
    account = "".join(data.draw(st.lists(signs, min_size=country[1], max_size=country[1])))
    iban = with_check_digits(country[0], account)
    assert iban_ok(iban)
    wrong = f"{iban[:2]}{(int(iban[2:4]) + shift - 2) % 97 + 2:02}{iban[4:]}"
    assume(not iban_ok(wrong))
    for number, expected in ((iban, 1), (wrong, 0)):
        printed = " ".join(number[start : start + 4] for start in range(0, len(number), 4)) if spaced else number
        assert kinds_in(f"{before} {printed}, please").count("iban") == expected


@given(st.from_regex(r"[a-z][a-z0-9._-]{0,20}[a-z0-9]@([a-z0-9]{1,20}\.){1,3}(com|org|de|info|museum)", fullmatch=True), AROUND, AROUND)
def test_a_planted_address_of_mail_is_found(address: str, before: str, after: str) -> None:
    assume(not address.endswith(("example.com", "example.org")))
    text = f"{before} <{address}>, {after}"
    assert [text[f.start : f.end] for f in find_personal_data(text) if f.kind == "email"] == [address]


@given(st.integers(33 << 24, (223 << 24) + 0xFFFFFF), AROUND)
def test_a_planted_public_ipv4_address_is_found(number: int, before: str) -> None:
    address = ipaddress.IPv4Address(number)
    assume(address.is_global and sum(part < 32 for part in address.packed) < 3)
    assert kinds_in(f"{before} {address}.") == ["ip"]
    assert kinds_in(f"{before} version {address}") == []


@given(st.integers(0x2400 << 112, (0x2C10 << 112) - 1), AROUND)
def test_a_planted_public_ipv6_address_is_found(number: int, before: str) -> None:
    address = ipaddress.IPv6Address(number)
    assume(address.is_global)
    text = f"{before} {address} and {address.exploded}"
    assert [text[f.start : f.end] for f in find_personal_data(text)] == [str(address), address.exploded]


@given(st.text(ALNUM, min_size=36, max_size=36), AROUND)
def test_a_planted_github_token_is_found(letters: str, before: str) -> None:
    assert kinds_in(f"{before} ghp_{letters} end") == ["key"]


@given(
    st.binary(min_size=24, max_size=60),
    st.sampled_from(["api_key = '%s'", "API-KEY: %s", 'export SECRET_TOKEN="%s"', "aws_secret_access_key=%s"]),
)
def test_a_planted_random_secret_is_found(secret: bytes, form: str) -> None:
    value = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    digits = sum(sign.isdigit() for sign in value)
    assume(digits >= 2 and len(set(value)) >= 16)
    assert kinds_in(form % value) == ["key"]


JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256"}', b'{"sub":"1234567890"}', b"signature-bytes")
)


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("call +49 (0)30 1234-567 today", "phone", "+49 (0)30 1234-567"),
        ("+1 415 555 2671", "phone", "+1 415 555 2671"),
        ("+442071838750.", "phone", "+442071838750"),
        ("0033 1 42 68 53 00", "phone", "0033 1 42 68 53 00"),
        ("(415) 867-5309", "phone", "(415) 867-5309"),
        ("1-800-867-5309", "phone", "1-800-867-5309"),
        ("Tel.: 030 / 1234567", "phone", "030 / 1234567"),
        ("Phone number: 555 7788 99", "phone", "555 7788 99"),
        ("Fax 06221 123456", "phone", "06221 123456"),
        ("AKIAQ2W3E4R5T6Y7U8I9", "key", "AKIAQ2W3E4R5T6Y7U8I9"),
        ("xoxb-123456789012-abcdefABCDEF", "key", "xoxb-123456789012-abcdefABCDEF"),
        (f"Bearer {JWT}", "key", JWT),
        ("postgres://anna:s3cr3tPw@db.host/x", "key", "s3cr3tPw"),
        ("ip 8.8.8.8", "ip", "8.8.8.8"),
        ("8.8.4.4:53", "ip", "8.8.4.4"),
        ("mail Anna.Smith+list@mail.uni-x.edu!", "email", "Anna.Smith+list@mail.uni-x.edu"),
    ],
)
def test_each_form_is_found_with_its_bounds(text: str, kind: str, found: str) -> None:
    assert [(finding.kind, text[finding.start : finding.end]) for finding in find_personal_data(text)] == [(kind, found)]


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4, v10.20.30.40, libfoo-81.82.83.84, (>= 91.92.93.94), kernel 2.6.38.6, section 7.21.6.2/10",
        "127.0.0.1, 10.0.0.1, 192.168.1.20, 192.0.2.7, 203.0.113.9, 255.255.255.0, 224.0.0.1, fe80::1, ::1, 2001:db8::1, 300.1.2.3",
        "networks 52.95.110.0/24 and 2002:8504:0506::/48; OID 1.3.6.1.4.1.311",
        "std::vector, fc::add, 12:34:56, 00:11:22:33:44:55, 20:01:0d:b8:85:a3:00:00:00:00:8a:2e:03:70:73:34, a::b",
        "2021-01-02 10:20:30, 02.03.2021, 1999/12/31 23:59:59.123456, 20211121, 1700000000, 3.14159265358979",
        "ISBN 978-3-16-148410-0, ISBN-10 0-306-40615-2, ISSN 2049-3630, doi:10.1016/j.cell.2015.05.002, 10.1007/s00190-012-0578-z",
        "123e4567-e89b-12d3-a456-426614174000, 0x4111111111111111, 4111111111111112, sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17, 1000 2000 3000 4000, 00 20 30 40 50 60 70 80",
        "+1234567 lines, a+12345678901, UTC+0200, 1e+10, 555-0123 and 212-555-0123, +0 123 456 7890",
        "getty@tty1.service, icon@2x.png, user@host, me@example.com, git@github.com:user/repo.git, @decorator, a@b.c",
        "http://tools.ietf.org/html/rfc7519, url=https://a.org/b/c/d/e/f1/g22, key=/usr/share/doc/foo2/bar3/readme, ftp://user:password@host/",
        "token: identifier_of_something_else, password=changeme-changeme-changeme, -----BEGIN PRIVATE KEY----- is how it starts",
        "AKIAIOSFODNN7EXAMPLE, ghp_short, xoxo, right, high, through",
        "DE89370400440532013001, GB00WEST12345698765432, XX8937040044053201300, SE1234",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert [(finding.kind, text[finding.start : finding.end]) for finding in find_personal_data(text)] == []


def test_a_private_key_is_taken_whole_and_so_is_one_cut_short() -> None:
    body = "\n".join(base64.b64encode(bytes(range(48))).decode() for _ in range(4))
    whole = f"before\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{body}\n-----END RSA PRIVATE KEY-----\nafter"
    assert redact(whole) == "before\n<KEY>\nafter"
    assert redact(f"before\n-----BEGIN PRIVATE KEY-----\n{body}") == "before\n<KEY>"


TEXTS = ["nothing here", "to a.b@c.org or d@e.net", "pay DE89 3704 0044 0532 0130 00 by 4111 1111 1111 1111", "host 81.82.83.84"]


def screened(config: PersonalDataConfig) -> tuple[list[str], dict[str, int]]:
    counts = TextCounts()
    return screen(TEXTS, config, counts), dict(counts.personal)


def test_flagging_counts_by_kind_and_changes_no_text() -> None:
    assert screened(PersonalDataConfig(mode="flag")) == (TEXTS, {"key": 0, "email": 2, "iban": 1, "card": 1, "ip": 1, "phone": 0})


def test_redacting_writes_the_kind_in_its_place() -> None:
    texts, found = screened(PersonalDataConfig(mode="redact"))
    assert texts == ["nothing here", "to <EMAIL> or <EMAIL>", "pay <IBAN> by <CARD>", "host <IP>"]
    assert found["email"] == 2


def test_only_the_kinds_asked_for_are_looked_for() -> None:
    texts, found = screened(PersonalDataConfig(mode="redact", kinds=["card"]))
    assert texts[1:] == [TEXTS[1], "pay DE89 3704 0044 0532 0130 00 by <CARD>", TEXTS[3]]
    assert found == {"card": 1}


def test_off_looks_at_nothing() -> None:
    assert screened(PersonalDataConfig(mode="off")) == (TEXTS, {})


def test_tokens_have_the_form_that_settings_are_searched_for() -> None:
    assert personal_data.TOKENS.pattern == redaction.TOKENS.pattern
    assert personal_data.PEM_BEGIN.pattern == redaction.PEM_BEGIN.pattern


LETTERS = st.sampled_from(["a", "z", "ü", "é", "ø", "ж", "я", "ع", "ß", "ก", "中", "い", "한", "क", "ि", "5"])
LABEL = st.lists(LETTERS, min_size=1, max_size=8).map("".join).filter(lambda label: label[0].isalnum())


@given(
    st.lists(st.sampled_from(["a", "z", "7", "ü", "é", "ж", "ع", "क", "+", ".", "_", "-"]), min_size=1, max_size=12).map("".join),
    st.lists(LABEL, min_size=1, max_size=3),
    st.sampled_from(["com", "py", "so", "de", "museum", "xn--p1ai", "рф", "公司", "भारत", "zip", "sh", "in"]),
    st.sampled_from([" ", ", ", "\n", ">", ")", "。", "_", ": "]),
)
def test_an_address_of_any_script_and_ending_leaves_no_part_of_it(local: str, labels: list[str], ending: str, after: str) -> None:
    assume(local[0].isalnum())
    assume(not personal_data._NUMBERED.match(f"{labels[0]}.{labels[1] if len(labels) > 1 else ending}"))
    address = f"{local}@{'.'.join(labels)}.{ending}"
    assert redact(f"An ({address}{after}das", ["email"]) == f"An (<EMAIL>{after}das"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("请写信给maria@correo.com谢谢", "maria@correo.com"),
        ("メールはmaria@correo.comへ", "maria@correo.com"),
        ("메일은maria@correo.com으로", "maria@correo.com"),
        ("die maria@correo.de-Adresse", "maria@correo.de"),
        ("_maria@correo.de_ oder", "maria@correo.de"),
        ("maria@correo.de: dringend", "maria@correo.de"),
        ("maria@correo.de:dringend", "maria@correo.de"),
        ("mailto:maria+news@correo.co.uk?subject=x", "maria+news@correo.co.uk"),
        ("https://maria@correo.de/x", "maria@correo.de"),
        ("用户@例子.公司", "用户@例子.公司"),
        ("user@163.com", "user@163.com"),
    ],
)
def test_an_address_ends_where_the_text_around_it_begins(text: str, address: str) -> None:
    assert [text[found.start : found.end] for found in find_personal_data(text)] == [address]


@pytest.mark.parametrize(
    "text",
    [
        "package@1.2.3, react@18.2.0-rc.beta, go@v0.0.0-2020.abc, lodash@4.x",
        "git@github.com:user/repo, git@github.com:, root@host.org:~/x, anna@host.org:/etc/passwd, deploy@host.org:22",
        "@decorator, @media, @scope/name, icon@2x.png, icon@2x.py, sprite@3x.so, getty@tty1.service",
        "a@b, W@x.T, q@k.transpose(1, 2), self.w@x.view(-1), a@b.dot(c), x@y.to(device)",
        "a@example.org, b@mail.example.com, c@localhost.localdomain, d@x.test, e@printer.local",
    ],
)
def test_what_is_no_address_stays(text: str) -> None:
    assert find_personal_data(text) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("卡号4111111111111111请", "card"),
        ("电话010-62345678谢谢", "phone"),
        ("服务器81.82.83.84已", "ip"),
        ("请拨+49 30 1234567。", "phone"),
        ("Tél. 01 42 68 53 00", "phone"),
        ("Móvil: 612 345 678", "phone"),
    ],
)
def test_numbers_are_found_in_texts_of_other_languages(text: str, kind: str) -> None:
    assert kinds_in(text) == [kind]


def test_every_kind_can_be_chosen() -> None:
    assert PersonalDataConfig().kinds == list(KINDS)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "1 ",
        "1.",
        "a@",
        "+1",
        "A1",
        "0-",
        "://a:",
        "=a",
        "-----BEGIN PRIVATE KEY-----",
        "a.",
        ":a",
        "a@b.",
        "12:",
        "AB12 ",
        "ü@",
        "a@a.",
        "@a-",
        "中@中.",
    ],
)
def test_no_repetition_makes_it_slow(piece: str) -> None:
    """What every pattern likes to begin with, 200,000 signs of it; a quadratic pattern would take minutes."""
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "before", ["server ", "The mail server ", "webserver: ", "nameserver ", "SERVER=", "over ", "driver ", "dev ", "intersection "]
)
def test_an_address_is_no_version_after_a_word_that_ends_like_one(before: str) -> None:
    assert [finding.kind for finding in find_personal_data(f"{before}81.169.145.72 is down")] == ["ip"]


@pytest.mark.parametrize("before", ["version ", "v", "ver. ", "release ", ">= ", "section "])
def test_a_version_stays(before: str) -> None:
    assert find_personal_data(f"needs {before}81.169.145.72 of it") == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ann.lee@firma.de", "email"),
        ("81.169.145.72", "ip"),
        ("4111-1111-1111-1111", "card"),
        ("+49 171/2345610", "phone"),
        ("(212) 736-5000", "phone"),
    ],
)
def test_words_that_are_divided_at_signs_are_redacted_whole(text: str, kind: str) -> None:
    words = ["call", *re.findall(r"\w+|[^\w\s]", text), "now"]
    redacted = redact_words(words)
    assert len(redacted) == len(words) and redacted[0] == "call" and redacted[-1] == "now"
    assert not any(word.isalnum() for word in redacted[1:-1])
    assert count_in_words([words], KINDS)[1][kind] == 1  # type: ignore[index]
