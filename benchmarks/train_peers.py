"""The peer: transformers' Trainer with the logic of its examples run_mlm.py and run_glue.py, and peft's LoRA.

What the examples get from datasets comes from a list here: ids as lists, as Arrow gives them. The rest is theirs: Trainer, its collators,
its sampler, its optimizer. Dropout is a setting of the model, not a flag: the shipped variants keep BERT's 0.1, the best ones get ours.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    BertForSequenceClassification,
    BertTokenizerFast,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from benchmarks.train_work import (
    MASK,
    MASK_RATE,
    PAD,
    SEP,
    TASK_TOKENS,
    VOCABULARY_SIZE,
    Run,
    Timing,
    Turns,
    Work,
    accuracy,
    bert_config,
    heldout_loss,
    new_masked_lm,
    weights_digest,
)


@dataclass(frozen=True)
class Variant:
    """A way to call the peer."""

    says: str
    """What stands in the table."""
    lines: bool = False
    """MLM: one document a row, cut at the row's length, padded to the longest of a batch (run_mlm --line_by_line)."""
    pad_to_max: bool = False
    """Task: every row padded to 128 (run_glue's --pad_to_max_length, on by default)."""
    dropout: float = 0.1
    attention_dropout: float = 0.1
    lora: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments."""


# The optimizer of every variant is adamw_torch_fused: since torch 2.8 it is what Trainer takes by default.
_BEST = {"bf16": True, "optim": "adamw_torch_fused", "logging_nan_inf_filter": False}
VARIANTS = {
    "shipped_groups": Variant("run_mlm as shipped (group_texts, fp32)"),
    "shipped_lines": Variant("run_mlm --line_by_line as shipped (padded to the longest, fp32)", lines=True),
    # remove_unused_columns drops the special_tokens_mask that run_mlm asks the tokenizer for, and the collator makes it anew.
    "best": Variant(
        "Trainer, bf16, torch.compile, fused AdamW, group_texts",
        dropout=0.0,
        attention_dropout=0.0,
        arguments={**_BEST, "torch_compile": True, "remove_unused_columns": False},
    ),
    "glue": Variant("run_glue as shipped (padded to 128, fp32)", pad_to_max=True),
    "glue_best": Variant(
        "run_glue, dynamic padding, group_by_length, bf16",
        attention_dropout=0.0,
        arguments={**_BEST, "train_sampling_strategy": "group_by_length"},
    ),
    "peft": Variant(
        "peft LoRA and Trainer, dynamic padding, group_by_length, bf16",
        attention_dropout=0.0,
        lora=True,
        arguments={**_BEST, "train_sampling_strategy": "group_by_length"},
    ),
}


class _Rows(Dataset[dict[str, Any]]):
    """What the tokenizer and group_texts leave in the data set: lists of ids and masks."""

    def __init__(self, rows: Any, labels: np.ndarray | None = None, *, special_mask: bool = False, width: int = 0) -> None:
        self._rows, self._labels, self._special_mask, self._width = rows, labels, special_mask, width

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = self._rows[index].tolist()
        padding = [0] * max(0, self._width - len(ids))
        row = {"input_ids": ids + [PAD] * len(padding), "token_type_ids": [0] * len(ids) + padding}
        row["attention_mask"] = [1] * len(ids) + padding
        if self._special_mask:
            row["special_tokens_mask"] = [int(token <= SEP) for token in ids]
        if self._labels is not None:
            row["label"] = int(self._labels[index])
        return row


class _Trainer(Trainer):
    """Trainer that remembers what a step held."""

    step_loss: torch.Tensor
    step_tokens: torch.Tensor
    step_sequences: int

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        self.step_tokens, self.step_sequences = inputs["attention_mask"].sum(), len(inputs["input_ids"])
        self.step_loss = super().training_step(model, inputs, *arguments, **options)
        return self.step_loss


class _TakeTurns(TrainerCallback):
    """Tells the clock of each optimizer step."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.trainer: Any = None

    def on_step_end(self, *arguments: Any, **options: Any) -> None:
        trainer = self.trainer
        self.turns.step(trainer.step_tokens, trainer.step_sequences, trainer.step_loss)


def peer_tokenizer(work: Work) -> PreTrainedTokenizerFast:
    """BERT's fast tokenizer with the benchmark's vocabulary."""
    tokenizer = BertTokenizerFast(tokenizer_file=str(work.tokenizer_file), model_max_length=512)
    assert (len(tokenizer), tokenizer.mask_token_id) == (VOCABULARY_SIZE, MASK), "the vocabulary did not arrive"
    return tokenizer


def peer_mlm(work: Work, run: Run, turns: Turns) -> Timing:
    """run_mlm: pretrain for `turns.steps` steps."""
    variant = VARIANTS[run.variant]
    dropout = {"dropout": variant.dropout, "attention_dropout": variant.attention_dropout}
    model = new_masked_lm(run.size, **dropout, attention=run.overrides.get("attn_implementation", "sdpa"))
    digest = weights_digest(model.bert)
    tokenizer = peer_tokenizer(work)
    if variant.lines:
        cut = work.documents.cut(run.sequence_length)
        rows: Any = [cut.row(index) for index in range(len(cut))]
    else:
        rows = work.packed(run.sequence_length)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASK_RATE)
    _train(model, run, variant, turns, dataset=_Rows(rows, special_mask=True), collator=collator, tokenizer=tokenizer)
    return turns.timing(quality={"loss": heldout_loss(model, work)}, weights_at_start=digest)


def peer_task(work: Work, run: Run, turns: Turns) -> Timing:
    """run_glue on the task `section`: fine-tune for `turns.steps` steps, in full or by peft's LoRA."""
    variant = VARIANTS[run.variant]
    masked_lm = new_masked_lm(run.size, dropout=0.0, attention_dropout=0.0, attention="sdpa")
    config = bert_config(run.size, dropout=variant.dropout, attention_dropout=variant.attention_dropout, attention="sdpa")
    config.num_labels = len(work.labels)
    torch.manual_seed(run.seed)
    model: Any = BertForSequenceClassification(config)
    model.bert.load_state_dict(masked_lm.bert.state_dict(), strict=False)
    digest = weights_digest(model.bert)
    if variant.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]))
    tokenizer = peer_tokenizer(work)
    train = work.train.head(run.task_rows)
    rows = [train.row(index) for index in range(len(train))]
    dataset = _Rows(rows, train.labels, width=TASK_TOKENS if variant.pad_to_max else 0)
    collator = default_data_collator if variant.pad_to_max else DataCollatorWithPadding(tokenizer)
    _train(model, run, variant, turns, dataset=dataset, collator=collator, tokenizer=tokenizer)
    quality = accuracy(lambda ids_BT, mask_BT: model(input_ids=ids_BT, attention_mask=mask_BT).logits, work.dev, run.device)
    return turns.timing(quality=quality, weights_at_start=digest)


def _train(model: Any, run: Run, variant: Variant, turns: Turns, *, dataset: Any, collator: Any, tokenizer: Any) -> None:
    overrides = {name: value for name, value in run.overrides.items() if name != "attn_implementation"}
    on_gpu = run.device == "cuda"
    with tempfile.TemporaryDirectory(prefix="bench-train-") as directory:
        arguments = TrainingArguments(
            **{
                "output_dir": directory,
                "max_steps": turns.steps,
                "per_device_train_batch_size": run.rows,
                "learning_rate": run.learning_rate,
                "seed": run.seed,
                "use_cpu": not on_gpu,
                "dataloader_pin_memory": on_gpu,
                "dataloader_num_workers": run.loader_workers,
                "logging_strategy": "no",
                "save_strategy": "no",
                "eval_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
                **variant.arguments,
                **overrides,
            }
        )
        clock = _TakeTurns(turns)
        trainer = _Trainer(
            model=model, args=arguments, train_dataset=dataset, data_collator=collator, processing_class=tokenizer, callbacks=[clock]
        )
        clock.trainer = trainer
        trainer.train()
        # Leaves the model without the autocast that accelerate puts around its forward: both sides are judged in fp32.
        trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False, keep_torch_compile=False).eval()
