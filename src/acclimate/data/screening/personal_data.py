"""Personal data and secrets in text: found by form, checked by rule, flagged or redacted.

Ranges that the standards set aside for examples are nobody's and are passed over: example domains (RFC 2606), private, loopback and
documentation addresses (RFC 1918, 5737, 3849, 6890), North American 555-01xx numbers, AWS's `...EXAMPLE` keys. Names and postal
addresses are not looked for, nor is `name at host dot org`; docs/data.md lists the limits.

Imports nothing of acclimate: this file travels inside the registered model, so that serving redacts as ingest did.
"""

from __future__ import annotations

import bisect
import functools
import ipaddress
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["key", "email", "iban", "card", "ip", "phone"]
KINDS: tuple[Kind, ...] = ("key", "email", "iban", "card", "ip", "phone")
"""In the order in which they claim text: a token that holds what looks like a phone number is a token."""

Span = tuple[int, int]
_MAX_LOOKS = 20


@dataclass(frozen=True)
class Finding:
    """One piece of personal data: `text[start:end]`."""

    kind: Kind
    start: int
    end: int

    def placeholder(self) -> str:
        """What stands in its place."""
        return f"<{self.kind.upper()}>"

    def placeholder_of_its_length(self) -> str:
        """The same, as long as what it replaces: `<EMAIL__________>`."""
        length = self.end - self.start
        return f"<{self.kind.upper()[: length - 2].ljust(length - 2, '_')}>"


def count_findings(texts: Sequence[str], kinds: Collection[Kind]) -> tuple[list[bool], dict[Kind, int]]:
    """Which texts hold personal data, and how many pieces of each kind that was looked for there are in all."""
    found = [find_personal_data(text, kinds) for text in texts]
    counts = Counter(finding.kind for some in found for finding in some)
    return [bool(some) for some in found], {kind: counts[kind] for kind in KINDS if kind in kinds}


def find_personal_data(text: str, kinds: Collection[Kind] = KINDS) -> list[Finding]:
    """Findings in the order of the text; none overlaps another, the earlier kind of `KINDS` wins.

    One look for anything like a number decides on three kinds at once, and a letter or two on the others.
    """
    has_numbers = _NUMBERS.search(text) is not None
    taken: list[Finding] = []
    for kind in KINDS:
        if kind in kinds and (has_numbers or kind not in _NUMERIC):
            for start, end in _FINDERS[kind](text):
                _claim(taken, Finding(kind, start, end))
    return taken


def _claim(taken: list[Finding], finding: Finding) -> None:
    """Put a finding into the sorted list unless its text is taken."""
    place = bisect.bisect_left(taken, finding.start, key=lambda other: other.start)
    is_free_before = place == 0 or taken[place - 1].end <= finding.start
    if is_free_before and (place == len(taken) or finding.end <= taken[place].start):
        taken.insert(place, finding)


def redact(text: str, kinds: Collection[Kind] = KINDS, *, keep_length: bool = False) -> str:
    """Replace each finding by its kind in angle brackets; redacting twice is redacting once.

    A replacement may lay bare a neighbour that the piece before it had hidden (+4930123456+4930123457), so this looks again until
    nothing is left, or `_MAX_LOOKS` times: a million such numbers in a row would take a million looks.

    Args:
        keep_length: every character keeps its place, for what counts characters.
    """
    for _ in range(_MAX_LOOKS):
        if not (found := find_personal_data(text, kinds)):
            break
        parts, position = [], 0
        for finding in found:
            parts += [text[position : finding.start], finding.placeholder_of_its_length() if keep_length else finding.placeholder()]
            position = finding.end
        text = "".join([*parts, text[position:]])
    return text


def redact_words(words: Sequence[str], kinds: Collection[Kind] = KINDS) -> list[str]:
    """Replace what is found in the words; their number stays, so of `+49 171 2345610` each becomes `<PHONE>`."""
    found_words = list(words)
    for glued in _looks(words):
        for _ in range(_MAX_LOOKS):
            text, starts = _laid_out(found_words, glued=glued)
            if not (found := find_personal_data(text, kinds)):
                break
            for finding in reversed(found):
                for number in range(bisect.bisect_right(starts, finding.start) - 1, bisect.bisect_left(starts, finding.end)):
                    word, first, last = found_words[number], max(finding.start - starts[number], 0), finding.end - starts[number]
                    if first < min(last, len(word)):
                        found_words[number] = word[:first] + finding.placeholder() + word[last:]
    return found_words


def count_in_words(rows: Sequence[Sequence[str]], kinds: Collection[Kind]) -> tuple[list[bool], dict[Kind, int]]:
    """As `count_findings`, of rows of words."""
    looks = [[find_personal_data(_laid_out(row, glued=glued)[0], kinds) for glued in _looks(row)] for row in rows]
    found = [max(look, key=len) for look in looks]
    counts = Counter(finding.kind for some in found for finding in some)
    return [bool(some) for some in found], {kind: counts[kind] for kind in KINDS if kind in kinds}


def _looks(words: Sequence[str]) -> tuple[bool, ...]:
    """Whether words are looked at as they are, or glued together too, which is the same without a sign that is a word."""
    return (False, True) if any(len(word) == 1 and not word.isalnum() for word in words) else (False,)


def _laid_out(words: Sequence[str], *, glued: bool) -> tuple[str, list[int]]:
    """Words joined by spaces, or glued together where one is a sign, as `ann . lee @ firma . de` was; and where each begins."""
    pieces, starts, size = list[str](), list[int](), 0
    for number, word in enumerate(words):
        is_apart = number > 0 and not (glued and _touch(words[number - 1], word))
        pieces += [" ", word] if is_apart else [word]
        starts.append(size + is_apart)
        size += is_apart + len(word)
    return "".join(pieces), starts


def _touch(left: str, right: str) -> bool:
    """Whether two words probably stood side by side: one is a sign, and none is a bracket or comma that has its space there."""
    is_sign = any(len(word) == 1 and not word.isalnum() for word in (left, right))
    return is_sign and left not in (")", "]", "}", ",", ";", "!", "?") and right not in ("(", "[", "{")


# --- e-mail ---------------------------------------------------------------------------------------------------------------------

_MAX_LOCAL = 64
# Thai to Tibetan, Burmese, Khmer, kana, Han and Hangul: written without a space before a Latin address, which ends where they begin.
_UNSPACED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
# `getty@tty1.service` is a systemd unit, `icon@2x.png` a file, `a@b.transpose()` a product; none of these endings is a top-level domain.
_NO_DOMAIN = re.compile(
    "service|socket|device|mount|automount|swap|timer|path|slice|scope|png|jpe?g|gif|svg|webp|ico|pdf|js|jsx|tsx?|css|html?|json|ya?ml|xml|"
    "txt|csv|tgz|gz|bz2|xz|whl|jar|exe|dll|shape|size|view|reshape|transpose|mean|sum|conj|astype|detach|numpy|flatten|weight|bias|grad",
    re.IGNORECASE,
)
_EXAMPLE_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost|localdomain|local)$", re.IGNORECASE)
_NUMBERED = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+[+-]|[0-9]+x\.[a-z]{2,4}$", re.IGNORECASE)
"""`react@18.2.0-rc.beta` is a version, `icon@2x.py` a file, though .py and .so are countries too."""
_REPOSITORY_AFTER = re.compile(r":(?:[\w.-]*[/~.][\w.~-]|[0-9]{1,5}\b|~)")


def _find_emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        domain = _domain_pattern().match(text, at + 1)
        start = _local_start(text, at) if domain else at
        if domain and start < at and _is_email(text[start:at], domain):
            yield start, domain.end()
        at = text.find("@", at + 1)


def _local_start(text: str, at: int) -> int:
    """Where the part before an @ begins: letters and digits of any script and `._%+-`; `at` where there is none, or one too long."""
    start = at
    is_unspaced = at > 0 and _UNSPACED.match(text, at - 1) is not None
    while start > max(0, at - _MAX_LOCAL - 1) and _is_local(text[start - 1]):
        if not is_unspaced and _UNSPACED.match(text, start - 1):
            break
        start -= 1
    while start < at and not text[start].isalnum():
        start += 1
    return start if at - start <= _MAX_LOCAL else at


def _is_local(sign: str) -> bool:
    return sign.isalnum() or sign in "._%+-" or unicodedata.category(sign)[0] == "M"


@functools.cache
def _domain_pattern() -> re.Pattern[str]:
    """Labels of letters, digits and hyphens in any script, the last of letters alone: of ASCII, or of none."""
    sign, letter = rf"(?:[^\W_]|[{marks()}])", rf"(?:[^\W\d_A-Za-z]|[{marks()}])"
    label = rf"{sign}(?:(?:{sign}|-){{0,61}}{sign})?\."
    return re.compile(rf"((?:{label}){{1,8}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}(?![A-Za-z0-9])|{letter}{{2,24}}))")


@functools.cache
def marks() -> str:
    """Combining marks as a character class. Python counts none as a letter, though in many scripts they are the vowels."""
    codes = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code))[0] == "M"]
    runs = [list(run) for _, run in itertools.groupby(enumerate(codes), key=lambda pair: pair[1] - pair[0])]
    return "".join(f"{chr(run[0][1])}-{chr(run[-1][1])}" for run in runs)


def _is_email(local: str, match: re.Match[str]) -> bool:
    """Not a version, a file, a product of matrices, an example, nor a repository (`git@host:path`; `user:password@host` is a login)."""
    domain, text, end = match[1], match.string, match.end()
    is_remote = text[end : end + 1] == ":" and (local == "git" or _REPOSITORY_AFTER.match(text, end) is not None)
    is_call = text[end : end + 1] == "(" and domain.rpartition(".")[2] in ("dot", "to")
    is_other = _NO_DOMAIN.fullmatch(domain.rpartition(".")[2]) or _NUMBERED.match(domain) or _EXAMPLE_DOMAIN.search(domain)
    return not (is_remote or is_call or is_other)


# In all patterns of numbers a sign of a word is one of ASCII: in Chinese a number stands right between characters.

# --- numbers: cards, bank accounts ------------------------------------------------------------------------------------------------

_NUMERIC = ("card", "ip", "phone")
# A digit and six more signs of a number, the start of an IPv6 address, or three parts of an IPv4 address.
_NUMBERS = re.compile(r"[0-9](?:[0-9 ().:/-]{6}|[0-9A-Fa-f]{3}:|\.[0-9]{1,3}\.[0-9])")
_MAYBE_CARD = re.compile(r"[0-9](?:[ -]?[0-9]){11}")
_DIGIT_GROUPS = re.compile(r"(?<![\w.+/-])[0-9]+(?:[ -][0-9]+)*(?![\w-]|\.[0-9])", re.ASCII)
_MAX_GROUPS = 5


def _find_cards(text: str) -> Iterator[Span]:
    for match in _DIGIT_GROUPS.finditer(text) if _MAYBE_CARD.search(text) else ():
        digits = match[0]
        groups = [group.span() for group in re.finditer("[0-9]+", digits)]
        first = 0
        while first < len(groups):
            for last in range(min(first + _MAX_GROUPS, len(groups)), first, -1):
                start, end = groups[first][0], groups[last - 1][1]
                if _is_card(digits[start:end]):
                    yield match.start() + start, match.start() + end
                    first = last - 1
                    break
            first += 1


def _is_card(number: str) -> bool:
    """Printed as cards are (one block, fours, or 4-6-5 and 4-6-4), an issuer's prefix and length, and a sound check digit."""
    if not 12 <= len(number) <= 23:
        return False
    parts = re.split("[ -]", number)
    lengths = [len(part) for part in parts]
    is_fours = all(length == 4 for length in lengths[:-1]) and lengths[-1] <= 4
    digits = "".join(parts)
    if len(set(number) & {" ", "-"}) > 1 or not (len(parts) == 1 or is_fours or lengths in ([4, 6, 5], [4, 6, 4])):
        return False
    return any(len(digits) in sizes and low <= int(digits[: len(str(low))]) <= high for low, high, sizes in _ISSUERS) and luhn_ok(digits)


_ISSUERS: tuple[tuple[int, int, range], ...] = (
    (4, 4, range(13, 20, 3)),  # Visa
    (51, 55, range(16, 17)),  # Mastercard
    (2221, 2720, range(16, 17)),  # Mastercard
    (34, 34, range(15, 16)),  # American Express
    (37, 37, range(15, 16)),
    (6011, 6011, range(16, 20)),  # Discover
    (644, 659, range(16, 20)),
    (62, 62, range(16, 20)),  # UnionPay
    (3528, 3589, range(16, 20)),  # JCB
    (300, 305, range(14, 15)),  # Diners Club
    (36, 36, range(14, 15)),
    (38, 39, range(14, 15)),
)
"""First and last prefix, and the lengths that go with them (ISO/IEC 7812 ranges as the issuers publish them)."""


def luhn_ok(digits: str) -> bool:
    """The check digit of ISO/IEC 7812: every second digit from the right doubled, digits summed, a multiple of ten."""
    total = sum(int(digit) for digit in digits[-1::-2])
    return (total + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])) % 10 == 0


_MAYBE_IBAN = re.compile(r"[0-9]{2}(?<=[A-Z]{2}[0-9]{2}) ?[A-Z0-9]{4} ?[A-Z0-9]{4} ?[A-Z0-9]{3}")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?= ?[A-Z0-9])")
_IBAN_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 "
    "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 "
    "MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 "
    "SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {country[:2]: int(country[2:]) for country in _IBAN_COUNTRIES.split()}
"""Letters and digits of an account number by country (SWIFT IBAN registry)."""


def _find_ibans(text: str) -> Iterator[Span]:
    for match in _IBAN_START.finditer(text) if _MAYBE_IBAN.search(text) else ():
        length = _IBAN_LENGTHS.get(match[0][:2])
        candidate = _account(length).match(text, match.start()) if length else None
        if candidate and iban_ok(candidate[0].replace(" ", "")):
            yield candidate.span()


@functools.cache
def _account(length: int) -> re.Pattern[str]:
    """So many letters and digits, single spaces allowed between them."""
    return re.compile(rf"[A-Z0-9](?: ?[A-Z0-9]){{{length - 1}}}(?![A-Za-z0-9])")


def iban_ok(account: str) -> bool:
    """ISO 13616: the first four signs moved to the end, letters as 10 to 35, the number is 1 modulo 97."""
    return int("".join(str(int(sign, 36)) for sign in account[4:] + account[:4])) % 97 == 1


# --- addresses of machines ----------------------------------------------------------------------------------------------------------

_MAYBE_IPV4 = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_MAYBE_IPV6 = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV4 = re.compile(r"(?<![\w.+~#-])([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?![\w~+-]|\.[0-9])", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{0,33}[0-9A-Fa-f:](?<![^:]:)(?![\w:]|\.[0-9])", re.ASCII)
_VERSION_BEFORE = re.compile(
    r"(?:(?<!\w)(?:versions?|vers?|release|rev|revision|update|v|section|chapter|rfc)|[<>=]=?)[.:]?\s?$", re.IGNORECASE
)
_ADDRESS_BEFORE = re.compile(
    r"\b(?:ip|ipv4|addr|address|host|hostname|\w*server|dns|gateway|router|proxy|ping|ssh)\W{1,3}(?:is |at )?$", re.IGNORECASE
)
_PORT_AFTER = re.compile(r":[0-9]{1,5}\b")
_NETWORK_AFTER = re.compile(r"/[0-9]{1,3}\b")
_SMALL_PART = 32
"""With three of four parts below this, 2.6.38.6 is a version unless something beside it says address; of random addresses 0.7 % are."""


def _find_ips(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text) if _MAYBE_IPV4.search(text) else ():
        if _is_public(match[0]) and not (_NETWORK_AFTER.match(text, match.end()) or _is_version(text, match)):
            yield match.span()
    for match in _IPV6.finditer(text) if _MAYBE_IPV6.search(text) else ():
        if _is_public(match[0]) and not _NETWORK_AFTER.match(text, match.end()):
            yield match.span()


def _is_public(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return found.is_global and not found.is_multicast


def _is_version(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - 20) : match.start()]
    if _ADDRESS_BEFORE.search(before):
        return False
    if _VERSION_BEFORE.search(before):
        return True
    is_small = sum(int(part) < _SMALL_PART for part in match.groups()) >= 3
    return is_small and not _PORT_AFTER.match(text, match.end())


# --- telephone ----------------------------------------------------------------------------------------------------------------------

_REST_OF_NUMBER = r"[1-9](?:[ ()./-]{0,3}[0-9]){8,14}(?![0-9])"
_PLUS = re.compile(r"\+(?<![\w+.=/-]\+) ?" + _REST_OF_NUMBER, re.ASCII)
_DOUBLE_ZERO = re.compile(r"00(?<![\w+.=/-]00)(?=[1-9][0-9]{0,2}[ ()./-])" + _REST_OF_NUMBER, re.ASCII)
_MAYBE_NORTH_AMERICAN = re.compile(r"[0-9]{2}[-. ][0-9]{4}")
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.+/-])(?:1[-. ])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}(?P<sign>[-.]))"
    r"(?P<exchange>[2-9][0-9]{2})(?(sign)(?P=sign)|[-. ])(?P<line>[0-9]{4})(?![\w-]|\.[0-9])",
    re.ASCII,
)
_NUMBER = re.compile(r"(?<![\w.+/-])\(?[0-9](?:[ ()./-]{0,3}[0-9]){6,14}(?![\w-]|[./][0-9])", re.ASCII)
_NAME_BEFORE = re.compile(
    r"(?<![\w./-])(?:(?:telephone|t[e\u00e9]l[e\u00e9]phone|telefax|telefon[eo]?|tel[e\u00e9]fono|phone|fon|t[e\u00e9]l|fax|handynummer|rufnummer)"
    r"(?:\s?(?:number|no|nr))?[.:]{0,2}|(?:mobile|mobil|m[o\u00f3]vil|handy|cell|celular|portable)(?:\s?(?:number|no|nr))?[.:]{1,2})\s{0,2}$"
    r"|(?:\u7535\u8bdd|\u96fb\u8a71|\u624b\u673a|\u624b\u6a5f|\u643a\u5e2f|\uc804\ud654)(?:\u53f7\u7801|\u756a\u53f7|\ubc88\ud638)?[:\uff1a]?\s{0,2}$",
    re.IGNORECASE,
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4}")
_CALLING_CODES = re.compile(
    "1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|21[12368]|22[0-9]|23[0-9]|24[0-9]|25[0-8]|26[0-9]|29[01789]|35[0-9]|"
    "37[0-8]|38[0-35-79]|42[013]|50[0-9]|59[0-9]|67[02-9]|68[0-35-9]|69[0-2]|80[08]|85[02356]|87[08]|88[0-368]|96[0-8]|97[0-79]|99[2-68]"
)
"""Country calling codes (ITU-T E.164, list of 2016)."""


def _find_phones(text: str) -> Iterator[Span]:
    yield from _international(text)
    yield from _north_american(text)
    yield from _named(text)


def _international(text: str) -> Iterator[Span]:
    for match in (*(_PLUS.finditer(text) if "+" in text else ()), *_DOUBLE_ZERO.finditer(text)):
        digits = re.sub("[^0-9]", "", match[0]).removeprefix("00")
        if digits.startswith("1"):
            is_number = re.fullmatch("1[2-9][0-9]{2}[2-9][0-9]{6}", digits) is not None
        else:
            is_number = _CALLING_CODES.match(digits) is not None and len(digits) <= 15
        if is_number:
            yield match.span()


def _north_american(text: str) -> Iterator[Span]:
    for match in _NORTH_AMERICAN.finditer(text) if _MAYBE_NORTH_AMERICAN.search(text) else ():
        if not (match["exchange"] == "555" and match["line"].startswith("01")):
            yield match.span()


def _named(text: str) -> Iterator[Span]:
    """Any number of seven digits or more, right after a word for telephone."""
    for match in _NUMBER.finditer(text):
        if _NAME_BEFORE.search(text[max(0, match.start() - 24) : match.start()]) and not _DATE.search(match[0]):
            yield match.span()


# --- keys and tokens ------------------------------------------------------------------------------------------------------------------

# These two are those of acclimate/redaction.py, written out because this file goes without it; a test holds them equal.
TOKENS = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"  # AWS access key id
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255}"  # GitHub
    r"|glpat-[A-Za-z0-9_-]{20,}"  # GitLab
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"  # Google
    r"|[sr]k_live_[0-9A-Za-z]{20,}"  # Stripe
    r"|hf_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{60,}|npm_[A-Za-z0-9]{36}"
    # No second start in the first part: else each of many would be read to the end.
    r"|eyJ(?:[A-Za-z0-9_]|-(?!eyJ)){10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"  # JSON Web Token, RFC 7519
    r")"
)
"""Tokens by the form that their issuer gives them, whole: what counts as personal data in a text."""
PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s]{40,}")
_MAX_PEM_CHARS = 20_000
_LOGIN = re.compile(r"://[^\s:/@?#<>]{1,64}:([^\s:/@?#<>]{3,128})@[A-Za-z0-9]")
_GITHUB = re.compile("gh[pousr]_")
_ASSIGNED = re.compile(r"[=:](?!//)[\"'` ]{0,3}([A-Za-z0-9+/_.~=-]{16,256})")
_SECRET_NAME = re.compile(
    r"(?:api|access|auth|secret|private|encryption|signing|account)[_ -]?(?:key|token)|secret|token|passwd|password|passphrase|credential",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"pass(?:word|wd|phrase)?|pwd?|secret|token|xxx+|\*+|\.\.\.|[A-Z_]+|[{$%\[].*", re.IGNORECASE)
_MIN_ENTROPY_BITS = 3.5
"""Bits a sign (Shannon) from which a value after `api_key=` counts as random; detect-secrets asks 3 for hex and 4.5 for base64."""


def _find_keys(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" in text:
        yield from _pem_blocks(text)
    if _may_hold_token(text):
        yield from (match.span() for match in TOKENS.finditer(text) if not match[0].endswith("EXAMPLE"))
    if "://" in text:
        yield from (match.span(1) for match in _LOGIN.finditer(text) if not _PLACEHOLDER.fullmatch(match[1]))
    yield from (match.span(1) for match in _ASSIGNED.finditer(text) if _is_secret(text, match))


def _may_hold_token(text: str) -> bool:
    """Plain substrings: one regular expression of all of them takes ten times as long."""
    return (
        "eyJ" in text
        or "AKIA" in text
        or "ASIA" in text
        or "AIza" in text
        or "xox" in text
        or "glpat-" in text
        or "pypi-" in text
        or "npm_" in text
        or "hf_" in text
        or "k_live_" in text
        or "github_pat_" in text
        or _GITHUB.search(text) is not None
    )


def _pem_blocks(text: str) -> Iterator[Span]:
    """From BEGIN to END; where the block was cut short, to the end of what is still base64."""
    for begin in PEM_BEGIN.finditer(text):
        footer = text.find("-----END ", begin.end(), begin.end() + _MAX_PEM_CHARS)
        end = _PEM_END.match(text, footer) if footer >= begin.end() + 40 else _PEM_BODY.match(text, begin.end())
        if end:
            yield begin.start(), end.end()


def _is_secret(text: str, match: re.Match[str]) -> bool:
    """A name that says secret before the sign, and a value that looks drawn at random: letters, digits and entropy."""
    name = re.search(r"[\w.\- ]{1,40}[\"'`]?\s{0,2}$", text[max(0, match.start() - 44) : match.start()])
    if name is None or not _SECRET_NAME.search(name[0].split("\n")[-1][-28:]):
        return False
    value = match[1]
    num_digits = sum(sign.isdigit() for sign in value)
    return 2 <= num_digits < len(value) and entropy_bits(value) >= _MIN_ENTROPY_BITS


def entropy_bits(text: str) -> float:
    """Shannon entropy of the signs of a text, in bits a sign."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


_FINDERS: dict[Kind, Callable[[str], Iterator[Span]]] = {
    "key": _find_keys,
    "email": _find_emails,
    "iban": _find_ibans,
    "card": _find_cards,
    "ip": _find_ips,
    "phone": _find_phones,
}
