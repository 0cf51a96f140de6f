"""Fine-tuning by the stage `finetune`, and by transformers' Trainer on the same model function.

Both sides: the encoder without its pooler, mean over real tokens, dropout 0.1 (none on attention weights), a fresh linear head drawn with
deviation 0.02, AdamW (0.9, 0.999, 1e-8), no decay of norms and biases, norm clipped at 1, linear schedule with warm-up, bf16 autocast,
rows padded to the longest of a batch. Only the code differs, and the random draws: Trainer shuffles rows, ours groups them by length.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from acclimate import artifacts
from acclimate.data.options import TaskConfig
from acclimate.sinks import MemorySink
from acclimate.training.options import RecipeConfig
from benchmarks.anchor_data import SPLITS, Row
from stages import finetune
from stages.command import StageContext

WEIGHT_DECAY, DROPOUT = 0.01, 0.1
Rows = dict[str, list[Row]]


@dataclass(frozen=True)
class Settings:
    """What both sides are given."""

    learning_rate: float
    epochs: int
    batch_size: int
    max_length: int
    warmup_share: float = 0.1
    patience: int = 0
    """Epochs without a better score on dev until training stops; 0 never. Ours only."""
    metric: str = "accuracy"
    """What early stopping looks at."""


def labels_of(rows: Rows) -> list[str]:
    """Sorted; a label's place is its number."""
    return sorted({row["label"] for split in rows.values() for row in split})


def write_table(rows: Rows, metric: str, table: Path) -> None:
    """Write the splits as the stage `ingest` does."""
    table.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        ids = [f"{split}-{number}" for number in range(len(rows[split]))]
        pq.write_table(
            pa.Table.from_pylist([{"id": name, **row} for name, row in zip(ids, rows[split], strict=True)]), table / f"{split}.parquet"
        )
    schema = {
        "name": "anchor",
        "kind": "classification",
        "labels": labels_of(rows),
        "pair": "text_pair" in rows["train"][0],
        "metric": metric,
    }
    artifacts.write_json(table / "schema.json", schema)


def by_stage(encoder: Path, rows: Rows, settings: Settings, seed: int) -> dict[str, float]:
    """Fine-tune by the stage `finetune`, and score its predictions on dev and test."""
    with tempfile.TemporaryDirectory(prefix="anchor-") as place:
        table, out = Path(place) / "table", Path(place) / "out"
        write_table(rows, settings.metric, table)
        out.mkdir()
        context = StageContext("finetune@anchor", MemorySink(), Path(place) / "checkpoints", lambda: None)
        names = {"task": "anchor", "encoder_name": "base", "recipe": "anchor", "seed": seed}
        start = time.perf_counter()
        finetune.run(_params(settings), **names, encoder=encoder, table=table, verdict=table, out=out, context=context)
        seconds = time.perf_counter() - start
        predicted = pq.read_table(out / "predictions.parquet").to_pylist()
    found = {"seconds": seconds, "steps": float(context.record["steps"])}
    for split in ("dev", "test"):
        mine = [row for row in predicted if row["split"] == split]
        found |= _scores(split, [row["gold"] for row in mine], np.array([row["prediction"] for row in mine]))
    return found


def _params(settings: Settings) -> finetune.Params:
    recipe = RecipeConfig.model_validate(
        {
            "strategy": "full",
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "head_learning_rate": settings.learning_rate,
            "weight_decay": WEIGHT_DECAY,
            "warmup_share": settings.warmup_share,
            "dropout": DROPOUT,
            "precision": "bf16",
            "health": {"patience": settings.patience},
            "checkpoint_every_s": 3600,
        }
    )
    task = TaskConfig.model_validate(
        {
            "kind": "classification",
            "data": "anchor.csv",
            "text": "text",
            "label": "label",
            "max_length": settings.max_length,
            "pooling": "mean",
        }
    )
    return finetune.Params(finetune={}, recipes={"anchor": recipe}, tasks={"anchor": task})


class MeanPooled(nn.Module):
    """The model function of `TaskModel` with mean pooling, in plain transformers and torch."""

    def __init__(self, encoder: Path, num_labels: int) -> None:
        super().__init__()
        from transformers import BertModel

        rates = {"hidden_dropout_prob": DROPOUT, "attention_probs_dropout_prob": 0.0}
        self.bert = BertModel.from_pretrained(str(encoder), add_pooling_layer=False, attn_implementation="eager", **rates)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(self.bert.config.hidden_size, num_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, labels: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        hidden_BTD = self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        weights_BT1 = attention_mask.unsqueeze(-1).to(hidden_BTD.dtype)
        logits_BC = self.classifier(self.dropout((hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1)))
        if labels is None:
            return {"logits": logits_BC}
        return {"loss": nn.functional.cross_entropy(logits_BC.float(), labels), "logits": logits_BC}


def by_trainer(encoder: Path, rows: Rows, settings: Settings, seed: int) -> dict[str, float]:
    """Fine-tune by transformers' Trainer, as its example run_glue calls it, and score its predictions on dev and test."""
    from transformers import AutoTokenizer, DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments, set_seed
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    names = labels_of(rows)
    tokenizer = AutoTokenizer.from_pretrained(str(encoder))
    start = time.perf_counter()
    encoded = {split: _encode(tokenizer, rows[split], names, settings.max_length) for split in SPLITS}
    set_seed(seed)
    model = MeanPooled(encoder, len(names))
    with tempfile.TemporaryDirectory(prefix="anchor-") as place:
        arguments = TrainingArguments(
            output_dir=place,
            seed=seed,
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=settings.learning_rate,
            weight_decay=WEIGHT_DECAY,
            lr_scheduler_type="linear",
            warmup_steps=settings.warmup_share,  # below 1 it is a share of all steps
            max_grad_norm=1.0,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        collator = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(model=model, args=arguments, train_dataset=encoded["train"], data_collator=collator, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        steps = trainer.train().global_step
        found = {"steps": float(steps)}
        for split in ("dev", "test"):
            predicted = trainer.predict(encoded[split])
            found |= _scores(split, predicted.label_ids.tolist(), predicted.predictions)
    return {"seconds": time.perf_counter() - start, **found}


def _encode(tokenizer: Any, rows: Sequence[Row], names: Sequence[str], max_length: int) -> list[dict[str, Any]]:
    pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    encoded = tokenizer([row["text"] for row in rows], pairs, truncation=True, max_length=max_length)
    return [{**{name: encoded[name][index] for name in encoded}, "label": names.index(row["label"])} for index, row in enumerate(rows)]


def _scores(split: str, gold: Sequence[int], logits: np.ndarray) -> dict[str, float]:
    """Accuracy, which is micro-F1 where each row has one label, macro-F1, and for two labels the F1 of the second, as GLUE has it."""
    from sklearn.metrics import accuracy_score, f1_score

    predicted = np.asarray(logits).argmax(axis=1)
    found = {f"{split}_accuracy": accuracy_score(gold, predicted), f"{split}_macro_f1": f1_score(gold, predicted, average="macro")}
    if np.asarray(logits).shape[1] == 2:
        found[f"{split}_f1"] = f1_score(gold, predicted)
    return {name: float(value) for name, value in found.items()}
