"""A params.yaml of before encoders and recipes were named: what to write in place of each of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_RENAMED = {
    "tokenize.tokens_per_row": "sequence_length",
    "tasks.*.max_tokens": "max_length",
    "pretrain.max_tokens": "tokens",
    "pretrain.rows_per_batch": "batch_size",
    "finetune.rows_per_batch": "batch_size",
    "finetune.lr": "learning_rate",
    "finetune.head_lr": "head_learning_rate",
    "train.micro_rows": "micro_batch_size",
    "probe.max_train_rows": "max_pool_rows",
}
_FORMER_ENCODER = "adapted"


def lines_to_write(raw: Mapping[Any, Any]) -> list[str]:
    """One line for each key that is called or built otherwise now; nothing for a params.yaml of today."""
    return [*_renamed(raw), *_chosen(raw), *_named(raw)]


def _renamed(raw: Mapping[Any, Any]) -> Iterator[str]:
    for path, name in _RENAMED.items():
        section, *_, former = path.split(".")
        holders: dict[str, Any] = {section: raw.get(section)}
        if "*" in path:
            holders = {f"{section}.{each}": values for each, values in _mapping(raw.get(section)).items()}
        for place, values in holders.items():
            if former in _mapping(values):
                yield f"{place}.{former}: write `{name}: {_flow(_mapping(values)[former])}`"


def _chosen(raw: Mapping[Any, Any]) -> Iterator[str]:
    """Components that were chosen by one key and configured by another."""
    pretrain, finetune = _mapping(raw.get("pretrain")), _mapping(raw.get("finetune"))
    retention = _mapping(pretrain.get("retention"))
    if "objective" in pretrain:
        options = _options(pretrain.get("objectives"), pretrain["objective"])
        yield f"pretrain.objective and pretrain.objectives: write `objectives: {{{pretrain['objective']}: {options}}}`"
    if "method" in retention:
        options = _options(retention.get("options"), retention["method"])
        yield f"pretrain.retention.method and its options: write `retention: {{{retention['method']}: {options}}}`"
    elif "options" in retention:
        yield f"pretrain.retention.options: write `retention: {_flow(retention['options'])}`"
    if "criterion" in retention:
        yield f"pretrain.retention.criterion: write `retain_by: {retention['criterion']}` in `pretrain`"
    if "task" in retention:
        yield "pretrain.retention.task: remove it; the probes look at every task of `runs`"
    if "strategies" in finetune:
        strategy = finetune.get("strategy")
        options = _options(finetune["strategies"], strategy)
        yield f"finetune.strategy and finetune.strategies: write `strategy: {{{strategy}: {options}}}`"


def _named(raw: Mapping[Any, Any]) -> Iterator[str]:
    """Encoders and strategies that had no name of their own."""
    runs, strategy = _mapping(raw.get("runs")), _mapping(raw.get("finetune")).get("strategy")
    encoders = [*named] if isinstance(named := runs.get("encoders"), list) else []
    if _FORMER_ENCODER in encoders and _FORMER_ENCODER not in _mapping(raw.get("encoders")):
        made = _mapping(raw.get("pretrain")).get("objective", "made")  # one name is as good as another
        names = ", ".join(str(made if each == _FORMER_ENCODER else each) for each in encoders)
        yield f"runs.encoders: write `encoders: [{names}]`, and a section `encoders: {{{made}: {{start: base}}}}`"
    if runs and isinstance(strategy, str) and "recipes" not in raw and "recipes" not in runs:
        yield f"finetune: write a section `recipes: {{{strategy}: {{}}}}`, and in runs `recipes: [{strategy}]`"
        yield f"runs: write `reference: {{encoder: {encoders[0] if encoders else 'base'}, recipe: {strategy}}}`"


def _options(all_options: Any, name: Any) -> str:
    return _flow(_mapping(_mapping(all_options).get(name)))


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _flow(value: Any, depth: int = 0) -> str:
    """A value as YAML in one line, cut off where it is deeper than any option."""
    if depth > 4:
        return "..."
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each, depth + 1)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(each, depth + 1) for each in value) + "]"
    return {True: "true", False: "false", None: "null"}.get(value, str(value)) if isinstance(value, bool | None) else str(value)
