"""The section `model` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from acclimate.settings import Count, Options, Share

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelDigests(Options):
    """SHA-256 of each file of the encoder that is used. A single digest is that of the weights."""

    weights: Sha256 | None = None
    config: Sha256 | None = None
    tokenizer: Sha256 | None = Field(default=None, description="of tokenizer.json, also where it is made from the model's other files")

    @model_validator(mode="before")
    @classmethod
    def _of_weights(cls, given: Any) -> Any:
        return {"weights": given} if isinstance(given, str) else given


class VocabularyConfig(Options):
    """How many domain words the vocabulary gets, and what they must be good for."""

    new_words: Annotated[int, Field(ge=0, le=10_000)] = Field(default=0, description="0: the vocabulary stays as it is")
    min_count: Count = Field(default=20, description="a word must stand there so often: a new row is learnt from its occurrences alone")
    max_word_chars: Count = 30
    min_fertility_drop: Share = Field(default=0.02, description="of tokens a word on held-out text, as a share; refused below")


class ModelConfig(Options):
    """Which pretrained encoder is adapted, and how it is known to be the right one."""

    source: Literal["package", "path", "hub"] = "package"
    name: str = Field(description="importable package, directory, or hub id, by `source`")
    subfolder: str = ""
    revision: str | None = Field(default=None, description="hub only: the 40-digit commit")
    sha256: ModelDigests | None = None
    vocabulary: VocabularyConfig = Field(default=VocabularyConfig(), description="domain words to add")

    @model_validator(mode="after")
    def _pinned(self) -> ModelConfig:
        if self.source == "hub" and not (self.revision and len(self.revision) == 40):
            raise ValueError("source `hub` needs `revision`: the full 40-digit commit, so that the run can be made again")
        if self.source != "hub" and self.revision:
            raise ValueError(f"`revision` belongs to source `hub`, not to `{self.source}`; use `sha256` to pin the weights")
        return self
