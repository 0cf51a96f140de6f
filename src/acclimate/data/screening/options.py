"""The sections `cleaning` and `personal_data` of `ingest`, apart from the rules, which travel inside registered models."""

from __future__ import annotations

from typing import Literal

from acclimate.data.screening.personal_data import Kind
from acclimate.settings import Options


class CleaningConfig(Options):
    """Which rules clean a text. They are applied in this order."""

    mojibake: bool = True
    html: bool = True
    control_characters: bool = True
    nfc: bool = True
    whitespace: bool = True

    @property
    def rules(self) -> list[str]:
        """Names of the rules that are on, in their order."""
        return [name for name in type(self).model_fields if getattr(self, name)]


class PersonalDataConfig(Options):
    """What is done about personal data: nothing, counted, or replaced by `<EMAIL>`, `<PHONE>`, ..."""

    mode: Literal["off", "flag", "redact"] = "flag"
    kinds: list[Kind] = ["key", "email", "iban", "card", "ip", "phone"]

    @property
    def replaced(self) -> list[Kind]:
        """Kinds that are replaced."""
        return self.kinds if self.mode == "redact" else []
