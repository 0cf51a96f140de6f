"""The form of the deployment changes how a model is trained, and nothing of what is read, what passes, or where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from acclimate.config import Config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml
from flows.overrides import Overrides
from flows.pipeline import as_code

ROOT = Path(__file__).parents[2]
CLOSED = ["model", "tracking", "ingest", "validate", "export", "register", "report"]


def paths(value: object, prefix: str = "") -> list[str]:
    """Every dotted path of params.yaml, sections among them."""
    if not isinstance(value, dict):
        return [prefix]
    below = [path for key, each in value.items() for path in paths(each, f"{prefix}.{key}" if prefix else key)]
    return [prefix, *below] if prefix else below


@pytest.mark.parametrize(
    "path",
    [
        *(path for section in CLOSED for path in paths(read_yaml(ROOT / "params.yaml")[section], section)),
        *("register.gates", "train", "train.launch", "train.launch.rendezvous", "train.price_per_hour", "tasks", "tasks.section"),
        *("tasks.section.data", "tasks.section.kind", "tasks.new", "evaluate", "evaluate.allow_unchecked_corpus", "", "unknown"),
        *("seedling", " finetune", "Finetune.epochs", "finetune/epochs", "__class__"),
    ],
)
def test_the_form_refuses_in_one_line(path):
    with pytest.raises(ConfigError) as refused:
        Overrides(params={"finetune.epochs": 0.1, path: {}}).by_path()
    message = str(refused.value)
    assert message.startswith(f"{path!r}: not open to the form")
    assert "finetune" in message and "tasks.*.max_length" in message and "\n" not in message


@pytest.mark.parametrize(
    "path",
    [
        *(
            "seed",
            "finetune.learning_rate",
            "recipes.lora.strategy.lora.rank",
            "encoders.adapted.start",
            "pretrain.optimizer.learning_rate",
            "runs.seeds",
            "tokenize.sequence_length",
        ),
        *("tasks.section.max_train_rows", "train.micro_batch_size", "evaluate.bootstrap_samples", "finetune"),
    ],
)
def test_the_form_changes_how_a_model_is_trained(path):
    assert Overrides(finetune_learning_rate=0.1, params={path: 1}).by_path()[path] == 1


def test_every_section_is_either_open_or_closed():
    """A section that is added later is closed until somebody opens it."""
    sections = [field.alias or name for name, field in Config.model_fields.items()]
    closed = []
    for section in sections:
        try:
            Overrides(params={section: {}}).by_path()
        except ConfigError:
            closed.append(section)
    assert sorted(closed) == sorted([*CLOSED, "tasks", "train", "evaluate"])


@pytest.mark.parametrize(
    "text", ["```\n<svg onload=alert(1)>", "`<img src=x onerror=alert(1)>`", "a\r\n\r\n[x](javascript:alert(1))", "a\v\n\n<b>"]
)
def test_what_a_run_was_given_is_shown_as_code_in_prefects_summary(text: str) -> None:
    html = MarkdownIt("commonmark").render("\n".join(["Overrides:", "", *as_code(text)]))
    assert html.startswith("<p>Overrides:</p>\n<pre><code>")
    assert html.count("<") == 6, html
