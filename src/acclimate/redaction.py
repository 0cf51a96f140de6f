"""Find secrets in text, and hide them before the text is written to a file, a database or a log.

Every pattern is bounded or stops at its first sign, so that the time grows with the text and not with its square.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
_DECODINGS = 3
"""A URL inside a URL inside a URL."""

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

_PEM = re.compile(PEM_BEGIN.pattern + r"[\s\S]*?(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\Z)")
# Settings seldom hold such words by chance, so here a cut token counts, also one right behind other letters.
_PREFIXED = re.compile(
    r"(?:gh[pousr]_|github_pat_|glpat-|npm_|pypi-|xox[abeoprs]-|hf_)[A-Za-z0-9_-]{16,}"
    r"|(?<![A-Za-z0-9])sk-(?:(?:ant|proj|svcacct|admin|or)-[A-Za-z0-9_-]{20,}|(?=[A-Za-z]{0,64}[0-9])[A-Za-z0-9]{20,})"  # OpenAI, Anthropic
    r"|(?<![A-Za-z0-9])dapi[0-9a-f]{32}|SG\.[\w-]{16,}\.[\w-]{16,}"  # Databricks, SendGrid
)
_HEADER = re.compile(r"\b(?:bearer|basic)\s{1,3}(?=[A-Za-z+/._~-]{0,64}[0-9])[A-Za-z0-9+/._~=-]{12,}", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<![\w/])(?P<scheme>(?:[A-Za-z][\w+.-]{0,31}:)?)//(?P<user>[^\s/?#'\"<>]{0,1024})@")
# A password that holds / ? or # unescaped; a number behind the colon is a port.
_ODD_USER_INFO = re.compile(r"//[^\s/?#@:]{0,128}:(?![0-9]{0,5}(?:[/?#\s]|$))[^\s@]{1,256}@")
_PLAIN_LOGIN = re.compile(
    r"(?<![\w/.@%:-])(?!mailto:|xmpp:|sip:|acct:)[\w.-]{1,64}:[^\s:/@]{3,128}@(?!sha256:)(?=[\w-]{1,63}(?:\.[\w-]{1,63})*(?:[:/\s]|$))"
)
_ACCOUNTS = re.compile(r"(?:ssh|sftp|git|git\+ssh|(?:postgres|postgresql|mysql|mariadb|mssql|oracle)(?:\+\w{1,32})?):", re.IGNORECASE)
"""Schemes whose user name alone opens nothing; elsewhere, as in https, a lone user name is a token more often than not."""
_ACCOUNT = re.compile(r"[A-Za-z_][\w.-]{0,23}:?")
_QUERY = re.compile(r"(?P<sign>[?&;#])(?P<name>[\w.%-]{1,64})=(?P<value>[^\s&;#'\"]+)")
_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|credential|signature|authorization|(?:^|[-_.])(?:auth|sig|pwd|jwt|sas)$|token$|(?:^|[-_.])pat$"
    r"|(?:api|access|account|private|shared|encryption|signing|storage)[-_.]?key|key[-_.]?id$|(?:^|[-_.])key$|connection[-_.]?string",
    re.IGNORECASE,
)
_SECRET_PARAMETER = re.compile(r"(?:^|[-_.])(?:code|session|x-amz-\w+|x-goog-\w+)$|^(?:amp;)?(?:x-amz|x-goog)-", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<name>passw(?:or)?d|passphrase|\bpwd|secret(?:[-_]?(?:access[-_]?)?key)?|access[-_]?token|signature|\bsig"
    r"|(?:api|access|account|private|shared[-_]?access)[-_]?key)"
    r"(?:(?P<equals>[\"']?\s{0,3}=\s{0,3}[\"']?|[\"']\s{0,3}:\s{0,3}[\"']?)|\s{0,3}:\s{0,3})(?P<value>[^\s&;,\"'}]+)",
    re.IGNORECASE,
)
_WEAKLY_ASSIGNED = re.compile(r"(?<![A-Za-z0-9])(?:token|key|auth|credential)\s{0,3}[=:]\s{0,3}(?P<value>[^\s&;,\"'}/]+)", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide tokens, passwords, and the user and the query values of every URL in a text.

    Scheme, host, port, path and the names of query parameters stay, so that a reader still knows which URL it was.
    """
    for _ in range(_DECODINGS):
        text = _redact(text)
        if "%" not in text or not find_secret(text):
            break
        text = _decoded(text)
    return _redact(text)


def _redact(text: str) -> str:
    text = _PEM.sub(HIDDEN, text)
    text = _USER_INFO.sub(rf"\g<scheme>//{HIDDEN}@", text)
    text = _ODD_USER_INFO.sub(f"//{HIDDEN}@", text)
    has_url = "://" in text
    text = _QUERY.sub(lambda match: _hide_value(match) if has_url or _is_secret_query(match) else match[0], text)
    for pattern in (TOKENS, _PREFIXED, _HEADER, _PLAIN_LOGIN):
        text = pattern.sub(HIDDEN, text)
    text = _ASSIGNED.sub(lambda match: _hide_value(match) if _is_assigned(match) else match[0], text)
    return _WEAKLY_ASSIGNED.sub(lambda match: _hide_value(match) if looks_random(match["value"]) else match[0], text)


def find_secret(text: str) -> str | None:
    """What kind of secret a text holds, in words; None where it looks like none. Percent-encoded text is decoded."""
    for _ in range(_DECODINGS):
        found = _find_secret(text)
        if found or "%" not in text:
            return found
        text = _decoded(text)
    return _find_secret(text)


def _decoded(text: str) -> str:
    """Percent-encoded signs of ASCII that can be printed as what they stand for; a log line stays one line."""
    return re.sub("%[2-7][0-9A-Fa-f]", lambda sign: unquote(sign[0]), text)


def _find_secret(text: str) -> str | None:
    if PEM_BEGIN.search(text):
        return "a private key"
    if any(pattern.search(text) for pattern in (TOKENS, _PREFIXED, _HEADER)):
        return "a token"
    if any(_is_secret_user(match) for match in _USER_INFO.finditer(text)) or _ODD_USER_INFO.search(text) or _PLAIN_LOGIN.search(text):
        return "a URL with a password or a token as its user"
    has_url = "://" in text
    if any(
        _is_secret_query(match) or (has_url and len(match["value"]) >= 24 and looks_random(match["value"]))
        for match in _QUERY.finditer(text)
    ):
        return "a URL with a token or a signature in its query"
    weak = any(looks_random(match["value"]) for match in _WEAKLY_ASSIGNED.finditer(text))
    return "a password" if weak or any(_is_assigned(match) for match in _ASSIGNED.finditer(text)) else None


def names_secret(name: str) -> bool:
    """Whether a setting of this name is expected to hold a secret, such as `password` or `aws_secret_access_key`."""
    return _SECRET_NAME.search(name) is not None


def looks_random(value: str, *, min_chars: int = 12) -> bool:
    """Long, with letters and digits: no word of a language."""
    return len(value) >= min_chars and value != HIDDEN and any(c.isdigit() for c in value) and any(c.isalpha() for c in value)


def _is_secret_user(match: re.Match[str]) -> bool:
    """Whether the user information opens something: not what is hidden already, not a lone account such as ssh://git@host."""
    user = match["user"]
    return user not in ("", ":", HIDDEN) and not (_ACCOUNTS.fullmatch(match["scheme"]) and _ACCOUNT.fullmatch(user))


def _is_secret_query(match: re.Match[str]) -> bool:
    name = unquote(match["name"])
    return match["value"] != HIDDEN and (names_secret(name) or _SECRET_PARAMETER.search(name) is not None)


def _is_assigned(match: re.Match[str]) -> bool:
    """`password=x` is; `password: x` is prose unless the value looks drawn at random."""
    return match["value"] != HIDDEN and (match["equals"] is not None or looks_random(match["value"], min_chars=8))


def _hide_value(match: re.Match[str]) -> str:
    return match[0][: match.start("value") - match.start()] + HIDDEN
