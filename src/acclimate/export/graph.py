"""A fine-tuned model as one ONNX file with dynamic batch and length."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from acclimate.errors import ModelError
from acclimate.export.predictor import INPUT_NAMES

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 20


def export_graph(model: torch.nn.Module, path: Path, *, max_length: int) -> None:
    """Write a model as ONNX.

    Args:
        model: `forward(input_ids, attention_mask, token_type_ids)`, each int64 (B, T), gives logits (B, C) or (B, T, C).
        path: the one file that is written; weights stay inside.
        max_length: the longest T that the model is used with.

    Raises:
        ModelError: the graph came out with a fixed batch or length.
    """
    import onnx
    import torch

    tokens = min(8, max_length)
    example = tuple(torch.ones((2, tokens), dtype=torch.int64) for _ in INPUT_NAMES)
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=1, max=max_length)}
    with _QuietExporter(), torch.no_grad():
        torch.onnx.export(
            model.eval().cpu(),
            example,
            path,
            input_names=list(INPUT_NAMES),
            output_names=["logits"],
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=tuple(axes for _ in INPUT_NAMES),
            external_data=False,
            verbose=False,
        )
    graph = onnx.load(path)
    _require_dynamic(graph)
    strip_metadata(graph)
    onnx.save(graph, path)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: stack traces with this machine's paths, so that equal models give equal bytes."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions):
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    graph.doc_string = ""


def _require_dynamic(model: onnx.ModelProto) -> None:
    for value in model.graph.input:
        sizes = [dimension.dim_param for dimension in value.type.tensor_type.shape.dim]
        if len(sizes) != 2 or not all(sizes):
            raise ModelError(f"the exported graph's input {value.name!r} has a fixed size; batch and length must both be free")


class _QuietExporter:
    """The exporter warns of its own deprecations and of types it does not know; none is the user's to act on."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *exception: object) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        self._warnings.__exit__(None, None, None)
