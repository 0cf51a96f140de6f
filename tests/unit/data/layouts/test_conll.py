"""CoNLL files of each dialect give their sentences; a line that does not fit is refused by its number."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acclimate.errors import DataError
from tests.unit.data.layouts.reading import cells, read, spans, task

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP I-ORG
rejects VBZ B-VP O
German JJ B-NP I-MISC
call NN I-NP O
. . O O

Peter NNP B-NP I-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- -X- O

BRUSSELS NNP B-NP I-LOC
"""
WNUT = "@paulwalk\tO\nIt\tO\n\n#Obama\tB-person\nin\tO\n#\tO\nUtah\tB-location\n\n#\tO\n"
MULTICONER = "# id 5239d808 domain=en\nrobert _ _ B-PER\ngottschalk _ _ I-PER\n# _ _ O\n\n# id 3aea0b domain=en\nthe _ _ O\n"
GERMEVAL = (
    "#\thttp://de.wikipedia.org [2009-10-17]\n1\tSchartau\tB-PER\tO\n2\tsagte\tO\tO\n\n#\thttp://x [2010]\n1\t1\tO\tO\n2\tAcme\tB-ORG\tO\n"
)
CONLLUP = """# global.columns = ID FORM UPOS NER
# newdoc id = paper
# sent_id = s-1
# text = Im Hause Acme
1-2\tIm\t_\t_
1\tIn\tADP\tO
2\tdem\tDET\tO
3\tHause\tNOUN\tB-LOC
3.1\tleer\t_\t_
4\tAcme\tPROPN\tB-ORG

# sent_id = s-2
1\tJa\tINTJ\tO
"""
LABEL_STUDIO = "-DOCSTART- -X- O\nAcme -X- _ B-ORG\nInc -X- _ I-ORG\n\nok -X- _ O\n\n"
KOREAN = "안녕\u3000하세요\tO\n서울\u00a0시\tB-LOC\n"


@pytest.mark.parametrize(
    ("content", "ending", "options", "numbers", "words", "found"),
    [
        (
            CONLL_2003,
            ".conll",
            {},
            [3, 9, 14],
            [5, 2, 1],
            [[("ORG", "EU"), ("MISC", "German")], [("PER", "Peter Blackburn")], [("LOC", "BRUSSELS")]],
        ),
        (WNUT, ".conll", {}, [1, 4, 9], [2, 4, 1], [[], [("person", "#Obama"), ("location", "Utah")], []]),
        (MULTICONER, ".conll", {}, [2, 7], [3, 1], [[("PER", "robert gottschalk")], []]),
        (GERMEVAL, ".tsv", {"tag": 3}, [2, 6], [2, 2], [[("PER", "Schartau")], [("ORG", "Acme")]]),
        (CONLLUP, ".conllup", {"tag": "NER"}, [6, 13], [4, 1], [[("LOC", "Hause"), ("ORG", "Acme")], []]),
        (CONLLUP, ".conllu", {"word": "FORM", "tag": 4}, [6, 13], [4, 1], [[("LOC", "Hause"), ("ORG", "Acme")], []]),
        (LABEL_STUDIO, ".conll", {}, [2, 5], [2, 1], [[("ORG", "Acme Inc")], []]),
        (KOREAN, ".txt", {}, [1], [2], [[("LOC", "서울\u00a0시")]]),
        (CONLL_2003.replace(" ", "\t").replace("\n", "\r\n"), ".bio", {}, [3, 9, 14], [5, 2, 1], None),
        ("a O x\n\n\n  \nc B-X\n", ".iob", {"word": 1, "tag": 2}, [1, 5], [1, 1], [[], [("X", "c")]]),
    ],
    ids=[
        "conll-2003",
        "wnut-17",
        "multiconer",
        "germeval",
        "conll-u plus",
        "by name and number",
        "label studio",
        "odd blanks",
        "tabs",
        "ragged",
    ],
)
def test_each_dialect_gives_its_sentences(
    tmp_path: Path, content: str, ending: str, options: dict[str, Any], numbers: list[int], words: list[int], found: Any
) -> None:
    (tmp_path / f"mine{ending}").write_bytes(content.encode())
    config = task({"conll": options}, f"mine{ending}")
    numbers_read, examples = read(tmp_path, config)
    assert numbers_read == numbers
    assert [len(row["words"]) for row in examples.inputs] == words
    assert found is None or spans(examples) == found


def test_comments_and_documents_become_columns(tmp_path: Path) -> None:
    (tmp_path / "mine.conllup").write_text(CONLLUP, encoding="utf-8")
    found = cells(tmp_path, task({"conll": {"tag": "NER"}}, "mine.conllup"), "sent_id", "document")
    assert found == [("s-1", "paper"), ("s-2", "paper")]
    (tmp_path / "a.conll").write_text(CONLL_2003, encoding="utf-8")
    (tmp_path / "mine.conll").write_text(MULTICONER, encoding="utf-8")
    assert cells(tmp_path, task("conll", "a.conll"), "document") == [("a-1",), ("a-1",), ("a-2",)]
    assert cells(tmp_path, task("conll", "mine.conll"), "id") == [("5239d808",), ("3aea0b",)]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a O\nb NN O\n", {}, r"line 2: 3 fields, where line 1 has 2; give the columns by number, `layout: {conll: {word: 1, tag: 2}}`"),
        ("a\tO\nb\n", {}, "line 2: 1 fields, where line 1 has 2"),
        ("a O\n", {"tag": 3}, "line 1: no column 3 among 2 fields"),
        ("a O\n", {"tag": "NER"}, "no column 'NER' in `# global.columns = ...`: there is no such line"),
        ("# global.columns = FORM NER\na O\n", {"tag": "ENTITY"}, "it names FORM, NER; give its number"),
        ("1 a O\nb c O\n", {}, "line 2: 'b' is no number of a word as in line 1; name the column of the words by .*word: 1"),
        ("1\tIn\tin\tADP\t_\t_\t0\troot\t_\t_\n", {}, "line 1: CoNLL-U has no column of spans; name the one of the tags"),
        ("\n \n", {}, "no rows"),
        ("a \x00 O\n", {}, "line 1: a NUL byte"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, content: str, options: dict[str, Any], message: str) -> None:
    (tmp_path / "mine.conll").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read(tmp_path, task({"conll": options}, "mine.conll"))


def test_a_file_without_blank_lines_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine.txt").write_text("word O\n" * 300, encoding="utf-8")
    with caplog.at_level(logging.INFO):
        read(tmp_path, task("conll", "mine.txt"))
    assert "no blank line parts the sentences: one of 300 words was read" in caplog.text
    assert "1 sentences of 2 columns between blanks; 0 comments left out" in caplog.text


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6).filter(
    lambda word: word.strip() == word
)
SENTENCES = st.lists(
    st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-X", "S-Y", "B-a b"])), min_size=1, max_size=5), min_size=1, max_size=5
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SENTENCES, st.sampled_from(["\t", " "]), st.sampled_from(["\n", "\r\n"]), st.randoms(use_true_random=False))
def test_sentences_come_back_as_they_were_written(
    tmp_path: Path, sentences: list[list[tuple[str, str]]], separator: str, end: str, draw: random.Random
) -> None:
    if separator == " ":
        sentences = [[(word, tag.replace(" ", "_")) for word, tag in sentence] for sentence in sentences]
    blocks = ["".join(f"{word}{separator}{tag}{end}" for word, tag in sentence) for sentence in sentences]
    (tmp_path / "mine.conll").write_bytes("".join(block + end * draw.randint(1, 3) for block in blocks).encode())
    found = cells(tmp_path, task({"conll": {"comments": False}}, "mine.conll"), "text", "label")
    assert [list(zip(*row, strict=True)) for row in found] == sentences
