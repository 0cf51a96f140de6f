"""Languages: other languages leave, the wanted one stays, and nothing is loaded where none is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from acclimate.data.screening.language import LanguageConfig, detect_language, judge_languages, known_languages
from acclimate.errors import DataError

ENGLISH = [
    "Library for reading and writing maps\nThis package holds the development files.",
    "The driver binds to each device that it finds in the table.",
    "int main(void) { return printf(); } prints nothing and returns the number of characters",
]
OTHERS = {
    "de": "Dieses Paket enthält die Bibliotheken, die zum Übersetzen von Programmen nötig sind.",
    "fr": "Ce paquet fournit les bibliothèques nécessaires pour compiler des programmes.",
    "es": "Este paquete contiene las bibliotecas compartidas que necesita el programa para funcionar.",
    "pl": "Ten pakiet zawiera biblioteki współdzielone potrzebne do uruchomienia programu.",
    "ja": "このパッケージには、プログラムの実行に必要な共有ライブラリが含まれています。ファイル名も変更できます。",
}


def test_documents_of_other_languages_leave_and_english_stays() -> None:
    verdicts = judge_languages([*ENGLISH, *OTHERS.values()], LanguageConfig(languages=["en"]))
    assert verdicts == [None] * len(ENGLISH) + ["other_language"] * len(OTHERS)


@pytest.mark.parametrize("language", list(OTHERS))
def test_each_language_is_told(language: str) -> None:
    found, confidence = detect_language(OTHERS[language])
    assert found == language and confidence > 0.5


def test_several_languages_can_be_wanted() -> None:
    verdicts = judge_languages([ENGLISH[1], OTHERS["de"], OTHERS["fr"]], LanguageConfig(languages=["en", "de"]))
    assert verdicts == [None, None, "other_language"]


def test_a_short_document_and_a_doubtful_one_are_not_judged() -> None:
    config = LanguageConfig(languages=["en"], min_chars=200)
    assert judge_languages(list(OTHERS.values()), config) == [None] * len(OTHERS)
    confidence = detect_language(OTHERS["de"])[1]
    assert judge_languages([OTHERS["de"]], LanguageConfig(languages=["en"], min_confidence=min(1.0, confidence + 1e-6))) == [None]


def test_a_long_document_is_judged_by_its_beginning() -> None:
    text = ENGLISH[1] * 3 + OTHERS["fr"] * 50
    assert judge_languages([text], LanguageConfig(languages=["en"], max_chars=150)) == [None]
    assert judge_languages([text], LanguageConfig(languages=["en"])) == ["other_language"]


def test_without_languages_nothing_is_loaded() -> None:
    code = (
        "import sys; from acclimate.data.screening.language import *; assert judge_languages(['x'] * 3, LanguageConfig()) == [None] * 3;"
        "assert 'py3langid' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_language_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(DataError, match=r"xx cannot be told; allowed: .*\ben\b") as caught:
        judge_languages(["text"], LanguageConfig(languages=["en", "xx"]))
    assert "\n" not in str(caught.value)
    assert {"en", "de", "ja"} <= set(known_languages())
    with pytest.raises(ValidationError, match="languages"):
        LanguageConfig(languages=["English"])
