"""Man pages to prose paragraphs: roff escapes and the man(7) macros. mdoc(7) is in debian_mdoc.

Only what running text needs: code displays, tables, synopses and indexes are left out.
"""

import re
from collections.abc import Iterator

SPECIAL = {
    "em": "—", "en": "\u2013", "hy": "-", "mi": "-", "pl": "+", "mu": "x", "+-": "±", "aq": "'", "dq": '"',
    "lq": '"', "rq": '"', "oq": "'", "cq": "'", "bu": "*", "co": "(c)", "ti": "~", "ha": "^", "rs": "\\",
    "ga": "`", "<=": "<=", ">=": ">=", "!=": "!=", "->": "->", "<-": "<-", "Lt": "<", "Gt": ">", "Le": "<=",
    "Ge": ">=", "Ne": "!=", "Am": "&", "Ba": "|", "Pm": "±", "Pi": "pi", "If": "infinity", "Na": "NaN",
    "R": "(R)", "Tm": "(TM)", "L\"": '"', "R\"": '"', "ua": "^", "aa": "'", "q": '"', "*m": "μ", "mc": "μ",
    "Bq": '"', ":o": "ö", ":u": "ü", ":a": "ä", "'e": "é", "ss": "ß", "if": "infinity", "sr": "sqrt",
}  # fmt: skip
ESCAPE = re.compile(
    r"\\(?:"
    r"(?P<drop>f(?:\(..|\[[^\]]*\]|.)|s[-+]?\d+|[hvwsnkXb]'[^']*'|n(?:\(..|\[[^\]]*\]|.)|[m](?:\[[^\]]*\]|.)"
    r"|k.|[&|^%/,:cp)]|z)"
    r"|\((?P<two>..)|\[(?P<long>[^\]]*)\]|\*(?:\((?P<star_two>..)|\[(?P<star_long>[^\]]*)\]|(?P<star>.))"
    r"|(?P<space>[ ~0])|(?P<back>[e\\])|(?P<other>.))"
)
FONT_MACROS = frozenset({"B", "I", "SM", "SB", "R"})
ALTERNATING = frozenset({"BR", "BI", "IB", "IR", "RB", "RI"})
BREAKS = frozenset({
    "PP", "LP", "P", "TP", "TQ", "IP", "HP", "RS", "RE", "br", "sp", "SY", "YS", "in", "ti",
})  # fmt: skip
DISPLAYS = {"nf": "fi", "EX": "EE", "TS": "TE", "de": ".", "ig": ".", "PS": "PE"}
SKIPPED_SECTIONS = frozenset({
    "NAME", "SYNOPSIS", "COLOPHON", "COPYRIGHT", "ATTRIBUTES", "AUTHORS", "AUTHOR", "EXAMPLE", "EXAMPLES",
    "SEE ALSO", "CONFORMING TO", "PROGRAM SOURCE",
})  # fmt: skip


def unescape(text: str) -> str:
    """Replace roff escapes by what they print."""
    return ESCAPE.sub(_printed, re.sub(r"\\[\"#].*", "", text))


def _printed(match: re.Match[str]) -> str:
    if match["drop"]:
        return ""
    if match["space"]:
        return " "
    if match["back"]:
        return "\\"
    if match["other"]:
        return match["other"] if match["other"] in "-.'`_\"" else ""
    name = next(value for value in match.group("two", "long", "star_two", "star_long", "star") if value is not None)
    return SPECIAL.get(name, "")


def macro_arguments(line: str) -> list[str]:
    """Split the arguments of a macro line; double quotes group, doubled quotes are one."""
    found = re.findall(r'"((?:[^"]|"")*)(?:"|$)|(\S+)', line)
    return [plain or quoted.replace('""', '"') for quoted, plain in found]


def skip_displays(lines: list[str], displays: dict[str, str]) -> Iterator[str]:
    """Yield the lines outside displays; a display's opening line becomes a blank line."""
    awaited = ""
    for line in lines:
        macro = line[1:].split(" ")[0].strip() if line[:1] in (".", "'") else ""
        if awaited:
            awaited = "" if macro == awaited else awaited
        elif macro in displays:
            awaited = displays[macro]
            yield ""
        else:
            yield line


def man_paragraphs(source: str) -> list[str]:
    """Paragraphs of a man(7) page: each tagged item, list item and running paragraph is one."""
    paragraphs: list[list[str]] = [[]]
    skipping = True
    for line in skip_displays(source.splitlines(), DISPLAYS):
        macro, arguments = _macro(line)
        if macro == "SH":
            skipping = " ".join(arguments).upper() in SKIPPED_SECTIONS
        if skipping or line.startswith(("'\\\"", '.\\"')):
            continue
        if macro in BREAKS or macro in ("SH", "SS") or not line.strip():
            paragraphs.append([])
            arguments = arguments[:1] if macro == "IP" else []
        paragraphs[-1].append(_man_text(line, macro, arguments))
    joined = (" ".join(" ".join(filter(None, pieces)).split()) for pieces in paragraphs)
    return [text for text in joined if text]


def _macro(line: str) -> tuple[str, list[str]]:
    if line[:1] not in (".", "'"):
        return "", []
    name, _, rest = line[1:].strip().partition(" ")
    return name, macro_arguments(rest)


def _man_text(line: str, macro: str, arguments: list[str]) -> str:
    if not macro:
        return unescape(line) if line[:1] not in (".", "'") else ""
    if macro in ALTERNATING:
        return unescape("".join(arguments))
    if macro in FONT_MACROS or macro == "IP":
        text = unescape(" ".join(arguments))
        return "" if text.strip() in ("*", "—", "\u2013", "-", "o") else text
    if macro in ("UR", "MT"):
        return unescape(" ".join(arguments[:1]))
    return ""
