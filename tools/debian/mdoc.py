"""mdoc(7) pages to paragraphs of spans: the authors' markup names functions, arguments, paths, ...

The same spans give running text for the corpus and BIO-tagged words for the entity task.
Macro reference: https://man.openbsd.org/mdoc.7 and FreeBSD's mdoc(7).
"""

import re
from dataclasses import dataclass, replace

from tools.debian.roff import macro_arguments, skip_displays, unescape

ENTITY_OF_MACRO = {
    "Fn": "FUNC", "Fo": "FUNC", "Fa": "ARG", "Ar": "ARG", "Xr": "XREF", "Dv": "CONST", "Nm": "NAME",
    "Va": "VAR", "Ev": "VAR", "Vt": "TYPE", "Ft": "TYPE", "Pa": "PATH", "Cm": "CMD", "Ic": "CMD", "Er": "ERRNO",
}  # fmt: skip
ENCLOSURES = {
    "Dq": ('"', '"'), "Qq": ('"', '"'), "Sq": ("'", "'"), "Ql": ("'", "'"), "Pq": ("(", ")"), "Bq": ("[", "]"),
    "Brq": ("{", "}"), "Aq": ("<", ">"), "Op": ("[", "]"), "In": ("<", ">"),
}  # fmt: skip
OPENERS = {"Do": '"', "Qo": '"', "So": "'", "Po": "(", "Bo": "[", "Oo": "[", "Ao": "<", "Bro": "{"}
CLOSERS = {"Dc": '"', "Qc": '"', "Sc": "'", "Pc": ")", "Bc": "]", "Oc": "]", "Ac": ">", "Brc": "}"}
SYSTEMS = {"Fx": "FreeBSD", "Nx": "NetBSD", "Ox": "OpenBSD", "Dx": "DragonFly", "Bsx": "BSD/OS", "Bx": "BSD"} | {
    "Ux": "UNIX",
    "At": "UNIX",
}
PLAIN = frozenset({
    "Em", "Sy", "Li", "No", "Tn", "Ad", "An", "Mt", "Lk", "Cd", "Ms", "Sx", "Pf", "Fl", "Lb", "Xo", "Xc", "Fc",
    "Ns", "Ap", "St", "Ta", "Nd",
})  # fmt: skip
BLOCK_BREAKS = frozenset({
    "Pp", "Lp", "Sh", "Ss", "It", "Bl", "El", "Bd", "Ed", "sp", "br", "Dl", "D1",
})  # fmt: skip
CONTENT_SECTIONS_SKIPPED = frozenset({"NAME", "LIBRARY", "SYNOPSIS", "SEE ALSO", "AUTHORS", "AUTHOR", "HISTORY", "STANDARDS"})
LITERAL_DISPLAY = re.compile(r"^\.Bd\s.*-(literal|unfilled)")
CLOSING, OPENING = frozenset(".,:;)]?!"), frozenset("([")


@dataclass(frozen=True)
class Span:
    """A piece of running text; `entity` is None outside markup; `glued` means no space before it.

    `rendered_only` marks brackets that mdoc adds to FUNC and XREF: text shows them, the task must not.
    """

    text: str
    entity: str | None = None
    glued: bool = False
    rendered_only: bool = False


def mdoc_paragraphs(source: str) -> list[list[Span]]:
    """Paragraphs of an mdoc page, in order; displays of code and list-like sections left out."""
    lines = _fold_literal_displays(source.splitlines())
    page_name, skipping = "", True
    paragraphs: list[list[Span]] = [[]]
    for line in lines:
        macro, _, rest = line[1:].partition(" ") if line.startswith(".") else ("", "", line)
        if macro == "It":
            rest = rest.replace("\t", " Ta ")  # a tab parts columns, as Ta does
        arguments = macro_arguments(rest) if macro else []
        if macro == "Nm" and not page_name and arguments:
            page_name = arguments[0]
        if macro == "Sh":
            skipping = " ".join(arguments).upper() in CONTENT_SECTIONS_SKIPPED
        if skipping:
            continue
        if macro in BLOCK_BREAKS or not line.strip():
            paragraphs.append([])
        if macro == "It":
            paragraphs[-1] += macro_spans(arguments, page_name)
        elif macro and macro not in BLOCK_BREAKS:
            paragraphs[-1] += macro_spans([macro, *arguments], page_name)
        elif not macro and rest.strip():
            paragraphs[-1].append(Span(" ".join(unescape(rest).split())))
    return [paragraph for paragraph in paragraphs if paragraph]


def _fold_literal_displays(lines: list[str]) -> list[str]:
    marked = [".literal" if LITERAL_DISPLAY.match(line) else line for line in lines if not line.startswith('.\\"')]
    return list(skip_displays(marked, {"literal": "Ed", "Rs": "Re", "Bk": "Ek", "de": ".", "ig": "."}))


def macro_spans(arguments: list[str], page_name: str) -> list[Span]:
    """Spans of one macro line, called macros within it included."""
    line = _MacroLine(page_name)
    for argument in arguments:
        line.add(argument)
    return line.finish()


class _MacroLine:
    """State of one macro line: the macro in force, the quotes to close, and glue before the next span."""

    def __init__(self, page_name: str) -> None:
        self.page_name = page_name
        self.spans: list[Span] = []
        self.macro = ""
        self.num_arguments = 0
        self.glue_next = False
        self.closers: list[str] = []

    def add(self, argument: str) -> None:
        if argument in ENTITY_OF_MACRO or argument in PLAIN:
            self._end_macro()
            self.macro, self.num_arguments = argument, 0
            self.glue_next |= argument in ("Ns", "Ap")
            if argument == "Ap":
                self._emit("'", glued=True)
                self.glue_next = True
        elif argument in ENCLOSURES:
            self._end_macro()
            opening, closing = ENCLOSURES[argument]
            self.closers.append(closing)
            self._open(opening)
        elif argument in OPENERS:
            self._end_macro()
            self._open(OPENERS[argument])
        elif argument in CLOSERS:
            self._end_macro()
            self._emit(CLOSERS[argument], glued=True)
        elif argument in SYSTEMS:
            self._end_macro()
            self._emit(SYSTEMS[argument])
        else:
            self._add_word(argument)

    def finish(self) -> list[Span]:
        self._end_macro()
        tail: list[Span] = []
        while self.closers and self.spans and self.spans[-1].text in CLOSING and self.spans[-1].entity is None:
            tail.insert(0, self.spans.pop())
        while self.closers:
            self._emit(self.closers.pop(), glued=True)
        return self.spans + tail

    def _add_word(self, argument: str) -> None:
        if argument in CLOSING:
            self._emit(argument, glued=True)
        elif argument in OPENING:
            self._open(argument)
        else:
            self._add_argument(" ".join(unescape(argument).split()))
            self.num_arguments += 1

    def _add_argument(self, text: str) -> None:
        entity = ENTITY_OF_MACRO.get(self.macro)
        if not text or (self.macro in ("Fn", "St", "Lb") and self.num_arguments > 0):
            return  # a call's arguments are rendered between brackets, which the task must not show
        if self.macro == "Xr" and self.num_arguments > 0:
            self._emit(f"({text})", glued=True, rendered_only=True)
        elif self.macro == "St":
            self._emit("POSIX" if "p1003" in text else "ISO C" if "ansiC" in text or "isoC" in text else "X/Open")
        elif self.macro == "Fl":
            self._emit(f"-{text}")
        else:
            self._emit(text, entity)
            if self.macro in ("Fn", "Fo"):
                self._emit("()", glued=True, rendered_only=True)
            self.glue_next |= self.macro == "Pf"

    def _end_macro(self) -> None:
        if self.macro == "Nm" and self.num_arguments == 0 and self.page_name:
            self._emit(self.page_name, "NAME")
        elif self.macro == "Fl" and self.num_arguments == 0:
            self._emit("-")
            self.glue_next = True
        self.macro, self.num_arguments = "", 0

    def _open(self, text: str) -> None:
        self._emit(text)
        self.glue_next = True

    def _emit(self, text: str, entity: str | None = None, *, glued: bool = False, rendered_only: bool = False) -> None:
        self.spans.append(Span(text, entity, glued or self.glue_next, rendered_only))
        self.glue_next = False


def spans_to_text(spans: list[Span]) -> str:
    """Running text as a reader of the page sees it."""
    return "".join(("" if span.glued or index == 0 else " ") + span.text for index, span in enumerate(spans))


WORD = re.compile(r"\w+(?:[-_./']\w+)*|[^\w\s]")


def spans_to_bio(spans: list[Span]) -> tuple[list[str], list[str]]:
    """Words and their BIO tags; marked-up spans are split at spaces only, running text at punctuation."""
    words: list[str] = []
    tags: list[str] = []
    for span in map(_without_brackets, spans):
        if span.rendered_only:
            continue
        pieces = span.text.split() if span.entity else WORD.findall(span.text)
        words += pieces
        tags += [f"{'I' if index else 'B'}-{span.entity}" if span.entity else "O" for index in range(len(pieces))]
    return words, tags


def _without_brackets(span: Span) -> Span:
    if span.entity in ("FUNC", "XREF"):
        return replace(span, text=re.sub(r"\(.*\)$", "", span.text))
    return span
